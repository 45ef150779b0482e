"""Tensors whose extremes must fit their range, whatever the calibrator, those that get more room than was seen, and
those where padding counts.

An outlier cut off a sum of products costs its own error and no more: most tensors are of that kind. Not so where the
extreme is what counts, or where what follows turns a bounded error into another value:

- inputs and outputs of a signature: real speech goes further than what was seen, and the highest logit is the answer;
- what goes into and comes out of an exponential, logarithm, root or quotient, written out or not: a clipped score or
  total changes a whole row of attention;
- what goes into a maximum, and what comes out of one, of a mean or of a sum along an axis.

A frame's scale (the variance of a norm, the total under a softmax, on their way through root or quotient) multiplies
all that the frame holds. Where real speech exceeds what synthetic inputs showed, clipping it bends the whole frame:
on an4 that was a fifth of all noise of the shipped Conformer, from a few per mil of the frames. A quarter more room
costs a third of a bit of scalars that have bits to spare.

What padded frames hold is of no consequence, and often larger than speech: ranges are of real frames. But where a mask
is made or put to use, its value on padding (a large negative score, a one) is the very point.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.ops import SAME_SCALE
from tflite_asr.quantize.serialize import read_model, text

HEADROOM = 1.25
MASK = "mask"  # the input that tells real frames from padding

_BENDING = frozenset({"EXP", "LOG", "POW", "RSQRT", "SQRT"})
_EXACT = _BENDING | {
    "ARG_MAX",
    "DIV",
    "ELU",
    "LOG_SOFTMAX",
    "REDUCE_MAX",
    "REDUCE_MIN",
    "SOFTMAX",
}
_EXACT_OUTPUT = frozenset({"MEAN", "SUM"})
_MOVES = frozenset({*SAME_SCALE, "CONCATENATION", "PACK", "RELU"})
_ELEMENTWISE = frozenset({"ADD", "SUB", "MUL"})


@dataclass(frozen=True)
class Kept:
    """Names of tensors. whole: their ranges hold their extremes. wider: `HEADROOM` times those. masked: padding's
    extremes too."""

    whole: frozenset[str] = frozenset()
    wider: frozenset[str] = frozenset()
    masked: frozenset[str] = frozenset()


NOTHING = Kept()


def kept_whole(flatbuffers: Iterable[bytes]) -> Kept:
    """Those of float flatbuffers with stable names."""
    whole: set[str] = set()
    wider: set[str] = set()
    masked: set[str] = set()
    for data in flatbuffers:
        model = read_model(data)
        for graph in model.subgraphs:
            names = [text(tensor.name) for tensor in graph.tensors]
            exact = {*map(int, graph.inputs), *map(int, graph.outputs)}
            for operator in graph.operators:
                kind = op_name(model, operator)
                if kind in _EXACT:
                    exact |= {*map(int, operator.inputs), *map(int, operator.outputs)}
                elif kind in _EXACT_OUTPUT:
                    exact |= {*map(int, operator.outputs)}
            for operator in reversed(graph.operators):  # what is only moved there is that value already
                if op_name(model, operator) in _MOVES and exact & {*map(int, operator.outputs)}:
                    exact |= {*map(int, operator.inputs)}
            whole |= {names[index] for index in exact if index >= 0}
            wider |= {names[index] for index in _frame_scales(model, graph)}
        for definition in model.signatureDefs or []:
            graph = model.subgraphs[definition.subgraphIndex]
            masks = {int(one.tensorIndex) for one in definition.inputs if text(one.name) == MASK}
            masked |= {text(graph.tensors[index].name) for index in _masked(model, graph, masks)}
    return Kept(frozenset(whole | wider | masked), frozenset(wider), frozenset(masked))


def _frame_scales(model: Any, graph: Any) -> set[int]:
    """One value a frame on its way through a root or a quotient: what goes in, what comes out, and what it was
    computed from by constants and moves alone."""
    source = {int(index): operator for operator in graph.operators for index in operator.outputs}
    found: set[int] = set()
    todo = []
    for operator in graph.operators:
        kind = op_name(model, operator)
        of_interest = (
            [*operator.inputs[:1], *operator.outputs]
            if kind in _BENDING
            else operator.inputs[1:]
            if kind == "DIV"
            else []
        )
        todo += [int(index) for index in of_interest if _last_axis(graph, index) == 1]
    while todo:
        index = todo.pop()
        if index in found or model.buffers[graph.tensors[index].buffer].data is not None:
            continue
        found.add(index)
        operator = source.get(index)
        if operator is None:
            continue
        kind = op_name(model, operator)
        computed = [i for i in map(int, operator.inputs) if i >= 0 and not _is_constant(model, graph, i)]
        if kind in _MOVES or (kind in _ELEMENTWISE and len(computed) == 1):
            todo += computed
    return found


def _masked(model: Any, graph: Any, masks: set[int]) -> set[int]:
    """Masks, what is computed of them alone by elementwise ops and moves, and what one is added to or multiplies."""
    alone, used = set(masks), set(masks)
    for operator in graph.operators:
        kind = op_name(model, operator)
        if kind not in SAME_SCALE and kind not in _ELEMENTWISE:
            continue
        computed = {i for i in map(int, operator.inputs) if i >= 0 and not _is_constant(model, graph, i)}
        if computed & alone:
            used |= {*map(int, operator.outputs)}
            if computed <= alone:
                alone |= {*map(int, operator.outputs)}
    return used


def _last_axis(graph: Any, index: int) -> int:
    shape = graph.tensors[index].shape
    return int(shape[-1]) if len(shape) else 0


def _is_constant(model: Any, graph: Any, index: int) -> bool:
    return model.buffers[graph.tensors[index].buffer].data is not None
