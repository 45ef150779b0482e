"""The main job on what the package ships: four bundles of one checkpoint, audited, and evaluated on its clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tflite_asr.audit import audit
from tflite_asr.measure.evaluate import evaluate, reference_logits
from tflite_asr.measure.evaluation import report
from tflite_asr.pipeline import (
    Prepared,
    Progress,
    bundle_up,
    convert,
    demo_manifest,
    facts_of,
    model_path,
    prepare,
    span,
)
from tflite_asr.quantize.child import report_progress, run_in_child
from tflite_asr.quantize.schemes import scheme
from tflite_asr.staging import scratch_folder

MODEL = "conformer-ctc"
SCHEMES = {"float32": "float32", "dynamic": "dynamic_wi8_afp32", "int8": "static_wi8_ai8"}


def run_demo(out: Path, seed: int = 0, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Export float32, dynamic, zero-shot int8, and zero-shot int8 with the least useful block dropped; evaluate all.

    The block is the one whose loss moves the output distribution least on the synthetic inputs
    (`tflite_asr.slim.rank`): no data decides.

    Args:
        out: folder for `<name>/` bundles and `report.json`; bundles of an earlier run are replaced.
        seed: of the synthetic inputs.
        progress: called with (stage, fraction done).

    Returns:
        The report's `variants`.
    """
    bundles = {}
    with scratch_folder() as folder:
        # One child for both models: every process that imports TensorFlow costs seconds.
        ready, smaller = run_in_child(
            _prepare_both,
            model_path(MODEL),
            folder,
            seed,
            stage="open the model",
            progress=span(progress, 0.0, 0.4),
        )
        results = convert(ready, [scheme(s) for s in SCHEMES.values()], span(progress, 0.4, 0.65))
        for name, result in zip(SCHEMES, results, strict=True):
            bundles[name] = bundle_up(ready, result, out / name, overwrite=True)
        (result,) = convert(smaller, [scheme("int8")], span(progress, 0.65, 0.85))
        name = f"int8-without-{smaller.drop[0].rpartition('.')[2]}"
        bundles[name] = bundle_up(smaller, result, out / name, overwrite=True)
    logits = reference_logits(bundles["float32"], demo_manifest())
    evaluations = []
    for number, (name, bundle) in enumerate(bundles.items()):
        if progress:
            progress(f"evaluate {name}", 0.85 + 0.15 * number / len(bundles))
        proof = audit(bundle.model_path, load=False).integer_only
        evaluations.append(evaluate(bundle, demo_manifest(), reference=logits, integer_only=proof))
    text = report(evaluations)
    (out / "report.json").write_text(text, encoding="utf-8")
    return json.loads(text)["variants"]


def _prepare_both(path: Path, folder: Path, seed: int) -> tuple[Prepared, Prepared]:
    """In a child: the model, and the model without its least useful block, each with inputs of its own."""
    from tflite_asr.models import load_model
    from tflite_asr.slim import least_useful_block

    facts = facts_of(path)
    assert facts is not None  # the package's own checkpoint has its facts
    ready = prepare(path, facts, folder, (), "synthetic", seed, None)
    report_progress("rank the blocks", 0.5)
    block = least_useful_block(load_model(path), facts, ready.inputs)
    return ready, prepare(path, facts, folder, (block,), "synthetic", seed, None)
