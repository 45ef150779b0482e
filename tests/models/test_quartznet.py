"""QuartzNet and Jasper by the papers' tables and PyTorch's frames; what can be left out; configs that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np
import pytest

from tests.models.random_weights import randomise
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.models import build
from tflite_asr.models.quartznet import (
    JASPER_SIZES,
    JASPER_TINY,
    QUARTZNET_SIZES,
    SMALL,
    TINY,
    ConvBlock,
    QuartzNetConfig,
)
from tflite_asr.slim import cost, count_macs, count_parameters, slim


def products(config: QuartzNetConfig) -> Iterator[tuple[int, int, int]]:
    """(taps times channels in, channels out, stride so far) of every product, written out from the papers' figures:
    a separable convolution is (taps, channels in) and (channels in, channels out)."""
    width, rate, ends = config.mels, 1, []
    for layer in config.layers:
        rate *= layer.stride
        ends = [*ends, width] if layer.residual == "dense" else [width]
        given = width
        for _ in range(layer.repeat):
            if layer.separable:
                yield layer.kernel, given, rate
                yield given, layer.channels, rate
            else:
                yield layer.kernel * given, layer.channels, rate
            given = layer.channels
        for end in {"none": [], "add": [width], "dense": ends}[layer.residual]:
            yield end, layer.channels, rate
        ends = ends if layer.residual == "dense" else []
        width = layer.channels
    yield width, config.pieces, rate


def norms(config: QuartzNetConfig) -> Iterator[int]:
    """Channels of every batch norm."""
    seen = 0
    for layer in config.layers:
        seen = seen + 1 if layer.residual == "dense" else 0
        count = layer.repeat + {"none": 0, "add": 1, "dense": seen}[layer.residual]
        yield from [layer.channels] * count


def trained(config: QuartzNetConfig) -> int:
    """Parameters as the papers count them: kernels, gamma and beta, the last bias."""
    return sum(a * b for a, b, _ in products(config)) + 2 * sum(norms(config)) + config.pieces


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (QUARTZNET_SIZES["5x5"], 6.7),
        (QUARTZNET_SIZES["10x5"], 12.8),
        (QUARTZNET_SIZES["15x5"], 18.9),
        (JASPER_SIZES["10x5"], 333),
    ],
)
def test_the_published_sizes_have_the_published_parameters(config: QuartzNetConfig, millions: float) -> None:
    """QuartzNet: Kriman et al. 2019, table 2. Jasper DR 10x5: Li et al. 2019, table 4."""
    assert trained(config) / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        ("quartznet", "tiny"),
        ("quartznet", "small"),
        ("quartznet", "15x5"),
        ("jasper", "tiny"),
        ("jasper", "small"),
        pytest.param("jasper", "10x5", marks=pytest.mark.slow),
    ],
)
def test_a_built_model_has_the_parameters_of_its_formula(architecture: str, size: str) -> None:
    config = {"quartznet": QUARTZNET_SIZES, "jasper": JASPER_SIZES}[architecture][size]
    model = build(architecture, config)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == trained(config)
    assert count_parameters(model) == trained(config) + 2 * sum(norms(config))


def test_quartznet_15x5_is_the_papers_table() -> None:
    rows = [
        (layer.channels, layer.kernel, layer.repeat, layer.residual)
        for layer in QUARTZNET_SIZES["15x5"].layers
    ]
    assert rows[0] == (256, 33, 1, "none")
    expected = ((256, 33), (256, 39), (512, 51), (512, 63), (512, 75))
    assert rows[1:16] == [(c, k, 5, "add") for c, k in expected for _ in range(3)]
    assert rows[16:] == [(512, 87, 1, "none"), (1024, 1, 1, "none")]
    assert QUARTZNET_SIZES["15x5"].layers[16].dilation == 2
    assert QUARTZNET_SIZES["15x5"].subsampling == 2


def test_jaspers_shortcuts_start_at_every_block_before() -> None:
    config = JASPER_SIZES["10x5"]
    assert [config.panes(index) for index in (0, 1, 2, 10, 11)] == [[], [1], [1, 2], list(range(1, 11)), []]


@pytest.mark.parametrize("sizes", [QUARTZNET_SIZES, JASPER_SIZES], ids=["quartznet", "jasper"])
def test_the_small_size_fits_into_eight_megabytes_and_gives_a_frame_every_40_ms(sizes: Any) -> None:
    assert 4 * (trained(sizes["small"]) + 2 * sum(norms(sizes["small"]))) < 7.9e6
    assert sizes["small"].subsampling == 4


@pytest.mark.parametrize("config", [TINY, JASPER_TINY, SMALL], ids=["tiny", "jasper", "small"])
def test_multiply_adds_are_those_of_the_products(config: QuartzNetConfig) -> None:
    frames = 48
    found = cost(build("quartznet", config), frames)
    batch_norms = sum(n for name, n in found.by_layer.items() if name.endswith("batch_norm"))
    assert found.macs - batch_norms == sum(a * b * (frames // rate) for a, b, rate in products(config))
    assert not found.uncounted


def test_frames_are_centred_as_pytorch_does_with_strides_and_dilation() -> None:
    """y[j] = sum over t of w[t] x[stride j + dilation t - padding], padding dilation (taps - 1) / 2 on both sides."""
    for stride, dilation in ((2, 1), (1, 2)):
        block = ConvBlock(3, 5, stride=stride, dilation=dilation, separable=False)
        model = build("quartznet", QuartzNetConfig(mels=4, pieces=2, layers=(block,), dropout=0.0))
        x = np.random.default_rng(0).standard_normal((1, 12, 4)).astype(np.float32)
        randomise(model)
        inner = model.get_layer("encoder.block0.main.conv0.batch_norm").input
        given = keras.Model(model.inputs, inner)([x, np.ones((1, 12 // stride), np.float32)])
        (kernel,) = model.get_layer("encoder.block0.main.conv0.conv").get_weights()
        padding = dilation * 2
        padded = np.pad(x[0], ((padding, padding), (0, 0)))
        for j in range(12 // stride):
            taps = padded[stride * j : stride * j + 4 * dilation + 1 : dilation]
            np.testing.assert_allclose(np.asarray(given)[0, j], np.tensordot(taps, kernel, 2), atol=1e-5)


def test_batch_norm_adds_the_configs_epsilon() -> None:
    model = build("quartznet", replace(TINY, batch_norm_epsilon=0.25))
    assert {layer.epsilon for layer in model.layers if layer.name.endswith("batch_norm")} == {0.25}
    assert TINY.batch_norm_epsilon == 1e-3  # NeMo's


def test_without_the_mask_padding_reaches_the_valid_frames() -> None:
    """As in NeMo models that were trained with conv_mask off: a choice, and not the default."""
    model = randomise(build("quartznet", replace(TINY, masked=False)))
    x = np.zeros((1, 48, 80), np.float32)
    x[0, :24] = np.random.default_rng(0).standard_normal((24, 80))
    long = model([x, (np.arange(24) < 12).astype(np.float32)[None]])
    short = model([x[:, :24], np.ones((1, 12), np.float32)])
    assert np.abs(np.asarray(long)[0, :12] - np.asarray(short)[0]).max() > 1e-2


def test_weights_do_not_depend_on_a_mode() -> None:
    modes = [TINY, replace(TINY, padding="causal"), replace(TINY, masked=False)]
    shapes = [
        [(w.path, tuple(w.shape)) for w in build("quartznet", m).weights if "seed" not in w.path]
        for m in modes
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_blocks_can_go_where_they_give_as_many_channels_as_they_read() -> None:
    paths = TINY.module_paths()
    assert "encoder.block1" in paths  # 16 to 16 channels
    assert "encoder.block2" not in paths  # 16 to 24
    assert "encoder.block2.main" in paths
    assert "encoder.block2.main.conv0" not in paths
    assert "encoder.block2.main.conv1" in paths
    assert "encoder.block3" not in paths  # nothing is added to it that could stay
    assert [p for p in JASPER_TINY.module_paths() if p.startswith("encoder.block4.shortcut")][::2] == [
        "encoder.block4.shortcut0",
        "encoder.block4.shortcut1",
        "encoder.block4.shortcut2",
    ]


@pytest.mark.parametrize(
    "config",
    [replace(TINY, layers=TINY.layers[:3]), replace(JASPER_TINY, layers=JASPER_TINY.layers[1:4])],
    ids=["quartznet", "jasper"],
)
def test_every_path_that_is_offered_can_be_left_out_and_saves_something(config: QuartzNetConfig) -> None:
    model = randomise(build("quartznet", config))
    facts = ModelFacts("m", "quartznet", asdict(config), subsampling=config.subsampling)
    x = np.random.default_rng(0).standard_normal((1, 32, 80)).astype(np.float32)
    mask = np.ones((1, 32 // config.subsampling), np.float32)
    whole = np.asarray(model([x, mask]))
    for path in config.module_paths():
        if path.endswith("batch_norm") and "shortcut" in path:
            continue  # as the other batch norms
        smaller, _, _ = slim(model, facts, path)
        assert count_parameters(smaller) < count_parameters(model), path
        assert np.abs(np.asarray(smaller([x, mask])) - whole).max() > 1e-3, path


def test_a_block_left_out_lets_its_input_through() -> None:
    """Block 1 as the identity, by hand: its shortcut the identity, its main branch nothing, its input above zero."""
    model = randomise(build("quartznet", replace(TINY, dropout=0.0)))
    facts = ModelFacts("m", "quartznet", asdict(replace(TINY, dropout=0.0)), subsampling=2)
    smaller, _, report = slim(model, facts, "encoder.block1")
    ones, zeros = np.ones(16, np.float32), np.zeros(16, np.float32)
    model.get_layer("encoder.block1.shortcut0.pointwise").set_weights([np.eye(16, dtype=np.float32)])
    model.get_layer("encoder.block1.shortcut0.batch_norm").set_weights([ones, zeros, zeros, ones - 1e-3])
    model.get_layer("encoder.block1.main.conv1.batch_norm").set_weights([zeros, zeros, zeros, ones])
    x = np.random.default_rng(0).standard_normal((1, 32, 80)).astype(np.float32)
    mask = np.ones((1, 16), np.float32)
    np.testing.assert_allclose(np.asarray(model([x, mask])), np.asarray(smaller([x, mask])), atol=1e-4)
    assert report.macs_after < report.macs_before
    assert count_macs(smaller, 1600) == report.macs_after


def test_layers_are_named_by_module_paths() -> None:
    names = {layer.name for layer in build("jasper", JASPER_TINY).layers}
    assert {
        "encoder.block0.main.conv0.conv",
        "encoder.block2.main.conv1.batch_norm",
        "encoder.block4.shortcut2.pointwise",
        "ctc.dense",
    } <= names
    assert {"encoder.block1.main.conv0.depthwise", "encoder.block1.main.conv0.pointwise"} <= {
        layer.name for layer in build("quartznet", TINY).layers
    }


def test_blocks_are_taken_as_tables_too() -> None:
    table = asdict(TINY)
    table["layers"] = [dict(layer) for layer in table["layers"]]
    assert QuartzNetConfig(**{**table, "dropped": ()}) == TINY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, "layers is empty; give one block or more"),
        ({"layers": [{"channels": 8, "kernel": 4}]}, "layers[0].kernel is 4; padding same needs an odd one"),
        ({"layers": [{"channels": 8, "kernal": 3}]}, "layers[0]: unknown key 'kernal'; known are channels"),
        ({"layers": [{"channels": 8}]}, "layers[0]: kernel is missing"),
        ({"layers": [7]}, "layers[0] is 7; give a table with channels"),
        ({"layers": [{"channels": 8, "kernel": 3, "repeat": 0}]}, "layers[0].repeat is 0"),
        ({"layers": [{"channels": 8, "kernel": 3, "residual": "max"}]}, "layers[0].residual is 'max'"),
        ({"layers": [{"channels": 8, "kernel": 3, "separable": "yes"}]}, "layers[0].separable is 'yes'"),
        ({"layers": [{"channels": 8, "kernel": 3, "stride": 2, "repeat": 2}]}, "layers[0].stride is 2"),
        ({"layers": [{"channels": 8, "kernel": 1, "stride": 2}]}, "less than its stride 2"),
        ({"mels": 0}, "mels is 0; give a whole number"),
        ({"activation": "gelu"}, "activation is 'gelu'; give one of relu, silu"),
        ({"padding": "valid"}, "padding is 'valid'; give one of same, causal"),
        ({"masked": 1}, "masked is 1; give true or false"),
        ({"batch_norm_epsilon": 0.0}, "batch_norm_epsilon is 0.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        (
            {"dropped": ("encoder.block2.main", "encoder.block2.shortcut0")},
            "nothing is left of encoder.block2; keep encoder.block2.main or a shortcut",
        ),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(TfliteAsrError) as caught:
        replace(TINY, **changes)
    assert message in str(caught.value)
