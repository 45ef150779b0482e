"""Ranges no wider than what the ops that read a tensor can tell apart.

The exponential of -20 and that of -10 are the same integer, and so are the logistic functions of 8 and of 30: what
lies beyond costs the values that matter their digits. A range that ends where the result stops changing saturates
there and computes the same, since a quantised tensor clips at the ends of its range anyway.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.ops import SAME_SCALE
from tflite_asr.quantize.ranges import Range, Ranges
from tflite_asr.quantize.serialize import schema, text

Interval = tuple[float, float]

_ALL: Interval = (-math.inf, math.inf)
# How far below its largest input an exponential is looked at: exp(-10) is a hundredth of a quantum of 1/255. At -6.2,
# half a quantum, saturating would hold up all that lies below.
DEPTH = 10.0
_ELEMENTWISE: dict[str, Interval] = {
    "ELU": (-DEPTH, math.inf),
    "LOGISTIC": (-8.0, 8.0),  # .09 of a quantum of 1/256
    "TANH": (-4.5, 4.5),  # .03 of a quantum of 1/128
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
}


def narrow_saturated(model: Any, ranges: Ranges) -> Ranges:
    """Ranges cut to what their readers can tell apart.

    model: float, its tensors bearing the names of `ranges`.
    """
    needed = told_apart(model, ranges)
    return Ranges({name: _cut(found, needed.get(name, _ALL)) for name, found in ranges.items()})


def told_apart(model: Any, ranges: Ranges) -> dict[str, Interval]:
    """Tensor name to the interval outside of which no reader sees a difference.

    model: float, its tensors bearing the names of `ranges`.
    """
    needed: dict[str, Interval] = {}
    for graph in model.subgraphs:
        for index, interval in _needed(model, graph, ranges).items():
            name = text(graph.tensors[index].name)
            needed[name] = _hull(needed.get(name), interval)
    return needed


def _needed(model: Any, graph: Any, ranges: Ranges) -> dict[int, Interval]:
    """Tensor index to the interval outside of which no reader sees a difference."""
    needed: defaultdict[int, Interval | None] = defaultdict(lambda: None)
    for index in graph.outputs:
        needed[int(index)] = _ALL
    for operator in reversed(graph.operators):
        kind = op_name(model, operator)
        after: Interval | None = None
        for read in (needed[int(index)] for index in operator.outputs):
            after = after if read is None else _hull(after, read)
        for position, index in enumerate(map(int, operator.inputs)):
            if index < 0 or _values(model, graph, index) is not None:
                continue
            interval = _of_input(model, graph, operator, kind, position, after or _ALL, ranges)
            needed[index] = _hull(needed[index], interval)
    return {index: interval for index, interval in needed.items() if interval is not None}


def _of_input(
    model: Any, graph: Any, operator: Any, kind: str, position: int, after: Interval, ranges: Ranges
) -> Interval:
    """What one op can tell apart in one of its inputs; `after`: what is needed of its outputs."""
    if kind == "EXP":
        found = ranges.get(text(graph.tensors[operator.inputs[0]].name))
        return _ALL if found is None else (found.maximum - DEPTH, math.inf)
    if kind == "MINIMUM":
        other = _values(model, graph, int(operator.inputs[1 - position]))
        if other is not None and other.size == 1:
            return min(after[0], float(other[0])), min(after[1], float(other[0]))
        return after
    if kind in _ELEMENTWISE:
        return _ELEMENTWISE[kind]
    return after if kind == "CONCATENATION" or position in SAME_SCALE.get(kind, ()) else _ALL


def _values(model: Any, graph: Any, index: int) -> np.ndarray | None:
    """A constant's float values; empty for one of another type; None for what is computed."""
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None:
        return None
    return data.view(np.float32) if tensor.type == schema.TensorType.FLOAT32 else np.zeros(0, np.float32)


def _hull(one: Interval | None, other: Interval) -> Interval:
    return other if one is None else (min(one[0], other[0]), max(one[1], other[1]))


def _cut(found: Range, needed: Interval) -> Range:
    low, high = max(found.minimum, needed[0]), min(found.maximum, needed[1])
    return Range(low, high, found.source, found.signature) if low < high else found
