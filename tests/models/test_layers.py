"""Layers against naive NumPy: Transformer-XL's formula as a double loop, the shift, the gate, the mask."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.models.random_weights import randomise
from tests.models.streaming_reference import sinusoid
from tflite_asr.models.layers import GatedLinearUnit, Mask, RelativeAttention, SoundingFrames, relative_shift

HEADS, KEY_DIM, DIM, FRAMES = 2, 4, 6, 7


def attention_model(**settings) -> tuple[keras.Model, RelativeAttention]:
    x, mask = keras.Input((None, DIM)), keras.Input((None,))
    layer = RelativeAttention(HEADS, KEY_DIM, name="attention", **settings)
    return randomise(keras.Model([x, mask], layer(x, mask))), layer


def naive(layer: RelativeAttention, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Dai et al. 2019, section 3.3, term by term, one utterance [frames, dim]."""

    def weight(name: str) -> np.ndarray:
        return np.asarray(getattr(layer, name), np.float64)

    def projected(name: str, vector: np.ndarray) -> np.ndarray:
        bias = weight(f"{name}_bias") if layer.use_bias else 0.0
        return vector @ weight(f"{name}_kernel") + bias

    frames = len(x)
    rows = []
    for i in range(frames):
        parts = []
        for head in range(HEADS):
            own = slice(head * KEY_DIM, (head + 1) * KEY_DIM)
            query = projected("query", x[i])[own]
            scores, values = [], []
            for j in range(frames):
                far = layer.left_context is not None and i - j > layer.left_context
                early = layer.lookahead is not None and j - i > layer.lookahead
                if mask[j] == 0 or far or early:
                    continue
                key = projected("key", x[j])[own]
                score = query @ key  # (a) content
                if layer.positions == "relative":
                    position = (sinusoid(i - j, DIM) @ weight("position_kernel"))[own]
                    score += query @ position  # (b) content to position
                    score += weight("content_bias")[own] @ key  # (c) u
                    score += weight("position_bias")[own] @ position  # (d) v
                scores.append(score / np.sqrt(KEY_DIM))
                values.append(projected("value", x[j])[own])
            shares = np.exp(np.array(scores) - max(scores))
            parts.append((shares / shares.sum()) @ np.stack(values))
        rows.append(projected("out", np.concatenate(parts)))
    return np.stack(rows)


@pytest.mark.parametrize("positions", ["none", "relative"])
@pytest.mark.parametrize(("left_context", "lookahead"), [(None, None), (2, None), (None, 1), (2, 0)])
def test_attention_is_transformer_xls_formula(
    positions: str, left_context: int | None, lookahead: int | None
) -> None:
    model, layer = attention_model(positions=positions, left_context=left_context, lookahead=lookahead)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, FRAMES, DIM)).astype(np.float32)
    mask = np.ones((2, FRAMES), np.float32)
    mask[1, 5:] = 0
    found = np.asarray(model([x, mask]))
    for row in range(2):
        valid = int(mask[row].sum())
        np.testing.assert_allclose(found[row, :valid], naive(layer, x[row], mask[row])[:valid], atol=1e-5)


def test_attention_without_biases_has_none() -> None:
    model, layer = attention_model(positions="relative", use_bias=False)
    assert {v.name for v in layer.variables} == {
        *(f"{name}_kernel" for name in ("query", "key", "value", "out", "position")),
        *("content_bias", "position_bias"),
    }
    x = np.random.default_rng(0).standard_normal((1, FRAMES, DIM)).astype(np.float32)
    mask = np.ones((1, FRAMES), np.float32)
    np.testing.assert_allclose(np.asarray(model([x, mask]))[0], naive(layer, x[0], mask[0]), atol=1e-5)


def test_frames_that_see_nothing_but_padding_stay_finite() -> None:
    model, _ = attention_model(positions="relative", left_context=1, lookahead=0)
    x = np.random.default_rng(0).standard_normal((1, FRAMES, DIM)).astype(np.float32)
    assert np.isfinite(np.asarray(model([x, np.zeros((1, FRAMES), np.float32)]))).all()


def test_unknown_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="give one of none, relative"):
        RelativeAttention(HEADS, KEY_DIM, positions="absolute")


def test_the_shift_puts_the_score_of_each_distance_in_its_place() -> None:
    frames = 5
    distances = np.arange(frames - 1, -frames, -1.0)  # column c is the distance frames - 1 - c
    scores = np.broadcast_to(distances, (1, 2, frames, 2 * frames - 1)).astype(np.float32)
    shifted = np.asarray(relative_shift(keras.ops.convert_to_tensor(scores), frames))
    for i in range(frames):
        for j in range(frames):
            assert shifted[0, 1, i, j] == i - j


def test_the_gate_is_the_second_half() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    expected = x[..., :4] / (1 + np.exp(-x[..., 4:]))
    np.testing.assert_allclose(np.asarray(GatedLinearUnit()(x)), expected, atol=1e-6)


def test_the_mask_zeroes_frames_of_padding() -> None:
    x = np.ones((2, 3, 4), np.float32)
    masked = np.asarray(Mask()(x, np.array([[1, 1, 0], [0, 1, 1]], np.float32)))
    np.testing.assert_array_equal(masked[..., 0], [[1, 1, 0], [0, 1, 1]])


@pytest.mark.parametrize(
    "layer",
    [GatedLinearUnit(name="a"), Mask(name="b"), RelativeAttention(2, 4, "relative", 3, 1, False, name="c")],
)
def test_a_layer_comes_back_from_its_config(layer: keras.layers.Layer) -> None:
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_frames_of_padding_are_told_by_features_that_are_all_zero() -> None:
    """Of every second frame; the quietest frame that counts whole has a mean square of .06."""
    features = np.random.default_rng(0).normal(0, 1, (1, 12, 8)).astype(np.float32)
    features[0, 2] = 0.06**0.5
    features[0, 7:] = 0
    sounding = np.asarray(SoundingFrames(2)(features))
    assert sounding.shape == (1, 6, 1, 1)
    np.testing.assert_allclose(sounding[0, :, 0, 0], [1, 1, 1, 1, 0, 0], atol=1e-6)
