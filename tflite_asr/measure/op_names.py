"""Which op of the flatbuffer a profiled operator is: XNNPACK tells what it ran, but not for whom.

A delegated graph is cut into partitions, and these run one after the other: the cut is made again here as TFLite makes
it (tensorflow/lite/graph_info.cc), and taken only where the runtime's own kernels then stand in the order in which
they were seen. Inside a partition XNNPACK's operators keep the ops' order, but some ops are fused into others and some
become several operators; the longest common sequence, by what kind of op an operator can be, pairs them. An operator
without a partner keeps the name of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tflite_asr.flatbuffer import Operator, Subgraph

# How XNNPACK's operator names begin to the ops that they can be; the first that fits, so longer ones stand before.
KINDS: dict[str, tuple[str, ...]] = {
    "Abs": ("ABS",),
    "Add": ("ADD",),
    "Average Pooling": ("AVERAGE_POOL_2D",),
    "Bankers Rounding": ("ROUND",),
    "Batch Matrix Multiply": ("BATCH_MATMUL",),
    "Ceiling": ("CEIL",),
    "Clamp": ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"),
    "Concatenate": ("CONCATENATION", "PACK"),
    "Constant Pad": ("PAD", "PADV2"),
    "Convert": ("QUANTIZE", "DEQUANTIZE", "CAST"),
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Copy": ("SPLIT", "CONCATENATION", "RESHAPE"),
    "Cosine": ("COS",),
    "Deconvolution": ("TRANSPOSE_CONV",),
    "Divide": ("DIV",),
    "Dynamic Fully Connected": ("FULLY_CONNECTED", "BATCH_MATMUL"),
    "ELU": ("ELU",),
    "Exp": ("EXP",),
    "Floor": ("FLOOR",),
    "Fully Connected": ("FULLY_CONNECTED", "BATCH_MATMUL"),
    "GELU": ("GELU",),
    "HardSwish": ("HARD_SWISH",),
    # An 8-bit function of one argument as a table of 256 values, which XNNPACK has no name for.
    "Invalid Unary Op": ("LOGISTIC", "TANH", "GELU", "EXP", "RSQRT", "SQRT", "ELU", "HARD_SWISH", "LOG"),
    "Leaky ReLU": ("LEAKY_RELU", "PRELU"),
    "Log": ("LOG",),
    "Max Pooling": ("MAX_POOL_2D",),
    "Maximum": ("MAXIMUM",),
    "Mean": ("MEAN",),
    "Minimum": ("MINIMUM",),
    "Multiply": ("MUL",),
    "Negate": ("NEG",),
    "PReLU": ("PRELU",),
    "Reciprocal Square Root": ("RSQRT",),
    "Reduce Max": ("REDUCE_MAX",),
    "Reduce Min": ("REDUCE_MIN",),
    "Resize Bilinear": ("RESIZE_BILINEAR",),
    "Sigmoid": ("LOGISTIC",),
    "Sine": ("SIN",),
    "Slice": ("SLICE", "STRIDED_SLICE"),
    "Softmax": ("SOFTMAX",),
    "Square Root": ("SQRT",),
    "Squared Difference": ("SQUARED_DIFFERENCE",),
    "Square": ("MUL", "SQUARE"),
    "Static Reshape": ("RESHAPE", "EXPAND_DIMS", "SQUEEZE"),
    "Subtract": ("SUB",),
    "Sum": ("SUM",),
    "Tanh": ("TANH",),
    "Transpose": ("TRANSPOSE",),
}


@dataclass(frozen=True)
class NamedOp:
    """type: the flatbuffer op's where it is known, else the operator's kind. index: in the subgraph, or None."""

    type: str
    index: int | None


def name_ops(graph: Subgraph, seen: Sequence[tuple[str, int | None]]) -> list[NamedOp]:
    """The ops behind what a profiler saw.

    Args:
        graph: what ran.
        seen: in the order of execution: `(op name, index in the graph)` of each of the runtime's own kernels,
            `(XNNPACK's name, None)` of each of XNNPACK's operators.
    """
    own = [index for _, index in seen if index is not None]
    parts = _partitions(graph, set(own))
    if own != [index for part in parts if part[0] in own for index in part]:
        return [NamedOp(_kinds(name)[0] if index is None else name, index) for name, index in seen]
    named: list[NamedOp] = []
    for part in parts:
        start = len(named)
        if part[0] in own:
            named += [NamedOp(name, index) for name, index in seen[start : start + len(part)]]
            continue
        end = start
        while end < len(seen) and seen[end][1] is None:
            end += 1
        named += _align([name for name, _ in seen[start:end]], part, graph.operators)
    return named


def _partitions(graph: Subgraph, own: set[int]) -> list[list[int]]:
    """Ops in the order of execution: alternately those in `own` and those that were delegated.

    Each partition takes all ops of its sort whose inputs are there, over and over, until no more can be taken.
    """
    made_later = {tensor for op in graph.operators for tensor in op.outputs}
    waiting = list(range(len(graph.operators)))
    parts: list[list[int]] = []
    while waiting:
        part: list[int] = []
        while True:
            taken = len(part)
            for index in list(waiting):
                op = graph.operators[index]
                ready = not made_later.intersection(op.inputs)
                if ready and (not part or (index in own) == (part[0] in own)):
                    part.append(index)
                    waiting.remove(index)
                    made_later.difference_update(op.outputs)
            if len(part) == taken:
                break
        if not part:
            break
        parts.append(part)
    return parts


def _kinds(name: str) -> tuple[str, ...]:
    """Ops that an operator of XNNPACK can be, the likeliest first; its own name where none is known."""
    if "DWConv" in name:
        return ("DEPTHWISE_CONV_2D",)
    found = next((ops for kind, ops in KINDS.items() if name.startswith(kind)), None)
    return found or (name.partition(" (")[0],)


def _align(names: Sequence[str], part: Sequence[int], operators: Sequence[Operator]) -> list[NamedOp]:
    """The longest common sequence of operators and ops."""
    kinds = [_kinds(name) for name in names]
    types = [operators[index].name for index in part]
    best = [[0] * (len(types) + 1) for _ in range(len(kinds) + 1)]
    for i in range(len(kinds) - 1, -1, -1):
        below, row = best[i + 1], best[i]
        for j in range(len(types) - 1, -1, -1):
            row[j] = below[j + 1] + 1 if types[j] in kinds[i] else max(below[j], row[j + 1])
    named, j = [], 0
    for i, ops in enumerate(kinds):
        while j < len(types) and types[j] not in ops and best[i][j + 1] == best[i][j]:
            j += 1
        if j < len(types) and types[j] in ops:
            named.append(NamedOp(types[j], part[j]))
            j += 1
        else:
            named.append(NamedOp(ops[0], None))
    return named
