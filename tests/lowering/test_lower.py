"""Whole models: what stays as it was, a person's own model of stock layers, and the Conformer."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops
from keras.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv1D,
    Dense,
    DepthwiseConv1D,
    LayerNormalization,
    MultiHeadAttention,
)

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.errors import TfliteAsrError
from tflite_asr.lowering import lower
from tflite_asr.models.conformer import TINY, build_conformer


def somebodys_own() -> keras.Model:
    """A Transformer with convolutions: stock layers, activations in all three forms, dict of outputs."""
    features = keras.Input((32, 10), name="features")
    mask = keras.Input((16,), name="mask")
    x = Conv1D(16, 3, strides=2, padding="same", activation="gelu", name="stem")(features)
    x = BatchNormalization(name="stem_norm")(x)
    y = LayerNormalization(name="norm1")(x)
    x = Add(name="add1")([x, MultiHeadAttention(2, 8, name="mha1")(y, y)])
    y = LayerNormalization(name="norm2")(x)
    y = MultiHeadAttention(2, 8, name="mha2")(y, y, attention_mask=ops.expand_dims(mask, 1))
    x = ops.relu(x + y)
    y = Activation("silu")(Dense(24)(LayerNormalization(name="norm3")(x)))
    x = x + 0.5 * Dense(16, activation="gelu")(ops.gelu(y))
    y = DepthwiseConv1D(31, padding="same", name="depthwise")(x)
    x = x - ops.silu(BatchNormalization(name="depthwise_norm")(y))
    return randomised(keras.Model([features, mask], {"scores": Dense(5, name="scores")(x), "hidden": x}))


def own_feeds() -> list[dict[str, np.ndarray]]:
    some = noise((32, 10), name="features")
    for feed, valid in zip(some, (16, 9, 4), strict=True):
        feed["mask"] = (np.arange(16) < valid).astype(np.float32)[None]
    return some


def test_a_model_of_stock_layers_keeps_its_function_and_becomes_integers():
    model, feeds = somebodys_own(), own_feeds()
    lowered = lower(model)
    assert largest_difference(model, lowered, feeds) < 1e-4
    integers = to_integers(lowered, feeds)
    assert integers.offending() == []
    assert not integers.outside_policy()
    assert not {"BATCH_MATMUL", "SQUARED_DIFFERENCE", "SOFTMAX", "RELU"} & set(integers.ops())
    assert integers.snr(feeds) > 22


def test_inputs_outputs_names_and_the_model_itself_stay_as_they_were():
    model = somebodys_own()
    before = [np.array(weight) for weight in model.get_weights()]
    lowered = lower(model)
    assert [(t.name, t.shape, t.dtype) for t in lowered.inputs] == [
        (t.name, t.shape, t.dtype) for t in model.inputs
    ]
    assert set(lowered.output) == {"scores", "hidden"}
    kept = {layer.name for layer in model.layers} - {"depthwise_norm"}
    assert kept <= {layer.name for layer in lowered.layers}
    assert not {id(v) for v in model.variables} & {id(v) for v in lowered.variables}
    for variable in lowered.variables:
        variable.assign(variable + 1)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_keep_their_paths():
    model, lowered = somebodys_own(), lower(somebodys_own())
    for name in ("norm1", "mha1", "stem"):
        paths = [variable.path for variable in model.get_layer(name).variables]
        assert [variable.path for variable in lowered.get_layer(name).variables] == paths


def test_a_lowered_model_is_saved_and_loaded_in_safe_mode(tmp_path):
    lowered, feeds = lower(somebodys_own()), own_feeds()
    lowered.save(tmp_path / "lowered.keras")
    again = keras.saving.load_model(tmp_path / "lowered.keras", compile=False, safe_mode=True)
    assert largest_difference(lowered, again, feeds) == 0


def test_lowering_twice_changes_nothing_more():
    model, feeds = somebodys_own(), own_feeds()
    once = lower(model)
    twice = lower(once)
    assert [type(layer) for layer in twice.layers] == [type(layer) for layer in once.layers]
    assert largest_difference(once, twice, feeds) < 1e-6


def test_models_inside_models_are_laid_flat():
    inner_input = keras.Input((6, 8))
    inner = keras.Model(inner_input, Dense(8)(LayerNormalization(name="norm")(inner_input)), name="inner")
    tail = keras.Sequential([Dense(8, name="dense"), LayerNormalization(name="norm")], name="tail")
    x = keras.Input((6, 8), name="x")
    model = randomised(keras.Model(x, tail(inner(x)) + inner(2 * x)))
    lowered = lower(model)
    names = {layer.name for layer in lowered.layers}
    assert {"inner.norm", "tail.norm", "tail.dense"} <= names
    # The scale and offset of the norm before a product go into it; one whose input is centred weighs its channels.
    assert len(lowered.weights) == len(model.weights) - 2 + 1, "a model called twice keeps one set of weights"
    assert largest_difference(model, lowered, noise((6, 8))) < 1e-5


def test_a_sequential_model_is_lowered():
    model = randomised(keras.Sequential([keras.Input((6, 8), name="x"), Dense(4), LayerNormalization()]))
    assert largest_difference(model, lower(model), noise((6, 8))) < 1e-5


def test_a_subclassed_model_is_refused_in_one_line():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(TfliteAsrError, match=r"subclassed model \(Own\); rebuild it as a Functional one"):
        lower(Own(name="own"))


CONFORMERS = {
    "plain": {},
    "relative": {"positions": "relative"},
    "long kernel": {"kernel": 31},
    "streaming": {
        "positions": "relative",
        "padding": "causal",
        "left_context": 4,
        "lookahead": 1,
        "kernel": 31,
    },
    "slimmed": {"dropped": ("encoder.block0.conv", "encoder.block1.mhsa", "encoder.block1.norm")},
}
WINDOW = 96


def conformer_feeds() -> list[dict[str, np.ndarray]]:
    some = noise((WINDOW, TINY.mels), name="features")
    for feed, valid in zip(some, (24, 15, 6), strict=True):
        feed["features"][:, 4 * valid :] = 0
        feed["mask"] = (np.arange(WINDOW // 4) < valid).astype(np.float32)[None]
    return some


@pytest.mark.parametrize("case", CONFORMERS)
def test_a_conformer_keeps_its_function_at_any_length(case):
    model = randomised(build_conformer(dataclasses.replace(TINY, **CONFORMERS[case])))
    lowered = lower(model)
    assert lowered.inputs[0].shape == (None, None, 80)
    feeds = conformer_feeds()
    assert largest_difference(model, lowered, feeds) < 1e-4
    halves = [
        {"features": f["features"][:, : WINDOW // 2], "mask": f["mask"][:, : WINDOW // 8]} for f in feeds
    ]
    assert largest_difference(model, lowered, halves) < 1e-4


@pytest.mark.parametrize("case", ["plain", "streaming"])
def test_a_conformer_becomes_integers_and_more_exact_than_unlowered(case):
    model, feeds = (
        randomised(build_conformer(dataclasses.replace(TINY, **CONFORMERS[case]))),
        conformer_feeds(),
    )
    lowered = to_integers(lower(model), feeds, WINDOW, 4)
    assert lowered.offending() == []
    assert not lowered.outside_policy()
    assert not {"BATCH_MATMUL", "SQUARED_DIFFERENCE", "SOFTMAX", "RELU"} & set(lowered.ops())
    unlowered = to_integers(model, feeds, WINDOW, 4)
    valid = (24, 15, 6)
    assert lowered.snr(feeds, valid=valid) > max(25.0, unlowered.snr(feeds, valid=valid) - 1)


def test_a_lowered_conformer_trains():
    lowered = lower(build_conformer(TINY))
    lowered.compile(optimizer="sgd", loss="mse")
    feed = conformer_feeds()[0]
    target = np.zeros((1, WINDOW // 4, TINY.pieces), np.float32)
    before = lowered.get_layer("encoder.block0.mhsa.attention").query_kernel.numpy()
    assert np.isfinite(lowered.train_on_batch([feed["features"], feed["mask"]], target))
    assert np.abs(lowered.get_layer("encoder.block0.mhsa.attention").query_kernel.numpy() - before).max() > 0
