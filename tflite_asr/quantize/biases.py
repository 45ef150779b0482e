"""Bias correction: what a product errs on average, channel by channel, is taken off its int32 bias (Nagel et al.,
arXiv 1906.04721, section 4.2, measured on inputs instead of derived).

Only products whose error is a mean to a good part are worth it. They are corrected one by one, first to last, each
measured with those before it corrected: correcting eleven at once took the same error off several times over and cost
a Conformer half a dB. Most of its products err by 1 or 2 % of a mean; those that sum the squares of a norm, rounded all
to one side, by much more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tflite_asr.quantize.calibrate import real_part, time_axes
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.running import Feed, Observer
from tflite_asr.quantize.serialize import read_model, schema, text, write_model

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
LEAST_SHARE = 0.1  # of the error's energy that is the channels' means, below which at most .5 dB is to be had

Corrections = Mapping[str, np.ndarray]


def mean_errors(
    flatbuffers: Mapping[str, bytes], signature: str, feeds: Sequence[Feed], quantised: bytes
) -> dict[str, np.ndarray]:
    """Product to what must be taken off its output, float64 [channels]; those worth it.

    flatbuffers: signature to float flatbuffer. signature, feeds: what is run. quantised: the integer flatbuffer of
    that signature, its tensors still named.
    """
    names = corrected_products(quantised)
    along_time = time_axes(flatbuffers.values())
    data = flatbuffers[signature]
    found: dict[str, np.ndarray] = {}
    first = _errors(data, quantised, signature, feeds, names, along_time)
    for name in (name for name in names if first[name][1] > LEAST_SHARE):
        changed = correct(quantised, found)
        found[name] = _errors(data, changed, signature, feeds, [name], along_time)[name][0]
    return found


def correct(data: bytes, corrections: Corrections) -> bytes:
    """An integer flatbuffer, its tensors named, with the corrections folded into its biases."""
    if not corrections:
        return data
    model = read_model(data)
    for graph in model.subgraphs:
        for name, operator in _corrected(model, graph):
            if name not in corrections:
                continue
            tensor = graph.tensors[operator.inputs[2]]
            values = model.buffers[tensor.buffer].data.view(np.int32).astype(np.float64)
            steps = np.rint(corrections[name] / np.asarray(tensor.quantization.scale, np.float64))
            limits = np.iinfo(np.int32)
            moved = np.clip(values - steps, limits.min, limits.max).astype(np.int32)
            model.buffers.append(schema.BufferT(data=moved.view(np.uint8)))
            tensor.buffer = len(model.buffers) - 1
    return write_model(model)


def summed(one: Corrections, other: Corrections) -> dict[str, np.ndarray]:
    """Both at once."""
    return {name: np.add(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}


def corrected_products(data: bytes) -> list[str]:
    """Names of the outputs of products with an int32 bias, in the order of execution."""
    model = read_model(data)
    return [name for graph in model.subgraphs for name, _ in _corrected(model, graph)]


def _corrected(model: Any, graph: Any) -> list[tuple[str, Any]]:
    found = []
    for operator in graph.operators:
        if op_name(model, operator) not in PRODUCTS or len(operator.inputs) < 3 or operator.inputs[2] < 0:
            continue
        bias = graph.tensors[operator.inputs[2]]
        if bias.type == schema.TensorType.INT32 and model.buffers[bias.buffer].data is not None:
            found.append((text(graph.tensors[operator.outputs[0]].name), operator))
    return found


def _errors(
    data: bytes,
    quantised: bytes,
    signature: str,
    feeds: Sequence[Feed],
    names: Sequence[str],
    along_time: Mapping[str, tuple[int, ...]],
) -> dict[str, tuple[np.ndarray, float]]:
    """Of each tensor, over real frames: mean error by its last axis, and the share of the error that this is."""
    floats, integers = (Observer(one, signature, frozenset(names)) for one in (data, quantised))
    sums = {name: np.zeros(1) for name in names}
    energy, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    for feed in feeds:
        floats.run(feed)
        integers.run(feed)
        share = float(np.mean(feed.get("mask", 1.0)))
        exact = dict(floats.activations())
        for name, values in integers.activations():
            error = values.astype(np.float64) - exact[name]
            error = error[real_part(error.shape, along_time.get(name, ()), share)].reshape(
                -1, error.shape[-1]
            )
            sums[name] = sums[name] + error.sum(axis=0)
            energy[name] += float(np.square(error).sum())
            counts[name] += len(error)
    means = {name: sums[name] / max(1, counts[name]) for name in names}
    return {
        name: (mean, counts[name] * float(np.square(mean).sum()) / max(energy[name], 1e-30))
        for name, mean in means.items()
    }
