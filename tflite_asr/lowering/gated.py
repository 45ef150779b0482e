"""A gated linear unit behind a product that it alone reads, as two products: its halves are never split apart.

Splitting copies every number of both; two products of half the width take what one of the whole does: 27.85 to 27.81
million A76 instructions of the shipped Conformer at 4 s, 147.3 to 147.1 at 16 s. In int8 values and gates get a scale
each. Halves that are no multiple of what a product makes at a time would take more than the whole, and stay together.
"""

from __future__ import annotations

from collections.abc import Set

import keras
from keras import ops

from tflite_asr.lowering.policy import CHANNELS_AT_A_TIME
from tflite_asr.lowering.replacement import Replacement, consumers, producer, same_weights
from tflite_asr.models.layers import GatedLinearUnit


@keras.saving.register_keras_serializable(package="tflite_asr")
class GatedDense(keras.layers.Dense):
    """keras.layers.Dense with the same weights and then `GatedLinearUnit`: float32 [..., units / 2]."""

    def call(self, inputs):
        half = self.units // 2
        values, gates = (self._product(inputs, part) for part in (slice(half), slice(half, None)))
        return values * ops.sigmoid(gates)

    def _product(self, inputs, part: slice):
        product = ops.matmul(inputs, self.kernel[:, part])
        return product if self.bias is None else product + self.bias[part]

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units // 2)


class Gates:
    """The rules for the product and for the gated linear unit, of which nothing is left.

    outputs: ids of the operations whose result some model hands out; theirs must stay as it is.
    """

    def __init__(self, outputs: Set[int]) -> None:
        self.outputs = outputs

    def rule(self, operation: keras.Operation) -> Replacement | None:
        """A linear Dense that a GatedLinearUnit alone reads; or that GatedLinearUnit."""
        if type(operation) is GatedLinearUnit:
            before = producer(operation)
            return Replacement(()) if before is not None and self._is_gated(before) else None
        if not self._is_gated(operation):
            return None
        return same_weights(GatedDense.from_config(operation.get_config()), operation)

    def _is_gated(self, operation: keras.Operation) -> bool:
        if type(operation) is not keras.layers.Dense or id(operation) in self.outputs:
            return False
        if operation.units % (2 * CHANNELS_AT_A_TIME):
            return False
        linear = keras.activations.serialize(operation.activation) == "linear"
        readers = consumers(operation)
        alone = len(readers) == 1 and type(readers[0]) is GatedLinearUnit
        return linear and alone and len(operation._inbound_nodes) == len(readers[0]._inbound_nodes) == 1
