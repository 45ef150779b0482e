"""A model's signatures as float flatbuffers, and what each of them meets: what quantising and low-bit training begin
from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tflite_asr.facts import ModelFacts
from tflite_asr.quantize.calibrate import lay_into_windows
from tflite_asr.quantize.entries import Entry
from tflite_asr.quantize.ranges import family
from tflite_asr.quantize.steps import END_ID, step_parts, step_sequences

if TYPE_CHECKING:
    from tflite_asr.quantize.convert import FloatWindow


def lowered_entries(entries: Sequence[Entry], subsampling: int, facts: ModelFacts | None) -> list[Entry]:
    """The entries, each as int8 is made of it."""
    from tflite_asr.quantize.lowered import lowered

    return [
        replace(entry, model=lowered(entry.model, subsampling, facts, entry.feeds and entry.feeds()))
        for entry in entries
    ]


def converted(
    entries: Sequence[Entry],
    windows: Sequence[int | None],
    subsampling: int,
    tell: Callable[[str, float], None] = lambda stage, done: None,
) -> list[FloatWindow]:
    """Every entry in every window, window by window; None for a model whose time axis is fixed.

    tell: called with (stage, fraction done).
    """
    from tflite_asr.quantize.convert import convert

    found = []
    for number, frames in enumerate(windows):
        tell(f"convert {frames} frames" if frames else "convert", number / len(windows))
        for entry in entries:
            inner = entry.lengths(frames) if entry.lengths and frames else None
            found.append(convert(entry.model, frames, subsampling, entry.kind, inner))
    return found


def sequences_of(
    parts: Mapping[str, bytes], inputs: Sequence[Any], subsampling: int, end_id: int = END_ID
) -> dict[str, list[list[dict[str, np.ndarray]]]]:
    """What every signature is calibrated on: inputs in its window, or a decoder's steps on them.

    inputs: as `lay_into_windows` takes them. end_id: the token that starts and ends a sequence.
    """
    steps = step_parts(parts)
    whole = {signature: data for signature, data in parts.items() if signature not in steps}
    laid = lay_into_windows(inputs, whole, subsampling)
    return laid | step_sequences(parts, laid, end_id)


def family_of(parts: Mapping[str, bytes], signature: str) -> dict[str, bytes]:
    """The windows of one entry."""
    return {name: data for name, data in parts.items() if family(name) == family(signature)}
