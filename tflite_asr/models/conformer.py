"""Conformer-CTC (Gulati et al. 2020): convolution stem, blocks of feed-forward, attention and convolution, linear."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import keras

from tflite_asr.errors import TfliteAsrError
from tflite_asr.models.layers import POSITIONS, GatedLinearUnit, Mask, RelativeAttention, SoundingFrames


@dataclass(frozen=True)
class ConformerConfig:
    """Every size of a Conformer-CTC.

    Attributes:
        mels, pieces: width of the features and number of output pieces, the blank included.
        blocks, dim, heads, feed_forward_multiplier, kernel: the encoder; kernel is the depthwise convolution's taps.
        subsampling: frames that become one; a power of two, a stride-2 3x3 convolution each.
        subsampling_channels: channels of those convolutions; 0 means dim.
        separable_subsampling: all but the first depthwise, then 1x1 (FastConformer).
        masked_subsampling: zero the frames of padding between those convolutions (NeMo): without it the last valid
            frame sees what their biases make of padding. Padding is then told by features that are all zero.
        positions: "none" or "relative" (Transformer-XL).
        padding: "same" or "causal": what the depthwise convolutions see.
        left_context, lookahead: encoder frames a frame attends to on either side; None for all. The stem adds none.
        dropout: rate after every module, of whole channels (SpatialDropout1D).
        dropped: module paths that are not built (`tflite_asr.slim` writes them).
    """

    mels: int = 80
    pieces: int = 29
    blocks: int = 6
    dim: int = 128
    heads: int = 4
    feed_forward_multiplier: int = 4
    kernel: int = 31
    subsampling: int = 4
    subsampling_channels: int = 0
    separable_subsampling: bool = False
    masked_subsampling: bool = False
    positions: str = "none"
    padding: str = "same"
    left_context: int | None = None
    lookahead: int | None = None
    dropout: float = 0.1
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_types()
        if self.dim % self.heads:
            raise TfliteAsrError(
                f"conformer: dim {self.dim} is not a multiple of heads {self.heads}; change one"
            )
        if self.subsampling & (self.subsampling - 1):
            raise TfliteAsrError(f"conformer: subsampling is {self.subsampling}; give a power of two")
        if self.positions not in POSITIONS:
            raise TfliteAsrError(
                f"conformer: positions is {self.positions!r}; give one of {', '.join(POSITIONS)}"
            )
        if self.padding not in ("same", "causal"):
            raise TfliteAsrError(f"conformer: padding is {self.padding!r}; give same or causal")

    def _check_types(self) -> None:
        """Configs are read from TOML that people write."""
        lowest = {"subsampling_channels": 0, "left_context": 0, "lookahead": 0}
        for field in fields(self):
            value = getattr(self, field.name)
            least = lowest.get(field.name, 1)
            whole = field.type in ("int", "int | None") and not (value is None and field.default is None)
            if whole and (type(value) is not int or value < least):
                raise TfliteAsrError(
                    f"conformer: {field.name} is {value!r}; give a whole number, {least} or more"
                )
        for name in ("separable_subsampling", "masked_subsampling"):
            if type(getattr(self, name)) is not bool:
                raise TfliteAsrError(f"conformer: {name} is {getattr(self, name)!r}; give true or false")
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise TfliteAsrError(f"conformer: dropout is {self.dropout!r}; give a rate from 0 to below 1")

    @property
    def stages(self) -> int:
        return self.subsampling.bit_length() - 1

    def separates(self, stage: int) -> bool:
        """Whether a stage of the stem is depthwise and 1x1."""
        return self.separable_subsampling and stage > 1

    def module_paths(self) -> list[str]:
        """Every path that can be put into `dropped` and is still built, modules before what they hold."""
        paths = []
        for index in range(self.blocks):
            block = f"encoder.block{index}"
            paths += [block, *(f"{block}.{name}" for name in ("ff1", "mhsa", "conv", "ff2", "norm"))]
            for module in ("ff1", "ff2"):
                paths += [f"{block}.{module}.{name}" for name in ("norm", "dense1.bias", "dense2.bias")]
            positions = ("positions",) if self.positions != "none" else ()
            paths += [f"{block}.mhsa.{name}" for name in ("norm", *positions, "attention.bias")]
            inner = ("norm", "batch_norm", "pointwise1.bias", "depthwise.bias", "pointwise2.bias")
            paths += [f"{block}.conv.{name}" for name in inner]
        for stage in range(1, self.stages + 1):
            kinds = ("depthwise", "conv") if self.separates(stage) else ("conv",)
            paths += [f"encoder.subsampling.{kind}{stage}.bias" for kind in kinds]
        paths += ["encoder.subsampling.dense.bias", "ctc.dense.bias"]
        return [p for p in paths if not any(p == gone or p.startswith(f"{gone}.") for gone in self.dropped)]


TINY = ConformerConfig(blocks=2, dim=16, heads=2, kernel=5, subsampling_channels=8)
SHIPPED = ConformerConfig(
    blocks=6, dim=128, heads=4, feed_forward_multiplier=2, kernel=15, subsampling_channels=32
)
SMALL = ConformerConfig(blocks=16, dim=144, heads=4)
MEDIUM = ConformerConfig(blocks=16, dim=256, heads=4)
LARGE = ConformerConfig(blocks=17, dim=512, heads=8)
SIZES = {"tiny": TINY, "shipped": SHIPPED, "S": SMALL, "M": MEDIUM, "L": LARGE}


def causal(config: ConformerConfig, left_context: int = 64) -> ConformerConfig:
    """The same sizes and weights as a model that streams without look-ahead."""
    return replace(config, padding="causal", left_context=left_context, lookahead=0)


def build_conformer(config: ConformerConfig) -> keras.Model:
    """A Functional model.

    Inputs: `features` float32 [batch, frames, mels], zero beyond the valid frames, frames a multiple of the
    subsampling; `mask` float32 [batch, frames / subsampling], 1 for valid frames and 0 for padding.
    Output: `logits` float32 [batch, frames / subsampling, pieces]. Logits of valid frames do not depend on how much
    padding follows.
    """
    features = keras.Input((None, config.mels), name="features")
    mask = keras.Input((None,), name="mask")
    net = _Builder(config, mask)
    x = net.stem(features)
    for index in range(config.blocks):
        path = f"encoder.block{index}"
        if net.has(path):
            x = net.block(x, path)
    logits = keras.layers.Dense(config.pieces, use_bias=net.has("ctc.dense.bias"), name="ctc.dense")(x)
    return keras.Model([features, mask], logits, name="conformer")


class _Builder:
    """Builds the modules of one config; a path in `config.dropped` is left out."""

    def __init__(self, config: ConformerConfig, mask) -> None:
        self.config, self.mask = config, mask

    def has(self, path: str) -> bool:
        return path not in self.config.dropped

    def dense(self, units: int, path: str):
        return keras.layers.Dense(units, use_bias=self.has(f"{path}.bias"), name=path)

    def norm(self, x, path: str):
        return keras.layers.LayerNormalization(epsilon=1e-5, name=path)(x) if self.has(path) else x

    def drop(self, x, path: str):
        # Whole channels: element-wise dropout draws a number an activation, and took 44 % of a training step on a CPU.
        dropout = keras.layers.SpatialDropout1D(self.config.dropout, name=f"{path}.dropout")
        return dropout(x) if self.config.dropout else x

    def stem(self, x):
        """Stride-2 3x3 convolutions: output frame j sees features up to the last of its own group, none beyond."""
        config, path = self.config, "encoder.subsampling"
        channels = config.subsampling_channels or config.dim
        features, width = x, config.mels
        x = keras.layers.Reshape((-1, config.mels, 1), name=f"{path}.image")(x)
        for stage in range(1, config.stages + 1):
            x = keras.layers.ZeroPadding2D(((1, 0), (1, width % 2)), name=f"{path}.pad{stage}")(x)
            taps = {"kernel_size": 3, "strides": 2}
            if config.separates(stage):
                bias = self.has(f"{path}.depthwise{stage}.bias")
                depthwise = keras.layers.DepthwiseConv2D(
                    **taps, use_bias=bias, name=f"{path}.depthwise{stage}"
                )
                x, taps = depthwise(x), {"kernel_size": 1}
            bias = self.has(f"{path}.conv{stage}.bias")
            x = keras.layers.Conv2D(channels, **taps, use_bias=bias, name=f"{path}.conv{stage}")(x)
            x = keras.layers.Activation("relu", name=f"{path}.relu{stage}")(x)
            if config.masked_subsampling and stage < config.stages:
                sounding = SoundingFrames(2**stage, name=f"{path}.sounding{stage}")(features)
                x = keras.layers.Multiply(name=f"{path}.mask{stage}")([x, sounding])
            width = (width + 1) // 2
        x = keras.layers.Reshape((-1, width * (channels if config.stages else 1)), name=f"{path}.flat")(x)
        x = self.dense(config.dim, f"{path}.dense")(x)
        return self.drop(x, path)

    def block(self, x, path: str):
        modules = {
            "ff1": self.feed_forward,
            "mhsa": self.attention,
            "conv": self.convolution,
            "ff2": self.feed_forward,
        }
        for name, module in modules.items():
            if self.has(f"{path}.{name}"):
                residual = self.drop(module(x, f"{path}.{name}"), f"{path}.{name}")
                x = keras.layers.Add(name=f"{path}.{name}.add")([x, residual])
        return self.norm(x, f"{path}.norm")

    def feed_forward(self, x, path: str):
        """Half-step feed-forward module."""
        width = self.config.dim * self.config.feed_forward_multiplier
        x = self.dense(width, f"{path}.dense1")(self.norm(x, f"{path}.norm"))
        x = self.drop(keras.layers.Activation("silu", name=f"{path}.silu")(x), f"{path}.inner")
        return keras.layers.Rescaling(0.5, name=f"{path}.half")(
            self.dense(self.config.dim, f"{path}.dense2")(x)
        )

    def attention(self, x, path: str):
        config = self.config
        attention = RelativeAttention(
            heads=config.heads,
            key_dim=config.dim // config.heads,
            positions=config.positions if self.has(f"{path}.positions") else "none",
            left_context=config.left_context,
            lookahead=config.lookahead,
            use_bias=self.has(f"{path}.attention.bias"),
            name=f"{path}.attention",
        )
        return attention(self.norm(x, f"{path}.norm"), self.mask)

    def convolution(self, x, path: str):
        """Pointwise, gated linear unit, depthwise over time, batch norm, swish, pointwise."""
        config = self.config
        x = self.dense(2 * config.dim, f"{path}.pointwise1")(self.norm(x, f"{path}.norm"))
        x = Mask(name=f"{path}.mask")(GatedLinearUnit(name=f"{path}.glu")(x), self.mask)
        before = config.kernel - 1 if config.padding == "causal" else (config.kernel - 1) // 2
        x = keras.layers.ZeroPadding1D((before, config.kernel - 1 - before), name=f"{path}.pad")(x)
        bias = self.has(f"{path}.depthwise.bias")
        x = keras.layers.DepthwiseConv1D(config.kernel, use_bias=bias, name=f"{path}.depthwise")(x)
        if self.has(f"{path}.batch_norm"):
            x = keras.layers.BatchNormalization(momentum=0.98, epsilon=1e-5, name=f"{path}.batch_norm")(x)
        x = keras.layers.Activation("silu", name=f"{path}.silu")(x)
        return self.dense(config.dim, f"{path}.pointwise2")(x)
