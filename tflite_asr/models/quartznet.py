"""QuartzNet (Kriman et al. 2019) and Jasper (Li et al. 2019): CTC from convolutions over time, batch norm and ReLU.

Both are one list of blocks, that of NeMo's `encoder.jasper`. QuartzNet's convolutions are separable and a shortcut
starts at its block's input; Jasper's are whole, and dense residuals start at the input of every block before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import keras

from tflite_asr.errors import TfliteAsrError
from tflite_asr.models.layers import Mask

RESIDUALS = ("none", "add", "dense")
ACTIVATIONS = ("relu", "silu")


@dataclass(frozen=True)
class ConvBlock:
    """One block: `repeat` convolutions over time, each with batch norm and activation, and what is added to them.

    Attributes:
        channels: of every convolution's output.
        kernel: taps of every convolution.
        repeat: convolutions in the block; the last one's activation comes after the sum.
        stride: of a block of one convolution. dilation: frames between taps.
        residual: "none"; "add": a 1x1 convolution with batch norm of the block's input; "dense": one of the input of
            this and of every "dense" block right before.
        separable: depthwise over time, then 1x1; else one convolution over time and channels.
    """

    channels: int
    kernel: int
    repeat: int = 1
    stride: int = 1
    dilation: int = 1
    residual: str = "none"
    separable: bool = True


@dataclass(frozen=True)
class QuartzNetConfig:
    """Every size of a QuartzNet or Jasper.

    Attributes:
        mels, pieces: width of the features and number of output pieces, the blank included.
        layers: the blocks, prologue and epilogue among them; plain dicts of `ConvBlock`'s values are taken too.
        activation: "relu" or "silu".
        masked: zero the frames of padding before every convolution over time. Without it the logits of valid frames
            depend on how much padding follows.
        batch_norm_epsilon: added to variances.
        padding: "same" (as many zeros before as behind, PyTorch's way with strides too) or "causal": what the
            convolutions see.
        dropout: rate after every activation, of whole channels (SpatialDropout1D).
        dropped: module paths that are not built (`tflite_asr.slim` writes them).
    """

    mels: int = 80
    pieces: int = 29
    layers: tuple[ConvBlock, ...] = ()
    activation: str = "relu"
    masked: bool = True
    batch_norm_epsilon: float = 1e-3
    padding: str = "same"
    dropout: float = 0.1
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(_block(i, layer) for i, layer in enumerate(self.layers)))
        object.__setattr__(self, "dropped", tuple(self.dropped))
        for name in ("mels", "pieces"):
            _check_whole(f"quartznet: {name}", getattr(self, name))
        if not self.layers:
            raise TfliteAsrError("quartznet: layers is empty; give one block or more")
        _check_one_of("quartznet: activation", self.activation, ACTIVATIONS)
        _check_one_of("quartznet: padding", self.padding, ("same", "causal"))
        if type(self.masked) is not bool:
            raise TfliteAsrError(f"quartznet: masked is {self.masked!r}; give true or false")
        if type(self.batch_norm_epsilon) is not float or not 0 < self.batch_norm_epsilon < 1:
            raise TfliteAsrError(
                f"quartznet: batch_norm_epsilon is {self.batch_norm_epsilon!r}; give a number such as 0.001"
            )
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise TfliteAsrError(f"quartznet: dropout is {self.dropout!r}; give a rate from 0 to below 1")
        for index, layer in enumerate(self.layers):
            reach = layer.dilation * (layer.kernel - 1)
            if self.padding == "same" and reach % 2:
                raise TfliteAsrError(
                    f"quartznet: layers[{index}].kernel is {layer.kernel}; padding same needs an odd one"
                )
            if reach < layer.stride - 1:
                raise TfliteAsrError(
                    f"quartznet: layers[{index}].kernel is {layer.kernel}, less than its stride {layer.stride}; "
                    "give more taps"
                )
            path = f"encoder.block{index}"
            gone = {f"{path}.main", *(f"{path}.shortcut{k}" for k in range(len(self.panes(index))))}
            if gone <= set(self.dropped):
                raise TfliteAsrError(f"quartznet: nothing is left of {path}; keep {path}.main or a shortcut")

    @property
    def subsampling(self) -> int:
        """Feature frames that become one logit frame."""
        return math.prod(layer.stride for layer in self.layers)

    def width_before(self, index: int) -> int:
        """Channels that block `index` reads."""
        return self.layers[index - 1].channels if index else self.mels

    def panes(self, index: int) -> list[int]:
        """Blocks whose inputs the shortcuts of block `index` read, in the shortcuts' order."""
        kind = self.layers[index].residual
        first = index
        while kind == "dense" and first and self.layers[first - 1].residual == "dense":
            first -= 1
        return [] if kind == "none" else list(range(first, index + 1))

    def keeps_shape(self, index: int) -> bool:
        """Whether block `index` gives what it reads: as many channels and frames."""
        return self.layers[index].stride == 1 and self.layers[index].channels == self.width_before(index)

    def module_paths(self) -> list[str]:
        """Every path that can be put into `dropped` and is still built, modules before what they hold.

        A block with shortcuts that gives as many channels as it reads can go whole; of every block with shortcuts
        `main` can (its shortcuts stay) or each shortcut, and convolutions that keep the number of channels.
        """
        paths = []
        for index, layer in enumerate(self.layers):
            block = f"encoder.block{index}"
            panes = self.panes(index)
            paths += [block] if panes and self.keeps_shape(index) else []
            paths += [f"{block}.main"] if panes else []
            for place in range(layer.repeat):
                path = f"{block}.main.conv{place}"
                paths += [path] if layer.repeat > 1 and (place or self.keeps_shape(index)) else []
                paths += [f"{path}.batch_norm"]
            for place in range(len(panes)):
                paths += [f"{block}.shortcut{place}", f"{block}.shortcut{place}.batch_norm"]
        paths += ["ctc.dense.bias"]
        return [p for p in paths if not any(p == gone or p.startswith(f"{gone}.") for gone in self.dropped)]


def _block(index: int, given: Any) -> ConvBlock:
    """A checked block from a block or from a dict of its values, as TOML has them."""
    where = f"quartznet: layers[{index}]"
    known = [f.name for f in fields(ConvBlock)]
    if isinstance(given, dict):
        if unknown := sorted(set(given) - set(known)):
            raise TfliteAsrError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
        if missing := [name for name in ("channels", "kernel") if name not in given]:
            raise TfliteAsrError(f"{where}: {missing[0]} is missing; add it")
        given = ConvBlock(**given)
    if not isinstance(given, ConvBlock):
        raise TfliteAsrError(f"{where} is {given!r}; give a table with {', '.join(known)}")
    for name in ("channels", "kernel", "repeat", "stride", "dilation"):
        _check_whole(f"{where}.{name}", getattr(given, name))
    _check_one_of(f"{where}.residual", given.residual, RESIDUALS)
    if type(given.separable) is not bool:
        raise TfliteAsrError(f"{where}.separable is {given.separable!r}; give true or false")
    if given.stride > 1 and (given.repeat > 1 or given.dilation > 1 or given.residual != "none"):
        raise TfliteAsrError(
            f"{where}.stride is {given.stride}; a block that strides has repeat 1, dilation 1 and residual none"
        )
    return given


def _check_whole(where: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise TfliteAsrError(f"{where} is {value!r}; give a whole number, 1 or more")


def _check_one_of(where: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise TfliteAsrError(f"{where} is {value!r}; give one of {', '.join(known)}")


def quartznet(blocks: int) -> QuartzNetConfig:
    """QuartzNet-(blocks)x5 of the paper's table 1; blocks is a multiple of 5."""
    kinds = ((256, 33), (256, 39), (512, 51), (512, 63), (512, 75))
    layers = [ConvBlock(256, 33, stride=2)]
    layers += [ConvBlock(c, k, repeat=5, residual="add") for c, k in kinds for _ in range(blocks // 5)]
    layers += [ConvBlock(512, 87, dilation=2), ConvBlock(1024, 1, separable=False)]
    return QuartzNetConfig(mels=64, layers=tuple(layers), dropout=0.0)


def jasper(blocks: int) -> QuartzNetConfig:
    """Jasper DR (blocks)x5 of the paper's table 2 with dense residuals; blocks is a multiple of 5."""
    kinds = ((256, 11), (384, 13), (512, 17), (640, 21), (768, 25))
    layers = [ConvBlock(256, 11, stride=2)]
    layers += [ConvBlock(c, k, repeat=5, residual="dense") for c, k in kinds for _ in range(blocks // 5)]
    layers += [ConvBlock(896, 29, dilation=2), ConvBlock(1024, 1)]
    return QuartzNetConfig(mels=64, layers=tuple(_whole(layers)), dropout=0.2)


def _whole(layers: list[ConvBlock]) -> list[ConvBlock]:
    return [replace(layer, separable=False) for layer in layers]


# The small sizes read 80 mels and stride twice: 40 ms a logit frame, where the published ones have 20, halve the work
# and the taps that reach as far.
SMALL = QuartzNetConfig(
    layers=(
        ConvBlock(96, 11, stride=2, separable=False),
        ConvBlock(192, 11, stride=2),
        ConvBlock(192, 13, repeat=3, residual="add"),
        ConvBlock(192, 17, repeat=3, residual="add"),
        ConvBlock(256, 19, repeat=3, residual="add"),
        ConvBlock(256, 21, repeat=3, residual="add"),
        ConvBlock(256, 23, repeat=3, residual="add"),
        ConvBlock(256, 25, repeat=3, residual="add"),
        ConvBlock(256, 29, dilation=2),
        ConvBlock(384, 1, separable=False),
    ),
    dropout=0.05,
)
TINY = QuartzNetConfig(
    layers=(
        ConvBlock(16, 5, stride=2),
        ConvBlock(16, 5, repeat=2, residual="add"),
        ConvBlock(24, 7, repeat=2, residual="add"),
        ConvBlock(24, 5, dilation=2),
        ConvBlock(32, 1, separable=False),
    )
)
JASPER_SMALL = QuartzNetConfig(
    layers=tuple(
        _whole(
            [
                ConvBlock(64, 11, stride=2),
                ConvBlock(96, 7, stride=2),
                ConvBlock(96, 7, repeat=2, residual="dense"),
                ConvBlock(96, 7, repeat=2, residual="dense"),
                ConvBlock(112, 9, repeat=2, residual="dense"),
                ConvBlock(112, 9, repeat=2, residual="dense"),
                ConvBlock(128, 9, repeat=2, residual="dense"),
                ConvBlock(128, 11, repeat=2, residual="dense"),
                ConvBlock(144, 11, dilation=2),
                ConvBlock(256, 1),
            ]
        )
    ),
    dropout=0.05,
)
JASPER_TINY = QuartzNetConfig(
    layers=tuple(
        _whole(
            [
                ConvBlock(16, 5, stride=2),
                ConvBlock(16, 3, stride=2),
                ConvBlock(16, 5, repeat=2, residual="dense"),
                ConvBlock(16, 3, repeat=2, residual="dense"),
                ConvBlock(24, 5, repeat=2, residual="dense"),
                ConvBlock(24, 5, dilation=2),
                ConvBlock(32, 1),
            ]
        )
    )
)
QUARTZNET_SIZES = {
    "tiny": TINY,
    "small": SMALL,
    "5x5": quartznet(5),
    "10x5": quartznet(10),
    "15x5": quartznet(15),
}
JASPER_SIZES = {"tiny": JASPER_TINY, "small": JASPER_SMALL, "10x5": jasper(10)}


def causal(config: QuartzNetConfig) -> QuartzNetConfig:
    """The same sizes and weights as a model that streams without look-ahead."""
    return replace(config, padding="causal")


def build_quartznet(config: QuartzNetConfig) -> keras.Model:
    """A Functional model.

    Inputs: `features` float32 [batch, frames, mels], zero beyond the valid frames, frames a multiple of the
    subsampling; `mask` float32 [batch, frames / subsampling], 1 for valid frames and 0 for padding.
    Output: `logits` float32 [batch, frames / subsampling, pieces]. With `masked`, logits of valid frames do not depend
    on how much padding follows.
    """
    features = keras.Input((None, config.mels), name="features")
    mask = keras.Input((None,), name="mask")
    net = _Builder(config, mask)
    x = net.encoder(features)
    logits = keras.layers.Dense(config.pieces, use_bias=net.has("ctc.dense.bias"), name="ctc.dense")(x)
    return keras.Model([features, mask], logits, name="quartznet")


class _Builder:
    """Builds the blocks of one config; a path in `config.dropped` is left out."""

    def __init__(self, config: QuartzNetConfig, mask) -> None:
        self.config, self.mask = config, mask

    def has(self, path: str) -> bool:
        return path not in self.config.dropped

    def encoder(self, x):
        read = []  # what each block read: dense residuals start there
        each = self.config.subsampling  # frames of x to one frame of the mask
        for index, layer in enumerate(self.config.layers):
            path = f"encoder.block{index}"
            read.append(x)
            if self.has(path):
                x = self.block(x, [read[pane] for pane in self.config.panes(index)], layer, each, path)
            each //= layer.stride
        return x

    def block(self, x, panes: list, layer: ConvBlock, each: int, path: str):
        """The convolutions, the sum with the shortcuts from `panes`, the last activation."""
        terms = []
        if self.has(f"{path}.main"):
            main = x
            for place in range(layer.repeat):
                inner = f"{path}.main.conv{place}"
                if self.has(inner):
                    main = self.convolution(main, layer, each, inner)
                    main = self.activation(main, inner) if place < layer.repeat - 1 else main
            terms.append(main)
        for place, pane in enumerate(panes):
            inner = f"{path}.shortcut{place}"
            if self.has(inner):
                pointwise = keras.layers.Dense(layer.channels, use_bias=False, name=f"{inner}.pointwise")
                terms.append(self.norm(pointwise(pane), inner))
        x = terms[0]
        for place, term in enumerate(terms[1:]):
            x = keras.layers.Add(name=f"{path}.add{place}")([x, term])
        return self.activation(x, path)

    def convolution(self, x, layer: ConvBlock, each: int, path: str):
        """Over time, with batch norm."""
        layers, channels, kernel = keras.layers, layer.channels, layer.kernel
        timing: dict[str, Any] = {"strides": layer.stride, "dilation_rate": layer.dilation, "use_bias": False}
        if kernel > 1:
            x = self.zeros_around(self.without_padding(x, each, path), layer, path)
        if layer.separable:
            # Keras' own start counts the channels into the taps' fan and comes out near zero.
            start = keras.initializers.RandomUniform(-(kernel**-0.5), kernel**-0.5)
            depthwise = layers.DepthwiseConv1D(
                kernel, depthwise_initializer=start, name=f"{path}.depthwise", **timing
            )
            x = layers.Dense(channels, use_bias=False, name=f"{path}.pointwise")(depthwise(x))
        elif kernel == 1 and layer.stride == 1:
            x = layers.Dense(channels, use_bias=False, name=f"{path}.conv")(x)
        else:
            x = layers.Conv1D(channels, kernel, name=f"{path}.conv", **timing)(x)
        return self.norm(x, path)

    def without_padding(self, x, each: int, path: str):
        """x [batch, frames, channels] with the frames of padding at zero; the model's own input comes so."""
        if not self.config.masked or isinstance(x._keras_history.operation, keras.layers.InputLayer):
            return x
        channels = x.shape[-1]
        if each > 1:  # x is at a higher rate than the mask
            x = keras.layers.Reshape((-1, each * channels), name=f"{path}.stacked")(x)
        x = Mask(name=f"{path}.mask")(x, self.mask)
        return x if each == 1 else keras.layers.Reshape((-1, channels), name=f"{path}.unstacked")(x)

    def zeros_around(self, x, layer: ConvBlock, path: str):
        reach = layer.dilation * (layer.kernel - 1)
        causal = (reach - (layer.stride - 1), 0)  # a frame sees to the end of its own group
        sides = causal if self.config.padding == "causal" else (reach // 2, reach // 2)
        return keras.layers.ZeroPadding1D(sides, name=f"{path}.pad")(x)

    def norm(self, x, path: str):
        if not self.has(f"{path}.batch_norm"):
            return x
        epsilon = self.config.batch_norm_epsilon
        return keras.layers.BatchNormalization(momentum=0.98, epsilon=epsilon, name=f"{path}.batch_norm")(x)

    def activation(self, x, path: str):
        x = keras.layers.Activation(self.config.activation, name=f"{path}.{self.config.activation}")(x)
        dropout = keras.layers.SpatialDropout1D(self.config.dropout, name=f"{path}.dropout")
        return dropout(x) if self.config.dropout else x
