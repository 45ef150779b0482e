"""A float flatbuffer of one signature as plain Python: ops in the order of execution, constants as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.calibrate import time_axes
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.quantizer import rewrite_for_integers
from tflite_asr.quantize.serialize import read_model, schema, text

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
LOGITS = "logits"
_GAINS = ("ADD", "MUL", "SUB")
_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.BOOL: np.bool_,
}


@dataclass(frozen=True)
class Op:
    """One operator.

    kind: TFLite's name. inputs: names of tensors, None where an optional one is absent. outputs: names. shapes: of the
    outputs, batch 1 included where the model has one. options: the schema's own object, or None.
    """

    kind: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    options: Any

    @property
    def name(self) -> str:
        """That of the first output."""
        return self.outputs[0]


@dataclass(frozen=True)
class Graph:
    """A signature.

    inputs, outputs: the signature's names to those of tensors. constants: name to array, weights in TFLite's layouts.
    shapes: of every tensor. floats: names of the float32 activations, inputs first, in the order of execution. fixed:
    names of constants that are others in another window.
    """

    signature: str
    ops: tuple[Op, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    constants: Mapping[str, np.ndarray]
    shapes: Mapping[str, tuple[int, ...]]
    floats: tuple[str, ...]
    fixed: frozenset[str] = frozenset()

    @property
    def logits(self) -> str | None:
        """The output that is a distribution: the only one, or the one of that name."""
        return (
            next(iter(self.outputs)) if len(self.outputs) == 1 else LOGITS if LOGITS in self.outputs else None
        )

    def constants_of(self, op: Op) -> list[str]:
        """Names of its constant operands."""
        return [name for name in op.inputs if name is not None and name in self.constants]

    def readers(self) -> Counter[str]:
        """Name of a constant to how many operands it is."""
        return Counter(name for op in self.ops for name in self.constants_of(op))

    def trained(self) -> tuple[str, ...]:
        """Names of the constants that training may move, in the order of execution.

        Weights and biases of products, gains and offsets a channel. What lowering put there by its own arithmetic
        stays: constants of one value (exponents, epsilons), those of several readers, and products to or from a single
        channel (the means and variances of norms). So do tables that grow with the window (positions), and those of
        which a row is looked up.
        """
        readers, found = self.readers(), list[str]()
        for op in self.ops:
            names = self.constants_of(op)
            if op.kind in WEIGHTED:
                if op.inputs[1] in names and _is_layer(op.kind, self.constants[str(op.inputs[1])]):
                    found += names
            elif op.kind in _GAINS:
                found += [name for name in names if self.shapes[name][-1:] > (1,)]
        return tuple(
            name
            for name in dict.fromkeys(found)
            if readers[name] == 1
            and self.constants[name].dtype == np.float32
            and np.ptp(self.constants[name]) > 0
            and name not in self.fixed
        )


def _is_layer(kind: str, weights: np.ndarray) -> bool:
    return kind != "FULLY_CONNECTED" or min(weights.shape) > 1


def read_graph(data: bytes, signature: str, windows: Iterable[bytes] = ()) -> Graph:
    """The signature of a float flatbuffer whose tensors bear stable names, with NEG and SQUARE written as products, as
    the quantiser writes them. windows: the flatbuffers of all windows.

    Raises TfliteAsrError where `data` has not that signature alone, or holds a constant that is neither float32, an
    integer nor a bool.
    """
    model = read_model(data)
    found = [text(one.signatureKey) for one in model.signatureDefs or []]
    if found != [signature] or len(model.subgraphs) != 1:
        raise TfliteAsrError(
            f"{signature}: low-bit training takes a flatbuffer of that signature alone, this one has {found}"
        )
    rewrite_for_integers(model)
    graph = model.subgraphs[0]
    names = [text(tensor.name) for tensor in graph.tensors]
    constants = {}
    for name, tensor in zip(names, graph.tensors, strict=True):
        held = model.buffers[tensor.buffer].data
        if held is None:
            continue
        if tensor.type not in _DTYPES:
            raise TfliteAsrError(f"{name}: a constant of type {tensor.type}; give the float flatbuffer")
        constants[name] = held.view(_DTYPES[tensor.type]).reshape(_shape(tensor))
    ops = tuple(
        Op(
            op_name(model, one),
            tuple(names[index] if index >= 0 else None for index in one.inputs),
            tuple(names[index] for index in one.outputs),
            tuple(_shape(graph.tensors[index]) for index in one.outputs),
            one.builtinOptions,
        )
        for one in graph.operators
    )
    used = [*map(int, graph.inputs), *(int(index) for one in graph.operators for index in one.outputs)]
    definition = model.signatureDefs[0]
    return Graph(
        signature,
        ops,
        {text(one.name): names[one.tensorIndex] for one in definition.inputs},
        {text(one.name): names[one.tensorIndex] for one in definition.outputs},
        constants,
        {name: _shape(tensor) for name, tensor in zip(names, graph.tensors, strict=True)},
        tuple(names[index] for index in used if graph.tensors[index].type == schema.TensorType.FLOAT32),
        frozenset(constants) & {name for name, axes in time_axes(windows).items() if axes},
    )


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor.shape) if tensor.shape is not None else ()
