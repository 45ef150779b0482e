"""A `.keras` file to one flatbuffer with all its windows, under one scheme or several: every step of this room in order.

All of it runs in a child process, because TensorFlow and the interpreters may abort, and are never quiet.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import read_flatbuffer
from tflite_asr.quantize.child import Progress, report_progress, run_in_child
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.schemes import Scheme, scheme

_PACKAGES = ("tensorflow", "keras", "ai_edge_litert", "ai_edge_quantizer")


@dataclass(frozen=True)
class FlatbufferResult:
    """A flatbuffer and what is known of it.

    data: the file's bytes. scheme: its name. lowered: whether the graph was rewritten for integer kernels.
    signatures: name to `{"inputs" | "outputs": {tensor: {"shape", "dtype", "scale", "zero_point"}}}`, scale and zero point
    only where quantised. ranges: what the activations' scales came from, None where none were needed.
    tensors: module path to the stable names of the tensors it computes. made_with: versions of what made it.
    """

    data: bytes
    scheme: str
    lowered: bool
    signatures: dict[str, Any]
    ranges: Ranges | None
    tensors: dict[str, tuple[str, ...]]
    made_with: dict[str, str]


def build_flatbuffers(
    keras_path: str | Path,
    windows: Sequence[int],
    schemes: Sequence[str | Scheme],
    inputs: Iterable[np.ndarray | Mapping[str, np.ndarray]] | None = None,
    *,
    subsampling: int = 1,
    ties: Iterable[Collection[str]] = (),
    ranges: Ranges | None = None,
    progress: Progress | None = None,
) -> list[FlatbufferResult]:
    """One flatbuffer for each scheme, in their order.

    windows: lengths in feature frames; not used where the model's time axis is fixed.
    inputs: for calibration, float32 [frames, mels] each (or, for a model with other inputs, input name to array without
    the batch axis); needed where a scheme is static and `ranges` is None.
    subsampling: feature frames that become one frame of `mask`. ties: sets of tensor names that get one scale.
    progress: called with (stage, fraction done).
    Raises TfliteAsrError, one line, for whatever goes wrong, the child's death included.
    """
    chosen = [scheme(one) for one in schemes]
    given = None if inputs is None else [_plain(one) for one in inputs]
    if any(one.needs_ranges for one in chosen) and ranges is None and not given:
        raise TfliteAsrError(f"{keras_path}: scheme {chosen[-1].name} needs inputs to calibrate on, and there are none")
    fixed_ties = [tuple(sorted(one)) for one in ties]
    return run_in_child(
        _build,
        str(keras_path),
        sorted(set(windows)),
        chosen,
        given,
        subsampling,
        fixed_ties,
        ranges,
        stage="open the model",
        progress=progress,
    )


def build_flatbuffer(
    keras_path: str | Path,
    windows: Sequence[int],
    scheme: str | Scheme,
    inputs: Iterable[np.ndarray | Mapping[str, np.ndarray]] | None = None,
    **settings: Any,
) -> FlatbufferResult:
    """`build_flatbuffers` for one scheme."""
    return build_flatbuffers(keras_path, windows, [scheme], inputs, **settings)[0]


def _plain(one: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
    if isinstance(one, Mapping):
        return {name: np.asarray(values, np.float32) for name, values in one.items()}
    return np.asarray(one, np.float32)


def _build(
    keras_path: str,
    windows: list[int],
    schemes: list[Scheme],
    inputs: list[Any] | None,
    subsampling: int,
    ties: list[tuple[str, ...]],
    ranges: Ranges | None,
) -> list[FlatbufferResult]:
    """In the child: convert once for each form (as written, lowered), then quantise for each scheme."""
    from tflite_asr.models import load_model
    from tflite_asr.quantize.convert import has_open_time_axis

    report_progress("open the model", 0.0)
    model = load_model(keras_path)
    lengths: list[int | None] = list(windows) if has_open_time_axis(model) else [None]
    if not lengths:
        raise TfliteAsrError(f"{keras_path}: its time axis is open and no window length is given")
    results = {}
    forms = sorted({one.lowered for one in schemes})
    for number, lowered in enumerate(forms):
        share = (number / len(forms), 1 / len(forms))
        for one, result in _build_form(model, lowered, lengths, schemes, inputs, subsampling, ties, ranges, share):
            results[one] = result
    report_progress("done", 1.0)
    return [results[one] for one in schemes]


def _build_form(
    model: Any,
    lowered: bool,
    lengths: list[int | None],
    schemes: list[Scheme],
    inputs: list[Any] | None,
    subsampling: int,
    ties: list[tuple[str, ...]],
    ranges: Ranges | None,
    share: tuple[float, float],
) -> Iterable[tuple[Scheme, FlatbufferResult]]:
    """All schemes of one form of the model."""
    from tflite_asr.quantize.calibrate import calibrate, lay_into_windows
    from tflite_asr.quantize.convert import convert
    from tflite_asr.quantize.finish import finish
    from tflite_asr.quantize.quantizer import quantize
    from tflite_asr.quantize.windows import merge

    def tell(stage: str, fraction: float) -> None:
        report_progress(stage, share[0] + share[1] * fraction)

    if lowered:
        from tflite_asr.lowering import lower

        tell("lower", 0.05)
        model = lower(model)
    floats = []
    for number, frames in enumerate(lengths):
        tell(f"convert {frames} frames" if frames else "convert", 0.1 + 0.4 * number / len(lengths))
        floats.append(convert(model, frames, subsampling))
    parts = {window.signature: window.data for window in floats}
    for one in schemes:
        if one.lowered != lowered:
            continue
        found = ranges if one.needs_ranges else None
        if one.needs_ranges and found is None:
            tell("calibrate", 0.5)
            found = calibrate(parts, lay_into_windows(inputs or [], parts, subsampling))
        finished = []
        for number, (signature, data) in enumerate(parts.items()):
            tell(f"quantise {signature}", 0.7 + 0.3 * number / len(parts))
            finished.append(finish(quantize(data, found, ties, one), found))
        merged = merge(finished)
        yield one, FlatbufferResult(merged, one.name, lowered, describe(merged), found, dict(floats[0].tensors), _versions())


def describe(data: bytes) -> dict[str, Any]:
    """The signatures of a flatbuffer as bundle.json records them."""
    model = read_flatbuffer(data)
    described = {}
    for signature in model.signatures:
        tensors = model.subgraphs[signature.subgraph].tensors
        sides = {"inputs": signature.inputs, "outputs": signature.outputs}
        described[signature.name] = {
            side: {name: tensors[index].describe() for name, index in some.items()} for side, some in sides.items()
        }
    return described


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name.replace("_", "-")) for name in _PACKAGES}
