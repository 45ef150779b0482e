from __future__ import annotations

import numpy as np
import pytest

from tests.quantize.conftest import run
from tflite_asr.quantize.calibrate import calibrate
from tflite_asr.quantize.convert import convert
from tflite_asr.quantize.equalise import equalise, linear_pairs
from tflite_asr.quantize.finish import finish
from tflite_asr.quantize.quantizer import quantize
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model


def feeds(count: int = 4) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    return [{"features": rng.normal(0, 1, (1, 20, 8)).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def separable() -> bytes:
    """Two separable convolutions with ReLUs, as QuartzNet has them; two channels far wider than the others."""
    import keras

    keras.utils.set_random_seed(1)
    source = keras.Input((20, 8), name="features")
    hidden = keras.layers.Conv1D(16, 1, activation="relu", name="wide")(source)
    hidden = keras.layers.DepthwiseConv1D(5, padding="same", name="taps")(hidden)
    hidden = keras.layers.Conv1D(16, 1, activation="relu", name="mix")(hidden)
    model = keras.Model(source, keras.layers.Dense(6, name="last")(hidden))
    kernel, bias = model.get_layer("wide").get_weights()
    model.get_layer("wide").set_weights([kernel * np.where(np.arange(16) < 2, 40.0, 1.0), bias + 0.1])
    return convert(model, None).data


def snr(data: bytes, integers: bytes) -> float:
    signal = noise = 0.0
    for feed in feeds():
        (exact,) = run(data, "main", feed).values()
        (detail,) = _output(integers)
        given = _quantised(integers, feed)
        (stored,) = run(integers, "main", given).values()
        real = (stored.astype(np.float64) - detail[1]) * detail[0]
        signal += float(np.square(exact, dtype=np.float64).sum())
        noise += float(np.square(real - exact).sum())
    return 10 * np.log10(signal / noise)


def _output(data: bytes) -> list[tuple[float, int]]:
    (graph,) = read_model(data).subgraphs
    found = [graph.tensors[index].quantization for index in graph.outputs]
    return [(float(one.scale[0]), int(one.zeroPoint[0])) for one in found]


def _quantised(data: bytes, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    (graph,) = read_model(data).subgraphs
    grid = graph.tensors[graph.inputs[0]].quantization
    integers = np.rint(feed["features"] / grid.scale[0]) + grid.zeroPoint[0]
    return {"features": np.clip(integers, -128, 127).astype(np.int8)}


def int8(data: bytes) -> bytes:
    ranges = calibrate({"main": data}, {"main": [[feed] for feed in feeds()]})
    return finish(quantize(data, ranges, (), scheme("int8")), ranges)


def test_products_with_a_relu_or_nothing_between_are_pairs(separable: bytes):
    model = read_model(separable)
    (graph,) = model.subgraphs
    pairs = linear_pairs(model, graph)
    assert [pair.middle.split("/")[0] for pair in pairs] == ["wide", "taps", "mix"]


def test_the_function_stays_and_int8_gains(separable: bytes):
    made, factors = equalise({"main": separable}, {"main": [[feed] for feed in feeds()]})
    assert factors
    for feed in feeds():
        (one,), (other,) = run(separable, "main", feed).values(), run(made["main"], "main", feed).values()
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(one).max())
    assert snr(separable, int8(made["main"])) > snr(separable, int8(separable)) + 3


def test_what_two_read_is_no_pair():
    import keras

    source = keras.Input((20, 8), name="features")
    hidden = keras.layers.Dense(8, name="first")(source)
    both = keras.layers.Add()([hidden, keras.layers.Dense(8, name="second")(hidden)])
    model = read_model(convert(keras.Model(source, both), None).data)
    assert linear_pairs(model, model.subgraphs[0]) == []


def test_even_channels_are_left_alone():
    import keras

    keras.utils.set_random_seed(2)
    source = keras.Input((20, 8), name="features")
    hidden = keras.layers.Dense(8, kernel_initializer="identity", name="first")(source)
    data = convert(keras.Model(source, keras.layers.Dense(4, name="second")(hidden)), None).data
    even = [[{"features": np.tile(np.linspace(-1, 1, 20, dtype=np.float32)[:, None], (1, 8))[None]}]]
    made, factors = equalise({"main": data}, {"main": even})
    assert factors == {}
    assert made == {"main": data}
