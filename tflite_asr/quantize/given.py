"""A float `.tflite` that somebody else converted: looked at, and made into parts that this room can quantise.

Nothing of it is rewritten or left out. A part is one signature with one subgraph, static shapes and tensors of
stable names; inside the room its inputs are `features` and `mask`, and `name_signatures` gives the file its own
names back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import Model, read_flatbuffer
from tflite_asr.quantize.convert import CTC_INPUTS, CTC_OUTPUT
from tflite_asr.quantize.finish import share_buffers
from tflite_asr.quantize.naming import name_tensors, op_name
from tflite_asr.quantize.serialize import read_model, schema, signature_names, text, write_model

_FLOAT32 = schema.TensorType.FLOAT32
_WHOLE = (schema.TensorType.INT32, schema.TensorType.INT64)
_SMALL_FLOATS = ("FLOAT16", "BFLOAT16", "FLOAT8_E4M3FN", "FLOAT8_E5M2")


@dataclass(frozen=True)
class Entry:
    """One function of the file.

    signature: its name, "" in a file without signatures. inputs: what the room calls an input (`features`, `mask`)
    to the file's own name. outputs: likewise; one output of [1, frames, pieces] is `logits`. frames: length of the
    features. tail: shape of one frame. subsampling: feature frames that become one frame of the mask or the
    logits. pieces: values of one logit frame; None where the function is not from features to logits.
    """

    signature: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    frames: int
    tail: tuple[int, ...]
    subsampling: int
    pieces: int | None

    @property
    def ctc_signature(self) -> str:
        """What the runtime looks for."""
        return f"ctc_{self.frames}"


def look(data: bytes, where: str) -> tuple[Entry, ...]:
    """The functions of a float flatbuffer, from what it says of itself.

    Raises TfliteAsrError, one line that begins with `where`: it is damaged, quantised already, holds ops beyond
    the builtin ones or subgraphs without a signature, or an input is open in time or neither features nor a mask.
    """
    try:
        _require_plain_float(read_flatbuffer(data, where), where)
    except TfliteAsrError as error:
        raise TfliteAsrError(str(error)) from error  # a finding elsewhere; here it is bad input
    model = read_model(data)
    return tuple(_entry(model, definition, where) for definition in _definitions(model, where))


def parts(data: bytes, entries: Sequence[Entry]) -> dict[str, bytes]:
    """A flatbuffer for each entry, by its signature (`main` where it has none): batch 1, static shapes, stable names.

    Functions of the same operators share names, and so ranges: they are one model at several lengths. Runs the
    interpreter, so it wants a child process. Raises TfliteAsrError where shapes depend on values.
    """
    model = read_model(data)
    made: dict[str, bytes] = {}
    families: dict[tuple[str, ...], str] = {}
    for entry, definition in zip(entries, _definitions(model, "model"), strict=True):
        graph = deepcopy(model.subgraphs[definition.subgraphIndex])
        part = schema.ModelT(3, deepcopy(model.operatorCodes), [graph], None, list(model.buffers), None, None)
        ours = {theirs: name for name, theirs in (entry.inputs | entry.outputs).items()}
        for item in (*definition.inputs, *definition.outputs):
            item.name = ours[text(item.name)]
        signature = entry.signature or "main"
        part.signatureDefs = [schema.SignatureDefT(definition.inputs, definition.outputs, signature, 0)]
        settle_shapes(part, signature)
        share_buffers(part)
        name_tensors(part, {item.tensorIndex: item.name for item in definition.inputs}, {}, ())
        family = families.setdefault(tuple(op_name(part, one) for one in graph.operators), signature)
        for tensor in graph.tensors:
            tensor.name = f"{family}:{text(tensor.name)}".encode()
        made[signature] = write_model(part)
    return made


def settle_shapes(model: Any, signature: str) -> None:
    """Write, in place, every tensor's shape as it is at batch 1, and what is computed from shapes alone as constants.

    A converter leaves the batch open and computes shapes anew in each run, which no delegate takes. model: one
    subgraph, one signature. Raises TfliteAsrError where a shape depends on the values that go in.
    """
    (graph,) = model.subgraphs
    for tensor in graph.tensors:
        tensor.shapeSignature = None
    runs = list(_runs(write_model(model), signature))
    for index, tensor in enumerate(graph.tensors):
        shapes = {run[index].shape for run in runs if index in run}
        if len(shapes) > 1:
            raise TfliteAsrError(
                f"{signature}: the shape of tensor {text(tensor.name)!r} depends on values; no static file can be made"
            )
        if shapes:
            tensor.shape = np.array(shapes.pop(), np.int32)
    known = {i for i, tensor in enumerate(graph.tensors) if model.buffers[tensor.buffer].data is not None}
    kept = []
    for operator in graph.operators:
        inputs = {int(index) for index in operator.inputs if index >= 0}
        whole = all(graph.tensors[index].type in _WHOLE for index in operator.outputs)
        if whole and (op_name(model, operator) == "SHAPE" or inputs <= known):
            for index in map(int, operator.outputs):
                known.add(index)
                values = np.ascontiguousarray(runs[0][index]).reshape(-1)
                model.buffers.append(schema.BufferT(data=values.view(np.uint8)))
                graph.tensors[index].buffer = len(model.buffers) - 1
        else:
            kept.append(operator)
    read = set(map(int, graph.outputs))
    graph.operators = []
    for operator in reversed(kept):  # what only a SHAPE read is read by nobody now
        if read & set(map(int, operator.outputs)):
            read.update(map(int, operator.inputs))
            graph.operators.insert(0, operator)


def name_signatures(data: bytes, entries: Sequence[Entry], speech: bool) -> bytes:
    """The merged parts under the file's own signatures.

    speech: the file goes with a front end and tokens. An entry from features to logits is then also called
    `ctc_<frames>`, which the runtime looks for; it costs a second name for the same subgraph.
    """
    model = read_model(data)
    definitions = []
    taken = {entry.signature for entry in entries}
    for entry, ours in zip(entries, model.signatureDefs, strict=True):
        asked = speech and entry.pieces is not None
        names = entry.inputs | entry.outputs
        if entry.signature or not asked:
            own = deepcopy(ours)
            for item in (*own.inputs, *own.outputs):
                item.name = names[text(item.name)]
            definitions.append(own)
        if asked and entry.ctc_signature not in taken:
            taken.add(entry.ctc_signature)
            ours.signatureKey = entry.ctc_signature
            definitions.append(ours)
    model.signatureDefs = definitions
    return write_model(model)


def _require_plain_float(model: Model, where: str) -> None:
    for graph in model.subgraphs:
        for operator in graph.operators:
            if operator.custom:
                raise TfliteAsrError(
                    f"{where}: op {operator.name} is no builtin one; convert the model without it"
                )
        for index, tensor in enumerate(graph.tensors):
            if len(tensor.scale) or tensor.type in _SMALL_FLOATS:
                name = f"tensor {index}" + (f" ({tensor.name})" if tensor.name else "")
                raise TfliteAsrError(
                    f"{where}: is quantised already ({name} of type {tensor.type.lower()}); give the float32 .tflite"
                )


def _definitions(model: Any, where: str) -> list[Any]:
    """The file's signatures, each a copy; one made of tensor names, without a name, where it has none."""
    if not model.signatureDefs:
        if len(model.subgraphs) != 1:
            raise TfliteAsrError(
                f"{where}: has {len(model.subgraphs)} subgraphs and no signature; convert it with named ones"
            )
        graph = model.subgraphs[0]
        sides = (
            [
                schema.TensorMapT(_plain_name(graph, index, f"{kind}_{n}"), int(index))
                for n, index in enumerate(some)
            ]
            for kind, some in (("input", graph.inputs), ("output", graph.outputs))
        )
        return [schema.SignatureDefT(*sides, "", 0)]
    if stray := set(range(len(model.subgraphs))) - {one.subgraphIndex for one in model.signatureDefs}:
        raise TfliteAsrError(
            f"{where}: subgraph {min(stray)} belongs to no signature; control flow and variables cannot be quantised"
        )
    names = signature_names(model)
    if "" in names or len(set(names)) < len(names):
        raise TfliteAsrError(f"{where}: signatures {names}; give each a name of its own")
    return deepcopy(list(model.signatureDefs))


def _plain_name(graph: Any, index: int, default: str) -> str:
    """A tensor's name without what the converter puts around it (`serving_default_sound:0`)."""
    name = text(graph.tensors[index].name).partition(":")[0].removeprefix("serving_default_")
    return name if name.isidentifier() else default


def _entry(model: Any, definition: Any, where: str) -> Entry:
    graph = model.subgraphs[definition.subgraphIndex]
    signature = text(definition.signatureKey)
    shapes: dict[str, tuple[int, ...]] = {}
    for item in definition.inputs:
        tensor, name = graph.tensors[item.tensorIndex], text(item.name)
        shape = tuple(int(size) for size in tensor.shape)
        says = shape if tensor.shapeSignature is None else tuple(int(size) for size in tensor.shapeSignature)
        if tensor.type != _FLOAT32 or len(shape) < 2 or shape[0] != 1 or -1 in says[1:]:
            raise TfliteAsrError(
                f"{where}: input {name!r} of shape {list(says)}: must be float32 of batch 1 and fixed length; convert "
                "the model at the length that it is to run at"
            )
        shapes[name] = shape
    if not shapes:
        raise TfliteAsrError(f"{where}: {signature or 'the model'} takes no input; nothing can be calibrated")
    features = "features" if "features" in shapes else max(shapes, key=lambda name: len(shapes[name]))
    others = [name for name in shapes if name != features]
    if len(others) > 1 or any(len(shapes[name]) != 2 for name in others):
        raise TfliteAsrError(
            f"{where}: input {others[0]!r} of shape {list(shapes[others[0]])} is neither features nor a mask; "
            "such a model cannot be calibrated without its author's data"
        )
    frames, *tail = shapes[features][1:]
    outputs = {
        text(item.name): tuple(int(size) for size in graph.tensors[item.tensorIndex].shape)
        for item in definition.outputs
    }
    out: tuple[int, ...] = next(iter(outputs.values())) if len(outputs) == 1 else ()
    steps = [shapes[name][1] for name in others] + ([out[1]] if len(out) == 3 else [])
    subsampling = -(-frames // steps[0]) if steps and steps[0] else 1
    speech = len(out) == 3 and len(tail) == 1 and {-(-frames // subsampling)} == set(steps)
    return Entry(
        signature,
        dict(zip(CTC_INPUTS, [features, *others], strict=False)),
        {CTC_OUTPUT: next(iter(outputs))} if speech else {name: name for name in outputs},
        frames,
        tuple(tail),
        subsampling,
        out[2] if speech else None,
    )


def _runs(data: bytes, signature: str) -> Iterator[Mapping[int, np.ndarray]]:
    """Every tensor's value that the interpreter holds after a run, on zeros and on noise."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter: Any = Interpreter(
        model_content=data,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    runner = interpreter.get_signature_runner(signature)
    rng = np.random.default_rng(0)
    shapes = {name: detail["shape"] for name, detail in runner.get_input_details().items()}
    for scale in (0.0, 1.0):
        runner(
            **{
                name: (scale * rng.standard_normal(shape)).astype(np.float32)
                for name, shape in shapes.items()
            }
        )
        held = {}
        for detail in interpreter.get_tensor_details():
            try:
                held[detail["index"]] = interpreter.get_tensor(detail["index"])
            except ValueError:  # never computed: an op's own scratch, or nothing reads it
                continue
        yield held
