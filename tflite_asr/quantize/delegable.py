"""Scales that XNNPACK refuses are brought within its limits: of sums, that it leaves to slow kernels, and of products,
over which it refuses the whole file.

XNNPACK takes an int8 ADD or SUB only where each operand's scale is at least 2^-10 of the result's. A layer norm after
another subtracts a mean that is nearly zero, and adds an epsilon of 1e-5 to a variance of about one: both fell to the
builtin broadcasting kernels (7 % of a Conformer's time) and cut the graph into pieces. An operand 2^-9 of the result's
scale per step still moves the result by less than half a quantum at its end stops, so the coarser scale costs nothing.

A product's result must have at least 2^-8 of its operands' scales multiplied, or the interpreter does not open the file
("failed to create XNNPACK runtime"). Where terms cancel out it had less: the mean of what a layer norm has centred.
Such a result is zero but for the rounding of its operands, of which one quantum at 2^-7 still is half the scale. The
same holds of a sum, whose result must have at least 2^-8 of each operand's scale: 1 - mask is nothing but zeros where
every clip to calibrate on fills its window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.ranges import Range, Ranges
from tflite_asr.quantize.serialize import schema, text

LEAST_RATIO = 2.0**-9  # half as strict as XNNPACK, whose limit is checked in float32
MOST_RESCALED = 2.0**7  # half of XNNPACK's limit
_SUMS = ("ADD", "SUB")
_PRODUCTS = ("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL")


def widen_small_terms(model: Any, ranges: Ranges) -> Ranges:
    """Ranges in which no activation that an ADD or SUB reads is narrower than `LEAST_RATIO` of the result's.

    model: float, its tensors bearing the names of `ranges`.
    """
    settled = dict(ranges)
    for graph in model.subgraphs:
        names = [text(tensor.name) for tensor in graph.tensors]
        for operator in graph.operators:
            if op_name(model, operator) not in _SUMS or names[operator.outputs[0]] not in settled:
                continue
            least = LEAST_RATIO * _width(settled[names[operator.outputs[0]]])
            for index in operator.inputs:
                found = settled.get(names[index])
                if found is not None and _width(found) < least:
                    settled[names[index]] = _widened(found, least)
    return Ranges(settled)


def widen_small_sums(model: Any, ranges: Ranges) -> Ranges:
    """Ranges in which no result of an ADD or SUB has a scale below that of what it reads, by `MOST_RESCALED`.

    model: float, its tensors bearing the names of `ranges`.
    """
    settled = dict(ranges)
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = text(graph.tensors[operator.outputs[0]].name)
            if op_name(model, operator) not in _SUMS or name not in settled:
                continue
            scales = [_scale(model, graph.tensors[index], settled) for index in operator.inputs]
            least = 255 * max(scales) / MOST_RESCALED
            if _width(settled[name]) < least:
                settled[name] = _widened(settled[name], least)
    return Ranges(settled)


def widen_small_products(model: Any, ranges: Ranges) -> Ranges:
    """Ranges in which no product's result has a scale below its operands' multiplied, by `MOST_RESCALED`.

    model: float, its tensors bearing the names of `ranges`.
    """
    settled = dict(ranges)
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = text(graph.tensors[operator.outputs[0]].name)
            if op_name(model, operator) not in _PRODUCTS or name not in settled:
                continue
            one, other = (_scale(model, graph.tensors[index], settled) for index in operator.inputs[:2])
            least = 255 * one * other / MOST_RESCALED
            if _width(settled[name]) < least:
                settled[name] = _widened(settled[name], least)
    return Ranges(settled)


def _scale(model: Any, tensor: Any, ranges: Mapping[str, Range]) -> float:
    """That a float tensor will have, the largest of weights."""
    held = model.buffers[tensor.buffer].data
    if held is not None:
        return float(np.abs(held.view(np.float32)).max(initial=0.0)) / 127
    return _width(ranges[text(tensor.name)]) / 255


def _widened(found: Range, width: float) -> Range:
    """Of that width, zero in it where it was."""
    low, high = min(found.minimum, 0.0), max(found.maximum, 0.0)
    grown = width / max(high - low, 1e-30)
    low, high = (low * grown, high * grown) if high > low else (-width / 2, width / 2)
    return Range(low, high, found.source, found.signature)


def coarsen_small_constants(model: Any, graph: Any) -> None:
    """The same, in place, for the constants of an integer graph: their integers are written anew."""
    for operator in graph.operators:
        if op_name(model, operator) not in _SUMS:
            continue
        result = graph.tensors[operator.outputs[0]]
        if result.type != schema.TensorType.INT8 or result.quantization is None:
            continue
        least = LEAST_RATIO * float(result.quantization.scale[0])
        for position, index in enumerate(operator.inputs):
            tensor = graph.tensors[index]
            held = model.buffers[tensor.buffer].data
            if held is None or tensor.type != schema.TensorType.INT8 or len(tensor.quantization.scale) != 1:
                continue
            scale, zero_point = float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])
            if scale >= least:
                continue
            values = (held.view(np.int8).astype(np.float64) - zero_point) * scale
            integers = np.clip(np.rint(values / least), -128, 127).astype(np.int8)
            model.buffers.append(schema.BufferT(data=integers.view(np.uint8)))
            quantisation = schema.QuantizationParametersT(
                scale=np.array([least], np.float32), zeroPoint=np.array([0], np.int64)
            )
            graph.tensors.append(
                schema.TensorT(
                    tensor.shape,
                    tensor.type,
                    len(model.buffers) - 1,
                    tensor.name,
                    quantization=quantisation,
                )
            )
            operator.inputs[position] = len(graph.tensors) - 1


def _width(found: Range) -> float:
    return max(found.maximum, 0.0) - min(found.minimum, 0.0)
