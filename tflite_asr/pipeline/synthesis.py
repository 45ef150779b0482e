"""Calibration inputs as an artefact of their own: made once, looked at, and exported with as often as one likes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.pipeline.model_files import FLATBUFFER, facts_of, model_path
from tflite_asr.pipeline.preparation import (
    ARTEFACT,
    CALIBRATIONS,
    Progress,
    calibration_inputs,
    check_budget,
    check_calibration,
    flatbuffer_inputs,
)
from tflite_asr.quantize.child import report_progress, run_in_child
from tflite_asr.staging import plain_errors, probe


def synthesize_inputs(
    model: str | Path,
    out: str | Path,
    *,
    method: str = "synthetic",
    seed: int = 0,
    budget_macs: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Any:
    """Write calibration inputs of a model to an `.npz`, which `export` takes for its `calibration`.

    Batches are kept in `OUT.part/` as they end; an interrupted run goes on from there, and the folder goes when the
    artefact stands.

    Args:
        model: a `.keras` file with its `.toml`, the name of a shipped checkpoint, or a float `.tflite`.
        out: the artefact.
        method: of `CALIBRATIONS`. seed, budget_macs: as `export` takes them.
        overwrite: replace an artefact that is there.
        progress: called with (stage, fraction done).

    Returns:
        `SyntheticInputs`.

    Raises:
        TfliteAsrError: wrong input, an output that exists or cannot be written, or what `synthesize` raises.
    """
    path, out = model_path(model), Path(out)
    if out.suffix != ARTEFACT:
        raise TfliteAsrError(f"{out}: is no {ARTEFACT} name; write to NAME{ARTEFACT}")
    if method not in CALIBRATIONS:
        raise TfliteAsrError(f"method {method!r}: unknown; give one of {', '.join(CALIBRATIONS)}")
    facts = facts_of(path)
    check_budget(seed, budget_macs)
    check_calibration(method, facts, path)
    if out.exists() and not overwrite:
        raise TfliteAsrError(f"{out}: exists; choose another name or allow overwriting it (--overwrite)")
    work = out.with_name(f"{out.name}.part")
    if work.exists() and not work.is_dir():
        raise TfliteAsrError(
            f"{work}: stands where unfinished work would; remove it or write to another name"
        )
    with plain_errors(out):
        probe(next(one for one in out.absolute().parents if one.exists()))
    stage = f"inputs: {method}"
    settings = (facts, method, seed, budget_macs, work)
    made = run_in_child(_synthesize, path, *settings, stage=stage, progress=progress)
    made.save(out)
    shutil.rmtree(work, ignore_errors=True)
    return made


def _synthesize(
    path: Path, facts: ModelFacts | None, method: str, seed: int, budget_macs: float | None, work: Path
) -> Any:
    """Wants TensorFlow, so run it in a child."""
    if path.suffix == FLATBUFFER:
        return flatbuffer_inputs(path, facts, method, seed)
    import tflite_asr.lowering  # noqa: F401  its layers are then known, and a lowered model opens too
    from tflite_asr.models import load_model

    stage = f"inputs: {method}"
    report_progress(stage, 0.0)
    return calibration_inputs(
        load_model(path), facts, method, seed, budget_macs, lambda done: report_progress(stage, done), work
    )
