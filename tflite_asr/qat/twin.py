"""The integer model that the quantiser makes of a float one, asked for its grids: the scale and zero point of whatever
is stored, read off the very file that would run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.qat.graph import Graph
from tflite_asr.quantize.finish import in_integers
from tflite_asr.quantize.quantizer import Ties, quantize
from tflite_asr.quantize.ranges import Range, Ranges, family
from tflite_asr.quantize.schemes import Scheme
from tflite_asr.quantize.serialize import schema, text
from tflite_asr.quantize.trained import SOURCE

Place = tuple[str, int]  # name of an op's first output, position of an operand


@dataclass(frozen=True)
class Grid:
    """int8 on one scale."""

    scale: float
    zero_point: int

    @property
    def low(self) -> float:
        """The lowest real value."""
        return (-128 - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The highest real value."""
        return (127 - self.zero_point) * self.scale


@dataclass(frozen=True)
class Twin:
    """model: the integer `ModelT`, tensors named. activations: name to grid. operands: place to grid, where one scale
    holds for the whole operand. idle: names of what clamps gave that were taken out: they hand on what they read."""

    model: Any
    activations: Mapping[str, Grid]
    operands: Mapping[Place, Grid]
    idle: frozenset[str]


def integer_twin(data: bytes, graph: Graph, ranges: Ranges, scheme: Scheme, ties: Ties = ()) -> Twin:
    """What `quantize` and `finish` make of the float flatbuffer `data`, which `graph` was read from.

    Raises TfliteAsrError where an op or an activation stayed in float, naming it.
    """
    model = in_integers(quantize(data, ranges, ties, scheme), ranges)
    subgraph = model.subgraphs[0]
    grids = [_grid(tensor) for tensor in subgraph.tensors]
    names = [text(tensor.name) for tensor in subgraph.tensors]
    writers = {names[index]: one for one in subgraph.operators for index in one.outputs}
    activations = {names[i]: grids[i] for i in subgraph.inputs} | {
        name: grids[index] for one in subgraph.operators for index in one.outputs for name in [names[index]]
    }
    operands: dict[Place, Grid] = {}
    idle = set()
    for op in graph.ops:
        if op.name not in writers:
            idle.add(op.name)
            continue
        for position, index in enumerate(map(int, writers[op.name].inputs)):
            if index >= 0 and (grid := grids[index]) is not None:
                operands[op.name, position] = grid
    found: dict[str, Grid] = {}
    source = {op.name: op.inputs[0] for op in graph.ops}
    for name in graph.floats:
        held = source[name] if name in idle else name
        grid = found.get(str(held)) if name in idle else activations.get(name)
        if grid is None:
            raise TfliteAsrError(
                f"scheme {scheme.name}: {name!r} stayed in float; low-bit training wants all in integers"
            )
        found[name] = grid
    return Twin(model, found, operands, frozenset(idle))


def ranges_of(twin: Twin, signature: str) -> Ranges:
    """The grids as ranges, which give these grids again."""
    kind = family(signature)
    return Ranges({name: Range(grid.low, grid.high, SOURCE, kind) for name, grid in twin.activations.items()})


def _grid(tensor: Any) -> Grid | None:
    found = tensor.quantization
    if tensor.type != schema.TensorType.INT8 or found is None or found.scale is None or len(found.scale) != 1:
        return None
    return Grid(float(np.float32(found.scale[0])), int(found.zeroPoint[0]))
