"""What a model costs: parameters, and multiply-adds at a static length."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras

from tflite_asr.errors import TfliteAsrError
from tflite_asr.models import FUNCTIONAL

Shape = tuple[int, ...]

# Element-wise work, moves and look-ups: no multiply-add of a product is in them.
FREE = frozenset(
    "InputLayer Activation ReLU LeakyReLU ELU Softmax Add Subtract Multiply Average Maximum Minimum Concatenate "
    "Rescaling Dropout SpatialDropout1D SpatialDropout2D GaussianNoise GaussianDropout Reshape Flatten Permute "
    "RepeatVector ZeroPadding1D ZeroPadding2D Cropping1D Cropping2D UpSampling1D UpSampling2D Embedding Masking "
    "Identity MaxPooling1D MaxPooling2D AveragePooling1D AveragePooling2D GlobalAveragePooling1D "
    "GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D GatedLinearUnit Mask Sigmoid Silu Gelu Tanh "
    "Relu Relu6 Exp Negative Rsqrt Sqrt Square Mean Sum Max Power Divide Transpose Squeeze ExpandDims Cast GetItem "
    "SinusoidalPositions Split Stack Pad SoftmaxOp BroadcastTo Where".split()
)


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of one pass over one batch of one.

    Attributes:
        macs: their sum.
        by_layer: multiply-adds of each layer that has some, a nested model's layers under `outer/inner`.
        uncounted: names of layers whose kind is not known here; they count as 0.
        values: numbers that all operations of the graph give; what a layer holds inside is not among them.
    """

    macs: int
    by_layer: dict[str, int] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    values: int = 0


def count_parameters(model: keras.Model) -> int:
    """Numbers that the model stores: trained weights and batch-norm statistics."""
    return int(sum(math.prod(weight.shape) for weight in model.weights))


def count_macs(model: keras.Model, frames: int | None = None) -> int:
    """Multiply-adds of a Functional model for `frames` input frames; see `cost`."""
    return cost(model, frames).macs


def cost(model: keras.Model, frames: int | None = None) -> Cost:
    """Count the multiply-adds of a Functional or Sequential model, layer by layer, without running it.

    Products with weights and of activations by activations (attention) count one multiply-add each, padding and
    masked positions included, since static kernels compute them. Batch norm counts one an element, layer, group and
    RMS norm three (mean, variance, scale). Everything else element-wise counts none.

    Args:
        model: any Functional model; a first input of [batch, frames, ...].
        frames: length of its time axis, where that is not fixed. A second input of frames / subsampling (a mask) gets
            the length that the model's graph has at `frames`.

    Raises:
        TfliteAsrError: an axis that is neither fixed nor the time axis; a model that is neither kind.
    """
    found = _Found()
    _walk(model, [_static(tensor, frames) for tensor in model.inputs], "", found)
    macs = sum(found.by_layer.values())
    return Cost(macs, found.by_layer, tuple(dict.fromkeys(found.uncounted)), found.values)


# Letters come at about 12 a second, and a frame is 10 ms.
FRAMES_PER_TOKEN = 8


def _static(tensor: Any, frames: int | None) -> Any:
    """A symbolic input with batch 1 and the time axis filled in. A rank-2 input is a mask: its length stays open,
    no multiply-add hangs on it; of integers it is the tokens that a decoder is told, one to `FRAMES_PER_TOKEN`."""
    shape = [1, *tensor.shape[1:]]
    if len(shape) == 2 and shape[1] is None and frames is not None and "int" in tensor.dtype:
        shape[1] = max(1, frames // FRAMES_PER_TOKEN)
    if len(shape) > 2 and shape[1] is None:
        shape[1] = frames
    if None in shape[2:] or (len(shape) > 2 and shape[1] is None):
        raise TfliteAsrError(
            f"input {tensor.name}: shape {tuple(tensor.shape)} has an open axis; give frames, and fix the others"
        )
    return keras.KerasTensor(shape, dtype=tensor.dtype)


@dataclass
class _Found:
    """What a walk has counted so far."""

    by_layer: dict[str, int] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)
    values: int = 0


def _walk(model: Any, inputs: list[Any], prefix: str, found: _Found) -> Any:
    """Push static shapes through a model's graph, counting at each node; gives the symbolic outputs."""

    def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
        name = f"{prefix}{operation.name}"
        tensors = [t for t in keras.tree.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)]
        if isinstance(operation, (keras.Sequential, FUNCTIONAL)):
            return _walk(operation, tensors, f"{name}/", found)
        outputs = operation.compute_output_spec(*args, **kwargs)
        found.values += sum(
            math.prod(one.shape) for one in keras.tree.flatten(outputs) if None not in one.shape
        )
        rule = next(
            (RULES[kind.__name__] for kind in type(operation).__mro__ if kind.__name__ in RULES), None
        )
        if rule is not None:
            shapes = [tuple(t.shape) for t in tensors]
            macs = rule(operation, shapes, tuple(keras.tree.flatten(outputs)[0].shape))
            found.by_layer[name] = found.by_layer.get(name, 0) + macs
        elif type(operation).__name__ not in FREE:
            found.uncounted.append(f"{name} ({type(operation).__name__})")
        return outputs

    if isinstance(model, keras.Sequential):
        (state,) = inputs
        for layer in model.layers:
            state = visit(layer, state)
        return state
    if not isinstance(model, FUNCTIONAL):
        raise TfliteAsrError(
            f"{model.name}: is no Functional model; rebuild it as one to count its multiply-adds"
        )
    return _through_graph(model, inputs, visit)


def _through_graph(model: Any, inputs: list[Any], visit: Callable[..., Any]) -> Any:
    """Keras' own walk over the nodes of a Functional model, with `visit` in place of every call.

    `clone_model` offers the same walk in public, but records new nodes on the layers that it visits.
    """
    return model._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=visit)


def _dense(layer: Any, shapes: list[Shape], out: Shape) -> int:
    return math.prod(shapes[0]) * layer.units


def _convolution(layer: Any, shapes: list[Shape], out: Shape) -> int:
    return math.prod(out) * math.prod(layer.kernel_size) * (shapes[0][-1] // layer.groups)


def _convolution_transposed(layer: Any, shapes: list[Shape], out: Shape) -> int:
    return math.prod(shapes[0]) * math.prod(layer.kernel_size) * layer.filters


def _depthwise(layer: Any, shapes: list[Shape], out: Shape) -> int:
    return math.prod(out) * math.prod(layer.kernel_size)


def _separable(layer: Any, shapes: list[Shape], out: Shape) -> int:
    positions = math.prod(out[:-1])
    between = shapes[0][-1] * layer.depth_multiplier
    return positions * between * (math.prod(layer.kernel_size) + layer.filters)


def _attention(layer: Any, shapes: list[Shape], out: Shape) -> int:
    """keras.layers.MultiHeadAttention(query, value, key=value): four projections and two products."""
    query, value = shapes[0], shapes[1] if len(shapes) > 1 else shapes[0]
    key = (
        shapes[2] if len(shapes) > 2 and len(shapes[2]) == len(value) and shapes[2][-1] is not None else value
    )
    targets, sources = math.prod(query[:-1]), math.prod(value[:-1])
    heads, key_dim = layer.num_heads, layer.key_dim
    value_dim = layer.get_config().get("value_dim") or key_dim
    projections = targets * query[-1] * heads * key_dim + sources * key[-1] * heads * key_dim
    projections += sources * value[-1] * heads * value_dim + targets * heads * value_dim * out[-1]
    return projections + targets * sources // query[0] * heads * (key_dim + value_dim)


def _relative_attention(layer: Any, shapes: list[Shape], out: Shape) -> int:
    """Our own: every score is computed, a limited context masks afterwards; distances are 2 frames - 1."""
    batch, frames, dim = shapes[0]
    inner = layer.heads * layer.key_dim
    macs = batch * (4 * frames * dim * inner + 2 * frames * frames * inner)
    if layer.positions == "relative":
        macs += (2 * frames - 1) * dim * inner + batch * frames * (2 * frames - 1) * inner
    return macs


def _heads(layer: Any, shapes: list[Shape], out: Shape) -> int:
    """Our own, over what was projected before: two products, hidden scores among them."""
    return 2 * math.prod(shapes[0]) * shapes[1][1]


def _matmul(operation: Any, shapes: list[Shape], out: Shape) -> int:
    return math.prod(out) * shapes[0][-1]


def _recurrent(gates: int) -> Callable[[Any, list[Shape], Shape], int]:
    def rule(layer: Any, shapes: list[Shape], out: Shape) -> int:
        batch, frames, channels = shapes[0]
        return batch * frames * gates * layer.units * (channels + layer.units)

    return rule


def _per_element(count: int) -> Callable[[Any, list[Shape], Shape], int]:
    return lambda layer, shapes, out: count * math.prod(shapes[0])


RULES: dict[str, Callable[[Any, list[Shape], Shape], int]] = {
    "Dense": _dense,
    "Conv1D": _convolution,
    "Conv2D": _convolution,
    "Conv1DTranspose": _convolution_transposed,
    "Conv2DTranspose": _convolution_transposed,
    "DepthwiseConv1D": _depthwise,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv1D": _separable,
    "SeparableConv2D": _separable,
    "MultiHeadAttention": _attention,
    "AttentionHeads": _heads,
    "RelativeAttention": _relative_attention,
    "Matmul": _matmul,
    "SimpleRNN": _recurrent(1),
    "GRU": _recurrent(3),
    "LSTM": _recurrent(4),
    "BatchNormalization": _per_element(1),
    "LayerNormalization": _per_element(3),
    "GroupNormalization": _per_element(3),
    "RMSNormalization": _per_element(3),
}
