"""A float flatbuffer to an integer one, through AI Edge Quantizer, with our ranges in place of its
calibration.

The quantiser takes a range for each tensor. Ops that only move values must find the same scale on both
sides, ops such as LOGISTIC have theirs built in, and ties bind what the caller says: `settle` makes the
ranges agree before they are used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.delegable import widen_small_products, widen_small_sums, widen_small_terms
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.ops import FIXED_OUTPUT, SAME_SCALE
from tflite_asr.quantize.ranges import Range, Ranges
from tflite_asr.quantize.saturating import narrow_saturated
from tflite_asr.quantize.schemes import Scheme
from tflite_asr.quantize.serialize import read_model, schema, text, write_model

Ties = Iterable[Collection[str]]

_FLOAT32 = schema.TensorType.FLOAT32


def quantize(data: bytes, ranges: Ranges | None, ties: Ties, scheme: Scheme) -> bytes:
    """The flatbuffer `data` under `scheme`; `float32` gives it back as it is.

    data: a float flatbuffer whose tensors bear stable names. ranges: of its activations, where the scheme
    needs them. ties: sets of tensor names that get one scale and zero point (a state's input and output).
    Weights become symmetric, one scale an output channel; biases int32. Raises TfliteAsrError where a range
    is missing, naming the tensor, and where AI Edge Quantizer refuses.
    """
    if scheme.when == "never":
        return data
    from ai_edge_quantizer import quantizer as aeq
    from ai_edge_quantizer import recipe

    model = read_model(data)
    settled: Ranges | None = None
    if scheme.needs_ranges:
        if ranges is None:
            raise TfliteAsrError(f"scheme {scheme.name}: needs ranges; calibrate first")
        rewrite_for_integers(model)
        kept = widen_small_terms(model, narrow_saturated(model, ranges))
        kept = widen_small_products(model, widen_small_sums(model, kept))
        settled = settle(model, kept, ties)
    tool = aeq.Quantizer(write_model(model), getattr(recipe, scheme.name)())
    statistics = _statistics(settled) if settled is not None else None
    try:
        result = tool.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    except Exception as error:
        raise TfliteAsrError(
            f"scheme {scheme.name}: AI Edge Quantizer refused ({' '.join(str(error).split())[:300]})"
        ) from error
    assert result.quantized_model is not None
    return bytes(result.quantized_model)


def rewrite_for_integers(model: Any) -> None:
    """Replace, in place, float ops without a right integer kernel by equal ones that have it: NEG by a
    product with -1 and SQUARE by a product with itself."""
    multiply = None
    for graph in model.subgraphs:
        for operator in graph.operators:
            kind = op_name(model, operator)
            if kind not in ("NEG", "SQUARE") or graph.tensors[operator.inputs[0]].type != _FLOAT32:
                continue
            if multiply is None:
                multiply = len(model.operatorCodes)
                code = schema.BuiltinOperator.MUL
                model.operatorCodes.append(
                    schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1)
                )
            source = int(operator.inputs[0])
            factor = (
                source
                if kind == "SQUARE"
                else _constant(model, graph, -1.0, text(graph.tensors[operator.outputs[0]].name))
            )
            operator.opcodeIndex, operator.inputs = multiply, np.array([source, factor], np.int32)
            operator.builtinOptionsType, operator.builtinOptions = (
                schema.BuiltinOptions.MulOptions,
                schema.MulOptionsT(),
            )


def settle(model: Any, ranges: Ranges, ties: Ties = ()) -> Ranges:
    """Ranges that the integer kernels can keep: tied tensors and both sides of ops that only move values
    get the union of theirs, except that what comes out of LOGISTIC, SOFTMAX or TANH, or is moved from
    there, gets what the kernel has built in.

    Raises TfliteAsrError where an activation has no range.
    """
    groups = _Groups()
    fixed: dict[str, tuple[float, float]] = {}
    for graph in model.subgraphs:
        names = [text(tensor.name) for tensor in graph.tensors]
        for operator in graph.operators:
            kind = op_name(model, operator)
            outputs = [names[index] for index in operator.outputs]
            if kind in FIXED_OUTPUT:
                fixed[outputs[0]] = FIXED_OUTPUT[kind]
            for position in SAME_SCALE.get(kind, ()):
                index = operator.inputs[position]
                if not _is_constant(model, graph.tensors[index]):
                    for output in outputs:
                        groups.join(names[index], output)
    for tied in ties:
        first, *others = sorted(tied)
        for other in others:
            groups.join(first, other)
    wanted = _activations(model)
    if missing := sorted(wanted - set(ranges)):
        raise TfliteAsrError(
            f"ranges: none for tensor {missing[0]!r} ({len(missing)} are missing); calibrate this very model"
        )
    of_group: dict[str, Range] = {}
    for name in ranges:
        root = groups.root(name)
        of_group[root] = of_group[root].union(ranges[name]) if root in of_group else ranges[name]
    for name, (low, high) in sorted(fixed.items()):
        root = groups.root(name)
        of_group[root] = Range(low, high, "kernel", of_group[root].signature)
    settled = {}
    for name in set(ranges) | wanted:
        found = of_group[groups.root(name)]
        same = (found.minimum, found.maximum) == (ranges[name].minimum, ranges[name].maximum)
        settled[name] = ranges[name] if same else found
    return Ranges(settled)


class _Groups:
    """Sets of names that grow together (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        while (parent := self._parent.get(name, name)) != name:
            name = parent
        return name

    def join(self, one: str, other: str) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low


def _activations(model: Any) -> set[str]:
    """Names of the float tensors that are computed or fed."""
    names = set()
    for graph in model.subgraphs:
        used = [*graph.inputs, *(index for operator in graph.operators for index in operator.outputs)]
        names |= {text(graph.tensors[index].name) for index in used if graph.tensors[index].type == _FLOAT32}
    return names


def _is_constant(model: Any, tensor: Any) -> bool:
    return model.buffers[tensor.buffer].data is not None


def _statistics(ranges: Ranges) -> dict[str, dict[str, np.ndarray]]:
    """The settled ranges as AI Edge Quantizer's calibration result. Arrays of no dimension: those of one
    are taken for a tensor's first axis where an op hands its scale on to a constant of another rank (PACK,
    CONCATENATION)."""
    return {
        name: {"min": np.array(one.minimum), "max": np.array(one.maximum)} for name, one in ranges.items()
    }


def _constant(model: Any, graph: Any, value: float, name: str) -> int:
    """A new scalar float constant. Returns its tensor index."""
    model.buffers.append(schema.BufferT(data=np.frombuffer(np.float32(value).tobytes(), np.uint8)))
    graph.tensors.append(
        schema.TensorT(
            shape=np.zeros(0, np.int32),
            type=_FLOAT32,
            buffer=len(model.buffers) - 1,
            name=f"{name}:1".encode(),
        )
    )
    return len(graph.tensors) - 1
