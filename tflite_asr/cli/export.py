"""`export`: a checkpoint becomes a bundle."""

from __future__ import annotations

import json
from typing import Any

import click

from tflite_asr.cli.options import JSON, OVERWRITE
from tflite_asr.cli.terminal import bar, show, write_json
from tflite_asr.errors import TfliteAsrError


@click.command()
@click.argument("model")
@click.option("--out", required=True, help="Folder of the bundle.")
@click.option(
    "--drop", multiple=True, metavar="SPEC", help="Modules to leave out: encoder.block3, encoder.block*.ff1"
)
@click.option(
    "--scheme", default="int8", show_default=True, help="float32, dynamic_wi8_afp32, static_wi8_ai8 (int8)."
)
@click.option(
    "--calibration",
    default="synthetic",
    show_default=True,
    metavar="METHOD|FILE",
    help="synthetic, noise, synthetic:published, synthetic:labels, a manifest of real speech, or the .npz of "
    "calibrate synthesize.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the synthetic inputs.")
@click.option("--budget-macs", type=float, help="Multiply-adds that synthesis may spend.")
@click.option(
    "--calibrator",
    default="min_max",
    show_default=True,
    metavar="NAME",
    help="Range of a tensor from what was seen of it: min_max, moving_average, percentile, mse, octav, or auto, which "
    "tries them on inputs held back.",
)
@click.option(
    "--repair", is_flag=True, help="Try integer-only remedies where int8 loses most; keep those that help."
)
@click.option(
    "--qat",
    metavar="FILE.npz",
    help="Weights and ranges that tflite-asr qat trained, in the place of calibration.",
)
@click.option(
    "--frontend", "frontend_file", metavar="TOML", help="Front end of a model without a .toml beside it."
)
@click.option("--tokens", "tokens_file", metavar="FILE", help="Tokens of such a model, `piece id` a line.")
@click.option("--blank-id", type=int, help="Id of the blank among them.")
@click.option(
    "--min-runtime",
    metavar="VERSION",
    help="Oldest TFLite that must run the bundle: 2.14.  [default: today's LiteRT]",
)
@OVERWRITE
@JSON
def export(
    model: str,
    out: str,
    drop: tuple[str, ...],
    scheme: str,
    calibration: str,
    seed: int,
    budget_macs: float | None,
    calibrator: str,
    repair: bool,
    qat: str | None,
    frontend_file: str | None,
    tokens_file: str | None,
    blank_id: int | None,
    min_runtime: str | None,
    overwrite: bool,
    json_path: str | None,
) -> None:
    """Export MODEL to a bundle: a .keras file, a float .tflite (quantised only), or a shipped name.

    A static scheme whose result is not integer-only is a finding: the bundle is written, and the exit code is 1.
    """
    from tflite_asr import pipeline
    from tflite_asr.audit import audit as run_audit
    from tflite_asr.audit import require_integer_only
    from tflite_asr.quantize.schemes import scheme as scheme_named
    from tflite_asr.report.card import verdict
    from tflite_asr.report.table import key_value_table
    from tflite_asr.tokens import Tokens

    frontend = _read_frontend(frontend_file) if frontend_file else None
    tokens = Tokens.read(tokens_file, blank_id) if tokens_file else None
    if blank_id is not None and tokens is None:
        raise TfliteAsrError(f"--blank-id {blank_id}: says nothing without --tokens; give both")
    with bar() as tell:
        bundle = pipeline.export(
            model,
            out,
            drop=drop,
            scheme=scheme,
            calibration=calibration,
            seed=seed,
            budget_macs=budget_macs,
            calibrator=calibrator,
            repair=repair,
            qat=qat,
            frontend=frontend,
            tokens=tokens,
            min_runtime=min_runtime,
            overwrite=overwrite,
            progress=tell,
        )
    report = run_audit(bundle.model_path, load=False)
    lacking = bundle.missing_for_speech()
    rows = [
        ("bundle", str(bundle.path)),
        ("scheme", bundle.info.scheme),
        ("model.tflite", f"{report.size_bytes:,} bytes"),
        ("integer-only", verdict(bundle.info, report)),
        ("oldest TFLite", report.first_release_line()),
    ]
    rows += calibration_rows(bundle.info.calibration or {})
    if lacking:
        rows.append(("feature-only", f"without {' and '.join(lacking)}"))
    show(key_value_table(rows, "exported"), json_path)
    result = {"bundle": str(bundle.path), "integer_only": report.integer_only, **bundle.info.to_dict()}
    write_json(json_path, json.dumps(result, indent=1) + "\n")
    if scheme_named(scheme).needs_ranges:
        require_integer_only(report)


def calibration_rows(calibration: dict[str, Any]) -> list[tuple[str, str]]:
    """What the table says of the ranges: the calibrator, what `auto` chose it from, what was repaired."""
    if "calibrator" not in calibration:
        return []
    rows = [("calibrator", calibration["calibrator"])]
    if auto := calibration.get("auto"):
        tried = ", ".join(f"{name} {score:.1f}" for name, score in auto["scores_db"].items())
        rows.append(("held-back SNR, dB", f"{tried} ({auto['clips']} clips of {auto['window']})"))
    for step in calibration.get("repair", ()):
        verdict = "kept" if step["kept"] else "not kept"
        gain = f"{step['before_db']:.2f} to {step['after_db']:.2f} dB held back, {verdict}"
        rows.append((f"repair: {step['remedy']}", f"{len(step['tensors'])} tensors, {gain}"))
    if calibration.get("repair") == []:
        rows.append(("repair", "found nothing to try"))
    return rows


def _read_frontend(path: str) -> Any:
    from tflite_asr.facts import read_toml
    from tflite_asr.frontend import FrontEnd

    values = read_toml(path)
    return FrontEnd.from_dict(values.get("frontend", values))
