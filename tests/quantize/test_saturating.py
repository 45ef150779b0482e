"""A range ends where no reader tells the values beyond apart, and nowhere else."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from tflite_asr.quantize.calibrate import calibrate, lay_into_windows
from tflite_asr.quantize.convert import convert
from tflite_asr.quantize.saturating import DEPTH, narrow_saturated
from tflite_asr.quantize.serialize import read_model

FAR = 40.0


@keras.saving.register_keras_serializable(package="tests")
class Written(keras.layers.Layer):
    """A function of one tensor, by name."""

    FUNCTIONS = {  # noqa: RUF012
        "exp": ops.exp,
        "elu": ops.elu,
        "sigmoid": ops.sigmoid,
        "tanh": ops.tanh,
        "silu": lambda x: x * ops.sigmoid(x),
        "minimum": lambda x: ops.minimum(x, 3.0),
        "split": lambda x: ops.concatenate([ops.tanh(part) for part in ops.split(x, 2, axis=-1)], axis=-1),
        "half": lambda x: ops.split(x, 2, axis=-1)[0] + ops.tanh(ops.split(x, 2, axis=-1)[1]),
    }

    def __init__(self, function, **settings):
        super().__init__(**settings)
        self.function = function

    def call(self, x):
        return self.FUNCTIONS[self.function](x)


def narrowed(function: str) -> tuple[float, float]:
    """The range of a sum of reach [-FAR, FAR] that only `function` reads."""
    x = keras.Input((4, 8), name="features")
    y = Written(function, name="read")(keras.layers.Add(name="sum")([x, x]))
    window = convert(keras.Model(x, y), None)
    parts = {window.signature: window.data}
    values = np.linspace(-FAR / 2, FAR / 2, 32, dtype=np.float32).reshape(4, 8)
    ranges = calibrate(parts, lay_into_windows([values], parts))
    one = narrow_saturated(read_model(window.data), ranges)["sum/add"]
    return one.minimum, one.maximum


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("exp", (FAR - DEPTH, FAR)),
        ("elu", (-DEPTH, FAR)),
        ("sigmoid", (-8.0, 8.0)),
        ("tanh", (-4.5, 4.5)),
        ("minimum", (-FAR, 3.0)),
        ("split", (-4.5, 4.5)),
    ],
)
def test_a_range_ends_where_its_only_reader_saturates(function, expected):
    assert narrowed(function) == pytest.approx(expected)


@pytest.mark.parametrize("function", ["silu", "half"])
def test_a_second_reader_that_sees_all_keeps_the_range(function):
    assert narrowed(function) == pytest.approx((-FAR, FAR))


def test_what_is_cut_moves_no_result_by_half_a_quantum():
    assert np.exp(-DEPTH) < 0.1 / 255
    assert 1 / (1 + np.exp(8.0)) < 0.1 / 256
    assert 1 - np.tanh(4.5) < 0.1 / 128
