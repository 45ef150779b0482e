"""The float side of a study, made once and shared by all arms: bundles, lowered windows, logits."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tflite_asr.audio import read_audio
from tflite_asr.facts import ModelFacts
from tflite_asr.manifest import Utterance
from tflite_asr.pipeline import Progress, bundle_up, convert, prepared, span
from tflite_asr.pipeline.model_files import FLATBUFFER
from tflite_asr.quantize.child import report_progress, run_in_child
from tflite_asr.quantize.schemes import scheme
from tflite_asr.runtime import Transcriber

FLOAT, DYNAMIC = "float32", "dynamic_wi8_afp32"
_LOWERED = "lowered"


def make(path: Path, facts: ModelFacts, base: Path, progress: Progress | None = None) -> None:
    """Write the bundles `float32` and `dynamic_wi8_afp32` and the lowered float windows into `base`, unless they lie
    there already.

    Raises:
        TfliteAsrError: as `pipeline.export`.
    """
    done = base / "complete"
    if done.is_file():
        return
    base.mkdir(parents=True, exist_ok=True)
    with prepared(path, facts, calibration=None, progress=span(progress, 0.0, 0.3)) as ready:
        results = convert(ready, [scheme(FLOAT), scheme(DYNAMIC)], span(progress, 0.3, 0.6))
        for result in results:
            bundle_up(ready, result, base / result.scheme, overwrite=True)
    shutil.rmtree(base / _LOWERED, ignore_errors=True)
    run_in_child(
        _lower, path, facts, base / _LOWERED, stage="lower the model", progress=span(progress, 0.6, 1.0)
    )
    done.touch()


def lowered_windows(base: Path) -> dict[str, bytes]:
    """Signature to float flatbuffer with stable names, in the order of `windows`."""
    return {path.name.partition("-")[2]: path.read_bytes() for path in sorted((base / _LOWERED).iterdir())}


def logits_of(
    bundle: Path, utterances: Sequence[tuple[str, Utterance]], out: Path, progress: Progress | None = None
) -> Path:
    """Write a float bundle's logits of each utterance to `out` (`.npz`), unless it lies there already."""
    if out.is_file():
        return out
    transcriber = Transcriber(bundle)
    found = {}
    for number, (_, one) in enumerate(utterances):
        audio = read_audio(one.audio_filepath, transcriber.frontend.sample_rate)
        found[str(number)] = transcriber.logits(audio)
        if progress:
            progress("float logits", (number + 1) / len(utterances))
    partial = out.with_name(f".{out.name}.partial.npz")
    np.savez(partial, allow_pickle=False, **found)
    partial.replace(out)
    return out


def read_logits(path: Path, utterances: Sequence[tuple[str, Utterance]]) -> dict[Path, np.ndarray]:
    """Audio file to float32 [frames, pieces], as `logits_of` wrote them for the same utterances."""
    with np.load(path) as held:
        return {one.audio_filepath: held[str(number)] for number, (_, one) in enumerate(utterances)}


def _lower(path: Path, facts: ModelFacts, out: Path) -> None:
    """In a child: the float flatbuffers that int8 is made of, a file each."""
    report_progress("lower the model", 0.0)
    if path.suffix == FLATBUFFER:
        from tflite_asr.quantize.given import look, parts

        data = path.read_bytes()
        windows = parts(data, look(data, str(path)))
    else:
        import tflite_asr.lowering  # noqa: F401  its layers are then known, and a lowered model opens too
        from tflite_asr.models import load_model
        from tflite_asr.quantize.convert import convert as convert_window
        from tflite_asr.quantize.convert import has_open_time_axis
        from tflite_asr.quantize.lowered import lowered

        model = lowered(load_model(path), facts.subsampling, facts)
        lengths: list[int | None] = [*sorted(set(facts.windows))] if has_open_time_axis(model) else [None]
        windows = {}
        for number, frames in enumerate(lengths):
            report_progress(f"lower {frames or 'the'} frames", number / len(lengths))
            window = convert_window(model, frames, facts.subsampling)
            windows[window.signature] = window.data
    out.mkdir(parents=True)
    for number, (signature, data) in enumerate(windows.items()):
        (out / f"{number:02d}-{signature}").write_bytes(data)
