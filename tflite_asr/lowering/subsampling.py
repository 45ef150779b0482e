"""A convolution of stride 2 over an image of one channel, as one of stride 1 over the 2x2 squares of that image.

XNNPACK's int8 kernels take 4 input channels at a time (8 on AVX512), whether they are there or not: of 9 taps of one
channel a quarter is work. A square's four values as channels make 4 taps of 4 channels of it.

Two such stages of 32 channels over 1600 x 80, int8 as it stands to lowered (float32), `benchmarks/rules.py`: 1.54 to
1.27 ms (2.51), 15.5 to 12.8 million A76 instructions (37.0). The second stage would take 512 multiply-adds an output
so, in place of 288.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import keras
from keras import ops

from tflite_asr.lowering.replacement import Replacement, consumers, producer


@keras.saving.register_keras_serializable(package="tflite_asr")
class SquaresConv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D of one input channel, stride 2 and no padding, with the same weights and result.

    around: zeros put around the image first, ((above, below), (left, right)).
    """

    def __init__(self, *args, around: Sequence[Sequence[int]] = ((0, 0), (0, 0)), **kwargs):
        super().__init__(*args, **kwargs)
        self.around = tuple(tuple(pair) for pair in around)

    def call(self, inputs):
        sizes = [ops.shape(inputs)[axis] + sum(self.around[axis - 1]) for axis in (1, 2)]
        taps = [(count + 1) // 2 for count in self.kernel_size]
        squares = [
            (size - count) // 2 + tap for size, count, tap in zip(sizes, self.kernel_size, taps, strict=True)
        ]
        # Padded as [frames, mels]: where each value is a row of its own, of one channel, it costs more than it saves.
        image = ops.reshape(inputs, (-1, *(ops.shape(inputs)[axis] for axis in (1, 2))))
        (above, below), (left, right) = self.around
        image = ops.pad(image, ((0, 0), (above, below + 1), (left, right + 1)))
        image = image[:, : 2 * squares[0], : 2 * squares[1]]
        image = ops.transpose(ops.reshape(image, (-1, 2, squares[1], 2)), (0, 2, 1, 3))
        image = ops.reshape(image, (-1, *squares, 4))
        outputs = ops.conv(image, self._kernel_of_squares(*taps), 1, "valid", "channels_last")
        if self.use_bias:
            outputs = outputs + self.bias
        return self.activation(outputs)

    def _kernel_of_squares(self, rows: int, columns: int):
        """[rows, columns, 4, channels], zero beyond the kernel's own taps."""
        high, wide, _, channels = self.kernel.shape
        kernel = ops.pad(self.kernel, ((0, 2 * rows - high), (0, 2 * columns - wide), (0, 0), (0, 0)))
        kernel = ops.transpose(ops.reshape(kernel, (rows, 2, columns, 2, channels)), (0, 2, 1, 3, 4))
        return ops.reshape(kernel, (rows, columns, 4, channels))

    def compute_output_shape(self, inputs_shape):
        padded = [
            None if size is None else size + sum(around)
            for size, around in zip(inputs_shape[1:3], self.around, strict=True)
        ]
        return super().compute_output_shape((inputs_shape[0], *padded, inputs_shape[3]))

    def get_config(self):
        return {**super().get_config(), "around": self.around}


class Squares:
    """The rules for the convolution and for the zero padding before it.

    outputs: ids of the operations whose result some model hands out; theirs must stay as it is.
    """

    def __init__(self, outputs: Set[int]) -> None:
        self.outputs = outputs

    def rule(self, operation: keras.Operation) -> Replacement | None:
        """A Conv2D of one input channel, stride 2, without padding; or the ZeroPadding2D that it alone reads."""
        if type(operation) is keras.layers.ZeroPadding2D:
            readers = consumers(operation)
            alone = len(readers) == 1 and self._padding_before(readers[0]) is operation
            return Replacement(()) if alone else None
        if not _strides_over_an_image(operation):
            return None
        padding = self._padding_before(operation)
        around = ((0, 0), (0, 0)) if padding is None else padding.padding
        new = SquaresConv2D.from_config({**operation.get_config(), "around": around})
        return Replacement((new,), lambda: new.set_weights(operation.get_weights()))

    def _padding_before(self, operation: keras.Operation) -> keras.layers.ZeroPadding2D | None:
        before = producer(operation) if _strides_over_an_image(operation) else None
        if before is None or type(before) is not keras.layers.ZeroPadding2D or id(before) in self.outputs:
            return None
        called_once = len(before._inbound_nodes) == len(operation._inbound_nodes) == 1
        return before if called_once and len(consumers(before)) == 1 else None


def _strides_over_an_image(operation: keras.Operation) -> bool:
    return (
        type(operation) is keras.layers.Conv2D
        and operation.kernel.shape[2] == 1
        and min(operation.kernel_size) > 1
        and operation.strides == (2, 2)
        and operation.dilation_rate == (1, 1)
        and operation.padding == "valid"
        and operation.groups == 1
        and operation.data_format == "channels_last"
    )
