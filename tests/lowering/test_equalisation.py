"""Channels of a centred stream come to one spread, the function stays, and int8 keeps more of it."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras.layers import Add, Dense, LayerNormalization, Rescaling

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.lowering import lower
from tflite_asr.lowering.centring import CentredLayerNormalization, ResidualCentring
from tflite_asr.lowering.equalisation import GRAIN, Stream, channel_scales, streams
from tflite_asr.lowering.graph import _rewritten
from tflite_asr.models.conformer import TINY, build_conformer

SHAPE = (20, 24)


def stream(scale: bool = True) -> keras.Model:
    """Two pre-norm modules on a stream whose channels differ a hundredfold, and a block norm that begins another."""
    keras.utils.set_random_seed(1)
    x = keras.Input(SHAPE, name="x")
    y = Dense(24, name="in")(x)
    for number in (1, 2):
        inner = Dense(48, activation="silu")(LayerNormalization(name=f"norm{number}", scale=scale)(y))
        y = Add(name=f"sum{number}")([y, Rescaling(0.5)(Dense(24, name=f"out{number}")(inner))])
    y = LayerNormalization(name="end")(y)
    inner = Dense(48, activation="silu")(LayerNormalization(name="norm3")(y))
    y = Add(name="sum3")([y, Dense(24, name="out3")(inner)])
    model = randomised(keras.Model(x, Dense(5)(LayerNormalization(name="last")(y))))
    spread = np.geomspace(0.1, 10.0, 24)
    for name in ("in", "out1", "out2", "out3"):
        layer = model.get_layer(name)
        layer.set_weights([weight * spread for weight in layer.get_weights()])
    return model


def feeds(count: int = 8) -> list[list[np.ndarray]]:
    return [[one["x"]] for one in noise(SHAPE, count=count)]


@pytest.mark.parametrize("scale", [True, False])
def test_the_function_stays(scale):
    model = stream(scale)
    assert largest_difference(model, lower(model, feeds()), noise(SHAPE)) < 1e-5


def test_every_channel_of_a_stream_reaches_equally_far():
    """By the geometric mean over the places where norms and sums see it."""
    inputs = feeds()
    lowered = lower(stream(), inputs)
    inner = keras.Model(
        lowered.inputs,
        [lowered.get_layer(name).output for name in ("in", "sum1", "sum2", "end.centre", "sum3")],
    )
    reach = [
        np.max([np.abs(np.asarray(look)).max(axis=(0, 1)) for look in looks], axis=0)
        for looks in zip(*(inner(one) for one in inputs), strict=True)
    ]
    for places in (reach[:3], reach[3:]):
        channels = np.exp(np.mean(np.log(places), axis=0))
        assert channels.max() / channels.min() < 1.3
    plain = lower(stream())
    before = keras.Model(plain.inputs, plain.get_layer("sum2").output)
    wild = np.max([np.abs(np.asarray(before(one))).max(axis=(0, 1)) for one in inputs], axis=0)
    assert wild.max() / wild.min() > 10


def test_a_place_that_reaches_further_counts_no_more():
    one = Stream((), ())
    near, far = np.array([1.0, 2.0, 4.0]), np.array([4.0, 2.0, 1.0])
    for factor in (1.0, 100.0):
        object.__setattr__(
            one, "observed", lambda: [SimpleNamespace(name="near"), SimpleNamespace(name="far")]
        )
        reach = one.reach({"near": near, "far": factor * far})
        np.testing.assert_allclose(reach / reach[0], [1.0, 1.0, 1.0], rtol=1e-12)


def test_streams_are_found_from_norm_to_norm():
    model = stream()
    centred = _rewritten(model, lambda outputs: (ResidualCentring(outputs).rule,))
    found = streams(centred)
    assert [{norm.name for norm in one.norms} for one in found] == [
        {"norm1", "norm2", "end"},
        {"norm3", "last"},
    ]
    assert [{member.name for member in one.members} for one in found] == [
        {"in", "sum1", "out1", "sum2", "out2"},
        {"end.centre", "sum3", "out3"},
    ]


def test_scales_stand_on_a_grid_that_rounding_does_not_move():
    centred = _rewritten(stream(), lambda outputs: (ResidualCentring(outputs).rule,))
    for _, scale in channel_scales(centred, feeds()):
        steps = np.log(scale.astype(np.float64)) / np.log(GRAIN)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


def test_a_channel_that_stays_at_zero_does_no_harm():
    model = stream()
    for name in ("in", "out1", "out2"):
        kernel, bias = model.get_layer(name).get_weights()
        kernel[:, 3], bias[3] = kernel.mean(axis=1), bias.mean()  # centred, it is zero
        others = [c for c in range(24) if c != 3]
        kernel[:, 3], bias[3] = kernel[:, others].mean(axis=1), bias[others].mean()
        model.get_layer(name).set_weights([kernel, bias])
    lowered = lower(model, feeds())
    assert largest_difference(model, lowered, noise(SHAPE)) < 1e-4


def test_int8_keeps_more_of_it():
    """Where a norm's scale makes up for how far the channels of its stream reach, all of them count."""
    model = stream()
    for name in ("norm1", "norm2", "end"):
        gamma, beta = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([gamma / np.geomspace(0.1, 10.0, 24), beta])
    inputs = noise(SHAPE)
    plain, equalised = (to_integers(one, inputs).snr(inputs) for one in (lower(model), lower(model, feeds())))
    assert equalised > plain + 1.0


def test_a_conformer_keeps_its_function():
    model = randomised(build_conformer(TINY))
    rng = np.random.default_rng(0)
    probes = [
        [
            rng.normal(size=(1, 80, TINY.mels)).astype(np.float32),
            np.ones((1, 80 // TINY.subsampling), np.float32),
        ]
    ]
    lowered = lower(model, probes)
    assert any(
        isinstance(layer, CentredLayerNormalization) or hasattr(layer, "power") for layer in lowered.layers
    )
    before, after = (np.asarray(one(probes[0])) for one in (model, lowered))
    np.testing.assert_allclose(after, before, atol=1e-4)
