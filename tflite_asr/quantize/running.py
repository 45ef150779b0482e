"""Flatbuffers run on LiteRT inside this room: the outputs that a user gets, or every tensor on the way; one thread,
real values in and out whatever the file stores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.serialize import read_model, signature_names, text

Feed = Mapping[str, np.ndarray]


def outputs_of(data: bytes, signature: str, feeds: Sequence[Feed]) -> list[dict[str, np.ndarray]]:
    """The outputs of one signature for each feed, on the kernels that a user gets (XNNPACK)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=data, num_threads=1)
    runner = interpreter.get_signature_runner(signature)
    out = runner.get_output_details()
    return [
        {name: _real(values, out[name]) for name, values in runner(**_stored(feed, runner)).items()}
        for feed in feeds
    ]


class Observer:
    """One signature of a flatbuffer, run with every tensor kept, on builtin kernels, so that values do not depend on
    the machine's cores.

    names: of the tensors to give back; None for every float activation. Raises TfliteAsrError where `data` lacks the
    signature.
    """

    def __init__(self, data: bytes, signature: str, names: Collection[str] | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        model = read_model(data)
        if signature not in signature_names(model):
            raise TfliteAsrError(f"signature {signature!r}: not among {', '.join(signature_names(model))}")
        definition = model.signatureDefs[signature_names(model).index(signature)]
        self._subgraph = definition.subgraphIndex
        graph = model.subgraphs[self._subgraph]
        constant = [model.buffers[tensor.buffer].data is not None for tensor in graph.tensors]
        used = {*graph.inputs, *(index for operator in graph.operators for index in operator.outputs)}
        self._watched = [
            (index, text(tensor.name), _grid(tensor))
            for index, tensor in enumerate(graph.tensors)
            if index in used
            and not constant[index]
            and (tensor.type == 0 if names is None else text(tensor.name) in names)
        ]
        self._interpreter: Any = Interpreter(
            model_content=data,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._runner = self._interpreter.get_signature_runner(signature)

    def run(self, step: Feed) -> dict[str, np.ndarray]:
        """The outputs, as they are stored."""
        return dict(self._runner(**_stored(step, self._runner)))

    def activations(self) -> Iterable[tuple[str, np.ndarray]]:
        """Name and real values of the tensors of the last run."""
        for index, name, grid in self._watched:
            yield name, _real(self._interpreter.get_tensor(index, self._subgraph), grid)


def _grid(tensor: Any) -> dict[str, Any]:
    found = tensor.quantization
    if found is None or found.scale is None or not len(found.scale):
        return {"quantization": (0.0, 0)}
    return {"quantization": (float(found.scale[0]), int(found.zeroPoint[0]))}


def _stored(feed: Feed, runner: Any) -> dict[str, np.ndarray]:
    given = dict(feed)
    for name, detail in runner.get_input_details().items():
        scale, zero_point = detail["quantization"]
        if scale and name in given:
            limits = np.iinfo(detail["dtype"])
            integers = np.rint(np.asarray(given[name]) / scale) + zero_point
            given[name] = np.clip(integers, limits.min, limits.max).astype(detail["dtype"])
    return given


def _real(values: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale) if scale else values
