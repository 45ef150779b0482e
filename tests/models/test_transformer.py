"""The Speech-Transformer: its sizes by hand, what sees what, and one token at a time as all at once."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np
import pytest

from tests.models.random_weights import randomise
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.models import build
from tflite_asr.models.layers import SinusoidalPositions
from tflite_asr.models.transformer import decode_step_of, encoder_of
from tflite_asr.models.transformer_config import SHIPPED, TINY, TransformerConfig, initial_state, step_lengths
from tflite_asr.slim import cost, slim

PLACED = replace(TINY, positions="sinusoidal")


def parameters(config: TransformerConfig) -> int:
    """Weights and biases, counted module by module, not from the code."""
    d, wide, k = config.dim, config.feed_forward_multiplier * config.dim, config.context_kernel
    norm, attention = 2 * d, 4 * (d * d + d)
    feed_forward = norm + (d * wide + wide) + (wide * d + d)
    last = config.subsampling_channels
    stem, before, mels = 0, 1, config.mels
    for channels in (last // 2, last):  # two stages
        stem += 9 * before * channels + channels + (config.convolutions - 1) * (9 * channels**2 + channels)
        before, mels = channels, -(-mels // 2)
    stem += mels * last * d + d
    encoder = config.blocks * (norm + attention + feed_forward) + norm
    decoder = config.decoder_blocks * (2 * (norm + attention) + feed_forward) + norm
    contexts = config.context_layers * (norm + k * d * d + d)
    heads = 2 * (d * config.pieces + config.pieces)
    return stem + encoder + contexts + decoder + heads + config.pieces * d


def batch(rows: int = 2, frames: int = 48, tokens: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, mask = (
        rng.standard_normal((rows, frames, 80)).astype(np.float32),
        np.ones((rows, frames // 4), np.float32),
    )
    x[-1, 32:], mask[-1, 8:] = 0, 0
    return x, mask, rng.integers(0, 29, (rows, tokens)).astype(np.int32)


def arrays(outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in outputs.items()}


def spelled(model: keras.Model, config: TransformerConfig, inputs: Any, longest: int = 16) -> np.ndarray:
    """Decoder logits [batch, tokens, pieces], token by token."""
    x, mask, tokens = inputs
    step, encoder = decode_step_of(model, config), encoder_of(model, config)
    memory = arrays(encoder({"features": x, "mask": mask}))
    memory.pop("logits")
    state = {
        name: np.zeros((len(x), *shape), np.float32) for name, shape in initial_state(config, longest).items()
    }
    history, found = np.zeros((len(x), longest), np.float32), []
    for count in range(tokens.shape[1]):
        history[:, longest - 1 - count] = 1
        feeds = {"token": tokens[:, count : count + 1], "mask": mask, "history": history, **memory, **state}
        feeds["position"] = np.full((len(x), 1), count, np.int32)
        state = arrays(step({name: feeds[name] for name in step.input}))
        found.append(state.pop("logits"))
    return np.stack(found, axis=1)


@pytest.mark.parametrize("config", [TINY, SHIPPED, replace(TINY, context_layers=3, convolutions=1)])
def test_a_size_has_the_parameters_of_its_formula(config: TransformerConfig) -> None:
    assert build("transformer", config).count_params() == parameters(config)


def test_the_shipped_size_fits_into_ten_megabytes() -> None:
    """With the sinusoids of four windows and what else a file holds beside the weights."""
    positions = (400 + 50 + 100 + 200 + 400) * SHIPPED.dim
    assert 4 * (parameters(SHIPPED) + positions) < 9.6e6


def test_a_window_with_more_tokens_than_positions_is_refused() -> None:
    assert step_lengths(PLACED, 1600)["history"] == 320
    assert step_lengths(TINY, 4000)["history"] == 800
    with pytest.raises(TfliteAsrError, match="a window of 4000 frames holds 800 tokens, and there are 400"):
        step_lengths(PLACED, 4000)


@pytest.mark.parametrize("config", [TINY, PLACED], ids=["plain", "sinusoidal"])
def test_one_token_at_a_time_says_what_all_at_once_say(config: TransformerConfig) -> None:
    model, inputs = randomise(build("transformer", config)), batch()
    ctc, whole = (np.asarray(one) for one in model(inputs, training=False))
    np.testing.assert_allclose(spelled(model, config, inputs), whole, atol=1e-5, rtol=0)
    alone = encoder_of(model, config)({"features": inputs[0], "mask": inputs[1]})["logits"]
    np.testing.assert_array_equal(np.asarray(alone), ctc)


def test_a_token_sees_none_that_come_after_it() -> None:
    model, (x, mask, tokens) = randomise(build("transformer", PLACED)), batch()
    other = tokens.copy()
    other[:, 6:] = (other[:, 6:] + 1) % 29
    before, after = (np.asarray(model([x, mask, t])[1]) for t in (tokens, other))
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert np.abs(before[:, 6:] - after[:, 6:]).min(axis=(0, 2)).max() > 0


def test_the_decoder_does_not_see_padding() -> None:
    model, (x, mask, tokens) = randomise(build("transformer", PLACED)), batch()
    long = np.concatenate([x, np.zeros_like(x)], axis=1)
    wide = np.concatenate([mask, np.zeros_like(mask)], axis=1)
    said, padded = (np.asarray(model([*some, tokens])[1]) for some in ((x, mask), (long, wide)))
    np.testing.assert_allclose(padded, said, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lookahead", [0, 2])
def test_a_frame_before_attention_sees_as_far_ahead_as_it_is_told(lookahead: int) -> None:
    config = replace(TINY, lookahead=lookahead, dropped=("encoder.block0", "encoder.block1"))
    model, (x, mask, tokens) = randomise(build("transformer", config)), batch(1)
    mask[:] = 1
    other = x.copy()
    other[:, 24:] += 1  # the first frame of logit frame 6
    moved = np.abs(np.asarray(model([x, mask, tokens])[0]) - np.asarray(model([other, mask, tokens])[0]))[0]
    assert moved[: 6 - lookahead].max() == 0
    assert moved[6 - lookahead].max() > 0


@pytest.mark.parametrize("path", [p for p in PLACED.module_paths() if "1" not in p or "subsampling" in p])
def test_every_module_can_be_left_out(path: str) -> None:
    whole, config = parameters(PLACED), replace(PLACED, dropped=(path,))
    model = build("transformer", config)
    names = [layer.name for layer in model.layers]
    assert not [name for name in names if name == path or name.startswith(f"{path}.")]
    assert path not in config.module_paths()
    assert model.count_params() < whole or path.endswith("positions")


def test_a_slimmed_decoder_still_steps() -> None:
    gone = (
        "decoder.block0.mhsa",
        "decoder.block1.cross",
        "decoder.context0",
        "decoder.positions",
        "decoder.block1.mhsa.head1",
        "decoder.block0.cross.head0",
        "encoder.block1.mhsa.head0",
    )
    config = replace(PLACED, dropped=gone)
    model, inputs = randomise(build("transformer", config)), batch()
    whole = np.asarray(model(inputs, training=False)[1])
    np.testing.assert_allclose(spelled(model, config, inputs), whole, atol=1e-5, rtol=0)


def test_without_its_heads_an_attention_is_not_built() -> None:
    heads = tuple(f"decoder.block0.cross.head{head}" for head in range(TINY.heads))
    all_heads, module = (
        build("transformer", replace(TINY, dropped=d)) for d in (heads, ("decoder.block0.cross",))
    )
    assert all_heads.count_params() == module.count_params()


def test_without_its_units_a_feed_forward_is_not_built() -> None:
    units = tuple(f"encoder.block0.ff.units{group}" for group in range(TINY.feed_forward_multiplier))
    none, module, but_one = (
        build("transformer", replace(TINY, dropped=d)) for d in (units, ("encoder.block0.ff",), units[1:])
    )
    assert none.count_params() == module.count_params()
    kept = but_one.get_layer("encoder.block0.ff.dense1")
    assert kept.kernel.shape == (TINY.dim, TINY.dim)


def test_slimming_keeps_the_units_that_are_left() -> None:
    extra = {"training": {"dev_wer": 0.5}, "origin": "here"}
    facts = ModelFacts("t", "transformer", asdict(PLACED), extra=extra)
    model, inputs = randomise(build("transformer", PLACED)), batch()
    silenced = keras.models.clone_model(model)
    silenced.set_weights(model.get_weights())
    gone = {"encoder.block0.ff": (1, 2), "decoder.block1.ff": (0,)}
    for path, groups in gone.items():
        kernel = silenced.get_layer(f"{path}.dense2").kernel
        values = np.array(kernel)
        for group in groups:
            values[group * PLACED.dim : (group + 1) * PLACED.dim] = 0
        kernel.assign(values)
    smaller, after, report = slim(model, facts, "encoder.block0.ff.units1-2,decoder.block1.ff.units0")
    assert report.parameters_before - report.parameters_after == 3 * (2 * PLACED.dim**2 + PLACED.dim)
    for given, expected in zip(smaller(inputs), silenced(inputs), strict=True):
        np.testing.assert_allclose(np.asarray(given), np.asarray(expected), atol=1e-5, rtol=0)
    kernel = np.asarray(smaller.get_layer("encoder.block0.ff.dense1").kernel)
    whole = np.asarray(model.get_layer("encoder.block0.ff.dense1").kernel)
    np.testing.assert_array_equal(kernel, np.delete(whole, np.s_[PLACED.dim : 3 * PLACED.dim], axis=1))
    assert after.extra == {"origin": "here"}  # how well the full model did is said of it alone
    assert slim(model, facts, "")[1].extra == extra
    none, facts_of_none, _ = slim(smaller, after, "encoder.block0.ff.units*")
    assert "encoder.block0.ff" in facts_of_none.config["dropped"]
    assert not [layer.name for layer in none.layers if layer.name.startswith("encoder.block0.ff")]


def test_positions_are_the_sinusoids_of_the_paper() -> None:
    layer = SinusoidalPositions(8)
    for length, given in ((None, np.zeros((1, 5, 6), np.float32)), (5, np.zeros((1, 5, 6), np.float32))):
        inputs = keras.Input((length, 6))
        added = np.asarray(keras.Model(inputs, layer(inputs))(given))[0]
        for place in range(5):
            for pair in range(3):
                angle = place / 10000 ** (2 * pair / 6)
                expected = [np.sin(angle), np.cos(angle)]
                np.testing.assert_allclose(added[place, 2 * pair : 2 * pair + 2], expected, atol=1e-5)
    one = np.asarray(layer(np.zeros((1, 1, 6), np.float32), np.array([[4]])))
    np.testing.assert_allclose(one[0, 0], added[4], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "dim 16 is not a multiple of heads 3"),
        ({"subsampling": 1}, "subsampling is 1; give 2, 4 or 8"),
        ({"positions": "relative"}, "positions is 'relative'; give one of none, sinusoidal"),
        ({"blocks": "six"}, "blocks is 'six'; give a whole number, 1 or more"),
        ({"lookahead": -1}, "lookahead is -1; give a whole number, 0 or more"),
        ({"dropout": 1.5}, "dropout is 1.5"),
        ({"subsampling_channels": 7}, "subsampling_channels is 7; give a multiple of 2"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(TfliteAsrError) as caught:
        replace(TINY, **changes)
    assert message in str(caught.value)


def test_slimming_keeps_the_channels_of_the_heads_that_are_left() -> None:
    facts = ModelFacts("t", "transformer", asdict(PLACED))
    model, inputs = randomise(build("transformer", PLACED)), batch()
    silenced = keras.models.clone_model(model)
    silenced.set_weights(model.get_weights())
    size = PLACED.dim // PLACED.heads
    for layer in ("encoder.block0.mhsa.attention", "decoder.block1.cross.out"):
        weights = {weight.name: weight for weight in silenced.get_layer(layer).weights}
        kernel = weights.get("out_kernel", weights.get("kernel"))
        kernel.assign(np.concatenate([np.zeros((size, PLACED.dim)), np.asarray(kernel)[size:]]))
    smaller, after, report = slim(model, facts, "encoder.block0.mhsa.head0,decoder.block1.cross.head0")
    assert after.config["dropped"] == ("decoder.block1.cross.head0", "encoder.block0.mhsa.head0")
    assert report.parameters_before - report.parameters_after == 2 * (4 * PLACED.dim * size + 3 * size)
    assert report.macs_after < report.macs_before
    for given, expected in zip(smaller(inputs), silenced(inputs), strict=True):
        np.testing.assert_allclose(np.asarray(given), np.asarray(expected), atol=1e-5, rtol=0)
    none, facts_of_none, _ = slim(smaller, after, "decoder.block1.cross.head1")
    assert "decoder.block1.cross" in facts_of_none.config["dropped"]
    assert not [layer.name for layer in none.layers if layer.name.startswith("decoder.block1.cross")]


def test_multiply_adds_are_those_of_all_frames_and_a_token_to_eight() -> None:
    d, wide, frames, tokens = TINY.dim, 4 * TINY.dim, 16, 8  # of 64 feature frames
    first, last = TINY.subsampling_channels // 2, TINY.subsampling_channels
    stem = (
        32 * 40 * 9 * first * (1 + first) + frames * 20 * 9 * last * (first + last) + frames * 20 * last * d
    )
    block = frames * (3 * d + 4 * d * d + 3 * d + 2 * d * wide) + 2 * frames * frames * d
    own = tokens * (3 * d + 4 * d * d) + 2 * tokens * tokens * d
    cross = tokens * (3 * d + 2 * d * d) + frames * 2 * d * d + 2 * tokens * frames * d
    decoder = 2 * (own + cross + tokens * (3 * d + 2 * d * wide)) + 2 * tokens * (3 * d + 3 * d * d)
    ends = (frames + tokens) * (3 * d + d * TINY.pieces)
    found = cost(build("transformer", TINY), 64)
    assert not found.uncounted
    assert found.macs == stem + 2 * block + decoder + ends
