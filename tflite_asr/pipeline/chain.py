"""The verbs: a checkpoint to a bundle, a checkpoint to a smaller one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tflite_asr.bundle import Bundle, check_output
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts, check_checkpoint_output
from tflite_asr.frontend import FrontEnd
from tflite_asr.pipeline.bundling import bundle_up, convert
from tflite_asr.pipeline.model_files import FLATBUFFER, facts_of, model_path
from tflite_asr.pipeline.preparation import (
    Progress,
    check_budget,
    check_calibration,
    check_drop,
    prepared,
    span,
)
from tflite_asr.quantize.calibrators import check_calibrator
from tflite_asr.quantize.schemes import Scheme
from tflite_asr.quantize.schemes import scheme as scheme_named
from tflite_asr.quantize.trained import Trained
from tflite_asr.releases import known_runtime
from tflite_asr.tokens import Tokens

INT8 = "static_wi8_ai8"
CALIBRATION, CALIBRATOR = "synthetic", "min_max"  # unless others are asked for


def export(
    model: str | Path,
    out: str | Path,
    *,
    drop: str | Sequence[str] = (),
    scheme: str = "int8",
    calibration: str | Path = CALIBRATION,
    seed: int = 0,
    budget_macs: float | None = None,
    calibrator: str = CALIBRATOR,
    repair: bool = False,
    qat: str | Path | None = None,
    frontend: FrontEnd | None = None,
    tokens: Tokens | None = None,
    min_runtime: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Export one checkpoint to one bundle.

    Args:
        model: a `.keras` file with its `.toml`, the name of a shipped checkpoint, or a float `.tflite`, which is
            quantised and no more.
        out: the bundle's folder.
        drop: modules to leave out (`tflite_asr.slim`).
        scheme: "float32", "dynamic_wi8_afp32", "static_wi8_ai8" (short: "int8").
        calibration: "synthetic", "noise", "synthetic:published", "synthetic:labels", a manifest of real speech, or an
            `.npz` of inputs (`synthesize_inputs`), whose own seed and budget then stand in the bundle.
        seed: of the synthetic inputs.
        budget_macs: multiply-adds that synthesis may spend; None for its default.
        calibrator: how a range comes out of what was seen: "min_max", "moving_average", "percentile", "mse", "octav",
            or "auto", which tries them on inputs held back.
        repair: try integer-only remedies where int8 loses most, and keep those that help on inputs held back.
        qat: what `train_low_bit` wrote of this model: its weights and ranges, with nothing calibrated or repaired.
        frontend, tokens: for a model without a `.toml`; without either the bundle is feature-only.
        min_runtime: the oldest TFLite that must run both flatbuffers, "2.14"; None for today's LiteRT.
        overwrite: replace a bundle that is there.
        progress: called with (stage, fraction done).

    Raises:
        TfliteAsrError: wrong input, an op that `min_runtime` lacks, or a step that failed; nothing half-written is
            left.
    """
    chosen = scheme_named(scheme)
    oldest = known_runtime(min_runtime) if min_runtime else None
    path = model_path(model)
    specs = _specs(drop)
    check_drop(path, specs)
    facts = facts_of(path, frontend, tokens)
    check_budget(seed, budget_macs)
    if chosen.needs_ranges:
        check_calibration(str(calibration), facts, path)
    check_calibrator(calibrator)
    if repair and not chosen.needs_ranges:
        raise TfliteAsrError(
            f"repair: scheme {chosen.name} has no ranges to repair; give a static scheme or leave it out"
        )
    changes = {
        "repair": repair,
        f"calibrator {calibrator}": calibrator != CALIBRATOR,
        f"calibration {calibration}": str(calibration) != CALIBRATION,
    }
    trained = _low_bit(qat, chosen, path, changes) if qat is not None else None
    check_output(out, overwrite)
    with prepared(
        path,
        facts,
        drop=specs,
        calibration=str(calibration) if chosen.needs_ranges and trained is None else None,
        seed=seed,
        budget_macs=budget_macs,
        progress=span(progress, 0.0, 0.4),
    ) as ready:
        (result,) = convert(ready, [chosen], span(progress, 0.4, 0.95), oldest, calibrator, repair, trained)
        if progress is not None:
            progress("write the bundle", 0.95)
        return bundle_up(ready, result, out, overwrite, oldest)


def _low_bit(qat: str | Path, chosen: Scheme, path: Path, changes: Mapping[str, bool]) -> Trained:
    """Raises TfliteAsrError for what does not go with low-bit weights; changes: what would change them, and whether it
    was asked for."""
    if chosen.name != INT8:
        raise TfliteAsrError(
            f"{qat}: holds weights that were trained for {INT8}; leave out --scheme {chosen.name}"
        )
    if path.suffix == FLATBUFFER:
        raise TfliteAsrError(f"{path}: {qat} was trained from a Keras model; give the .keras file")
    for name, asked in changes.items():
        if asked:
            raise TfliteAsrError(f"{qat}: {name} would change what was trained; leave one of the two out")
    return Trained.load(qat)


def slim_checkpoint(
    model: str | Path, out: str | Path, drop: str | Sequence[str], *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a smaller checkpoint, `NAME.keras` with its `NAME.toml`; surviving weights are carried over exactly.

    Args:
        model: a `.keras` file with its `.toml`, or the name of a shipped checkpoint.
        out: the `.keras` file to write.
        drop: modules to leave out (`tflite_asr.slim`).
        overwrite: replace files that are there.

    Returns:
        Parameters and multiply-adds before and after (`tflite_asr.slim.SlimReport.to_dict`).

    Raises:
        TfliteAsrError: an unknown module path, or an output that exists or cannot be written.
    """
    path, out = model_path(model), Path(out)
    check_checkpoint_output(out, overwrite)
    specs = _specs(drop)
    if not specs:
        raise TfliteAsrError("drop: names no module; give --drop encoder.block3, say")
    check_drop(path, specs)
    facts = facts_of(path)
    with prepared(path, facts, drop=specs, calibration=None) as ready:
        assert ready.slimming is not None  # something was dropped
        assert ready.facts is not None  # slimming refuses a model without facts
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as beside:
                staged = Path(shutil.copyfile(ready.path, Path(beside) / out.name))
                replace(ready.facts, name=out.stem).write(staged).replace(ModelFacts.path_for(out))
                staged.replace(out)
        except OSError as error:
            raise TfliteAsrError(
                f"{out}: cannot be written ({error.strerror}); choose another folder"
            ) from error
        return ready.slimming


def _specs(drop: str | Sequence[str]) -> tuple[str, ...]:
    """Those that name something."""
    return tuple(one for one in ((drop,) if isinstance(drop, str) else drop) if one.strip(" ,"))
