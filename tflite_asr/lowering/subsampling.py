"""A convolution of stride 2 over an image of one channel, as a product over the patches of that image.

XNNPACK's int8 convolutions gather each output's taps by pointers, 4 input channels at a time (8 on AVX512), whether
they are there or not: of 9 taps of one channel a quarter is work. A patch of 3 x 4 values laid out as a row is a
product of 12, and what a row is made of lies as it is in the image: 6 copies and one transposition of 4 bytes at a
time. 318 A76 instructions for 64 outputs as 4 taps of the 4 values of a 2x2 square, 200 so: the shipped Conformer takes
28.34 to 27.90 million at 4 s, 149.3 to 147.5 at 16 s. The second stage has channels enough, and would copy each value
nine times.

Two such stages of 32 channels over 1600 x 80, int8 as it stands to lowered (float32), `benchmarks/rules.py`: 1.09 to
.88 ms (2.46), 15.5 to 11.1 million A76 instructions (37.0), the same SNR.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import keras
from keras import ops

from tflite_asr.lowering.replacement import Replacement, consumers, padding_before, same_weights


@keras.saving.register_keras_serializable(package="tflite_asr")
class PatchesConv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D of one input channel, stride 2 and no padding, with the same weights and result.

    around: zeros put around the image first, ((above, below), (left, right)).
    """

    def __init__(self, *args, around: Sequence[Sequence[int]] = ((0, 0), (0, 0)), **kwargs):
        super().__init__(*args, **kwargs)
        self.around = tuple(tuple(pair) for pair in around)

    def call(self, inputs):
        high, pairs = self.kernel_size[0], (self.kernel_size[1] + 1) // 2
        sizes = [ops.shape(inputs)[axis] + sum(self.around[axis - 1]) for axis in (1, 2)]
        rows, columns = ((size - taps) // 2 + 1 for size, taps in zip(sizes, self.kernel_size, strict=True))
        frames, mels = 2 * (rows + (high - 1) // 2), 2 * (columns + pairs - 1)
        # Padded as [frames, mels]: where each value is a row of its own, of one channel, it costs more than it saves.
        image = ops.reshape(inputs, (-1, *(ops.shape(inputs)[axis] for axis in (1, 2))))
        image = self._padded(image, frames, mels)
        image = ops.reshape(image, (-1, frames // 2, 2 * mels))
        # Patches one after another, beginning at each pair by turns, lie in a row of mels as they are; where that does
        # not come out even, it is pairs that are put together.
        turns = pairs if isinstance(columns, int) and columns % pairs == 0 else 1
        width = 2 * turns
        planes = []
        for turn in range(turns):
            for row in range(high):
                begin, side = divmod(row, 2)
                for pair in range(pairs // turns):
                    start = (0, begin, side * mels + 2 * (turn + pair))
                    # SLICE: of int8, STRIDED_SLICE copies number by number.
                    planes.append(ops.slice(image, start, (ops.shape(image)[0], rows, 2 * columns)))
        patches = ops.reshape(
            ops.concatenate(planes, axis=1), (-1, len(planes), rows * columns // turns, width)
        )
        patches = ops.reshape(ops.transpose(patches, (0, 2, 1, 3)), (-1, 2 * high * pairs))
        outputs = ops.matmul(patches, self._kernel_of_patches(2 * pairs))
        if self.use_bias:
            outputs = outputs + self.bias
        return ops.reshape(self.activation(outputs), (-1, rows, columns, self.filters))

    def _padded(self, image, frames, mels):
        """[batch, frames, mels], zeros put around: as many as `around` says, and more or less at the ends."""
        (above, _), (left, _) = self.around
        ends = [frames - above - ops.shape(image)[1], mels - left - ops.shape(image)[2]]
        if all(isinstance(end, int) and end >= 0 for end in ends):
            return ops.pad(image, ((0, 0), (above, ends[0]), (left, ends[1])))
        image = ops.pad(image, ((0, 0), *((before, after + 1) for before, after in self.around)))
        return image[:, :frames, :mels]

    def _kernel_of_patches(self, width: int):
        """[rows * width, channels], zero beyond the kernel's own taps."""
        high, wide, _, channels = self.kernel.shape
        kernel = ops.pad(self.kernel, ((0, 0), (0, width - wide), (0, 0), (0, 0)))
        return ops.reshape(kernel, (high * width, channels))

    def compute_output_shape(self, inputs_shape):
        padded = [
            None if size is None else size + sum(around)
            for size, around in zip(inputs_shape[1:3], self.around, strict=True)
        ]
        return super().compute_output_shape((inputs_shape[0], *padded, inputs_shape[3]))

    def get_config(self):
        return {**super().get_config(), "around": self.around}


class Patches:
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
        return same_weights(
            PatchesConv2D.from_config({**operation.get_config(), "around": around}), operation
        )

    def _padding_before(self, operation: keras.Operation) -> keras.layers.ZeroPadding2D | None:
        if not _strides_over_an_image(operation):
            return None
        return padding_before(operation, keras.layers.ZeroPadding2D, self.outputs)


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
