"""What cancels out, or nearly so, is still an int8 file that XNNPACK takes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.quantize.conftest import SUBSAMPLING, smooth_inputs
from tflite_asr.lowering import lower
from tflite_asr.models import load_model
from tflite_asr.quantize.calibrate import calibrate, lay_into_windows
from tflite_asr.quantize.convert import convert
from tflite_asr.quantize.finish import finish
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.quantizer import quantize
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model
from tflite_asr.runtime import open_interpreter

FRAMES, WIDTH = 4, 8


def balance(units: int, difference: float) -> keras.Model:
    """Every second value less every other one, by a product with constant weights, times `units`."""
    x = keras.Input((FRAMES, WIDTH), name="features")
    dense = keras.layers.Dense(units, name="balance")
    model = keras.Model(x, keras.layers.Dense(3, name="after")(dense(x)))
    weights = np.resize([1.0, -1.0 + difference], WIDTH).astype(np.float32)
    dense.set_weights([np.repeat(weights[:, None], units, axis=1), np.zeros(units, np.float32)])
    return model


@pytest.mark.parametrize("difference", [0.0, 1e-7, 1e-5, 0.5])
def test_a_product_whose_result_is_next_to_nothing_loads_and_computes(difference: float):
    model = balance(2, difference)
    window = convert(model, None)
    parts = {window.signature: window.data}
    pairs = np.repeat(np.random.default_rng(0).normal(size=(FRAMES, WIDTH // 2)), 2, axis=1)
    clip = pairs.astype(np.float32)
    ranges = calibrate(parts, lay_into_windows([clip], parts))
    made = finish(quantize(window.data, ranges, (), scheme("int8")), ranges)
    interpreter = open_interpreter(made)
    signature = interpreter.signatures[window.signature]
    stored = {name: facts.quantise(clip[None]) for name, facts in signature.inputs.items()}
    (name, facts), *_ = signature.outputs.items()
    got = (
        interpreter.run(window.signature, stored)[name].astype(np.float64) - facts.zero_point
    ) * facts.scale
    wanted = keras.ops.convert_to_numpy(model(clip[None], training=False))
    np.testing.assert_allclose(got, wanted, atol=0.03 * max(0.01, float(np.abs(wanted).max())))


def rescales(data: bytes) -> list[float]:
    """Each operand's scale of each ADD and SUB over the result's."""
    model = read_model(data)
    graph = model.subgraphs[0]
    scales = [
        [float(graph.tensors[index].quantization.scale[0]) for index in [*op.inputs, *op.outputs]]
        for op in graph.operators
        if op_name(model, op) in ("ADD", "SUB")
    ]
    return [operand / result for *operands, result in scales for operand in operands]


def test_clips_that_all_fill_their_window_keep_sums_within_the_limits_and_masks_at_work(tiny_keras):
    """1 - mask is zero throughout then: its own scale would be a 512th of the mask's."""
    window = convert(lower(load_model(tiny_keras)), 80, SUBSAMPLING)
    parts = {window.signature: window.data}
    short, *full = smooth_inputs((48, 80, 80))
    ranges = calibrate(parts, lay_into_windows(full, parts, SUBSAMPLING))
    made = finish(quantize(window.data, ranges, (), scheme("int8")), ranges)
    assert min(rescales(made)) > 2.0**-10
    assert max(rescales(made)) < 2.0**8
    features = np.zeros((1, 80, 80), np.float32)
    features[:, :48] = short
    feed = {"features": features, "mask": (np.arange(20) < 12).astype(np.float32)[None]}
    interpreter = open_interpreter(made)
    signature = interpreter.signatures[window.signature]
    stored = {name: facts.quantise(feed[name]) for name, facts in signature.inputs.items()}
    facts = signature.outputs["logits"]
    got = interpreter.run(window.signature, stored)["logits"].astype(np.float64)
    got = ((got - facts.zero_point) * facts.scale)[:, :12]
    wanted = open_interpreter(window.data).run(window.signature, feed)["logits"][:, :12]
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - got).sum()) > 15
