"""Bools made of floats and floats made of bools, in ops that AI Edge Quantizer takes to int8.

It leaves GREATER, LESS and CAST in float; NOT_EQUAL, EQUAL, SELECT_V2 and the fused ReLU of SUB have int8
kernels. a > b is relu(a - b) != 0 there; what is a bool from the start stays one.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tflite_asr.lowering.replacement import Replacement

COMPARISONS = {
    "Greater": "greater",
    "Less": "less",
    "GreaterEqual": "greater_equal",
    "LessEqual": "less_equal",
}


@keras.saving.register_keras_serializable(package="tflite_asr")
class Comparison(keras.layers.Layer):
    """inputs > other, and so on as `kind` says: float32 tensors that broadcast, or a number; gives bool."""

    def __init__(self, kind: str, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind

    def call(self, inputs, other=0.0):
        above = self.kind in ("greater", "less_equal")
        excess = ops.relu(inputs - other if above else other - inputs)
        return ops.not_equal(excess, 0.0) if self.kind in ("greater", "less") else ops.equal(excess, 0.0)

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable(package="tflite_asr")
class Conversion(keras.layers.Layer):
    """A bool as 1.0 and 0.0, or a float as whether it is not 0, whichever it is given."""

    def call(self, inputs):
        return is_set(inputs) if is_float(inputs) else as_numbers(inputs, "float32")


def as_numbers(mask: Any, dtype: str) -> Any:
    """A bool mask as ones and zeros; a float one as it is."""
    if is_float(mask):
        return mask
    return ops.where(mask, ops.ones((), dtype=dtype), ops.zeros((), dtype=dtype))


def is_set(mask: Any) -> Any:
    """Whether a number is not 0, as a bool; a bool as it is."""
    return mask if keras.backend.standardize_dtype(mask.dtype) == "bool" else ops.not_equal(mask, 0.0)


def is_float(tensor: Any) -> bool:
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def rule(operation: keras.Operation) -> Replacement | None:
    """keras.ops that compare floats, or cast a float to bool or a bool to float32."""
    name = type(operation).__name__
    if isinstance(operation, keras.layers.Layer) or (name != "Cast" and name not in COMPARISONS):
        return None
    arguments = operation._inbound_nodes[0].arguments.args
    if not isinstance(arguments[0], keras.KerasTensor):
        return None
    floats = is_float(arguments[0])
    if name in COMPARISONS:
        return Replacement((Comparison(COMPARISONS[name], name=operation.name),)) if floats else None
    target = keras.backend.standardize_dtype(operation.dtype)
    bools = keras.backend.standardize_dtype(arguments[0].dtype) == "bool"
    if (floats and target == "bool") or (bools and target == "float32"):
        return Replacement((Conversion(name=operation.name),))
    return None
