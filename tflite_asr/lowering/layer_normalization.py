"""LayerNormalization written out as MEAN, SUB, MUL, MEAN, RSQRT, MUL, MUL, ADD.

Keras' own becomes SQUARED_DIFFERENCE and a NEG that stays in float: .59 ms in int8 for 400 x 144, where the
written-out one takes .07 (float32: .04), at 31-34 dB, where the written-out one has 29-33. In a whole Conformer on
real speech the two are within 1 dB. Dividing by the mean absolute deviation first, so that the variance always lies
near one, gives .2 to .9 dB more there (up to 10 dB on frames whose levels differ a hundredfold) for twice the time.

Alone, int8 as it stands to lowered (float32), `benchmarks/rules.py`: .67 to .11 ms (.09), 6.7 to .66 million A76
instructions (.48).
"""

from __future__ import annotations

import keras
from keras import ops

from tflite_asr.lowering.centring import CentredLayerNormalization, add_power
from tflite_asr.lowering.reciprocal_root import reciprocal_root
from tflite_asr.lowering.replacement import Replacement, same_weights

NORMS = (keras.layers.LayerNormalization, CentredLayerNormalization)


@keras.saving.register_keras_serializable(package="tflite_asr")
class WrittenOutLayerNormalization(keras.layers.LayerNormalization):
    """keras.layers.LayerNormalization with the same weights, config and result (Ba et al. 2016)."""

    def call(self, inputs):
        axes = [axis % len(inputs.shape) for axis in self.axis]
        centred = inputs - ops.mean(inputs, axis=axes, keepdims=True)
        return self.scaled(centred, ops.mean(centred * centred, axis=axes, keepdims=True), axes)

    def scaled(self, centred, variance, axes):
        """`centred` at variance one, times gamma, plus beta."""
        outputs = centred * reciprocal_root(variance + self.epsilon)
        shape = [size if axis in axes else 1 for axis, size in enumerate(centred.shape)]
        if self.gamma is not None:
            outputs = outputs * ops.reshape(self.gamma, shape)
        if self.beta is not None:
            outputs = outputs + ops.reshape(self.beta, shape)
        return outputs


@keras.saving.register_keras_serializable(package="tflite_asr")
class WrittenOutCentredNormalization(WrittenOutLayerNormalization):
    """The same of inputs that are centred, as `CentredLayerNormalization`'s are, with its `power`."""

    def build(self, input_shape):
        super().build(input_shape)
        self.power = add_power(self, input_shape[-1])

    def call(self, inputs):
        return self.scaled(inputs, ops.matmul(inputs * inputs, self.power), [len(inputs.shape) - 1])


def written_out(norm: keras.layers.LayerNormalization, **changes: object) -> WrittenOutLayerNormalization:
    """The layer that stands in for `norm`, with `changes` to its config."""
    kind = (
        WrittenOutCentredNormalization
        if type(norm) is CentredLayerNormalization
        else WrittenOutLayerNormalization
    )
    return kind.from_config({**norm.get_config(), **changes})


def rule(operation: keras.Operation) -> Replacement | None:
    """A LayerNormalization layer."""
    if type(operation) not in NORMS or operation.rms_scaling:
        return None
    return same_weights(written_out(operation), operation)
