"""Gated linear units behind a product, as two products."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.layers import Dense, LayerNormalization

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.lowering import lower
from tflite_asr.models.layers import GatedLinearUnit


def gated(norm: bool = False, units: int = 32, **settings) -> keras.Model:
    x = keras.Input((20, 8), name="x")
    y = LayerNormalization(name="norm")(x) if norm else x
    return randomised(keras.Model(x, GatedLinearUnit(name="glu")(Dense(units, name="dense", **settings)(y))))


@pytest.mark.parametrize("settings", [{}, {"use_bias": False}, {"norm": True}], ids=str)
def test_a_gated_product_keeps_its_function(settings):
    model = gated(**settings)
    lowered = lower(model)
    assert type(lowered.get_layer("dense")).__name__ == "GatedDense"
    assert "glu" not in [layer.name for layer in lowered.layers]
    assert lowered.output.shape == (None, 20, 16)
    assert largest_difference(model, lowered, noise((20, 8))) < 1e-5


def test_it_is_one_half_times_the_sigmoid_of_the_other():
    lowered, x = lower(gated()), noise((20, 8), count=1)[0]["x"]
    kernel, bias = lowered.get_layer("dense").get_weights()
    product = x @ kernel + bias
    np.testing.assert_allclose(lowered(x), product[..., :16] / (1 + np.exp(-product[..., 16:])), atol=1e-5)


def test_a_product_that_others_read_too_stays_whole():
    x = keras.Input((20, 8), name="x")
    y = Dense(32, name="dense")(x)
    model = randomised(keras.Model(x, [GatedLinearUnit(name="glu")(y), keras.layers.Activation("relu")(y)]))
    lowered = lower(model)
    assert type(lowered.get_layer("dense")) is Dense
    assert type(lowered.get_layer("glu")) is GatedLinearUnit
    assert largest_difference(model, lowered, noise((20, 8))) < 1e-5


def test_a_product_that_is_an_output_or_has_an_activation_stays_whole():
    x = keras.Input((20, 8), name="x")
    y, z = Dense(32, name="output")(x), Dense(32, activation="relu", name="relu")(x)
    model = randomised(keras.Model(x, [y, GatedLinearUnit()(y), GatedLinearUnit()(z)]))
    lowered = lower(model)
    assert {type(lowered.get_layer(name)) for name in ("output", "relu")} == {Dense}
    assert largest_difference(model, lowered, noise((20, 8))) < 1e-5


def test_halves_that_would_not_fill_a_product_stay_together():
    model = gated(units=24)
    lowered = lower(model)
    assert type(lowered.get_layer("dense")) is Dense
    assert largest_difference(model, lowered, noise((20, 8))) < 1e-5


def test_it_is_saved_and_loaded(tmp_path):
    lowered = lower(gated())
    lowered.save(tmp_path / "lowered.keras")
    again = keras.models.load_model(tmp_path / "lowered.keras")
    assert largest_difference(lowered, again, noise((20, 8), count=1)) == 0


def test_in_int8_nothing_is_split():
    model, feeds = gated(), noise((20, 8))
    lowered = to_integers(lower(model), feeds)
    assert lowered.ops()["FULLY_CONNECTED"] == 2
    assert not {"SPLIT", "STRIDED_SLICE", "SLICE"} & set(lowered.ops())
    assert lowered.offending() == []
    assert not lowered.outside_policy()
    assert lowered.snr(feeds) > to_integers(model, feeds).snr(feeds) - 0.1
