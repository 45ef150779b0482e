"""A model made ready to be converted: slimmed, with its calibration inputs and its front end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.manifest import read_manifest
from tflite_asr.pipeline.model_files import FLATBUFFER
from tflite_asr.quantize.child import report_progress, run_in_child
from tflite_asr.staging import scratch_folder

Progress = Callable[[str, float], None]
CALIBRATIONS = ("synthetic", "noise", "synthetic:published", "synthetic:labels")
KERAS_ONLY = ("synthetic:published", "synthetic:labels")
ARTEFACT = ".npz"  # what `calibrate synthesize` writes


@dataclass(frozen=True)
class Prepared:
    """A model ready to be converted.

    Attributes:
        path: the (slimmed) `.keras`, or the `.tflite` that was given.
        facts: its facts; None for somebody's own model without any.
        drop: the specifications that were dropped.
        slimming: parameters and multiply-adds before and after; None where nothing was dropped.
        inputs: for calibration; None where no scheme asked for them.
        frontend: `frontend.tflite`; None where the model's front end is unknown.
    """

    path: Path
    facts: ModelFacts | None
    drop: tuple[str, ...]
    slimming: dict[str, Any] | None
    inputs: Any
    frontend: bytes | None


def span(progress: Progress | None, start: float, end: float) -> Progress | None:
    """The same progress, as a part of a longer one."""
    if progress is None:
        return None
    return lambda stage, fraction: progress(stage, start + (end - start) * fraction)


@contextmanager
def prepared(
    path: Path,
    facts: ModelFacts | None,
    *,
    drop: tuple[str, ...] = (),
    calibration: str | None = "synthetic",
    seed: int = 0,
    budget_macs: float | None = None,
    progress: Progress | None = None,
) -> Iterator[Prepared]:
    """Slim a model, make its calibration inputs and its front end; all of it goes with the context.

    calibration: as `export` takes it; None where no scheme needs ranges.
    """
    with scratch_folder() as folder:
        settings = (facts, folder, drop, calibration, seed, budget_macs)
        yield run_in_child(prepare, path, *settings, stage="open the model", progress=progress)


def prepare(
    path: Path,
    facts: ModelFacts | None,
    folder: Path,
    drop: tuple[str, ...],
    calibration: str | None,
    seed: int,
    budget_macs: float | None,
) -> Prepared:
    """What `prepared` yields, made in `folder`; wants TensorFlow, so run it in a child."""
    from tflite_asr.frontend.graph import frontend_flatbuffers
    from tflite_asr.quantize.windows import merge

    report_progress("open the model", 0.0)
    slimming, inputs = None, None
    if path.suffix == FLATBUFFER:
        if calibration is not None:
            report_progress(f"calibration inputs: {calibration}", 0.2)
            inputs = flatbuffer_inputs(path, facts, calibration, seed)
    else:
        path, facts, slimming, inputs = _prepare_keras(
            path, facts, folder, drop, calibration, seed, budget_macs
        )
    report_progress("front end", 0.8)
    sound = merge(frontend_flatbuffers(facts.frontend, facts.windows)) if facts and facts.frontend else None
    return Prepared(path, facts, drop, slimming, inputs, sound)


def _prepare_keras(
    path: Path,
    facts: ModelFacts | None,
    folder: Path,
    drop: tuple[str, ...],
    calibration: str | None,
    seed: int,
    budget_macs: float | None,
) -> tuple[Path, ModelFacts | None, dict[str, Any] | None, Any]:
    import tflite_asr.lowering  # noqa: F401  its layers are then known, and a lowered model opens too
    from tflite_asr.models import load_model
    from tflite_asr.models.transformer import ctc_part

    model, slimming = load_model(path), None
    if drop:
        from tflite_asr.slim import slim

        report_progress("slim", 0.1)
        model, facts, saved = slim(model, facts, drop)
        path, slimming = folder / "model.keras", saved.to_dict()
        model.save(path)
    inputs = None
    if calibration is not None:
        stage = f"calibration inputs: {calibration}"
        inputs = calibration_inputs(
            ctc_part(model),
            facts,
            calibration,
            seed,
            budget_macs,
            lambda f: report_progress(stage, 0.2 + 0.6 * f),
        )
    return path, facts, slimming, inputs


def check_budget(seed: int, budget_macs: float | None) -> None:
    """Say what is wrong with the numbers of a synthesis before TensorFlow is started.

    Raises:
        TfliteAsrError: a seed below 0; a budget below 0, infinite or no number.
    """
    if seed < 0:
        raise TfliteAsrError(f"seed {seed}: give 0 or more")
    if budget_macs is not None and not 0 <= budget_macs < math.inf:
        raise TfliteAsrError(f"budget of {budget_macs:g} multiply-adds: give 0 or more, 8e11 say")


def check_drop(path: Path, drop: tuple[str, ...]) -> None:
    """Only Keras models have modules that can be left out.

    Raises:
        TfliteAsrError: something to drop, and a `.tflite`.
    """
    if drop and path.suffix == FLATBUFFER:
        raise TfliteAsrError(
            f"{path}: --drop {drop[0]}: a .tflite can only be quantised; give the .keras file"
        )


def check_calibration(calibration: str, facts: ModelFacts | None, path: Path) -> None:
    """Say what is wrong with a choice of calibration before TensorFlow is started.

    Raises:
        TfliteAsrError: neither a method, an artefact nor a manifest; an artefact that is damaged or of other features
            than the front end's; a manifest with a broken line, or for a model whose front end is unknown; a method
            that needs a Keras model, for a `.tflite`.
    """
    if path.suffix == FLATBUFFER and calibration in KERAS_ONLY:
        raise TfliteAsrError(
            f"{path}: calibration {calibration} needs the Keras model; give synthetic, noise or a manifest"
        )
    if calibration in CALIBRATIONS:
        return
    if not Path(calibration).is_file():
        raise TfliteAsrError(
            f"calibration {calibration!r}: give {', '.join(CALIBRATIONS)}, or a manifest of real speech or an .npz of "
            "inputs that exists"
        )
    if Path(calibration).suffix == ARTEFACT:
        _check_artefact(Path(calibration), facts)
        return
    if facts is None or facts.frontend is None:
        raise TfliteAsrError(
            f"calibration {calibration}: real speech needs the model's front end; give --frontend or write its .toml"
        )
    read_manifest(calibration)


def _check_artefact(artefact: Path, facts: ModelFacts | None) -> None:
    from tflite_asr.synthesis.inputs import SyntheticInputs

    shapes = [clip.shape for clip in SyntheticInputs.load(artefact).features]
    if not shapes:
        raise TfliteAsrError(f"{artefact}: holds no clip; make it again")
    if facts is not None and facts.frontend is not None:
        mels = facts.frontend.mels
        if wrong := [shape for shape in shapes if shape[1:] != (mels,)]:
            raise TfliteAsrError(
                f"{artefact}: holds clips of {list(wrong[0])}, the model takes [frames, {mels}]; make them from it"
            )


def inputs_from_file(calibration: str, facts: ModelFacts | None, seed: int = 0) -> Any:
    """`SyntheticInputs` from an artefact or, where the facts hold a front end, from a manifest; else None."""
    from tflite_asr.synthesis.inputs import SyntheticInputs
    from tflite_asr.synthesis.real import real_inputs

    if calibration in CALIBRATIONS:
        return None
    if Path(calibration).suffix == ARTEFACT:
        return SyntheticInputs.load(calibration)
    return real_inputs(calibration, facts, seed=seed) if facts is not None else None


def calibration_inputs(
    model: Any,
    facts: ModelFacts | None,
    calibration: str,
    seed: int = 0,
    budget_macs: float | None = None,
    progress: Callable[[float], None] | None = None,
    work: Path | None = None,
) -> Any:
    """`SyntheticInputs` by one of `CALIBRATIONS`, real ones from a manifest, or what an artefact (`.npz`) holds.

    work: as `synthesize` takes it.

    Raises:
        TfliteAsrError: what `synthesize`, `real_inputs` and `SyntheticInputs.load` raise.
    """
    if (read := inputs_from_file(calibration, facts, seed)) is not None:
        return read
    from tflite_asr.synthesis.synthesize import synthesize  # starts TensorFlow

    return synthesize(model, facts, calibration, seed, budget_macs, progress, work)


def flatbuffer_inputs(path: Path, facts: ModelFacts | None, calibration: str, seed: int = 0) -> Any:
    """Calibration inputs of a `.tflite`, with no batch norm to refine against: the prior, noise, real speech or an
    artefact."""
    from tflite_asr.quantize.given import look
    from tflite_asr.synthesis.prior import inputs_without_a_model
    from tflite_asr.synthesis.shapes import ModelInputs

    if (read := inputs_from_file(calibration, facts, seed)) is not None:
        return read
    first, *others = look(path.read_bytes(), str(path))
    shape = ModelInputs(("features",), first.tail, None if others else first.frames, first.subsampling)
    return inputs_without_a_model(shape, facts, calibration, seed)
