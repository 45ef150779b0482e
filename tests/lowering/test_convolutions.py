"""QuartzNet and Jasper on their way to integers: batch norm and ReLU inside other ops, short taps, exact enough."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.lowering import lower
from tflite_asr.models.quartznet import JASPER_TINY, TINY, ConvBlock, build_quartznet

WINDOW = 96
# The published QuartzNets' longest taps: 75 and 87 dilated by 2.
LONG = dataclasses.replace(
    TINY,
    layers=(
        ConvBlock(16, 33, stride=2),
        ConvBlock(16, 75, repeat=2, residual="add"),
        ConvBlock(16, 87, dilation=2),
    ),
)


def feeds(subsampling: int, valid=(96, 60, 24)) -> list[dict[str, np.ndarray]]:
    some = noise((WINDOW, 80), name="features")
    for feed, frames in zip(some, valid, strict=True):
        feed["features"][:, frames:] = 0
        feed["mask"] = (np.arange(WINDOW // subsampling) < frames // subsampling).astype(np.float32)[None]
    return some


@pytest.mark.parametrize("config", [LONG, JASPER_TINY], ids=["quartznet", "jasper"])
def test_convolutions_keep_their_function_at_any_length(config):
    model = randomised(build_quartznet(config))
    lowered = lower(model)
    assert lowered.inputs[0].shape == (None, None, 80)
    some = feeds(config.subsampling)
    assert largest_difference(model, lowered, some) < 1e-4
    steps = WINDOW // config.subsampling // 2
    halves = [{"features": f["features"][:, : WINDOW // 2], "mask": f["mask"][:, :steps]} for f in some]
    assert largest_difference(model, lowered, halves) < 1e-4


@pytest.mark.parametrize("config", [TINY, LONG, JASPER_TINY], ids=["quartznet", "long taps", "jasper"])
def test_convolutions_become_integers_with_batch_norm_and_relu_inside_other_ops(config):
    model = randomised(build_quartznet(config))
    some = feeds(config.subsampling)
    made = to_integers(lower(model), some, WINDOW, config.subsampling)
    assert made.offending() == []
    assert not made.outside_policy()
    ops = made.ops()
    assert not {"RELU", "SUB", "RSQRT", "MEAN"} & set(ops)
    masks = (
        sum(layer.repeat for layer in config.layers if layer.kernel > 1) - 1
    )  # features come without padding
    assert ops["MUL"] == masks
    assert made.snr(some, valid=[f["mask"].sum().astype(int) for f in some]) > 20


def test_long_taps_are_pieces_of_at_most_25():
    from tflite_asr.quantize.naming import op_name
    from tflite_asr.quantize.serialize import read_model

    made = to_integers(lower(randomised(build_quartznet(LONG))), feeds(2), WINDOW, 2)
    assert made.ops()["DEPTHWISE_CONV_2D"] == 2 + 3 + 3 + 4
    model = read_model(made.data)
    graph = model.subgraphs[0]
    kernels = [
        graph.tensors[op.inputs[1]].shape
        for op in graph.operators
        if op_name(model, op) == "DEPTHWISE_CONV_2D"
    ]
    assert max(shape[1] * shape[2] for shape in kernels) == 25
