"""The model card that goes into a bundle: what it is, how it was made, what the audit found."""

from __future__ import annotations

from typing import Any

from tflite_asr.audit import AuditReport
from tflite_asr.bundle import BundleInfo


def verdict(info: BundleInfo, report: AuditReport) -> str:
    """Whether a bundle is integer-only, in words. Floats are a fault only where the scheme asked for integers."""
    if report.integer_only:
        return "yes"
    if info.calibration is None:
        return f"no, by choice: {info.scheme} keeps activations in floats"
    return f"no: {report.offending[0]}"


def model_card(info: BundleInfo, report: AuditReport, slimming: dict[str, Any] | None = None) -> str:
    """Markdown; every number in it was measured when the bundle was made."""
    seconds = info.frontend.hop_seconds if info.frontend else None
    rows = [
        ("scheme", info.scheme),
        ("integer-only (tflite-asr audit)", verdict(info, report)),
        ("rewritten for integer kernels", "yes" if info.lowered else "no"),
        ("dropped modules", ", ".join(info.drop) or "none"),
        ("model.tflite", f"{report.size_bytes:,} bytes"),
    ]
    if slimming:
        rows.append(("parameters", f"{slimming['parameters_after']:,} of {slimming['parameters_before']:,}"))
        rows.append(
            ("multiply-adds, longest window", f"{slimming['macs_after']:,} of {slimming['macs_before']:,}")
        )
    for name, side in info.signatures.items():
        shapes = ", ".join(
            f"{k} {v['dtype']} {v['shape']}" for k, v in (side["inputs"] | side["outputs"]).items()
        )
        rows.append((f"`{name}`", f"{shapes}; {report.macs.get(name, 0):,} multiply-adds"))
    if info.calibration:
        spent = info.calibration.get("spent_macs", 0)
        made = info.calibration
        how = f"{made['method']}, seed {made.get('seed')}, {made.get('clips')} clips"
        if "calibrator" in made:
            how += f", {made['calibrator']}" + (" (found by auto)" if "auto" in made else "")
        rows.append(("calibration", f"{how}, {spent:.3g} multiply-adds"))
    rows += [(f"made with {name}", version) for name, version in info.made_with.items()]
    if info.frontend:
        front = info.frontend
        features = (
            f"{front.mels} log-mels at {front.sample_rate} Hz, window {front.window_seconds} s, hop {seconds} s, "
            f"normalise {front.normalise}"
        )
        rows.append(("front end", features))
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    use = (
        "`tflite-asr transcribe <this folder> recording.wav`; `samples/expected.json` holds what it gave on the "
        "clips beside it."
        if info.frontend
        else "A feature-only bundle: it was made without a front end and tokens."
    )
    return f"# {info.name}, {info.scheme}\n\n| | |\n|---|---|\n{table}\n\n{use}\n"
