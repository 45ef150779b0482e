"""ConvASREncoder (QuartzNet, Jasper) as `tflite_asr.models.quartznet`: `encoder.jasper` is the same list of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from tflite_asr.models.quartznet import ConvBlock, QuartzNetConfig
from tflite_asr.nemo.config import Section
from tflite_asr.nemo.conformer import batch_norm
from tflite_asr.nemo.tensors import Tensors


def convolution_config(section: Section, pieces: int) -> QuartzNetConfig:
    """The config.

    Raises:
        TfliteAsrError: a setting that has no counterpart, by name (`encoder.jasper[3].se is True; ...`).
    """
    section.only("normalization_mode", "batch")
    section.only("conv_mask", True)
    section.only("frame_splicing", 1)
    section.only("quantize", False)
    section.ignore("norm_groups", "init_mode", "_target_")
    mode = section.only("residual_mode", "add", "stride_add")
    activation = section.only("activation", "relu", "silu", "swish")
    rows = section.rows("jasper")
    layers = [_block(row, mode) for row in rows]
    for row in [row for row, layer in zip(rows, layers, strict=True) if layer.stride > 1][1:]:
        # Frames of padding between two strides are not those of the mask, which has a value a logit frame.
        raise row.refuse("stride", "only one block that strides can be imported")
    config = QuartzNetConfig(
        mels=section.take("feat_in", int),
        pieces=pieces,
        layers=tuple(layers),
        activation="relu" if activation == "relu" else "silu",
        dropout=0.0,
    )
    section.done()
    return config


def _block(row: Section, mode: str) -> ConvBlock:
    row.only("residual_mode", mode, "add", "stride_add")  # without strides they are one
    row.only("se", False)
    row.only("groups", 1)
    row.only("heads", -1)
    row.only("kernel_size_factor", 1.0)
    row.only("future_context", -1)
    row.ignore("dropout", "stride_last", "se_reduction_ratio", "se_context_size", "se_interpolation_mode")
    residual = row.take("residual", bool)
    dense = row.take("residual_dense", bool, False)
    if dense and not residual:
        raise row.refuse("residual_dense", "it says nothing without residual")
    block = ConvBlock(
        channels=row.take("filters", int),
        kernel=_first(row, "kernel"),
        repeat=row.take("repeat", int),
        stride=_first(row, "stride"),
        dilation=_first(row, "dilation"),
        residual="dense" if dense else "add" if residual else "none",
        separable=row.take("separable", bool, False),
    )
    row.done()
    return block


def _first(row: Section, key: str) -> int:
    """NeMo writes numbers of one dimension as lists."""
    value: Any = row.value(key)
    if isinstance(value, list) and len(value) == 1 and type(value[0]) is int:
        row.ignore(key)
        return int(value[0])
    return int(row.take(key, int))


def convolution_weights(config: QuartzNetConfig, tensors: Tensors) -> dict[str, np.ndarray]:
    """Our weights by `layer.weight`.

    Raises:
        TfliteAsrError: a tensor that is missing or has another shape.
    """
    weights: dict[str, np.ndarray] = {}
    for index, layer in enumerate(config.layers):
        theirs, ours = f"encoder.encoder.{index}", f"encoder.block{index}"
        place, before = 0, config.width_before(index)
        for repeat in range(layer.repeat):
            name, shape = f"{ours}.main.conv{repeat}", (layer.channels, before, layer.kernel)
            if layer.separable:
                depthwise = tensors.take(f"{theirs}.mconv.{place}.conv.weight", before, 1, layer.kernel)
                weights[f"{name}.depthwise.kernel"] = depthwise.transpose(2, 0, 1)
                place += 1
                name, shape = f"{name}.pointwise", (layer.channels, before, 1)
            else:
                name = f"{name}.conv"
            kernel = tensors.take(f"{theirs}.mconv.{place}.conv.weight", *shape).transpose(2, 1, 0)
            dense = shape[2] == 1 and (layer.separable or layer.stride == 1)
            weights[f"{name}.kernel"] = kernel[0] if dense else kernel
            norm = f"{ours}.main.conv{repeat}.batch_norm"
            weights |= batch_norm(norm, f"{theirs}.mconv.{place + 1}", layer.channels, tensors)
            place, before = place + 4, layer.channels  # norm, activation and dropout lie between
        for number, pane in enumerate(config.panes(index)):
            name, width = f"{ours}.shortcut{number}", config.width_before(pane)
            kernel = tensors.take(f"{theirs}.res.{number}.0.conv.weight", layer.channels, width, 1)
            weights[f"{name}.pointwise.kernel"] = kernel[..., 0].T
            weights |= batch_norm(f"{name}.batch_norm", f"{theirs}.res.{number}.1", layer.channels, tensors)
    return weights
