"""What sums of squares lose by rounding, taken off their biases.

The variance of a layer norm is a product of squares with a constant. A square's range reaches to the square of the
largest value, so most squares lie below half a quantum and become zero: the sum errs to one side, frame after frame,
and the norm scales the frame too high or too low. No product of activations as they are errs so.

Held against the exact sum of squares of the integers that are squared, the error is that of the rounding alone, and
one run of one window measures all norms at once: on conformer-ctc a tenth of the work of measuring the whole error,
product after product with those before it corrected (`biases.mean_errors`), for as much on both dev splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.quantize.biases import corrected_products
from tflite_asr.quantize.calibrate import Sequences, real_part, time_axes
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.quantizer import Ties, quantize
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.running import Feed, Observer
from tflite_asr.quantize.schemes import Scheme
from tflite_asr.quantize.serialize import read_model, schema, text

MOST_STEPS = 16  # one number a norm is asked for: a few hundred frames give it


@dataclass(frozen=True)
class _Sum:
    """A product of squares. source: name of what is squared. weights: float64 [channels, values]. bias: float64
    [channels] or 0."""

    source: str
    weights: np.ndarray
    bias: np.ndarray | float


def corrections_of(
    flatbuffers: Mapping[str, bytes], sequences: Sequences, ranges: Ranges, ties: Ties, scheme: Scheme
) -> dict[str, np.ndarray]:
    """`rounding_errors` on the window that most inputs fall into, the first of several.

    flatbuffers: signature to float flatbuffer with stable names. sequences: as `lay_into_windows` gives them. ranges,
    ties, scheme: as `quantize` takes them.
    """
    signature = max(flatbuffers, key=lambda name: len(sequences[name]))
    data = flatbuffers[signature]
    if not _sums(data):
        return {}
    feeds = [step for sequence in sequences[signature] for step in sequence][:MOST_STEPS]
    return rounding_errors(flatbuffers, signature, feeds, quantize(data, ranges, ties, scheme))


def rounding_errors(
    flatbuffers: Mapping[str, bytes], signature: str, feeds: Sequence[Feed], quantised: bytes
) -> dict[str, np.ndarray]:
    """Sum of squares to its mean error, float64 [channels], over real frames; as `biases.correct` takes them.

    flatbuffers: signature to float flatbuffer. signature, feeds: what is run. quantised: the integer flatbuffer of
    that signature, its tensors still named.
    """
    open_to_correction = set(corrected_products(quantised))
    sums = {name: one for name, one in _sums(flatbuffers[signature]).items() if name in open_to_correction}
    if not sums or not feeds:
        return {}
    along_time = time_axes(flatbuffers.values())
    integers = Observer(quantised, signature, frozenset(sums) | {one.source for one in sums.values()})
    totals = {name: np.zeros(len(one.weights)) for name, one in sums.items()}
    counts = dict.fromkeys(sums, 0)
    for feed in feeds:
        integers.run(feed)
        held = dict(integers.activations())
        share = 1.0 if "token" in feed else float(np.mean(feed.get("mask", 1.0)))
        for name, one in sums.items():
            squares = np.square(held[one.source].astype(np.float64))
            error = held[name].astype(np.float64) - (squares @ one.weights.T + one.bias).reshape(
                held[name].shape
            )
            error = error[real_part(error.shape, along_time.get(name, ()), share)]
            error = error.reshape(-1, error.shape[-1])
            totals[name] += error.sum(axis=0)
            counts[name] += len(error)
    return {name: total / max(1, counts[name]) for name, total in totals.items()}


def _sums(data: bytes) -> dict[str, _Sum]:
    """Name to each product of a constant and the squares of one tensor."""
    model = read_model(data)
    found: dict[str, _Sum] = {}
    for graph in model.subgraphs:
        squared: dict[int, int] = {}
        for operator in graph.operators:
            kind = op_name(model, operator)
            if kind == "SQUARE" or (kind == "MUL" and operator.inputs[0] == operator.inputs[1]):
                squared[int(operator.outputs[0])] = int(operator.inputs[0])
            elif kind == "RESHAPE" and int(operator.inputs[0]) in squared:
                squared[int(operator.outputs[0])] = squared[int(operator.inputs[0])]
            elif kind == "FULLY_CONNECTED" and int(operator.inputs[0]) in squared:
                weights = _constant(model, graph, int(operator.inputs[1]))
                options = operator.builtinOptions
                clamped = options is not None and options.fusedActivationFunction != _NO_CLAMP
                if weights is None or clamped:
                    continue
                bias = _constant(model, graph, int(operator.inputs[2])) if len(operator.inputs) > 2 else None
                source = text(graph.tensors[squared[int(operator.inputs[0])]].name)
                found[text(graph.tensors[operator.outputs[0]].name)] = _Sum(
                    source, weights, 0.0 if bias is None else bias
                )
    return found


_NO_CLAMP = schema.ActivationFunctionType.NONE


def _constant(model: Any, graph: Any, index: int) -> np.ndarray | None:
    """float64, in its shape; None for what is computed, absent or not float32."""
    if index < 0:
        return None
    tensor = graph.tensors[index]
    held = model.buffers[tensor.buffer].data
    if held is None or tensor.type != schema.TensorType.FLOAT32:
        return None
    return held.view(np.float32).astype(np.float64).reshape(tuple(tensor.shape))
