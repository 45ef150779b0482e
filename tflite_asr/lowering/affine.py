"""A layer norm's scale and offset folded into the products that read it: (x g + b) W + c = x (g W) + (b W + c).

Two ops fewer a layer norm, 8 of 10 in a Conformer's blocks, and a quantiser that meets channels of equal
spread: the scale goes to the weights, which have a step for each output channel, instead of to an activation
with one step for all.

A norm and a product of four times its width, int8 as it stands to lowered (float32), `benchmarks/rules.py`: 1.10 to .45
ms (.79), 9.7 to 3.4 million A76 instructions (11.5).
"""

from __future__ import annotations

from collections.abc import Set

import keras
import numpy as np

from tflite_asr.lowering.centring import over_last_axis
from tflite_asr.lowering.layer_normalization import NORMS, written_out
from tflite_asr.lowering.relative_attention import PerHeadRelativeAttention
from tflite_asr.lowering.replacement import Replacement, consumers, producer
from tflite_asr.models.layers import RelativeAttention

_PROJECTIONS = ("query", "key", "value")


class AffineFold:
    """The rule for both sides, the layer norm and its readers.

    outputs: ids of the operations whose result some model hands out; theirs must stay as it is.
    """

    def __init__(self, outputs: Set[int]) -> None:
        self.outputs = outputs

    def rule(self, operation: keras.Operation) -> Replacement | None:
        """A LayerNormalization that only Dense and RelativeAttention layers with biases read, or such a reader."""
        if self._folds(operation):
            bare = written_out(operation, center=False, scale=False)
            return Replacement((bare,), lambda: _carry_power(operation, bare))
        norm = producer(operation) if _reads(operation) else None
        if norm is None or not self._folds(norm):
            return None
        if type(operation) is RelativeAttention:
            attention = PerHeadRelativeAttention.from_config(operation.get_config())
            return Replacement((attention,), lambda: _fold_into_attention(norm, operation, attention))
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
