from __future__ import annotations

from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
from keras.layers import (
    Activation,
    Add,
    Conv1D,
    Cropping1D,
    Dense,
    Dropout,
    Embedding,
    LayerNormalization,
    Rescaling,
    ZeroPadding1D,
)

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.lowering import lower
from tflite_asr.lowering.layer_normalization import WrittenOutCentredNormalization
from tflite_asr.models.conformer import TINY, build_conformer
from tflite_asr.models.layers import Mask, RelativeAttention, SinusoidalPositions
from tflite_asr.models.transformer import build_transformer, decode_step_of, encoder_of
from tflite_asr.models.transformer_config import TINY as TINY_TRANSFORMER

SHAPE = (20, 24)


def centred_norms(model: keras.Model) -> set[str]:
    return {layer.name for layer in model.layers if isinstance(layer, WrittenOutCentredNormalization)}


def stream(hand_out: bool = False, reader: bool = False, writer: str = "linear") -> keras.Model:
    """Two pre-norm modules on a residual stream; `reader`: a Dense reads the stream itself."""
    x = keras.Input(SHAPE, name="x")
    y = Dropout(0.1)(Dense(24, name="in")(x))
    for number in (1, 2):
        inner = Dense(48, activation="silu")(LayerNormalization(name=f"norm{number}")(y))
        y = Add(name=f"sum{number}")([y, Rescaling(0.5)(Dense(24, activation=writer)(inner))])
    z = Dense(5)(LayerNormalization(name="last")(y))
    if reader:
        z = Add()([z, Dense(5)(y)])
    return randomised(keras.Model(x, [z, y] if hand_out else z))


def test_norms_of_a_stream_lose_their_mean_and_the_function_stays():
    model = stream()
    lowered = lower(model)
    assert centred_norms(lowered) == {"norm1", "norm2", "last"}
    assert largest_difference(model, lowered, noise(SHAPE)) < 1e-5


def test_the_stream_is_centred():
    lowered = lower(stream())
    inner = keras.Model(lowered.inputs, lowered.get_layer("sum2").output)
    assert np.abs(np.asarray(inner(noise(SHAPE, count=1)[0]["x"])).mean(axis=-1)).max() < 1e-6


@pytest.mark.parametrize(
    ("settings", "left", "why"),
    [
        ({"hand_out": True}, set(), "the stream is an output"),
        ({"reader": True}, set(), "a product reads the stream"),
        ({"writer": "silu"}, {"norm1"}, "what is written is no product"),
    ],
)
def test_it_stays_where_the_mean_matters_or_cannot_be_folded(settings, left, why):
    model = stream(**settings)
    lowered = lower(model)
    assert centred_norms(lowered) == left, why
    before, after = (keras.tree.flatten(m(noise(SHAPE, count=1)[0]["x"])) for m in (model, lowered))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_conformer_computes_one_mean_a_block():
    model = randomised(build_conformer(TINY))
    lowered = lower(model)
    inner = [f"encoder.block{block}.{module}.norm" for block in (0, 1) for module in ("mhsa", "conv", "ff2")]
    ends = [f"encoder.block{block}.norm" for block in (0, 1)]
    first = [f"encoder.block{block}.ff1.norm" for block in (0, 1)]
    assert centred_norms(lowered) == {*inner, *ends, *first}
    centres = [layer.name for layer in lowered.layers if layer.name.endswith(".centre")]
    assert centres == ["encoder.block0.norm.centre"]


def test_attention_writes_a_centred_stream():
    x = keras.Input(SHAPE, batch_size=1, name="x")
    mask = keras.Input((20,), batch_size=1, name="mask")
    y = Dense(24)(x)
    y = Add()([y, RelativeAttention(heads=2, key_dim=12, name="attention")(y, mask)])
    left = randomised(keras.Model([x, mask], LayerNormalization(name="last")(y)))
    assert centred_norms(lower(left)) == set(), "the attention reads the stream itself"
    z = Dense(24)(x)
    z = Add()(
        [
            z,
            RelativeAttention(heads=2, key_dim=12, name="attention")(
                LayerNormalization(name="first")(z), mask
            ),
        ]
    )
    model = randomised(keras.Model([x, mask], LayerNormalization(name="last")(z)))
    assert centred_norms(lower(model)) == {"first", "last"}
    feeds = [{**feed, "mask": np.ones((1, 20), np.float32)} for feed in noise(SHAPE)]
    assert largest_difference(model, lower(model), feeds[:1]) < 1e-5


def spelled(cut: str = "relu") -> keras.Model:
    """Embedded tokens, their positions, and a convolution that `cut` cuts, on one stream."""
    tokens = keras.Input((20,), dtype="int32", name="x")
    y = SinusoidalPositions(400, name="positions")(Embedding(7, 24, name="table")(tokens))
    inner = Conv1D(24, 3, padding="causal", name="conv")(LayerNormalization(name="norm1")(y))
    y = Add(name="sum1")([y, Activation(cut, name="cut")(inner)])
    y = Add(name="sum2")([y, Dense(24)(LayerNormalization(name="norm2")(y))])
    return randomised(keras.Model(tokens, Dense(5)(LayerNormalization(name="last")(y))))


def some_tokens(count: int = 4) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.integers(0, 7, (1, 20)).astype(np.int32)} for _ in range(count)]


@pytest.mark.parametrize("feeds", [[], some_tokens()], ids=["as it is", "equalised"])
def test_tables_positions_and_what_a_relu_cuts_are_centred(feeds):
    model = spelled()
    lowered = lower(model, [[feed["x"]] for feed in feeds])
    assert centred_norms(lowered) == {"norm1", "norm2", "last"}
    assert largest_difference(model, lowered, some_tokens()) < 1e-5
    inner = keras.Model(
        lowered.inputs, [lowered.get_layer(name).output for name in ("positions", "cut.centre")]
    )
    if not feeds:
        for values in inner(some_tokens()[0]["x"]):
            assert np.abs(np.asarray(values).mean(axis=-1)).max() < 1e-6


@pytest.mark.parametrize("cut", ["silu", "relu6"])
def test_no_other_activation_is_centred(cut):
    """A channel's scale does not go through them."""
    model = spelled(cut)
    lowered = lower(model, [[feed["x"]] for feed in some_tokens()])
    assert centred_norms(lowered) == {"norm1"}
    assert largest_difference(model, lowered, some_tokens()) < 1e-5


def test_a_relu_that_something_else_reads_with_it_is_left():
    x = keras.Input(SHAPE, name="x")
    inner = Dense(24)(x)
    y = Add()([Dense(24)(x), Activation("relu")(inner)])
    y = LayerNormalization(name="norm")(y)
    model = randomised(keras.Model(x, [Dense(5)(y), Dense(3)(inner)]))
    assert centred_norms(lower(model)) == set()


def test_frames_may_move_and_vanish_on_the_way():
    x = keras.Input(SHAPE, name="x")
    mask = keras.Input((20,), name="mask")
    y = Mask(name="hide")(Dense(24, name="in")(x), mask)
    y = Cropping1D((2, 0))(ZeroPadding1D((0, 2))(y))
    y = Add()([y, Dense(24)(LayerNormalization(name="norm")(y))])
    model = randomised(keras.Model([x, mask], Dense(5)(LayerNormalization(name="last")(y))))
    hidden = np.ones((1, 20), np.float32)
    hidden[:, 15:] = 0
    feeds = [{**feed, "mask": hidden} for feed in noise(SHAPE)]
    lowered = lower(model, [[feed["x"], feed["mask"]] for feed in feeds])
    assert centred_norms(lowered) == {"norm", "last"}
    assert largest_difference(model, lowered, feeds) < 1e-5


def masked_by(kind: str) -> keras.Model:
    """Frames hidden by what a product makes of another input."""
    x, other = keras.Input(SHAPE, name="x"), keras.Input((7,), name="other")
    mask = Dense(20)(other)
    if kind == "relu":
        mask = Activation("relu")(mask)
    if kind == "sum":
        mask = Add()([LayerNormalization()(Dense(20)(other)), mask])
    y = Mask(name="hide")(Dense(24)(x), mask)
    return randomised(keras.Model([x, other], Dense(5)(LayerNormalization(name="last")(y))))


def channels_first(kind: str) -> keras.Model:
    """The last axis, which the norm looks along, is of frames."""
    x = keras.Input((24, 20), name="x")
    if kind == "conv":
        y = Conv1D(24, 3, padding="same", data_format="channels_first")(x)
    else:
        y = ZeroPadding1D(2, data_format="channels_first")(Dense(20)(x))
    return randomised(keras.Model(x, Dense(5)(LayerNormalization(name="last")(y))))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        *(partial(masked_by, kind) for kind in ("product", "relu", "sum")),
        *(partial(channels_first, kind) for kind in ("conv", "pad")),
        lambda: randomised(keras.Model(x := keras.Input(SHAPE), LayerNormalization()(Dense(8)(x)))),
    ],
    ids=["mask", "relu mask", "mask of a sum", "conv of frames", "pad of channels", "one place"],
)
def test_what_only_looks_like_a_stream_keeps_the_function(model, fed, batch):
    made = model()
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((batch, *tensor.shape[1:])).astype(np.float32) for tensor in made.inputs]
    lowered = lower(made, [given] if fed else [])
    np.testing.assert_allclose(np.asarray(lowered(given)), np.asarray(made(given)), atol=1e-4)


@pytest.mark.parametrize("positions", ["none", "sinusoidal"])
def test_a_transformer_computes_no_mean_at_all(positions):
    config = replace(TINY_TRANSFORMER, positions=positions)
    model = randomised(build_transformer(config))
    for half in (encoder_of(model, config), decode_step_of(model, config)):
        norms = {layer.name for layer in half.layers if isinstance(layer, LayerNormalization)}
        copy = keras.models.clone_model(half)  # rules look at all that reads a layer, in whichever model
        copy.set_weights(half.get_weights())
        assert centred_norms(lower(copy)) == norms


def test_in_int8_there_is_no_less_precision():
    model, feeds = stream(), noise(SHAPE)
    lowered = to_integers(lower(model), feeds)
    assert lowered.offending() == []
    assert lowered.snr(feeds) > to_integers(model, feeds).snr(feeds) - 1


def test_a_lowered_model_saves_and_loads(tmp_path):
    lowered = lower(stream())
    lowered.save(tmp_path / "lowered.keras")
    again = keras.saving.load_model(tmp_path / "lowered.keras", safe_mode=True)
    assert largest_difference(lowered, again, noise(SHAPE)) == 0
