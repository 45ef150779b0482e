"""ReLU on its own, masked softmax, and bools made of floats."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from keras.layers import Activation, Add, Dense, Dropout, ReLU, Reshape, Softmax

from tests.lowering.integers import largest_difference, noise, to_integers
from tflite_asr.lowering import lower

RELUS = {
    "layer": ReLU(),
    "relu6 layer": ReLU(6),
    "activation": Activation("relu"),
    "op": ops.relu,
    "op6": ops.relu6,
}


@pytest.mark.parametrize("relu", RELUS)
def test_a_relu_of_its_own_becomes_the_end_of_a_product(relu):
    x = keras.Input((6, 8), name="x")
    model = keras.Model(x, RELUS[relu](ops.reshape(x, (-1, 8, 6))))
    feeds = [{"x": 5 * feed["x"]} for feed in noise((6, 8))]
    assert largest_difference(model, lower(model), feeds) < 1e-4
    lowered = to_integers(lower(model), feeds)
    assert not {"RELU", "RELU6"} & set(lowered.ops())
    assert lowered.offending() == []
    assert lowered.snr(feeds) > 35


@pytest.mark.parametrize(
    "before", [Dense(8), lambda x: Add()([x, 2 * x]), lambda x: Dropout(0.1)(Dense(8)(x))]
)
def test_a_relu_that_the_converter_fuses_is_left_alone(before):
    x = keras.Input((6, 8), name="x")
    model = keras.Model(x, Activation("relu", name="relu")(before(x)))
    lowered = lower(model)
    assert type(lowered.get_layer("relu")) is Activation
    assert "RELU" not in to_integers(lowered, noise((6, 8))).ops()


def test_a_relu_whose_input_is_read_twice_is_not_taken_for_a_fused_one():
    x = keras.Input((6, 8), name="x")
    y = Dense(8)(x)
    model = keras.Model(x, ReLU(name="relu")(y) + Reshape((6, 8))(y))
    assert type(lower(model).get_layer("relu")).__name__ == "FusedReLU"
    assert "RELU" not in to_integers(lower(model), noise((6, 8))).ops()


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_a_masked_softmax_keeps_its_function_and_its_range(dtype):
    x, mask = keras.Input((6, 8), name="x"), keras.Input((6, 8), name="mask", dtype=dtype)
    model = keras.Model([x, mask], Softmax()(x, mask=mask))
    feeds = noise((6, 8))
    for feed in feeds:
        feed["mask"] = (feed["x"] > -0.5).astype(dtype)
    assert largest_difference(model, lower(model), feeds) < 1e-5
    lowered = to_integers(lower(model), feeds)
    assert lowered.offending() == []
    assert lowered.snr(feeds) > 25


def test_a_softmax_without_a_mask_stays_one_op():
    x = keras.Input((6, 8), name="x")
    model = keras.Model(x, Dense(4, activation="softmax")(Softmax()(x)))
    lowered = to_integers(lower(model), noise((6, 8)))
    assert lowered.ops()["SOFTMAX"] == 2
    assert lowered.offending() == []


COMPARISONS = {
    "greater": ops.greater,
    "less": ops.less,
    "at least": ops.greater_equal,
    "at most": ops.less_equal,
}


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_comparing_floats_stays_in_integers(comparison):
    x = keras.Input((6, 8), name="x")
    model = keras.Model(x, x * ops.cast(COMPARISONS[comparison](x, 0.5), "float32"))
    feeds = [{"x": np.rint(2 * feed["x"]) / 2} for feed in noise((6, 8))]  # .5 itself is among them
    assert largest_difference(model, lower(model), feeds) == 0
    apart = [{"x": feed["x"] + 0.25} for feed in feeds]  # a tie may fall either way once rounded to int8
    lowered = to_integers(lower(model), apart)
    assert lowered.offending() == []
    assert lowered.snr(apart) > 30


def test_a_float_as_a_bool_is_whether_it_is_not_zero():
    x = keras.Input((6, 8), name="x")
    model = keras.Model(x, ops.where(ops.cast(x, "bool"), x + 1.0, 0.0))
    feeds = [{"x": np.rint(feed["x"])} for feed in noise((6, 8))]
    assert largest_difference(model, lower(model), feeds) == 0
    assert to_integers(lower(model), feeds).offending() == []
