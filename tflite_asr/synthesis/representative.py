"""Synthetic inputs as anybody's `converter.representative_dataset`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.synthesis.inputs import SyntheticInputs
from tflite_asr.synthesis.shapes import model_inputs
from tflite_asr.synthesis.synthesize import DEFAULT_BUDGET_MACS, synthesize

DEFAULT_FRAMES = 400


def representative_dataset(
    model: Any,
    facts: ModelFacts | None = None,
    frames: int | None = None,
    inputs: SyntheticInputs | None = None,
    method: str = "synthetic",
    seed: int = 0,
    budget_macs: float = DEFAULT_BUDGET_MACS,
) -> Callable[[], Iterator[list[np.ndarray]]]:
    """A generator function for TensorFlow's converter, no data needed:

        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative_dataset(model)

    Args:
        model: any Functional or Sequential Keras model of [batch, frames, ...] features, with or without a mask.
        facts: the model's facts, where there are some: with a front end in them, babble is among the inputs.
        frames: the static window; default the model's own length, or 400 where that is open.
        inputs: ready-made inputs, instead of `synthesize(model, facts, method, seed, budget_macs)`.

    Returns:
        A function without arguments; each call goes through the same clips, one a step: a list of float32 arrays in
        the order of the model's inputs, batch 1, clips longer than the window cut into several.

    Raises:
        TfliteAsrError: what `synthesize` raises; `frames` that the model or its subsampling does not allow.
    """
    shape = model_inputs(model, facts)
    window = frames or shape.fixed_frames or shape.whole(DEFAULT_FRAMES)
    if shape.fixed_frames not in (None, window) or window % shape.subsampling:
        allowed = shape.fixed_frames or f"a multiple of {shape.subsampling}"
        raise TfliteAsrError(f"representative_dataset: frames is {frames}; the model takes {allowed}")
    made = inputs if inputs is not None else synthesize(model, facts, method, seed, budget_macs)

    def clips() -> Iterator[list[np.ndarray]]:
        for clip in made.features:
            for start in range(0, len(clip), window):
                yield shape.batch([clip[start : start + window]], window)

    return clips
