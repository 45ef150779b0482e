from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.layers import Add, Dense, Dropout, LayerNormalization, Rescaling

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.lowering import lower
from tflite_asr.lowering.layer_normalization import WrittenOutCentredNormalization
from tflite_asr.models.conformer import TINY, build_conformer
from tflite_asr.models.layers import RelativeAttention

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
