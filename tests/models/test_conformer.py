"""The Conformer's sizes against the papers' arithmetic, and configs that cannot be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.models import build
from tflite_asr.models.conformer import (
    LARGE,
    MEDIUM,
    SHIPPED,
    SIZES,
    SMALL,
    TINY,
    ConformerConfig,
    causal,
)


def parameters(config: ConformerConfig) -> int:
    """Weights and biases counted module by module from Gulati et al. 2020, figures 1 to 4, not from the code."""
    d, c = config.dim, config.subsampling_channels or config.dim
    norm = 2 * d
    feed_forward = norm + (d * 4 * d + 4 * d) + (4 * d * d + d)
    if config.feed_forward_multiplier != 4:
        wide = config.feed_forward_multiplier * d
        feed_forward = norm + (d * wide + wide) + (wide * d + d)
    attention = norm + 4 * (d * d + d)
    if config.positions == "relative":
        attention += d * d + 2 * d
    batch_norm = 4 * d
    convolution = norm + (d * 2 * d + 2 * d) + (config.kernel * d + d) + batch_norm + (d * d + d)
    block = 2 * feed_forward + attention + convolution + norm
    mels_left = math.ceil(math.ceil(config.mels / 2) / 2)
    stem = (9 * c + c) + (9 * c * c + c) + (mels_left * c * d + d)
    return config.blocks * block + stem + d * config.pieces + config.pieces


@pytest.mark.parametrize("name", ["tiny", "shipped", "S"])
@pytest.mark.parametrize("positions", ["none", "relative"])
def test_a_size_has_the_parameters_of_its_formula(name: str, positions: str) -> None:
    config = replace(SIZES[name], positions=positions)
    config = replace(config, blocks=min(config.blocks, 2))  # blocks are alike: two show what sixteen cost
    assert build("conformer", config).count_params() == parameters(config)


def test_the_papers_sizes_have_the_papers_order_of_parameters() -> None:
    """10.3, 30.7 and 118.8 M in the paper's table 1, a transducer's decoder and joint network included."""
    assert parameters(SMALL) == 8_383_277
    for config, published in ((SMALL, 10.3e6), (MEDIUM, 30.7e6), (LARGE, 118.8e6)):
        assert 0.8 < parameters(replace(config, positions="relative")) / published < 1.0


def test_the_sizes_are_those_of_the_paper() -> None:
    assert [(c.blocks, c.dim, c.heads, c.kernel) for c in (SMALL, MEDIUM, LARGE)] == [
        (16, 144, 4, 31),
        (16, 256, 4, 31),
        (17, 512, 8, 31),
    ]


def test_the_shipped_size_fits_into_twelve_megabytes() -> None:
    assert 4 * parameters(SHIPPED) < 11e6


def test_weights_do_not_depend_on_a_mode() -> None:
    """A streaming step is the same weights under another config: names, shapes and order."""
    modes = [TINY, causal(TINY), replace(causal(TINY), lookahead=4), replace(TINY, dropout=0.0)]
    shapes = [[(w.path, tuple(w.shape)) for w in build("conformer", mode).weights] for mode in modes]
    weights = [[one for one in mode if "seed" not in one[0]] for mode in shapes]
    assert all(mode == weights[0] for mode in weights)


def test_layers_are_named_by_module_paths() -> None:
    names = {layer.name for layer in build("conformer", TINY).layers}
    for name in (
        "encoder.subsampling.conv1",
        "encoder.subsampling.dense",
        "encoder.block0.ff1.dense1",
        "encoder.block1.mhsa.attention",
        "encoder.block1.conv.depthwise",
        "encoder.block1.conv.batch_norm",
        "encoder.block1.ff2.norm",
        "encoder.block1.norm",
        "ctc.dense",
    ):
        assert name in names
    assert not [name for name in names if "/" in name]


def test_a_separable_stem_is_depthwise_and_pointwise() -> None:
    """Its parameters by hand: 3x3 taps a channel and a 1x1 matrix in the place of 3x3 matrices, a bias more."""
    whole, separable = TINY, replace(TINY, separable_subsampling=True)
    channels = TINY.subsampling_channels
    difference = 9 * channels**2 - (9 * channels + channels + channels**2)
    models = [build("conformer", config) for config in (whole, separable)]
    assert models[0].count_params() - models[1].count_params() == difference
    assert "encoder.subsampling.depthwise2.bias" in separable.module_paths()
    assert "encoder.subsampling.depthwise1.bias" not in separable.module_paths()


@pytest.mark.parametrize("path", ["encoder.block1", "encoder.block0.mhsa", "encoder.block0.conv.batch_norm"])
def test_what_is_dropped_is_not_built(path: str) -> None:
    model = build("conformer", replace(TINY, dropped=(path,)))
    assert not [
        layer.name for layer in model.layers if layer.name == path or layer.name.startswith(f"{path}.")
    ]
    assert model.count_params() < parameters(TINY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "dim 16 is not a multiple of heads 3"),
        ({"subsampling": 3}, "subsampling is 3; give a power of two"),
        ({"subsampling": 0}, "subsampling is 0"),
        ({"positions": "absolute"}, "positions is 'absolute'; give one of none, relative"),
        ({"padding": "valid"}, "padding is 'valid'; give same or causal"),
        ({"blocks": "six"}, "blocks is 'six'; give a whole number, 1 or more"),
        ({"dim": 16.0}, "dim is 16.0; give a whole number"),
        ({"kernel": 0}, "kernel is 0; give a whole number"),
        ({"left_context": -1}, "left_context is -1; give a whole number, 0 or more"),
        ({"dropout": 1.5}, "dropout is 1.5"),
        ({"masked_subsampling": 1}, "masked_subsampling is 1; give true or false"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(TfliteAsrError) as caught:
        replace(TINY, **changes)
    assert message in str(caught.value)


def test_an_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(TfliteAsrError, match="conformer: unknown key 'blokcs'; known are blocks, dim"):
        build("conformer", {"blokcs": 2})
