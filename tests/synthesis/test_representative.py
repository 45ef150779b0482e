"""Feeding a plain TensorFlow Lite converter."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.synthesis.inputs import SyntheticInputs
from tflite_asr.synthesis.representative import representative_dataset
from tflite_asr.synthesis.synthesize import synthesize


def converted(model: Any, feed: Any) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = feed
    return bytes(converter.convert())


def quantised_tensors(flatbuffer: bytes) -> tuple[Any, int]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flatbuffer)
    interpreter.allocate_tensors()
    details = interpreter.get_tensor_details()
    return interpreter, sum(d["dtype"] == np.int8 and d["quantization"][0] > 0 for d in details)


def test_a_stock_model_with_a_fixed_window(own: Any) -> None:
    feed = representative_dataset(own, budget_macs=1e8)
    batches = list(feed())
    assert all(len(arrays) == 1 and arrays[0].shape == (1, 60, 20) for arrays in batches)
    assert all(arrays[0].dtype == np.float32 for arrays in batches)
    assert np.array_equal(next(feed())[0], batches[0][0])  # each call starts anew
    interpreter, quantised = quantised_tensors(converted(own, feed))
    assert quantised > 3
    (given,) = interpreter.get_input_details()
    interpreter.set_tensor(given["index"], batches[0][0])
    interpreter.invoke()
    out = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = np.asarray(own(batches[0][0]))
    assert 10 * np.log10(np.mean(expected**2) / np.mean((out - expected) ** 2)) > 20


def test_the_conformer_with_its_mask(tiny: Any, facts: ModelFacts) -> None:
    features, mask = keras.Input((200, 80), 1, name="features"), keras.Input((50,), 1, name="mask")
    static = keras.Model([features, mask], tiny([features, mask]))
    inputs = synthesize(tiny, facts, budget_macs=0)
    feed = representative_dataset(static, facts, inputs=inputs)
    batches = list(feed())
    assert all(
        arrays["features"].shape == (1, 200, 80) and arrays["mask"].shape == (1, 50) for arrays in batches
    )
    assert any(arrays["mask"].min() == 0 for arrays in batches)  # a clip of 1 s in a window of 2 s
    assert sum(arrays["mask"].sum() for arrays in batches) * 4 == sum(len(clip) for clip in inputs.features)
    _, quantised = quantised_tensors(converted(static, lambda: iter(batches[:4])))
    assert quantised > 50


def test_several_inputs_go_by_name(tiny: Any, facts: ModelFacts) -> None:
    """The converter has an order of its own: a list would feed the features to the mask."""
    features, mask = tiny.inputs
    swapped = keras.Model([mask, features], tiny.outputs)
    inputs = SyntheticInputs([np.ones((40, 80), np.float32)])
    for model in (tiny, swapped):
        (arrays,) = list(representative_dataset(model, facts, inputs=inputs)())
        assert {name: array.shape for name, array in arrays.items()} == {
            "features": (1, 400, 80),
            "mask": (1, 100),
        }
        assert arrays["mask"].sum() == 10


def test_a_window_that_the_model_does_not_take(tiny: Any, own: Any, facts: ModelFacts) -> None:
    with pytest.raises(TfliteAsrError, match="frames is 30; the model takes a multiple of 4"):
        representative_dataset(tiny, facts, frames=30)
    with pytest.raises(TfliteAsrError, match="frames is 30; the model takes 60"):
        representative_dataset(own, frames=30)
