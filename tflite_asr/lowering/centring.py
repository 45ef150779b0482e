"""A residual stream that only layer norms read is kept centred, so that they need no mean of their own.

A layer norm does not see what is added to all channels of a frame, so the mean over channels may be taken off wherever
a product writes into the stream: W - mean(W), b - mean(b), over the output channels, before anything is quantised
(Ashkboos et al. 2024, SliceGPT, section 3.2, turn layer norms into RMS norms so). A table of embeddings or positions is
as good as a product's weights there. A norm at a block's end, to which the next block adds, is centred once, where it
is written, and so is a product that a ReLU cuts. In a Conformer 4 of a block's 5 norms lose MEAN and SUB, and with them
two roundings each: the shipped Conformer at 16 s takes 170.1 to 165.7 million A76 instructions, and gains .3 dB. In a
Transformer all of them do.
"""

from __future__ import annotations

from collections.abc import Set

import keras
import numpy as np
from keras import ops

from tflite_asr.lowering.replacement import Replacement, consumers, producer
from tflite_asr.models.layers import Mask, RelativeAttention, SinusoidalPositions

_SILENT_AT_INFERENCE = (keras.layers.Dropout, keras.layers.SpatialDropout1D)
CHANNELS_FIRST = "channels_first"
# What moves whole frames or makes them zero: a frame without a mean has none afterwards.
_MOVE_FRAMES = (Mask, keras.layers.ZeroPadding1D, keras.layers.Cropping1D)


@keras.saving.register_keras_serializable(package="tflite_asr")
class CentredLayerNormalization(keras.layers.LayerNormalization):
    """keras.layers.LayerNormalization of inputs whose mean over the last axis is zero already.

    Their variance is the product of the squares with `power` [channels, 1], 1 / channels unless the channels were
    equalised (equalisation.py): one rounding in int8, as MEAN makes, at the same cost.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.power = add_power(self, input_shape[-1])

    def call(self, inputs):
        outputs = inputs * ops.rsqrt(ops.matmul(ops.square(inputs), self.power) + self.epsilon)
        if self.gamma is not None:
            outputs = outputs * self.gamma
        if self.beta is not None:
            outputs = outputs + self.beta
        return outputs


def add_power(norm: keras.layers.Layer, channels: int):
    """The weight of each channel's square in a centred norm's variance, float32 [channels, 1]."""
    mean = keras.initializers.Constant(1.0 / channels)
    return norm.add_weight(name="power", shape=(channels, 1), initializer=mean, trainable=False)


@keras.saving.register_keras_serializable(package="tflite_asr")
class Centre(keras.layers.Layer):
    """Each frame less its mean over channels; float32 [..., channels] to the same shape.

    Weights: `collect` [channels, 1] gives the mean and `spread` [1, channels] takes it off: 1 / channels and 1, unless
    the channels were equalised (equalisation.py).
    """

    def build(self, input_shape):
        channels = input_shape[-1]
        mean = keras.initializers.Constant(1.0 / channels)
        self.collect = self.add_weight(name="collect", shape=(channels, 1), initializer=mean, trainable=False)
        self.spread = self.add_weight(name="spread", shape=(1, channels), initializer="ones", trainable=False)

    def call(self, inputs):
        return inputs - ops.matmul(ops.matmul(inputs, self.collect), self.spread)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="tflite_asr")
class CentredPositions(SinusoidalPositions):
    """SinusoidalPositions less their mean over channels, each channel divided by `scale` [channels], 1 unless the
    channels were equalised (equalisation.py)."""

    def build(self, inputs_shape, position_shape=None):
        channels = inputs_shape[-1]
        self.scale = self.add_weight(name="scale", shape=(channels,), initializer="ones", trainable=False)

    def written(self, sinusoids):
        return (sinusoids - ops.mean(sinusoids, axis=-1, keepdims=True)) / self.scale


def is_norm(operation: keras.Operation) -> bool:
    """Whether it is a layer norm over the last axis, called once."""
    if type(operation) is not keras.layers.LayerNormalization or operation.rms_scaling:
        return False
    return len(operation._inbound_nodes) == 1 and over_last_axis(operation)


def over_last_axis(norm: keras.layers.LayerNormalization) -> bool:
    """Whether a norm that has been called takes its mean and variance over channels alone."""
    rank = len(norm._inbound_nodes[0].input_tensors[0].shape)
    return [axis % rank for axis in norm.axis] == [rank - 1]


def _carry_weights(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """`old`'s weights in `new`, whose first ones they are."""
    held = old.get_weights()
    new.set_weights([*held, *new.get_weights()[len(held) :]])


class ResidualCentring:
    """The rule for the norms that read a stream and for all that write into it.

    outputs: ids of the operations whose result some model hands out; theirs must stay as it is.
    """

    def __init__(self, outputs: Set[int]) -> None:
        self.outputs = outputs
        self._read_by_norms: dict[int, bool] = {}
        self._centred: dict[int, bool] = {}

    def rule(self, operation: keras.Operation) -> Replacement | None:
        """A norm of a centred stream, what is centred on its way into one, or what writes into one."""
        if is_norm(operation):
            before = source_of(operation)
            centred = before is not None and self._is_centred(before)
            begins = self._is_centred(operation)
            if not centred and not begins:
                return None
            kind = CentredLayerNormalization if centred else keras.layers.LayerNormalization
            norm = kind.from_config(operation.get_config())
            layers = (norm, Centre(name=f"{operation.name}.centre")) if begins else (norm,)
            return Replacement(layers, lambda: _carry_weights(operation, norm))
        if not self._is_centred(operation):
            return None
        if adds_positions(operation):
            return Replacement((CentredPositions.from_config(operation.get_config()),))
        if is_relu(operation):
            same = type(operation).from_config(operation.get_config())
            return Replacement((same, Centre(name=f"{operation.name}.centre")))
        if not writes(operation):
            return None
        copy = type(operation).from_config(operation.get_config())
        return Replacement((copy,), lambda: _centre_product(operation, copy))

    def _is_centred(self, operation: keras.Operation) -> bool:
        """Whether what `operation` gives has no mean once the rule is through."""
        key = id(operation)
        if key not in self._centred:
            self._centred[key] = self._find_centred(operation)
        return self._centred[key]

    def _find_centred(self, operation: keras.Operation) -> bool:
        if not self._only_norms_read(operation):
            return False
        if is_sum(operation):
            return all(source is not None and self._is_centred(source) for source in terms_of(operation))
        if writes(operation):
            return True
        return (is_norm(operation) or self._cuts_a_product(operation)) and self._is_a_term(operation)

    def _cuts_a_product(self, operation: keras.Operation) -> bool:
        """Whether it is the ReLU of a product that nothing else reads, so that a channel's scale can go through."""
        before = producer(operation) if is_relu(operation) else None
        if before is None or not writes(before) or id(before) in self.outputs:
            return False
        return len(consumers(before)) == 1

    def _is_a_term(self, operation: keras.Operation) -> bool:
        """Whether it is added to what can be centred: only then does its own centring pay."""
        sums = [reader for reader in self._readers(operation) if is_sum(reader)]
        others = [source for one in sums for source in terms_of(one) if source is not operation]
        return bool(sums) and all(
            source is not None and self._only_norms_read(source) and (writes(source) or is_sum(source))
            for source in others
        )

    def _only_norms_read(self, operation: keras.Operation) -> bool:
        key = id(operation)
        if key not in self._read_by_norms:
            readers = self._readers(operation)
            self._read_by_norms[key] = bool(readers) and all(
                is_norm(reader) or (is_sum(reader) and self._only_norms_read(reader)) for reader in readers
            )
        return self._read_by_norms[key]

    def _readers(self, operation: keras.Operation) -> list[keras.Operation]:
        """Who reads what `operation` gives, through what keeps it centred; none where a model hands it out."""
        if id(operation) in self.outputs or len(operation._inbound_nodes) != 1:
            return []
        readers: list[keras.Operation] = []
        for reader in consumers(operation):
            if not takes_as_stream(reader, operation):
                return []
            if keeps_centred(reader):
                further = self._readers(reader)
                if not further:
                    return []
                readers += further
            else:
                readers.append(reader)
        return readers


def source_of(operation: keras.Operation) -> keras.Operation | None:
    """Who writes the first input of `operation`, before what keeps it centred."""
    before = producer(operation)
    while before is not None and keeps_centred(before):
        before = producer(before)
    return before


def terms_of(operation: keras.Operation) -> list[keras.Operation | None]:
    """Who writes each term of a sum; None for a term that is an input of the model."""
    found: list[keras.Operation | None] = []
    tensors = operation._inbound_nodes[0].input_tensors
    for tensor in tensors[:1] if adds_positions(operation) else tensors:
        before = tensor._keras_history.operation
        if keeps_centred(before):
            before = source_of(before)
        found.append(None if isinstance(before, keras.layers.InputLayer) else before)
    return found


def is_sum(operation: keras.Operation) -> bool:
    """A sum of tensors of one shape, or of one tensor and its positions."""
    if adds_positions(operation):
        return True
    if type(operation).__name__ != "Add" or len(operation._inbound_nodes) != 1:
        return False
    tensors = operation._inbound_nodes[0].input_tensors
    return len(tensors) > 1 and len({tuple(tensor.shape) for tensor in tensors}) == 1


def takes_as_stream(reader: keras.Operation, operation: keras.Operation) -> bool:
    """Whether what `operation` gives is what `reader` works on, and not a mask or a position beside it."""
    if not isinstance(reader, (Mask, SinusoidalPositions)):
        return True
    given = [
        tensor._keras_history.operation for node in reader._inbound_nodes for tensor in node.input_tensors[1:]
    ]
    return operation not in given


def adds_positions(operation: keras.Operation) -> bool:
    """Whether it is a layer of sinusoids, called once."""
    return isinstance(operation, SinusoidalPositions) and len(operation._inbound_nodes) == 1


def is_relu(operation: keras.Operation) -> bool:
    """Whether it is a plain ReLU, called once."""
    if len(operation._inbound_nodes) != 1:
        return False
    if type(operation) is keras.layers.ReLU:
        return (operation.max_value, operation.negative_slope, operation.threshold) == (None, 0.0, 0.0)
    activated = type(operation) is keras.layers.Activation
    return activated and keras.activations.serialize(operation.activation) == "relu"


def writes(operation: keras.Operation) -> bool:
    """A product, or a table that is looked up, whose output channels can be centred in its weights."""
    if len(operation._inbound_nodes) != 1:
        return False
    if getattr(operation, "lora_enabled", False) or getattr(operation, "data_format", None) == CHANNELS_FIRST:
        return False
    if type(operation) in (RelativeAttention, keras.layers.Embedding):
        return True
    kinds = (keras.layers.Dense, keras.layers.Conv1D)
    return type(operation) in kinds and keras.activations.serialize(operation.activation) == "linear"


def keeps_centred(operation: keras.Operation) -> bool:
    """Whether a frame whose channels have no mean has none after it, and channels stay apart."""
    if isinstance(operation, (*_SILENT_AT_INFERENCE, *_MOVE_FRAMES)):
        return getattr(operation, "data_format", None) != CHANNELS_FIRST
    scales = type(operation) is keras.layers.Rescaling and np.ndim(operation.scale) == 0
    return scales and np.ndim(operation.offset) == 0 and operation.offset == 0


def _centre_product(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """`old`'s weights in `new`, the mean over output channels taken off those that write them."""
    new.set_weights(old.get_weights())
    for weight in written_by(new):
        values = np.asarray(weight, np.float64)
        weight.assign(values - values.mean(axis=-1, keepdims=True))


def written_by(product: keras.layers.Layer) -> list[keras.Variable]:
    """The weights, last axis the output channels, that write what a product (`writes`) gives."""
    if isinstance(product, keras.layers.Embedding):
        return [product.embeddings]
    name = "out_{}" if isinstance(product, RelativeAttention) else "{}"
    found = [getattr(product, name.format(part), None) for part in ("kernel", "bias")]
    return [weight for weight in found if weight is not None]
