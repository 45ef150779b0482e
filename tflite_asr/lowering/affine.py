"""A layer norm's scale and offset folded into the products that read it: (x g + b) W + c = x (g W) + (b W + c).

Two ops fewer a layer norm, 8 of 10 in a Conformer's blocks, and a quantiser that meets channels of equal
spread: the scale goes to the weights, which have a step for each output channel, instead of to an activation
with one step for all. The norm between blocks, which a `Centre` reads, loses its offset's op to that.

A norm and a product of four times its width, int8 as it stands to lowered (float32), `benchmarks/rules.py`: 1.10 to .45
ms (.79), 9.7 to 3.4 million A76 instructions (11.5).
"""

from __future__ import annotations

from collections.abc import Set

import keras
import numpy as np
from keras import ops

from tflite_asr.lowering.centring import Centre, over_last_axis
from tflite_asr.lowering.layer_normalization import NORMS, written_out
from tflite_asr.lowering.relative_attention import PerHeadRelativeAttention
from tflite_asr.lowering.replacement import Replacement, consumers, producer
from tflite_asr.models.layers import RelativeAttention

_PROJECTIONS = ("query", "key", "value")


@keras.saving.register_keras_serializable(package="tflite_asr")
class AffineCentre(keras.layers.Layer):
    """A scale and an offset for each channel, and then `Centre`; float32 [..., channels] to the same shape.

    The offset is added with the mean, so that it takes no op: a hundredth of the shipped Conformer's element-wise
    instructions, and a rounding less. Weights: `scale` and `offset` [channels], `collect` [channels, 1], `spread`
    [1, channels].
    """

    def build(self, input_shape):
        channels = input_shape[-1]
        for name, shape in (
            ("scale", (channels,)),
            ("offset", (channels,)),
            ("collect", (channels, 1)),
            ("spread", (1, channels)),
        ):
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer="ones", trainable=False))

    def call(self, inputs):
        correction = ops.matmul(ops.matmul(inputs, self.collect), self.spread) + self.offset
        return inputs * self.scale + correction

    def compute_output_shape(self, input_shape):
        return input_shape

    def fold(self, norm: keras.layers.LayerNormalization, centre: Centre) -> None:
        """Do to the bare norm what `centre` does to the whole one."""
        scale = np.asarray(norm.gamma if norm.scale else np.ones(self.scale.shape), np.float64)
        offset = np.asarray(norm.beta if norm.center else np.zeros(self.scale.shape), np.float64)
        collect, spread = np.asarray(centre.collect, np.float64), np.asarray(centre.spread, np.float64)
        self.scale.assign(scale)
        self.offset.assign(offset - (offset @ collect) @ spread)
        self.collect.assign(scale[:, None] * collect)
        self.spread.assign(-spread)


class AffineFold:
    """The rule for both sides, the layer norm and its readers.

    outputs: ids of the operations whose result some model hands out; theirs must stay as it is.
    """

    def __init__(self, outputs: Set[int]) -> None:
        self.outputs = outputs

    def rule(self, operation: keras.Operation) -> Replacement | None:
        """A LayerNormalization that only Dense and RelativeAttention layers with biases or a Centre read, or such a
        reader."""
        if self._folds(operation):
            bare = written_out(operation, center=False, scale=False)
            return Replacement((bare,), lambda: _carry_power(operation, bare))
        norm = producer(operation) if _reads(operation) else None
        if norm is None or not self._folds(norm):
            return None
        if type(operation) is RelativeAttention:
            attention = PerHeadRelativeAttention.from_config(operation.get_config())
            return Replacement((attention,), lambda: _fold_into_attention(norm, operation, attention))
        if type(operation) is Centre:
            centre = AffineCentre(name=operation.name)
            return Replacement((centre,), lambda: centre.fold(norm, operation))
        dense = keras.layers.Dense.from_config(operation.get_config())
        return Replacement((dense,), lambda: dense.set_weights(_folded(norm, *operation.get_weights())))

    def _folds(self, norm: keras.Operation) -> bool:
        if type(norm) not in NORMS or norm.rms_scaling or id(norm) in self.outputs:
            return False
        if not (norm.scale or norm.center) or not norm._inbound_nodes:
            return False
        readers = consumers(norm)
        return (
            over_last_axis(norm)
            and bool(readers)
            and all(_reads(reader) and producer(reader) is norm for reader in readers)
        )


def _carry_power(old: keras.layers.LayerNormalization, new: keras.layers.LayerNormalization) -> None:
    """What a norm of a centred stream weighs its channels by: the only weight of one without scale and offset."""
    if hasattr(old, "power"):
        new.power.assign(old.power)


def _reads(operation: keras.Operation) -> bool:
    if type(operation) is Centre:
        return True
    return type(operation) in (keras.layers.Dense, RelativeAttention) and operation.use_bias


def _folded(norm: keras.layers.LayerNormalization, kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """Kernel and bias that do to the bare norm what these do to the whole one."""
    offset = np.asarray(norm.beta) @ kernel if norm.center else 0.0
    scale = np.asarray(norm.gamma)[:, None] if norm.scale else 1.0
    return [kernel * scale, bias + offset]


def _fold_into_attention(
    norm: keras.layers.LayerNormalization, old: RelativeAttention, new: PerHeadRelativeAttention
) -> None:
    new.set_weights(old.get_weights())
    for name in _PROJECTIONS:
        kernel, bias = getattr(new, f"{name}_kernel"), getattr(new, f"{name}_bias")
        for weight, value in zip(
            (kernel, bias), _folded(norm, np.asarray(kernel), np.asarray(bias)), strict=True
        ):
            weight.assign(value)
