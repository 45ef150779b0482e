"""What each TFLite op computes, in float and for many examples at once.

A flatbuffer is of batch 1, and its ops lose that axis where they can. So every tensor here has one axis more than in
the file, in front, for the examples: [examples, *shape]; constants have one example. Only the constant weights and
biases of products go without, their output channels last (`last_channels`), and what says how to move values (axes,
paddings) is the file's own NumPy array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from tflite_asr.errors import TfliteAsrError
from tflite_asr.qat.graph import Op
from tflite_asr.quantize.serialize import schema

Tensors = Sequence[Any]
Kernel = Callable[[Op, Tensors], list[Any]]

_LEAST = 1e-20  # under a logarithm or a root: integers there end at their range, a float's gradient would be no number
_PADDING = {schema.Padding.SAME: "same", schema.Padding.VALID: "valid"}
_FUSED: dict[int, Callable[[Any], Any]] = {
    schema.ActivationFunctionType.NONE: lambda x: x,
    schema.ActivationFunctionType.RELU: ops.relu,
    schema.ActivationFunctionType.RELU6: ops.relu6,
    schema.ActivationFunctionType.RELU_N1_TO_1: lambda x: ops.clip(x, -1.0, 1.0),
}
# Axes that bring the output channels of weights last: [out, in] to [in, out], [out, h, w, in] to [h, w, in, out].
_LAST = {"FULLY_CONNECTED": (1, 0), "CONV_2D": (1, 2, 3, 0), "DEPTHWISE_CONV_2D": (0, 1, 2, 3)}


def run(op: Op, inputs: Tensors) -> list[Any]:
    """The outputs of one op, nothing quantised. inputs: None where an operand is absent.

    Raises TfliteAsrError for an op, or the activation at its end, that is not known here.
    """
    if op.kind not in KERNELS:
        raise TfliteAsrError(
            f"{op.name}: low-bit training does not know {op.kind}; it knows {', '.join(sorted(KERNELS))}"
        )
    return KERNELS[op.kind](op, inputs)


def last_channels(kind: str, weights: np.ndarray) -> np.ndarray:
    """Constant weights of a product, output channels last."""
    return np.transpose(weights, _LAST[kind])


def file_layout(kind: str, weights: np.ndarray) -> np.ndarray:
    """Inverse of `last_channels`."""
    return np.transpose(weights, np.argsort(_LAST[kind]))


def _fused(op: Op, result: Any) -> list[Any]:
    code = op.options.fusedActivationFunction if op.options is not None else 0
    if code not in _FUSED:
        raise TfliteAsrError(f"{op.name}: {op.kind} ends in activation {code}, which training does not know")
    return [_FUSED[code](result)]


def _shaped(op: Op, result: Any) -> Any:
    """The result in the shape that the file says."""
    return ops.reshape(result, (-1, *op.shapes[0]))


def _aligned(op: Op, inputs: Tensors) -> list[Any]:
    """Operands whose own axes meet, ones put behind the examples."""
    rank = len(op.shapes[0]) + 1
    return [
        x if len(x.shape) == rank else ops.reshape(x, (-1, *[1] * (rank - len(x.shape)), *x.shape[1:]))
        for x in inputs
    ]


def _axes(values: np.ndarray, rank: int) -> tuple[int, ...]:
    """Axes of the file as axes here. rank: of the tensor in the file."""
    return tuple(int(axis) % rank + 1 for axis in np.reshape(values, -1))


def _elementwise(function: Callable[..., Any]) -> Kernel:
    return lambda op, inputs: [function(*_aligned(op, inputs))]


def _arithmetic(function: Callable[..., Any]) -> Kernel:
    return lambda op, inputs: _fused(op, function(*_aligned(op, inputs)))


def _unary(function: Callable[[Any], Any]) -> Kernel:
    return lambda op, inputs: [function(inputs[0])]


def _reduction(function: Callable[..., Any]) -> Kernel:
    return lambda op, inputs: [
        _shaped(op, function(inputs[0], axis=_axes(inputs[1], len(inputs[0].shape) - 1)))
    ]


def _fully_connected(op: Op, inputs: Tensors) -> list[Any]:
    x, weights, *rest = inputs
    if len(weights.shape) == 2:
        result = ops.matmul(ops.reshape(x, (-1, weights.shape[0])), weights)
    else:  # computed, [examples, out, in]
        rows = ops.reshape(x, (-1, int(np.prod(x.shape[1:])) // weights.shape[2], weights.shape[2]))
        result = ops.matmul(rows, ops.transpose(weights, (0, 2, 1)))
    return _fused(op, _shaped(op, _with_bias(result, rest)))


def _with_bias(result: Any, rest: Tensors) -> Any:
    return result + rest[0] if rest and rest[0] is not None else result


def _image(x: Any) -> Any:
    """[examples, 1, h, w, channels] without the file's batch axis."""
    return ops.reshape(x, (-1, *x.shape[2:]))


def _conv(op: Op, inputs: Tensors) -> list[Any]:
    x, weights, *rest = inputs
    o = op.options
    result = ops.conv(
        _image(x),
        weights,
        strides=(o.strideH, o.strideW),
        padding=_PADDING[o.padding],
        data_format="channels_last",
        dilation_rate=(o.dilationHFactor, o.dilationWFactor),
    )
    return _fused(op, _shaped(op, _with_bias(result, rest)))


def _depthwise(op: Op, inputs: Tensors) -> list[Any]:
    x, weights, *rest = inputs
    o = op.options
    image = _image(x)
    height, width, channels = weights.shape[1:]
    stride = (o.strideH, o.strideW)
    if (
        image.shape[1] == 1
    ):  # time alone: any stride along the other axis does, and TensorFlow wants two equal ones
        stride = (o.strideW, o.strideW)
    result = ops.depthwise_conv(
        image,
        ops.reshape(weights, (height, width, image.shape[3], channels // image.shape[3])),
        strides=stride,
        padding=_PADDING[o.padding],
        data_format="channels_last",
        dilation_rate=(o.dilationHFactor, o.dilationWFactor),
    )
    return _fused(op, _shaped(op, _with_bias(result, rest)))


def _batch_matmul(op: Op, inputs: Tensors) -> list[Any]:
    one, other = _aligned(op, inputs)
    if op.options.adjX:
        one = ops.swapaxes(one, -1, -2)
    if op.options.adjY:
        other = ops.swapaxes(other, -1, -2)
    return [ops.matmul(one, other)]


def _pool(mode: str) -> Kernel:
    pool = ops.max_pool if mode == "max" else ops.average_pool

    def run_pool(op: Op, inputs: Tensors) -> list[Any]:
        o = op.options
        result = pool(
            _image(inputs[0]),
            (o.filterHeight, o.filterWidth),
            strides=(o.strideH, o.strideW),
            padding=_PADDING[o.padding],
            data_format="channels_last",
        )
        return _fused(op, _shaped(op, result))

    return run_pool


def _transpose(op: Op, inputs: Tensors) -> list[Any]:
    return [ops.transpose(inputs[0], (0, *_axes(inputs[1], len(inputs[0].shape) - 1)))]


def _pad(op: Op, inputs: Tensors) -> list[Any]:
    return [ops.pad(inputs[0], [(0, 0), *((int(low), int(high)) for low, high in inputs[1])])]


def _split(op: Op, inputs: Tensors) -> list[Any]:
    (axis,) = _axes(inputs[0], len(inputs[1].shape) - 1)
    return list(ops.split(inputs[1], len(op.outputs), axis=axis))


def _split_v(op: Op, inputs: Tensors) -> list[Any]:
    (axis,) = _axes(inputs[2], len(inputs[0].shape) - 1)
    sizes = [shape[axis - 1] for shape in op.shapes]
    return list(ops.split(inputs[0], np.cumsum(sizes)[:-1].tolist(), axis=axis))


def _slice(op: Op, inputs: Tensors) -> list[Any]:
    places = tuple(
        slice(int(start), int(start) + length) for start, length in zip(inputs[1], op.shapes[0], strict=True)
    )
    return [inputs[0][(slice(None), *places)]]


def _strided_slice(op: Op, inputs: Tensors) -> list[Any]:
    o = op.options
    if o.ellipsisMask or o.newAxisMask:
        raise TfliteAsrError(f"{op.name}: STRIDED_SLICE with an ellipsis or a new axis is not known here")
    places: list[slice] = []
    for axis, (start, end, step) in enumerate(zip(*(np.reshape(x, -1) for x in inputs[1:4]), strict=True)):
        bit = 1 << axis
        if o.shrinkAxisMask & bit:
            places.append(slice(int(start), int(start) + 1 or None))
            continue
        places.append(
            slice(None if o.beginMask & bit else int(start), None if o.endMask & bit else int(end), int(step))
        )
    return [_shaped(op, inputs[0][(slice(None), *places)])]


def _concatenation(op: Op, inputs: Tensors) -> list[Any]:
    axis = op.options.axis % len(op.shapes[0]) + 1
    examples = ops.shape(inputs[0])[0]
    whole = [x if x.shape[0] != 1 else ops.broadcast_to(x, (examples, *x.shape[1:])) for x in inputs]
    return _fused(op, ops.concatenate(whole, axis=axis))


def _pack(op: Op, inputs: Tensors) -> list[Any]:
    return [ops.stack(list(inputs), axis=op.options.axis % len(op.shapes[0]) + 1)]


def _unpack(op: Op, inputs: Tensors) -> list[Any]:
    return list(ops.unstack(inputs[0], axis=op.options.axis % (len(inputs[0].shape) - 1) + 1))


def _gather(op: Op, inputs: Tensors) -> list[Any]:
    axis = op.options.axis % (len(inputs[0].shape) - 1) + 1
    if isinstance(inputs[1], np.ndarray):
        return [_shaped(op, ops.take(inputs[0], np.reshape(inputs[1], -1), axis=axis))]
    if axis != 1 or inputs[0].shape[0] != 1:
        raise TfliteAsrError(
            f"{op.name}: computed indices look up rows of a constant table, and nothing else here"
        )
    return [_shaped(op, ops.take(inputs[0][0], inputs[1], axis=0))]


KERNELS: dict[str, Kernel] = {
    "FULLY_CONNECTED": _fully_connected,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "BATCH_MATMUL": _batch_matmul,
    "ADD": _arithmetic(ops.add),
    "SUB": _arithmetic(ops.subtract),
    "MUL": _arithmetic(ops.multiply),
    "DIV": _arithmetic(ops.divide),
    "SQUARED_DIFFERENCE": _elementwise(lambda one, other: ops.square(one - other)),
    "MINIMUM": _elementwise(ops.minimum),
    "MAXIMUM": _elementwise(ops.maximum),
    "SELECT": _elementwise(ops.where),
    "SELECT_V2": _elementwise(ops.where),
    "LESS": _elementwise(ops.less),
    "EQUAL": _elementwise(ops.equal),
    "NOT_EQUAL": _elementwise(ops.not_equal),
    "LOGICAL_AND": _elementwise(ops.logical_and),
    "LOGISTIC": _unary(ops.sigmoid),
    "TANH": _unary(ops.tanh),
    "GELU": lambda op, inputs: [ops.gelu(inputs[0], approximate=bool(op.options.approximate))],
    "ELU": _unary(ops.elu),
    "EXP": _unary(ops.exp),
    "LOG": _unary(lambda x: ops.log(ops.maximum(x, _LEAST))),
    "RSQRT": _unary(lambda x: ops.rsqrt(ops.maximum(x, _LEAST))),
    "SQRT": _unary(lambda x: ops.sqrt(ops.maximum(x, _LEAST))),
    "ABS": _unary(ops.absolute),
    "RELU": _unary(ops.relu),
    "RELU6": _unary(ops.relu6),
    "LEAKY_RELU": lambda op, inputs: [ops.leaky_relu(inputs[0], op.options.alpha)],
    "HARD_SWISH": _unary(ops.hard_silu),
    "MEAN": _reduction(ops.mean),
    "SUM": _reduction(ops.sum),
    "REDUCE_MAX": _reduction(ops.max),
    "REDUCE_MIN": _reduction(ops.min),
    "SOFTMAX": lambda op, inputs: [ops.softmax(inputs[0] * op.options.beta, axis=-1)],
    "AVERAGE_POOL_2D": _pool("average"),
    "MAX_POOL_2D": _pool("max"),
    "RESHAPE": lambda op, inputs: [_shaped(op, inputs[0])],
    "SQUEEZE": lambda op, inputs: [_shaped(op, inputs[0])],
    "EXPAND_DIMS": lambda op, inputs: [_shaped(op, inputs[0])],
    "TRANSPOSE": _transpose,
    "PAD": _pad,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "CONCATENATION": _concatenation,
    "PACK": _pack,
    "UNPACK": _unpack,
    "GATHER": _gather,
}
