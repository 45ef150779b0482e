"""A causal config fed frame by frame gives what the same model gives offline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.models.random_weights import randomise
from tests.models.streaming_quartznet import streaming_quartznet
from tests.models.streaming_reference import (
    CachedAttention,
    Chain,
    Residual,
    check_streaming,
    streaming_conformer,
)
from tflite_asr.models import ARCHITECTURES, build, quartznet
from tflite_asr.models.conformer import TINY, causal

FRAMES = 56
STREAMS = {
    "conformer": streaming_conformer,
    "quartznet": streaming_quartznet,
    "jasper": streaming_quartznet,
}
# Hears a whole utterance before its decoder steps from token to token, as tests/models/test_transformer.py holds.
TOKEN_BY_TOKEN = {"transformer"}


def features(frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((frames, 80)).astype(np.float32)


def offline(model, x: np.ndarray, subsampling: int) -> np.ndarray:
    mask = np.ones((1, len(x) // subsampling), np.float32)
    return np.asarray(model([x[None], mask], training=False))[0]


def attentions(stream) -> list[CachedAttention]:
    if isinstance(stream, CachedAttention):
        return [stream]
    inner = (
        stream.streams
        if isinstance(stream, Chain)
        else (stream.inner,)
        if isinstance(stream, Residual)
        else ()
    )
    return [found for one in inner for found in attentions(one)]


def test_every_architecture_says_how_it_streams() -> None:
    assert set(STREAMS) | TOKEN_BY_TOKEN == set(ARCHITECTURES)


@pytest.mark.parametrize("positions", ["none", "relative"])
def test_a_causal_conformer_streams_without_delay(positions: str) -> None:
    config = replace(causal(TINY, left_context=3), positions=positions)
    model = randomise(build("conformer", config))
    stream = STREAMS["conformer"](model, config)
    check_streaming(stream, offline(model, features(), 4), features(), 4, delay=0)
    caches = attentions(stream)
    assert len(caches) == config.blocks
    assert {cache.largest_cache for cache in caches} == {4}


@pytest.mark.parametrize("positions", ["none", "relative"])
def test_lookahead_delays_by_its_frames_in_every_block(positions: str) -> None:
    config = replace(causal(TINY, left_context=5), positions=positions, lookahead=2)
    model = randomise(build("conformer", config))
    stream = STREAMS["conformer"](model, config)
    check_streaming(stream, offline(model, features(), 4), features(), 4, delay=2 * config.blocks)


def test_padding_on_both_sides_delays_by_half_a_kernel_in_every_block() -> None:
    config = replace(causal(TINY, left_context=5), padding="same")
    model = randomise(build("conformer", config))
    stream = STREAMS["conformer"](model, config)
    check_streaming(
        stream, offline(model, features(), 4), features(), 4, delay=(config.kernel // 2) * config.blocks
    )


@pytest.mark.parametrize("subsampling", [1, 2, 8])
def test_other_subsamplings_stream_too(subsampling: int) -> None:
    config = replace(causal(TINY, left_context=3), subsampling=subsampling, blocks=1, mels=20)
    model = randomise(build("conformer", config))
    x = features()[:, :20]
    check_streaming(
        STREAMS["conformer"](model, config), offline(model, x, subsampling), x, subsampling, delay=0
    )


def test_unlimited_left_context_keeps_every_frame() -> None:
    config = replace(causal(TINY), left_context=None, positions="relative", blocks=1)
    model = randomise(build("conformer", config))
    stream = STREAMS["conformer"](model, config)
    check_streaming(stream, offline(model, features(), 4), features(), 4, delay=0)
    assert attentions(stream)[0].largest_cache == FRAMES // 4


def test_the_offline_model_sees_no_frame_beyond_its_own_group() -> None:
    """The same fact without the reference: what follows changes nothing, what precedes does."""
    config = causal(TINY, left_context=3)
    model = randomise(build("conformer", config))
    before, after = features(), features()
    after[20:] = features(seed=1)[20:]
    one, two = offline(model, before, 4), offline(model, after, 4)
    np.testing.assert_allclose(one[:5], two[:5], atol=1e-5)
    assert np.abs(one[5:] - two[5:]).max(axis=1).min() > 1e-3


def test_a_frame_that_attends_to_all_that_follow_cannot_stream() -> None:
    with pytest.raises(ValueError, match="lookahead"):
        STREAMS["conformer"](build("conformer", TINY), TINY)


@pytest.mark.parametrize("size", [quartznet.TINY, quartznet.JASPER_TINY], ids=["quartznet", "jasper"])
def test_causal_convolutions_stream_without_delay(size: quartznet.QuartzNetConfig) -> None:
    config = quartznet.causal(size)
    model = randomise(build("quartznet", config))
    x = features()
    expected = offline(model, x, config.subsampling)
    check_streaming(streaming_quartznet(model, config), expected, x, config.subsampling, delay=0)


@pytest.mark.parametrize("size", [quartznet.TINY, quartznet.JASPER_TINY], ids=["quartznet", "jasper"])
def test_convolutions_that_look_to_both_sides_delay_by_their_half_kernels(
    size: quartznet.QuartzNetConfig,
) -> None:
    config = replace(size, layers=tuple(replace(layer, stride=1) for layer in size.layers))
    model = randomise(build("quartznet", config))
    halves = sum(layer.repeat * layer.dilation * (layer.kernel // 2) for layer in config.layers)
    check_streaming(
        streaming_quartznet(model, config), offline(model, features(), 1), features(), 1, delay=halves
    )
