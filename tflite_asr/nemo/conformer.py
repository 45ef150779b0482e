"""ConformerEncoder as `tflite_asr.models.conformer`: its config, and its tensors as our weights.

The same function in other words: `xscaling` (the stem's output times the root of its width) goes into the stem's last
weights; NeMo's flattened stem has the channels outside, ours has them inside; 1x1 convolutions are dense layers.
"""

from __future__ import annotations

import math

import numpy as np

from tflite_asr.models.conformer import ConformerConfig
from tflite_asr.nemo.config import Section
from tflite_asr.nemo.tensors import Tensors

_BIASES = (
    "ff1.dense1.bias",
    "ff1.dense2.bias",
    "mhsa.attention.bias",
    "conv.pointwise1.bias",
    "conv.depthwise.bias",
    "conv.pointwise2.bias",
    "ff2.dense1.bias",
    "ff2.dense2.bias",
)


def conformer_config(section: Section, pieces: int) -> tuple[ConformerConfig, float]:
    """The config, and what the stem's output is multiplied by.

    Raises:
        TfliteAsrError: a setting that has no counterpart, by name.
    """
    width, blocks = section.take("d_model", int), section.take("n_layers", int)
    if section.take("feat_out", int, -1) not in (-1, width):
        raise section.refuse("feat_out", "an encoder that projects its output cannot be imported")
    factor = section.take("subsampling_factor", int, 4)
    kind = section.only("subsampling", "striding", "dw_striding")
    channels = section.take("subsampling_conv_channels", int, -1)
    section.only("self_attention_model", "rel_pos")
    section.only("conv_norm_type", "batch_norm")
    section.only("att_context_style", "regular")
    section.only("causal_downsampling", False)
    section.only("conv_context_style", "regular")
    section.only("reduction_factor", 1)
    section.ignore("reduction", "reduction_position")
    for key in ("global_tokens", "att_chunk_context_size"):
        section.only(key, 0)
    section.ignore("global_tokens_spacing", "global_attn_separate")
    # How it is trained or computed, not what. Tied biases lie in every layer of the checkpoint.
    section.ignore("dropout", "dropout_pre_encoder", "dropout_emb", "dropout_att", "untie_biases")
    section.ignore("stochastic_depth_drop_prob", "stochastic_depth_mode", "stochastic_depth_start_layer")
    section.ignore(
        "pos_emb_max_len", "use_pytorch_sdpa", "use_pytorch_sdpa_backends", "sync_max_audio_length"
    )
    section.ignore("subsampling_conv_chunking_factor", "att_context_probs", "_target_")
    left, right = _context(section)
    kernel = section.take("conv_kernel_size", int, 31)
    biased = section.take("use_bias", bool, True)
    config = ConformerConfig(
        mels=section.take("feat_in", int),
        pieces=pieces,
        blocks=blocks,
        dim=width,
        heads=section.take("n_heads", int, 4),
        feed_forward_multiplier=section.take("ff_expansion_factor", int, 4),
        kernel=kernel,
        subsampling=factor,
        subsampling_channels=0 if channels == -1 else channels,
        separable_subsampling=kind == "dw_striding" and factor > 2,
        masked_subsampling=factor > 2,
        positions="relative",
        padding=_padding(section, kernel),
        left_context=left,
        lookahead=right,
        dropped=()
        if biased
        else tuple(f"encoder.block{i}.{bias}" for i in range(blocks) for bias in _BIASES),
    )
    scale = math.sqrt(width) if section.take("xscaling", bool, True) else 1.0
    section.done()
    return config, scale


def _context(section: Section) -> tuple[int | None, int | None]:
    """How far a frame looks to either side, the first of several choices, which NeMo infers with; -1 is no limit."""
    sizes = section.take("att_context_size", list, [-1, -1])
    first = sizes[0] if sizes and isinstance(sizes[0], list) else sizes
    if len(first) != 2 or any(type(size) is not int or size < -1 for size in first):
        raise section.refuse("att_context_size", "two whole numbers are expected, -1 for no limit")
    left, right = (None if size == -1 else size for size in first)
    return left, right


def _padding(section: Section, kernel: int) -> str:
    """What the depthwise convolutions see."""
    size = section.value("conv_context_size")
    section.ignore("conv_context_size")
    if size in (None, -1, [(kernel - 1) // 2, (kernel - 1) // 2]):
        return "same"
    if size in ("causal", [kernel - 1, 0]):
        return "causal"
    raise section.refuse(
        "conv_context_size", "only null (as many frames on both sides) or causal can be imported"
    )


def conformer_weights(config: ConformerConfig, scale: float, tensors: Tensors) -> dict[str, np.ndarray]:
    """Our weights by `layer.weight`.

    Raises:
        TfliteAsrError: a tensor that is missing or has another shape.
    """
    weights = _stem(config, scale, tensors)
    for index in range(config.blocks):
        weights |= _block(config, f"encoder.layers.{index}", f"encoder.block{index}", tensors)
    return weights


def _stem(config: ConformerConfig, scale: float, tensors: Tensors) -> dict[str, np.ndarray]:
    ours, theirs = "encoder.subsampling", "encoder.pre_encode"
    channels, width, before = config.subsampling_channels or config.dim, config.mels, 1
    weights: dict[str, np.ndarray] = {}

    def convolution(name: str, place: int, shape: tuple[int, int, int, int], order: tuple[int, ...]) -> None:
        weights[f"{ours}.{name}.bias"] = tensors.take(f"{theirs}.conv.{place}.bias", shape[0])
        kernel = tensors.take(f"{theirs}.conv.{place}.weight", *shape).transpose(order)
        weights[f"{ours}.{name}.kernel"] = kernel

    place = 0
    for stage in range(1, config.stages + 1):
        if stage > 1 and config.separable_subsampling:
            convolution(f"depthwise{stage}", place, (channels, 1, 3, 3), (2, 3, 0, 1))
            convolution(f"conv{stage}", place + 1, (channels, channels, 1, 1), (2, 3, 1, 0))
            place += 3
        else:
            convolution(f"conv{stage}", place, (channels, before, 3, 3), (2, 3, 1, 0))
            place += 2
        before, width = channels, (width + 1) // 2
    dense = f"{theirs}.out" if config.stages else theirs
    depth = channels if config.stages else 1
    kernel = tensors.take(f"{dense}.weight", config.dim, depth * width) * scale
    kernel = kernel.reshape(config.dim, depth, width).transpose(2, 1, 0).reshape(-1, config.dim)
    weights[f"{ours}.dense.kernel"] = kernel.astype(np.float32)
    weights[f"{ours}.dense.bias"] = (tensors.take(f"{dense}.bias", config.dim) * scale).astype(np.float32)
    return weights


def _block(config: ConformerConfig, theirs: str, ours: str, tensors: Tensors) -> dict[str, np.ndarray]:
    dim, wide, kernel = config.dim, config.dim * config.feed_forward_multiplier, config.kernel
    biased = f"{ours}.mhsa.attention.bias" not in config.dropped
    weights: dict[str, np.ndarray] = {}

    def norm(name: str, source: str) -> None:
        weights[f"{ours}.{name}.gamma"] = tensors.take(f"{theirs}.{source}.weight", dim)
        weights[f"{ours}.{name}.beta"] = tensors.take(f"{theirs}.{source}.bias", dim)

    def linear(name: str, source: str, before: int, after: int, joint: str = ".", *ones: int) -> None:
        kernel = tensors.take(f"{theirs}.{source}.weight", after, before, *ones)
        weights[f"{ours}.{name}{joint}kernel"] = kernel.reshape(after, before).T
        if biased:
            weights[f"{ours}.{name}{joint}bias"] = tensors.take(f"{theirs}.{source}.bias", after)

    for place in (1, 2):
        norm(f"ff{place}.norm", f"norm_feed_forward{place}")
        linear(f"ff{place}.dense1", f"feed_forward{place}.linear1", dim, wide)
        linear(f"ff{place}.dense2", f"feed_forward{place}.linear2", wide, dim)
    norm("mhsa.norm", "norm_self_att")
    for name, source in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "out")):
        linear(f"mhsa.attention.{name}", f"self_attn.linear_{source}", dim, dim, "_")
    attention = f"{ours}.mhsa.attention"
    weights[f"{attention}.position_kernel"] = tensors.take(
        f"{theirs}.self_attn.linear_pos.weight", dim, dim
    ).T
    for name, source in (("content_bias", "pos_bias_u"), ("position_bias", "pos_bias_v")):
        bias = tensors.take(f"{theirs}.self_attn.{source}", config.heads, dim // config.heads)
        weights[f"{attention}.{name}"] = bias.reshape(-1)
    norm("conv.norm", "norm_conv")
    linear("conv.pointwise1", "conv.pointwise_conv1", dim, 2 * dim, ".", 1)
    depthwise = tensors.take(f"{theirs}.conv.depthwise_conv.weight", dim, 1, kernel)
    weights[f"{ours}.conv.depthwise.kernel"] = depthwise.transpose(2, 0, 1)
    if biased:
        weights[f"{ours}.conv.depthwise.bias"] = tensors.take(f"{theirs}.conv.depthwise_conv.bias", dim)
    weights |= batch_norm(f"{ours}.conv.batch_norm", f"{theirs}.conv.batch_norm", dim, tensors)
    linear("conv.pointwise2", "conv.pointwise_conv2", dim, dim, ".", 1)
    norm("norm", "norm_out")
    return weights


def batch_norm(ours: str, theirs: str, channels: int, tensors: Tensors) -> dict[str, np.ndarray]:
    """Scale, shift and the stored statistics of a batch norm."""
    names = {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }
    return {f"{ours}.{name}": tensors.take(f"{theirs}.{source}", channels) for name, source in names.items()}
