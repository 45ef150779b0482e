from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.layers import Add, Dense, LayerNormalization

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.lowering import lower
from tflite_asr.lowering.affine import AffineCentre
from tflite_asr.models.conformer import TINY, build_conformer


def model_of(*readers: keras.layers.Layer, hand_out: bool = False, residual: bool = False) -> keras.Model:
    x = keras.Input((20, 24), name="x")
    normed = LayerNormalization(name="norm")(x)
    read = [reader(normed) for reader in readers]
    y = Add()([*read, normed]) if residual else Add()(read) if len(read) > 1 else read[0]
    return randomised(keras.Model(x, [y, normed] if hand_out else y))


def weights_of_norm(model: keras.Model) -> int:
    return len(lower(model).get_layer("norm").weights)


@pytest.mark.parametrize("count", [1, 3])
def test_scale_and_offset_go_into_every_product_that_reads_the_norm(count):
    model = model_of(*(Dense(24) for _ in range(count)))
    assert weights_of_norm(model) == 0
    assert largest_difference(model, lower(model), noise((20, 24))) < 1e-5


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (model_of(Dense(24), residual=True), "the norm itself is added"),
        (model_of(Dense(24), hand_out=True), "the norm is an output"),
        (model_of(Dense(24, use_bias=False)), "no bias takes the offset"),
        (model_of(Dense(24), keras.layers.Conv1D(24, 1)), "a reader is no Dense"),
    ],
)
def test_it_stays_where_somebody_else_reads_it(model, why):
    assert weights_of_norm(model) == 2, why
    before, after = (keras.tree.flatten(m(noise((20, 24), count=1)[0]["x"])) for m in (model, lower(model)))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_norm_that_only_hands_out_of_an_inner_model_stays():
    inner_x = keras.Input((20, 24))
    normed = LayerNormalization(name="norm")(inner_x)
    inner = keras.Model(inner_x, [Dense(24)(normed), normed], name="inner")
    x = keras.Input((20, 24), name="x")
    model = randomised(keras.Model(x, Add()(inner(x))))
    assert largest_difference(model, lower(model), noise((20, 24))) < 1e-5


def test_a_conformer_keeps_scales_only_between_blocks_in_the_centring():
    lowered = lower(randomised(build_conformer(TINY)))
    norms = [w.path for w in lowered.weights if w.path.endswith("gamma") and ".batch_norm" not in w.path]
    assert norms == []
    assert [one.name for one in lowered.layers if type(one) is AffineCentre] == ["encoder.block0.norm.centre"]


def test_in_int8_there_are_two_ops_fewer_and_no_less_precision():
    model, feeds = model_of(Dense(24)), noise((20, 24))
    folded = to_integers(lower(model), feeds)
    assert folded.offending() == []
    assert folded.snr(feeds) > to_integers(model, feeds).snr(feeds) - 1


@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False}])
def test_a_norm_that_begins_a_stream_gives_scale_and_offset_to_its_centring(settings):
    """The offset is the bias of the product that spreads the mean, and takes no sum of its own."""
    x = keras.Input((20, 24), name="x")
    first = LayerNormalization(name="first", **settings)(x)
    summed = Add(name="sum")([first, Dense(24, name="in")(LayerNormalization(name="inner")(first))])
    model = randomised(keras.Model(x, Dense(5)(LayerNormalization(name="last")(summed))))
    lowered = lower(model)
    assert type(lowered.get_layer("first.centre")) is AffineCentre
    assert lowered.get_layer("first").weights == []
    assert largest_difference(model, lowered, noise((20, 24))) < 1e-5
    found = to_integers(lowered, noise((20, 24))).ops()
    assert (
        found["ADD"] == 3
    )  # the centred norm, the stream's sum, the epsilon of the norm that is not centred
