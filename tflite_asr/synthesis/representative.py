"""Synthetic inputs as anybody's `converter.representative_dataset`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.synthesis.inputs import SyntheticInputs
from tflite_asr.synthesis.shapes import model_inputs
from tflite_asr.synthesis.synthesize import synthesize

DEFAULT_FRAMES = 400


def representative_dataset(
    model: Any,
    facts: ModelFacts | None = None,
    frames: int | None = None,
    inputs: SyntheticInputs | None = None,
    method: str = "synthetic",
    seed: int = 0,
    budget_macs: float | None = None,
) -> Callable[[], Iterator[list[np.ndarray] | dict[str, np.ndarray]]]:
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
        A function without arguments; each call goes through the same clips, one a step, batch 1, float32, clips longer
        than the window cut into several: a list of one array for a model with one input, and {input's name: array} for
        one with more, since the converter puts several into an order of its own (measured: mask before features).

    Raises:
        TfliteAsrError: what `synthesize` raises; `frames` that the model or its subsampling does not allow.
    """
    shape = model_inputs(model, facts)
    window = frames or shape.fixed_frames or shape.whole(DEFAULT_FRAMES)
    if shape.fixed_frames not in (None, window) or window % shape.subsampling:
        allowed = shape.fixed_frames or f"a multiple of {shape.subsampling}"
        raise TfliteAsrError(f"representative_dataset: frames is {frames}; the model takes {allowed}")
    made = inputs if inputs is not None else synthesize(model, facts, method, seed, budget_macs)

    names = [str(tensor.name) for tensor in model.inputs]

    def clips() -> Iterator[list[np.ndarray] | dict[str, np.ndarray]]:
        for clip in made.features:
            for start in range(0, len(clip), window):
                arrays = shape.batch([clip[start : start + window]], window)
                yield arrays if len(arrays) == 1 else dict(zip(names, arrays, strict=True))

    return clips
