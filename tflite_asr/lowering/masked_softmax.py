"""A Softmax layer that is given a mask, written out; an unmasked one stays SOFTMAX, which has an int8 kernel.

Keras adds a large negative number where the mask is false, and the range of the scores is lost to it in int8: see
attention_weights.py for the figures. Four heads of 400 x 400, int8 as it stands to lowered (float32),
`benchmarks/rules.py`: 4.8 to 1.9 ms (2.3), 17.8 to 9.7 million A76 instructions (16.3).
"""

from __future__ import annotations

import keras
from keras import ops

from tflite_asr.lowering.attention_weights import softmax_parts, visible_keys
from tflite_asr.lowering.replacement import Replacement
from tflite_asr.lowering.truth import as_numbers, is_set


@keras.saving.register_keras_serializable(package="tflite_asr")
class MaskedSoftmax(keras.layers.Softmax):
    """keras.layers.Softmax over the last axis with the same config, arguments and result."""

    def call(self, inputs, mask=None):
        if mask is None:
            return ops.softmax(inputs, axis=-1)
        mask = as_numbers(is_set(mask), inputs.dtype)
        scores = (inputs - ops.min(inputs, axis=-1, keepdims=True)) * mask
        exponentials, half = softmax_parts(scores, visible_keys(mask))
        return exponentials * half * half


def rule(operation: keras.Operation) -> Replacement | None:
    """A Softmax layer over the last axis."""
    if type(operation) is not keras.layers.Softmax or operation.axis != -1:
        return None
    return Replacement((MaskedSoftmax.from_config(operation.get_config()),))
