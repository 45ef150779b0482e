from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.layers import LayerNormalization

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.lowering import lower


def normalised(**settings) -> keras.Model:
    x = keras.Input((20, 24), name="x")
    return randomised(keras.Model(x, LayerNormalization(name="norm", **settings)(x)))


@pytest.mark.parametrize(
    "settings",
    [{}, {"epsilon": 1e-5}, {"center": False}, {"scale": False}, {"axis": [1, 2]}, {"axis": 1}],
    ids=str,
)
def test_a_layer_norm_keeps_its_function(settings):
    model = normalised(**settings)
    assert largest_difference(model, lower(model), noise((20, 24))) < 1e-5


def test_it_computes_what_the_paper_says():
    lowered = lower(normalised())
    x = noise((20, 24), count=1)[0]["x"]
    gamma, beta = lowered.get_layer("norm").get_weights()
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * gamma + beta
    np.testing.assert_allclose(lowered(x), expected, atol=1e-5)


def test_in_int8_it_is_all_integers_and_as_exact_as_the_one_of_keras():
    model, feeds = normalised(), noise((20, 24))
    lowered = to_integers(lower(model), feeds)
    assert lowered.offending() == []
    assert not lowered.outside_policy()
    assert not {"SQUARED_DIFFERENCE", "NEG"} & set(lowered.ops())
    assert (
        lowered.snr(feeds) > to_integers(model, feeds).snr(feeds) - 2
    )  # two roundings more; a whole model's: test_lower.py
    assert lowered.snr(feeds) > 28
