"""Depthwise convolutions: of more than 25 taps as a sum of convolutions of at most 25, and shorter ones with their
padding inside.

XNNPACK's single-pass kernels end at 25 taps. 31 taps over 400 x 144: 2.06 ms in int8 (1.6 in float32) as one,
.17 as 25 + 6, .32 as 16 + 15, .30 as two dilated ones; 36.1 dB as one, 34.1 as 25 + 6. A batch norm behind it
is folded in here, since the converter does not fold across the sum. Int8 as it stands to lowered (float32),
`benchmarks/rules.py`: 1.47 to .26 ms (1.17), 21.7 to 1.5 million A76 instructions (15.0).

Zeros around a sequence, put there by a layer of their own, are a copy of all of it; a convolution that pads by itself
reads them from nowhere: 27.98 to 27.90 million A76 instructions of the shipped Conformer at 4 s, 147.9 to 147.6 at
16 s.
"""

from __future__ import annotations

from collections.abc import Set

import keras
import numpy as np
from keras import ops

from tflite_asr.lowering.replacement import Replacement, consumers, padding_before, producer, same_weights

LONGEST = 25


@keras.saving.register_keras_serializable(package="tflite_asr")
class SplitDepthwiseConv1D(keras.layers.DepthwiseConv1D):
    """keras.layers.DepthwiseConv1D with the same weights, config and result, its taps in pieces of at most 25."""

    def call(self, inputs):
        taps, stride, dilation = self.kernel_size[0], self.strides[0], self.dilation_rate[0]
        inputs = ops.pad(inputs, ((0, 0), self._padding(inputs), (0, 0)))
        frames = ops.shape(inputs)[1]
        count = (frames - (taps - 1) * dilation - 1) // stride + 1
        # Images one pixel high from here to the sum: as sequences, every piece takes two reshapes of its own.
        inputs, kernels = ops.expand_dims(inputs, 1), ops.expand_dims(self.kernel, 0)
        outputs = None
        for first in range(0, taps, LONGEST):
            kernel = kernels[:, first : first + LONGEST]
            begin = first * dilation
            reach = (count - 1) * stride + (kernel.shape[1] - 1) * dilation + 1
            piece = ops.depthwise_conv(
                inputs[:, :, begin : begin + reach], kernel, stride, "valid", self.data_format, (1, dilation)
            )
            if self.use_bias and outputs is None:
                piece = piece + self.bias
            outputs = piece if outputs is None else outputs + piece
        return self.activation(ops.squeeze(outputs, 1))

    def _padding(self, inputs) -> tuple[int, int]:
        """Zeros before and after, in frames; TensorFlow's rule for "same"."""
        taps, stride, dilation = self.kernel_size[0], self.strides[0], self.dilation_rate[0]
        if self.padding == "valid":
            return 0, 0
        reach = (taps - 1) * dilation
        if self.padding == "causal":
            return reach, 0
        total = reach if stride == 1 else max(reach + 1 - ((inputs.shape[1] - 1) % stride + 1), 0)
        return total // 2, total - total // 2


def is_long(operation: keras.Operation) -> bool:
    """Whether `operation` is a depthwise convolution that the rule splits."""
    return (
        type(operation) is keras.layers.DepthwiseConv1D
        and operation.kernel_size[0] > LONGEST
        and operation.data_format == "channels_last"
        and (
            operation.strides[0] == 1
            or operation.padding != "same"
            or operation._inbound_nodes[0].input_tensors[0].shape[1]
        )
    )


class DepthwiseSplit:
    """The rules for the convolution and for the batch norm behind it.

    outputs: ids of the operations whose result some model hands out; theirs must stay as it is.
    """

    def __init__(self, outputs: Set[int]) -> None:
        self.outputs = outputs

    def rule(self, operation: keras.Operation) -> Replacement | None:
        """A DepthwiseConv1D of more than 25 taps, with the batch norm that alone reads it; or that batch norm, of
        which nothing is left."""
        if is_long(operation):
            return _split(operation, self._norm_after(operation))
        before = producer(operation) if type(operation) is keras.layers.BatchNormalization else None
        folded = before is not None and is_long(before) and self._norm_after(before) is operation
        return Replacement(()) if folded else None

    def _norm_after(self, operation: keras.layers.DepthwiseConv1D) -> keras.layers.BatchNormalization | None:
        linear = keras.activations.serialize(operation.activation) == "linear"
        if not linear or len(operation._inbound_nodes) != 1 or id(operation) in self.outputs:
            return None
        readers = consumers(operation)
        if len(readers) != 1 or type(readers[0]) is not keras.layers.BatchNormalization:
            return None
        norm = readers[0]
        return norm if norm.axis in (-1, 2) and len(norm._inbound_nodes) == 1 else None


class SamePadding:
    """The rules for a convolution whose zero padding is that of "same", and for the layer that puts it around.

    outputs: ids of the operations whose result some model hands out; theirs must stay as it is.
    """

    def __init__(self, outputs: Set[int]) -> None:
        self.outputs = outputs

    def rule(self, operation: keras.Operation) -> Replacement | None:
        """A DepthwiseConv1D behind a ZeroPadding1D that it alone reads; or that padding, of which nothing is left."""
        if type(operation) is keras.layers.ZeroPadding1D:
            readers = consumers(operation)
            alone = len(readers) == 1 and self._padding_before(readers[0]) is operation
            return Replacement(()) if alone else None
        if self._padding_before(operation) is None:
            return None
        config = {**operation.get_config(), "padding": "same"}
        return same_weights(keras.layers.DepthwiseConv1D.from_config(config), operation)

    def _padding_before(self, operation: keras.Operation) -> keras.layers.ZeroPadding1D | None:
        if type(operation) is not keras.layers.DepthwiseConv1D or is_long(operation):
            return None
        before = padding_before(operation, keras.layers.ZeroPadding1D, self.outputs)
        if before is None:
            return None
        total = (operation.kernel_size[0] - 1) * operation.dilation_rate[0]
        same = (total // 2, total - total // 2)
        fits = operation.padding == "valid" and operation.strides[0] == 1 and tuple(before.padding) == same
        of_one_format = {operation.data_format, before.data_format} == {"channels_last"}
        return before if fits and of_one_format else None


def _split(
    operation: keras.layers.DepthwiseConv1D, norm: keras.layers.BatchNormalization | None
) -> Replacement:
    config = operation.get_config()
    new = SplitDepthwiseConv1D.from_config({**config, "use_bias": config["use_bias"] or norm is not None})

    def copy_weights() -> None:
        kernel, *rest = operation.get_weights()
        bias = rest[0] if rest else np.zeros(kernel.shape[1] * kernel.shape[2], kernel.dtype)
        if norm is not None:
            scale, offset = _scale_and_offset(norm)
            kernel, bias = kernel * scale.reshape(1, *kernel.shape[1:]), bias * scale + offset
        new.set_weights([kernel, bias] if new.use_bias else [kernel])

    return Replacement((new,), copy_weights)


def _scale_and_offset(norm: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """The scale and offset, float32 [channels], that inference-time batch norm is."""
    mean, variance = np.asarray(norm.moving_mean), np.asarray(norm.moving_variance)
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * np.asarray(norm.gamma)
    return scale, (np.asarray(norm.beta) if norm.center else 0.0) - mean * scale
