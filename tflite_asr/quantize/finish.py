"""The finishing pass over a flatbuffer that AI Edge Quantizer (or the converter) wrote.

It takes to int8 the ops that were left in float although the runtime has integer kernels, writes op
versions as TensorFlow does, and leaves out what nothing reads: unused tensors, buffers and codes, names,
shapes said twice. Writing then stores equal parts once. What the file computes does not change.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from tflite_asr.quantize.delegable import coarsen_small_constants
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.ops import FOLDABLE, HYBRID_VERSIONS, INT8_VERSIONS, SAME_SCALE
from tflite_asr.quantize.ranges import Range
from tflite_asr.quantize.serialize import read_model, schema, text, write_model

_FLOAT32, _INT8, _INT32 = schema.TensorType.FLOAT32, schema.TensorType.INT8, schema.TensorType.INT32


# Ops whose options runtimes take for their defaults where there are none: eight bytes an op, .1 % of a file.
_NOTHING_TO_SAY = ("MUL", "ADD", "SUB", "EXP")


def finish(data: bytes, ranges: Mapping[str, Range] | None = None) -> bytes:
    """The same computation in fewer bytes and, where the runtime can, in integers.

    ranges: by tensor name, for a float tensor between two ops that are folded and that no QUANTIZE gave a
    scale.
    """
    model = in_integers(data, ranges)
    set_versions(model)
    strip(model)
    return write_model(model)


def in_integers(data: bytes, ranges: Mapping[str, Range] | None = None) -> Any:
    """The `ModelT` of `finish` while its tensors still bear their names: what low-bit training takes its grids from."""
    model = read_model(data)
    for graph in model.subgraphs:
        fold_float_islands(model, graph, ranges or {})
        join_requantised(model, graph)
        drop_idle_clamps(model, graph)
        coarsen_small_constants(model, graph)
        share_scales_of_no_bias(model, graph)
    return model


def fold_float_islands(model: Any, graph: Any, ranges: Mapping[str, Range]) -> None:
    """Let foldable ops between DEQUANTIZE and QUANTIZE read and write the integers themselves, in place."""
    source = {
        int(operator.outputs[0]): int(operator.inputs[0])
        for operator in graph.operators
        if op_name(model, operator) == "DEQUANTIZE"
        and not _is_constant(model, graph.tensors[operator.inputs[0]])
    }
    readers = _readers(graph)
    kinds = {id(operator): op_name(model, operator) for operator in graph.operators}
    for operator in graph.operators:
        kind = kinds[id(operator)]
        if kind not in FOLDABLE or any(graph.tensors[index].type != _FLOAT32 for index in operator.outputs):
            continue
        inputs = [source.get(int(index), int(index)) for index in operator.inputs]
        open_inputs = [
            index
            for index in inputs
            if _is_float(graph, index) and not _is_constant(model, graph.tensors[index])
        ]
        followers = [kinds[id(reader)] for index in operator.outputs for reader in readers[int(index)]]
        inside = all(follower == "QUANTIZE" or follower in FOLDABLE for follower in followers)
        if open_inputs or not inside or set(graph.outputs) & set(operator.outputs):
            continue
        scales = [_scale_of(graph, int(index), readers, kinds, ranges) for index in operator.outputs]
        if any(scale is None for scale in scales):
            continue
        for index, scale in zip(operator.outputs, scales, strict=True):
            graph.tensors[index].type, graph.tensors[index].quantization = _INT8, scale
        for position, index in enumerate(inputs):
            if _is_float(graph, index):
                shared = scales[0] if position in SAME_SCALE.get(kind, ()) else None
                inputs[position] = _quantised_constant(model, graph, index, shared)
        operator.inputs = np.array(inputs, np.int32)


def join_requantised(model: Any, graph: Any) -> None:
    """Drop, in place, each QUANTIZE whose integers go in and come out on the same scale, and each
    DEQUANTIZE nobody reads."""
    same: dict[int, int] = {}
    kept = []
    for operator in graph.operators:
        if op_name(model, operator) == "QUANTIZE":
            before, after = int(operator.inputs[0]), int(operator.outputs[0])
            if after not in set(graph.outputs) and _same_scale(graph.tensors[before], graph.tensors[after]):
                same[after] = same.get(before, before)
                continue
        kept.append(operator)
    for operator in kept:
        operator.inputs = np.array([same.get(int(index), int(index)) for index in operator.inputs], np.int32)
    read = {int(index) for operator in kept for index in operator.inputs} | {
        int(index) for index in graph.outputs
    }
    graph.operators = [
        one
        for one in kept
        if op_name(model, one) != "DEQUANTIZE" or any(int(index) in read for index in one.outputs)
    ]


def drop_idle_clamps(model: Any, graph: Any) -> None:
    """Take away, in place, what clamps integers to where their scale ends anyway: each MINIMUM with a constant and
    each RELU, and the fused ReLU of each ADD, SUB and MUL.

    XNNPACK clamps the result of the latter in a pass of its own (2 % of a Conformer's time at 16 s).
    """
    same: dict[int, int] = {}
    kept = []
    for operator in graph.operators:
        before, after = int(operator.inputs[0]), int(operator.outputs[0])
        if after not in set(graph.outputs) and _is_idle(model, graph, operator):
            same[after] = same.get(before, before)
        else:
            kept.append(operator)
            operator.inputs = np.array(
                [same.get(int(index), int(index)) for index in operator.inputs], np.int32
            )
    graph.operators = kept
    for operator in graph.operators:
        if op_name(model, operator) not in ("ADD", "SUB", "MUL") or operator.builtinOptions is None:
            continue
        result = graph.tensors[operator.outputs[0]]
        fused = operator.builtinOptions.fusedActivationFunction == schema.ActivationFunctionType.RELU
        if fused and result.type == _INT8 and int(result.quantization.zeroPoint[0]) == -128:
            operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE


def _is_idle(model: Any, graph: Any, operator: Any) -> bool:
    """Whether an op is a MINIMUM or RELU of int8 that changes no integer."""
    kind = op_name(model, operator)
    if kind not in ("MINIMUM", "RELU"):
        return False
    before, after = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    if before.type != _INT8 or not _same_scale(before, after):
        return False
    if kind == "RELU":
        return int(before.quantization.zeroPoint[0]) == -128
    limit = graph.tensors[operator.inputs[1]]
    held = model.buffers[limit.buffer].data
    return held is not None and _same_scale(before, limit) and bool((held.view(np.int8) == 127).all())


def share_scales_of_no_bias(model: Any, graph: Any) -> None:
    """Give, in place, each bias of nothing but zeros the scales of the weights beside it: zero on any scale, and a
    list of numbers less to store (19 KB of 1.83 MB in a small QuartzNet, one window)."""
    for operator in graph.operators:
        if op_name(model, operator) not in ("CONV_2D", "DEPTHWISE_CONV_2D") or len(operator.inputs) < 3:
            continue
        weights, bias = (graph.tensors[index] for index in operator.inputs[1:3])
        held = model.buffers[bias.buffer].data
        if bias.type != _INT32 or held is None or held.any() or weights.quantization is None:
            continue
        if len(bias.quantization.scale) == len(weights.quantization.scale):
            bias.quantization.scale = weights.quantization.scale


def set_versions(model: Any) -> None:
    """Give each op the version that its types ask for, one code per (op, version) in the model, in place."""
    codes: list[Any] = []
    places: dict[tuple[int, str, int], int] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            old = model.operatorCodes[operator.opcodeIndex]
            builtin = max(old.builtinCode, old.deprecatedBuiltinCode)
            key = (builtin, text(old.customCode), max(old.version, _version(model, graph, operator)))
            if key not in places:
                places[key] = len(codes)
                low = min(builtin, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
                codes.append(schema.OperatorCodeT(low, old.customCode, key[2], builtin))
            operator.opcodeIndex = places[key]
    model.operatorCodes = codes


def strip(model: Any) -> None:
    """Leave out, in place, what no runtime reads: unused tensors and buffers, tensor names, ranges beside
    scales, a RESHAPE's shape given twice, a shape signature equal to the shape, metadata."""
    for graph in model.subgraphs:
        _drop_unused_tensors(model, graph)
        graph.name = None
        for tensor in graph.tensors:
            tensor.name = None
            if tensor.shapeSignature is not None and np.array_equal(tensor.shapeSignature, tensor.shape):
                tensor.shapeSignature = None
            tensor.hasRank = False
            if tensor.quantization is not None:
                tensor.quantization.min = tensor.quantization.max = None
                if tensor.quantization.scale is None or not len(tensor.quantization.scale):
                    tensor.quantization = None
        for operator in graph.operators:
            if op_name(model, operator) == "RESHAPE" and len(operator.inputs) == 2:
                operator.builtinOptions = schema.ReshapeOptionsT()
            if op_name(model, operator) in _NOTHING_TO_SAY and _says_nothing(graph, operator):
                operator.builtinOptions, operator.builtinOptionsType = None, 0
    most_used_first(model)
    model.description = None
    model.metadata = model.metadataBuffer = None
    share_buffers(model)


def _says_nothing(graph: Any, operator: Any) -> bool:
    """Whether the options of an op on bytes are the defaults; sums of 16 bits have one of their own."""
    options, result = operator.builtinOptions, graph.tensors[operator.outputs[0]]
    return options is not None and result.type == _INT8 and vars(options) == vars(type(options)())


def most_used_first(model: Any) -> None:
    """Kinds of op by their number, in place: what is first costs no bytes where it is used."""
    used = Counter(operator.opcodeIndex for graph in model.subgraphs for operator in graph.operators)
    order = sorted(range(len(model.operatorCodes)), key=lambda code: -used[code])
    places = {code: place for place, code in enumerate(order)}
    model.operatorCodes = [model.operatorCodes[code] for code in order]
    for graph in model.subgraphs:
        for operator in graph.operators:
            operator.opcodeIndex = places[operator.opcodeIndex]


def share_buffers(model: Any) -> None:
    """Keep one buffer for equal constants, buffer 0 for all tensors without, in place."""
    buffers = [schema.BufferT()]
    places: dict[bytes, int] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is None:
                tensor.buffer = 0
                continue
            content = data.tobytes()
            if content not in places:
                places[content] = len(buffers)
                buffers.append(schema.BufferT(data=data))
            tensor.buffer = places[content]
    model.buffers = buffers


def _drop_unused_tensors(model: Any, graph: Any) -> None:
    index_lists = [graph.inputs, graph.outputs]
    for operator in graph.operators:
        index_lists += [
            x for x in (operator.inputs, operator.outputs, operator.intermediates) if x is not None
        ]
    used = sorted({int(index) for some in index_lists for index in some if index >= 0})
    place = {old: new for new, old in enumerate(used)} | {-1: -1}

    def moved(some: Any) -> Any:
        return None if some is None else np.array([place[int(index)] for index in some], np.int32)

    for operator in graph.operators:
        operator.inputs, operator.outputs = moved(operator.inputs), moved(operator.outputs)
        operator.intermediates = moved(operator.intermediates)
    graph.inputs, graph.outputs = moved(graph.inputs), moved(graph.outputs)
    graph.tensors = [graph.tensors[old] for old in used]
    here = next(number for number, one in enumerate(model.subgraphs) if one is graph)
    for definition in model.signatureDefs or []:
        if definition.subgraphIndex == here:
            for item in [*definition.inputs, *definition.outputs]:
                item.tensorIndex = place[item.tensorIndex]


def _version(model: Any, graph: Any, operator: Any) -> int:
    """The version that TensorFlow writes for this op with these types; 1 where no integer is involved."""
    kind = op_name(model, operator)
    if kind in HYBRID_VERSIONS and _is_float(graph, int(operator.outputs[0])):
        return _hybrid_version(graph, operator, kind)
    types = [graph.tensors[index].type for index in [*operator.inputs, *operator.outputs] if index >= 0]
    first = next(
        (t for t in types if t != _INT32), _INT32
    )  # SPLIT's first operand is the axis, TRANSPOSE_CONV's a shape
    if first != _INT8 or kind not in INT8_VERSIONS:
        return 1
    if kind == "FULLY_CONNECTED" and (len(operator.inputs) < 3 or operator.inputs[2] < 0):
        return 5
    if kind == "MUL":
        one, other, out = (
            graph.tensors[index].quantization.scale[0] for index in [*operator.inputs, *operator.outputs]
        )
        return 3 if one * other / out >= 1 else 2
    return INT8_VERSIONS[kind]


def _hybrid_version(graph: Any, operator: Any, kind: str) -> int:
    """Of a product of floats by integer weights, 1 where the weights are floats too."""
    weights = graph.tensors[operator.inputs[1]]
    if weights.type != _INT8 or weights.quantization is None:
        return 1
    whole, by_channel = HYBRID_VERSIONS[kind]
    return by_channel if len(weights.quantization.scale) > 1 else whole


def _readers(graph: Any) -> defaultdict[int, list[Any]]:
    readers: defaultdict[int, list[Any]] = defaultdict(list)
    for operator in graph.operators:
        for index in operator.inputs:
            readers[int(index)].append(operator)
    return readers


def _is_constant(model: Any, tensor: Any) -> bool:
    return model.buffers[tensor.buffer].data is not None


def _is_float(graph: Any, index: int) -> bool:
    return index >= 0 and graph.tensors[index].type == _FLOAT32


def _same_scale(one: Any, other: Any) -> bool:
    if one.type != other.type or one.quantization is None or other.quantization is None:
        return False
    return all(
        np.array_equal(getattr(one.quantization, part), getattr(other.quantization, part))
        for part in ("scale", "zeroPoint")
    )


def _scale_of(graph: Any, index: int, readers: Any, kinds: Any, ranges: Mapping[str, Range]) -> Any:
    """The quantisation of a float tensor: what the QUANTIZE behind it says, else what its range says, else
    None."""
    for reader in readers[index]:
        if kinds[id(reader)] == "QUANTIZE":
            return graph.tensors[reader.outputs[0]].quantization
    found = ranges.get(text(graph.tensors[index].name))
    return None if found is None else _quantisation(found.minimum, found.maximum)


def _quantisation(low: float, high: float) -> Any:
    """int8 scale and zero point of a range, zero included, as AI Edge Quantizer computes them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-9) / 255
    zero_point = int(np.rint(-128 - low / scale))
    return schema.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64)
    )


def _quantised_constant(model: Any, graph: Any, index: int, quantisation: Any) -> int:
    """An int8 twin of a float constant, on the given scale or its own. Returns its tensor index."""
    tensor = graph.tensors[index]
    values = model.buffers[tensor.buffer].data.view(np.float32)
    quantisation = quantisation or _quantisation(float(values.min()), float(values.max()))
    integers = np.rint(values / quantisation.scale[0]) + quantisation.zeroPoint[0]
    model.buffers.append(schema.BufferT(data=np.clip(integers, -128, 127).astype(np.int8).view(np.uint8)))
    graph.tensors.append(
        schema.TensorT(tensor.shape, _INT8, len(model.buffers) - 1, tensor.name, quantization=quantisation)
    )
    return len(graph.tensors) - 1
