"""Tensors whose extremes must fit their range, whatever the calibrator.

An outlier cut off a sum of products costs its own error and no more: most tensors are of that kind. Not so where the
extreme is what counts, or where what follows turns a bounded error into another value:

- inputs and outputs of a signature: real speech goes further than what was seen, and the highest logit is the answer;
- what goes into and comes out of an exponential, logarithm, root or quotient, written out or not: a clipped variance
  scales a whole frame, a clipped score or total a whole row of attention;
- what goes into a maximum, a mean or a sum along an axis, and comes out: cut values all err to one side.
"""

from __future__ import annotations

from collections.abc import Iterable

from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.serialize import read_model, text

_EXACT = frozenset(
    {
        "ARG_MAX",
        "DIV",
        "ELU",
        "EXP",
        "LOG",
        "LOG_SOFTMAX",
        "MEAN",
        "POW",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "RSQRT",
        "SOFTMAX",
        "SQRT",
        "SUM",
    }
)


def kept_whole(flatbuffers: Iterable[bytes]) -> frozenset[str]:
    """Names of those tensors of float flatbuffers."""
    names: set[str] = set()
    for data in flatbuffers:
        model = read_model(data)
        for graph in model.subgraphs:
            indices = [*graph.inputs, *graph.outputs]
            for operator in graph.operators:
                if op_name(model, operator) in _EXACT:
                    indices += [*operator.inputs, *operator.outputs]
            names |= {text(graph.tensors[index].name) for index in indices if index >= 0}
    return frozenset(names)
