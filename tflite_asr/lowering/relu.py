"""A ReLU that the converter cannot fuse into the op before it: a product with 1 + 2**-20 that it can be fused into.

As an op of its own RELU takes .34 ms in int8 for 400 x 144, as the fused end of a MUL .025 (float32: .007).
RELU6 on its own stays in float. The factor is not 1, so that the product is not folded away; it changes a value
by a millionth of it. Int8 as it stands to lowered (float32), `benchmarks/rules.py`: .68 to .04 ms (.03), 2.5 to .04
million A76 instructions (.06).
"""

from __future__ import annotations

import keras
from keras import ops

from tflite_asr.lowering.replacement import Replacement, consumers, producer

FACTOR = 1.0 + 2.0**-20
# Layers and operations whose last TFLite op can end in a fused ReLU.
FUSING = frozenset(
    "Dense EinsumDense Conv1D Conv2D DepthwiseConv1D DepthwiseConv2D BatchNormalization "
    "LayerNormalization Add Subtract Multiply".split()
)


@keras.saving.register_keras_serializable(package="tflite_asr")
class FusedReLU(keras.layers.Layer):
    """max(x, 0), and where `ceiling` is 6 min(max(x, 0), 6): float32 of any shape."""

    def __init__(self, ceiling: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.ceiling = ceiling

    def call(self, inputs):
        return (ops.relu if self.ceiling is None else ops.relu6)(inputs * FACTOR)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "ceiling": self.ceiling}


def kind(operation: keras.Operation) -> str:
    """ "relu" or "relu6" for what is one of them, as a layer or as an operation, else ""."""
    if isinstance(operation, keras.layers.Activation):
        name = keras.activations.serialize(operation.activation)
        return name if name in ("relu", "relu6") else ""
    if type(operation) is keras.layers.ReLU and not operation.negative_slope and not operation.threshold:
        return {None: "relu", 6: "relu6"}.get(operation.max_value, "")
    name = type(operation).__name__
    return name.lower() if name in ("Relu", "Relu6") and not isinstance(operation, keras.layers.Layer) else ""


def rule(operation: keras.Operation) -> Replacement | None:
    """A ReLU or ReLU6 behind something else than a product or a sum that it alone reads."""
    if not (found := kind(operation)):
        return None
    before = producer(operation)
    while isinstance(before, keras.layers.Dropout):
        before = producer(before)
    if before is not None and type(before).__name__ in FUSING and len(consumers(before)) == 1:
        return None
    return Replacement((FusedReLU(ceiling=6 if found == "relu6" else None, name=operation.name),))
