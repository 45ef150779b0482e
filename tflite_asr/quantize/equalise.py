"""Cross-layer equalisation (Nagel et al., arXiv 1906.04721, section 4.1) on a float flatbuffer.

Two linear ops with nothing or a ReLU between compute the same where a channel of the first is multiplied and the
second divides it again. A tensor has one scale for all its channels, so a channel that uses little of the range is
brought half the way up to the widest, in dB; all the way would move the trouble into the second op's weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.quantize.biases import PRODUCTS
from tflite_asr.quantize.calibrate import Sequences, real_part, time_axes
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.running import Observer
from tflite_asr.quantize.serialize import read_model, schema, text, write_model

MOST = 16.0  # times that a channel is raised
_MOVES = ("PAD", "RESHAPE")
_SPREAD = 1.5  # widest over median channel, below which there is nothing to gain
_KEEPS_CHANNELS = (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU)


@dataclass(frozen=True)
class Pair:
    """Two products of one subgraph. middle: name of what the first gives. between: of that and of its moves."""

    middle: str
    between: tuple[str, ...]
    first: Any
    second: Any


def linear_pairs(model: Any, graph: Any) -> list[Pair]:
    """First and second, with at most padding and reshaping of the other axes between, nobody else reading."""
    readers: defaultdict[int, list[Any]] = defaultdict(list)
    for operator in graph.operators:
        for index in operator.inputs:
            readers[int(index)].append(operator)
    ends = {int(index) for index in graph.outputs}
    pairs = []
    for first in graph.operators:
        if not _is_product(model, graph, first):
            continue
        if first.builtinOptions.fusedActivationFunction not in _KEEPS_CHANNELS:
            continue
        if _shares_weights(readers, first):
            continue
        index = int(first.outputs[0])
        channels = int(graph.tensors[index].shape[-1])
        between = [text(graph.tensors[index].name)]
        while index not in ends and len(readers[index]) == 1:
            reader = readers[index][0]
            if _is_product(model, graph, reader) and int(reader.inputs[0]) == index:
                if not _shares_weights(readers, reader):
                    pairs.append(Pair(between[0], tuple(between), first, reader))
                break
            after = int(reader.outputs[0])
            if op_name(model, reader) not in _MOVES or int(graph.tensors[after].shape[-1]) != channels:
                break
            index = after
            between.append(text(graph.tensors[index].name))
    return pairs


def _shares_weights(readers: Mapping[int, list[Any]], operator: Any) -> bool:
    """Whether another op reads the same weights: a module that is called twice."""
    return len(readers[int(operator.inputs[1])]) > 1


def equalise(
    flatbuffers: Mapping[str, bytes], sequences: Sequences
) -> tuple[dict[str, bytes], dict[str, float]]:
    """The flatbuffers with such pairs equalised, computing the same, and the tensors between with how many times
    their median channel was raised.

    flatbuffers: signature to float flatbuffer with stable names, windows of one model. sequences: what they are run
    on, to see how wide channels are.
    """
    middles = {
        pair.middle
        for data in flatbuffers.values()
        for model in [read_model(data)]
        for graph in model.subgraphs
        for pair in linear_pairs(model, graph)
    }
    factors = {}
    for name, widths in _channel_widths(flatbuffers, sequences, sorted(middles)).items():
        widest = float(widths.max())
        raised = np.sqrt(np.clip(widest / np.maximum(widths, widest / MOST**2), 1.0, MOST**2))
        if widest > 0 and np.median(raised) ** 2 > _SPREAD:
            factors[name] = raised.astype(np.float32)
    made = {}
    for signature, data in flatbuffers.items():
        model = read_model(data)
        for graph in model.subgraphs:
            for pair in linear_pairs(model, graph):
                if pair.middle in factors:
                    _scale(model, graph, pair, factors[pair.middle])
        made[signature] = write_model(model) if factors else data
    return made, {name: float(np.median(found)) for name, found in factors.items()}


def _is_product(model: Any, graph: Any, operator: Any) -> bool:
    """With constant float weights and, if any, a constant bias."""
    if op_name(model, operator) not in PRODUCTS:
        return False
    held = [
        graph.tensors[index].type == schema.TensorType.FLOAT32
        and model.buffers[graph.tensors[index].buffer].data is not None
        for index in operator.inputs[1:]
        if index >= 0
    ]
    return all(held)


def _channel_widths(
    flatbuffers: Mapping[str, bytes], sequences: Sequences, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Largest size of each channel over real frames, float64 [channels]."""
    along_time = time_axes(flatbuffers.values())
    widths: dict[str, np.ndarray] = {}
    if not names:
        return widths
    for signature, some in sequences.items():
        if not some:
            continue
        runner = Observer(flatbuffers[signature], signature, frozenset(names))
        for step in (step for sequence in some for step in sequence):
            runner.run(step)
            share = float(np.mean(step.get("mask", 1.0)))
            for name, values in runner.activations():
                part = values[real_part(values.shape, along_time.get(name, ()), share)]
                here = np.abs(part.reshape(-1, part.shape[-1])).max(axis=0).astype(np.float64)
                widths[name] = np.maximum(widths.get(name, 0.0), here)
    return widths


def _scale(model: Any, graph: Any, pair: Pair, factors: np.ndarray) -> None:
    """Multiply what the first gives, divide what the second takes, in place."""
    kind = op_name(model, pair.first)
    _multiply(model, graph, pair.first, 1, 3 if kind == "DEPTHWISE_CONV_2D" else 0, factors)
    if len(pair.first.inputs) > 2 and pair.first.inputs[2] >= 0:
        _multiply(model, graph, pair.first, 2, 0, factors)
    kind = op_name(model, pair.second)
    if kind == "DEPTHWISE_CONV_2D":
        channels = int(graph.tensors[pair.second.inputs[1]].shape[3])
        factors = np.repeat(factors, channels // len(factors))
    _multiply(model, graph, pair.second, 1, 1 if kind == "FULLY_CONNECTED" else 3, 1 / factors)


def _multiply(model: Any, graph: Any, operator: Any, position: int, axis: int, factors: np.ndarray) -> None:
    """Give the operator a constant of its own, multiplied: equal biases of many ops are one tensor."""
    tensor = graph.tensors[operator.inputs[position]]
    shape = tuple(int(size) for size in tensor.shape)
    along = [1] * len(shape)
    along[axis] = len(factors)
    values = model.buffers[tensor.buffer].data.view(np.float32).reshape(shape)
    product = (values * factors.reshape(along)).astype(np.float32)
    model.buffers.append(schema.BufferT(data=product.reshape(-1).view(np.uint8)))
    name = f"{text(graph.tensors[operator.outputs[0]].name)}:{position}:{len(graph.tensors)}"
    own = schema.TensorT(tensor.shape, tensor.type, len(model.buffers) - 1, name.encode())
    graph.tensors.append(own)
    operator.inputs = np.array(operator.inputs, np.int32)
    operator.inputs[position] = len(graph.tensors) - 1
