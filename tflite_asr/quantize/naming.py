"""Names for tensors that stay the same whatever the window, process or run: the key that ranges and ties use.

A tensor that an operator writes is called `<module path>/<op>`, for example
`encoder.block3.ff1.dense1/fully_connected`, with `_1`, `_2` and so on from the second of a kind in a
module. The module path is the name of the Keras layer; an operator that the converter made out of several
layers belongs to the last of them. Model inputs keep their names; a constant is called after the first
operator that reads it, `<operator's tensor>:<position of the operand>`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tflite_asr.quantize.serialize import schema, text

_OP_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def op_name(model: Any, operator: Any) -> str:
    """The builtin's name, `FULLY_CONNECTED`, or the custom op's own."""
    code = model.operatorCodes[operator.opcodeIndex]
    kind = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = _OP_NAMES.get(kind, f"BUILTIN_{kind}")
    return text(code.customCode) if name == "CUSTOM" else name


def name_tensors(
    model: Any, inputs: Mapping[int, str], outputs: Mapping[int, str], layers: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Rename every tensor of a freshly converted `ModelT` of one subgraph, in place.

    inputs: tensor index to name. outputs: tensor index to the layer that computes it, whose name the
    converter loses. layers: the Keras layers' names, which the converter left inside its own.
    Returns module path to the names of the tensors it computes, in the order of execution.
    """
    graph = model.subgraphs[0]
    known = frozenset(layers)
    paths: dict[int, str] = {}
    counts: Counter[str] = Counter()
    names: dict[int, str] = dict(inputs)
    modules: defaultdict[str, list[str]] = defaultdict(list)
    for operator in graph.operators:
        path = _module(graph, operator, known, outputs, paths)
        stem = f"{path}/{op_name(model, operator).lower()}"
        for output in operator.outputs:
            name = stem if not counts[stem] else f"{stem}_{counts[stem]}"
            counts[stem] += 1
            names[output], paths[output] = name, path
            modules[path].append(name)
    for operator in graph.operators:
        for position, index in enumerate(operator.inputs):
            if index >= 0 and index not in names:
                names[index] = f"{names[operator.outputs[0]]}:{position}"
    for index, tensor in enumerate(graph.tensors):
        tensor.name = names.get(index, f"unused:{index}").encode()
    return {path: tuple(found) for path, found in modules.items()}


def _module(
    graph: Any, operator: Any, known: frozenset[str], outputs: Mapping[int, str], paths: Mapping[int, str]
) -> str:
    """The module path of an operator: from its output's name, else a constant operand's, else that of the
    activation before it."""
    for index in operator.outputs:
        if index in outputs:
            return outputs[index]
    for index in [*operator.outputs, *(i for i in operator.inputs if i >= 0 and i not in paths)]:
        if path := _layer_in(text(graph.tensors[index].name), known):
            return path
    return next((paths[index] for index in operator.inputs if index in paths), "model")


def _layer_in(name: str, known: frozenset[str]) -> str:
    """The first layer named in a converter's tensor name (`model_1/layer_1/op;model_1/other/op`), "" where
    none is.

    Keras enters each scope twice, so TensorFlow makes `conv2d` into `conv2d_1` and `conv2d_1` into
    `conv2d_1_1`: the name without its last number is tried first.
    """
    for part in re.split("[;/]", name):
        for candidate in (re.sub(r"_\d+$", "", part), part):
            if candidate in known:
                return candidate
    return ""
