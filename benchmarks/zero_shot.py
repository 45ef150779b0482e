#!/usr/bin/env python3
"""What zero-shot int8 costs on real speech: float32, dynamic, int8 by synthetic (several seeds), real and noise inputs.

    python benchmarks/zero_shot.py conformer-ctc -m an4/test.jsonl -m speechocean762/test.jsonl \
        --real an4/train.jsonl --seeds 5 --out build/zero-shot

Every bundle is audited and evaluated on the same utterances against the same float logits; differences of WER are
paired bootstraps over utterances, that of the seeds' mean included. Real speech calibrates one arm and is never
evaluated on.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from tflite_asr.audit import audit
from tflite_asr.measure.evaluate import ReferenceLogits, evaluate, reference_logits
from tflite_asr.measure.evaluation import Evaluation
from tflite_asr.measure.wer import ErrorCounts, paired_difference
from tflite_asr.pipeline import export


def mean_counts(runs: list[ErrorCounts]) -> ErrorCounts:
    """Mean edits of each utterance over runs on the same utterances."""
    parts = [
        np.mean([getattr(run, name) for run in runs], axis=0)
        for name in ("substitutions", "deletions", "insertions")
    ]
    return ErrorCounts(*parts, runs[0].units)


def describe(name: str, wer: float, runs: list[Evaluation], counts: ErrorCounts, base: Evaluation) -> dict:
    """One row: pooled rate and difference, fidelity by corpus as the mean over runs."""
    difference = paired_difference(counts, base.words)
    corpora = {
        corpus: {
            "wer": float(np.mean([r.corpora[corpus].wer for r in runs])),
            "snr_db": float(np.mean([r.corpora[corpus].snr_db for r in runs])),
            "argmax_agreement": float(np.mean([r.corpora[corpus].argmax_agreement for r in runs])),
        }
        for corpus in base.corpora
    }
    rtf = float(np.mean([r.pooled.rtf for r in runs]))
    return {"arm": name, "wer": wer, "difference": difference.to_dict(), "rtf": rtf, "corpora": corpora}


def measure(
    model: str, out: Path, manifests: tuple[str, ...], logits: ReferenceLogits, settings: dict
) -> Evaluation:
    """One arm: exported, audited, evaluated."""
    bundle = export(model, out, overwrite=True, **settings)
    proof = audit(bundle.model_path, load=False).integer_only
    return evaluate(bundle, manifests, reference=logits, integer_only=proof, measure_footprint=False)


@click.command()
@click.argument("model")
@click.option("--manifest", "-m", "manifests", multiple=True, required=True)
@click.option("--real", help="Manifest of the arm calibrated on real speech.")
@click.option("--seeds", default=5, show_default=True)
@click.option("--noise/--no-noise", default=True)
@click.option("--out", default="build/zero-shot", show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Arms at a time; real-time factors want one.")
def main(
    model: str, manifests: tuple[str, ...], real: str | None, seeds: int, noise: bool, out: str, jobs: int
) -> None:
    """Export and evaluate every arm for MODEL."""
    console, folder = Console(), Path(out)
    float32 = export(model, folder / "float32", scheme="float32", overwrite=True)
    logits = reference_logits(float32, manifests)
    todo = [
        ("float32", "float32", {"scheme": "float32"}),
        ("dynamic", "dynamic", {"scheme": "dynamic_wi8_afp32"}),
    ]
    todo += [
        ("int8, synthetic", f"int8-seed{seed}", {"scheme": "int8", "seed": seed}) for seed in range(seeds)
    ]
    if real:
        todo.append(("int8, real", "int8-real", {"scheme": "int8", "calibration": real}))
    if noise:
        todo.append(("int8, noise", "int8-noise", {"scheme": "int8", "calibration": "noise"}))
    arms: dict[str, list[Evaluation]] = {}
    with ProcessPoolExecutor(jobs) as pool:
        runs = [
            pool.submit(measure, model, folder / name, manifests, logits, settings)
            for _, name, settings in todo
        ]
        for (arm, name, _), run in zip(todo, runs, strict=True):
            done = run.result()
            arms.setdefault(arm, []).append(done)
            size = done.bundle.info.files["model.tflite"]["bytes"]
            proof = "integer-only" if done.integer_only else "not integer-only"
            console.print(f"{name}: {size:,} bytes, {proof}, WER {100 * done.pooled.wer:.2f} %")
    base = arms["float32"][0]
    rows = []
    for arm, runs in arms.items():
        counts = mean_counts([r.words for r in runs])
        rows.append(describe(arm, counts.rate, runs, counts, base))
    table = Table(title=f"{model}: {len(base.results)} utterances")
    for column in (
        "arm",
        "WER %",
        "points above float32",
        *(f"{c}: SNR dB, argmax %" for c in base.corpora),
        "RTF",
    ):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for row in rows:
        d = row["difference"]
        interval = f"{100 * d['difference']:+.2f} ({100 * d['low']:+.2f} to {100 * d['high']:+.2f})"
        fidelity = [f"{c['snr_db']:.1f}, {100 * c['argmax_agreement']:.1f}" for c in row["corpora"].values()]
        table.add_row(row["arm"], f"{100 * row['wer']:.2f}", interval, *fidelity, f"{row['rtf']:.4f}")
    console.print(table)
    (folder / "zero-shot.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
