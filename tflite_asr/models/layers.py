"""Layers that Keras lacks: gated linear unit, padding mask, attention, positions as sinusoids."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

POSITIONS = ("none", "relative")


@keras.saving.register_keras_serializable(package="tflite_asr")
class GatedLinearUnit(keras.layers.Layer):
    """a * sigmoid(b), a and b the two halves of the last axis (Dauphin et al. 2017).

    float32 [..., 2 channels] to [..., channels].
    """

    def call(self, inputs):
        values, gates = ops.split(inputs, 2, axis=-1)
        return values * ops.sigmoid(gates)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] // 2)


@keras.saving.register_keras_serializable(package="tflite_asr")
class Mask(keras.layers.Layer):
    """Zero the frames of padding: x [batch, frames, channels] * mask [batch, frames]."""

    def call(self, inputs, mask_frames):
        return inputs * ops.expand_dims(ops.cast(mask_frames, inputs.dtype), -1)

    def compute_output_shape(self, inputs_shape, mask_frames_shape=None):
        return inputs_shape


@keras.saving.register_keras_serializable(package="tflite_asr")
class SoundingFrames(keras.layers.Layer):
    """1 where a frame of features holds anything, 0 where it is padding: all zero.

    float32 [batch, frames, mels] to [batch, frames / stride, 1, 1], of the first of every `stride` frames. A saturating
    function of the mean square, so that int8 gives exactly 0 and 1 too: a frame of normalised features has one of
    about 1, and from .06 on it counts whole.
    """

    def __init__(self, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, inputs):
        shape = ops.shape(inputs)
        groups = ops.reshape(inputs, (-1, shape[1] // self.stride, self.stride * inputs.shape[2]))
        frames = groups[:, :, : inputs.shape[2]]
        squares = ops.mean(frames * frames, axis=-1, keepdims=True)
        return ops.expand_dims(ops.relu6(squares * 100.0) * (1.0 / 6.0), -1)

    def compute_output_shape(self, inputs_shape):
        batch, frames, _ = inputs_shape
        return (batch, None if frames is None else frames // self.stride, 1, 1)

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}


@keras.saving.register_keras_serializable(package="tflite_asr")
class RelativeAttention(keras.layers.Layer):
    """Multi-head self-attention over time, with Transformer-XL's relative positions or with none.

    score(i, j) = ((q_i + u) k_j + (q_i + v) r_{i-j}) / sqrt(key_dim), r the projected sinusoid of the distance i - j
    (Dai et al. 2019, section 3.3; Gulati et al. 2020). Frames of padding are never attended to.

    Args:
        heads, key_dim: number of heads and channels of each.
        positions: "none" or "relative".
        left_context: frames to the left that a frame sees; None for all.
        lookahead: frames to the right; None for all.
        use_bias: biases of the four projections.

    Call with x float32 [batch, frames, dim] and mask [batch, frames] (1 valid, 0 padding); gives [batch, frames, dim].
    """

    def __init__(
        self,
        heads: int,
        key_dim: int,
        positions: str = "none",
        left_context: int | None = None,
        lookahead: int | None = None,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if positions not in POSITIONS:
            raise ValueError(f"positions is {positions!r}; give one of {', '.join(POSITIONS)}")
        self.heads, self.key_dim, self.positions = heads, key_dim, positions
        self.left_context, self.lookahead = left_context, lookahead
        self.use_bias = use_bias

    def build(self, inputs_shape, mask_frames_shape=None):
        dim, inner = inputs_shape[-1], self.heads * self.key_dim
        for name, shape in (("query", (dim, inner)), ("key", (dim, inner)), ("value", (dim, inner))):
            self._add_projection(name, shape)
        self._add_projection("out", (inner, dim))
        if self.positions == "relative":
            glorot = keras.initializers.GlorotUniform()
            self.position_kernel = self.add_weight(
                name="position_kernel", shape=(dim, inner), initializer=glorot
            )
            self.content_bias = self.add_weight(name="content_bias", shape=(inner,), initializer="zeros")
            self.position_bias = self.add_weight(name="position_bias", shape=(inner,), initializer="zeros")
        self.built = True

    def _add_projection(self, name: str, shape: tuple[int, int]) -> None:
        kernel = self.add_weight(
            name=f"{name}_kernel", shape=shape, initializer=keras.initializers.GlorotUniform()
        )
        setattr(self, f"{name}_kernel", kernel)
        bias = (
            self.add_weight(name=f"{name}_bias", shape=shape[1:], initializer="zeros")
            if self.use_bias
            else None
        )
        setattr(self, f"{name}_bias", bias)

    def project(self, name: str, x):
        """One of the four projections "query", "key", "value", "out" of x [..., channels]."""
        y = ops.matmul(x, getattr(self, f"{name}_kernel"))
        bias = getattr(self, f"{name}_bias")
        return y if bias is None else y + bias

    def split_heads(self, x):
        """[batch, frames, heads * key_dim] to [batch, heads, frames, key_dim]."""
        shape = ops.shape(x)
        return ops.transpose(ops.reshape(x, (-1, shape[1], self.heads, self.key_dim)), (0, 2, 1, 3))

    def call(self, inputs, mask_frames):
        frames = ops.shape(inputs)[1]
        query, key, value = (self.project(name, inputs) for name in ("query", "key", "value"))
        content = query if self.positions == "none" else query + self.content_bias
        scores = ops.matmul(self.split_heads(content), ops.transpose(self.split_heads(key), (0, 1, 3, 2)))
        if self.positions == "relative":
            scores = scores + self.position_scores(query + self.position_bias, frames)
        scores = scores * (1.0 / math.sqrt(self.key_dim))
        visible = ops.cast(ops.expand_dims(ops.expand_dims(mask_frames, 1), 1), scores.dtype)
        band = self.band(frames)
        if band is not None:
            visible = visible * ops.cast(band, scores.dtype)
        weights = ops.softmax(scores + (1.0 - visible) * -1e9, axis=-1)
        mixed = ops.matmul(weights, self.split_heads(value))
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, frames, self.heads * self.key_dim))
        return self.project("out", mixed)

    def band(self, frames):
        """1 where frame i may look at frame j, float32 [frames, frames], or None where every frame may."""
        if self.left_context is None and self.lookahead is None:
            return None
        index = ops.arange(frames)
        ahead = ops.expand_dims(index, 0) - ops.expand_dims(index, 1)
        seen = ops.ones_like(ahead, dtype="float32")
        if self.left_context is not None:
            seen = seen * ops.cast(ahead >= -self.left_context, "float32")
        if self.lookahead is not None:
            seen = seen * ops.cast(ahead <= self.lookahead, "float32")
        return seen

    def position_scores(self, query, frames):
        """(q + v) r_{i-j}, float32 [batch, heads, frames, frames]: a product over all distances, then the shift."""
        distances = ops.cast(ops.arange(2 * frames - 1), "float32")
        distances = ops.cast(frames - 1, "float32") - distances  # frames - 1 down to 1 - frames
        table = ops.cast(self._distance_table(distances), query.dtype)
        keys = ops.reshape(ops.matmul(table, self.position_kernel), (-1, self.heads, self.key_dim))
        scores = ops.matmul(self.split_heads(query), ops.transpose(keys, (1, 2, 0)))
        return relative_shift(scores, frames)

    def _distance_table(self, distances):
        dim = self.position_kernel.shape[0]
        frequency = np.exp(np.arange(0, dim, 2) * (-math.log(10000.0) / dim)).astype(np.float32)
        angle = ops.expand_dims(distances, -1) * frequency
        pairs = ops.stack([ops.sin(angle), ops.cos(angle)], axis=-1)
        return ops.reshape(pairs, (-1, dim))

    def compute_output_shape(self, inputs_shape, mask_frames_shape=None):
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "key_dim": self.key_dim,
            "positions": self.positions,
            "left_context": self.left_context,
            "lookahead": self.lookahead,
            "use_bias": self.use_bias,
        }


@keras.saving.register_keras_serializable(package="tflite_asr")
class AttentionHeads(keras.layers.Layer):
    """Scaled dot-product attention of several heads over what was projected before: no weights of its own.

    Call with queries float32 [batch, queries, inner], keys [batch, keys, inner], values [batch, keys, inner] and,
    where not all keys may be seen, mask [batch, keys] (1 visible, 0 not); gives [batch, queries, inner]. inner is heads
    times the channels of one; `causal`: query i sees keys 0 to i.
    """

    def __init__(self, heads: int, causal: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.causal = heads, causal

    def split_heads(self, x):
        """[batch, length, inner] to [batch, heads, length, inner / heads]."""
        length = ops.shape(x)[1]
        return ops.transpose(
            ops.reshape(x, (-1, length, self.heads, x.shape[-1] // self.heads)), (0, 2, 1, 3)
        )

    def visible(self, queries, keys, mask):
        """1 where a query may see a key, float32 [batch or 1, queries or 1, keys]; None where every one may."""
        seen = None if mask is None else ops.expand_dims(ops.cast(mask, queries.dtype), 1)
        if self.causal:
            past = ops.expand_dims(ops.arange(ops.shape(keys)[1]), 0) <= ops.expand_dims(
                ops.arange(ops.shape(queries)[1]), 1
            )
            past = ops.expand_dims(ops.cast(past, queries.dtype), 0)
            seen = past if seen is None else seen * past
        return seen

    def call(self, queries, keys, values, mask=None):
        scale = 1.0 / math.sqrt(queries.shape[-1] // self.heads)
        transposed = ops.transpose(self.split_heads(keys), (0, 1, 3, 2))
        scores = ops.matmul(self.split_heads(queries * scale), transposed)
        seen = self.visible(queries, keys, mask)
        if seen is not None:
            scores = scores + ops.expand_dims(1.0 - seen, 1) * -1e9
        mixed = ops.matmul(ops.softmax(scores, axis=-1), self.split_heads(values))
        return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, ops.shape(queries)[1], values.shape[-1]))

    def compute_output_shape(self, queries_shape, keys_shape=None, values_shape=None, mask_shape=None):
        return (*queries_shape[:2], (values_shape or queries_shape)[-1])

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "causal": self.causal}


@keras.saving.register_keras_serializable(package="tflite_asr")
class SinusoidalPositions(keras.layers.Layer):
    """x [batch, length, channels] plus the sinusoids of its positions (Vaswani et al. 2017, section 3.5).

    They count from 0, or from `position` int32 [batch, 1] where that is given: then length is 1, and positions go up to
    `longest` - 1.
    """

    def __init__(self, longest: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longest = longest

    def table(self, length: int, channels: int) -> np.ndarray:
        """float32 [length, channels], sines and cosines by turns."""
        angle = np.arange(length)[:, None] * np.exp(
            np.arange(0, channels, 2) * (-math.log(10000.0) / channels)
        )
        pairs = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, -1)
        return pairs[:, :channels].astype(np.float32)

    def call(self, inputs, position=None):
        channels = inputs.shape[-1]
        if position is not None:
            table = self.written(ops.convert_to_tensor(self.table(self.longest, channels)))
            return inputs + ops.take(table, position, axis=0)
        if inputs.shape[1] is not None:
            return inputs + self.written(ops.convert_to_tensor(self.table(inputs.shape[1], channels)))
        length = ops.shape(inputs)[1]
        frequency = np.exp(np.arange(0, channels, 2) * (-math.log(10000.0) / channels)).astype(np.float32)
        angle = ops.expand_dims(ops.cast(ops.arange(length), "float32"), -1) * frequency
        pairs = ops.reshape(ops.stack([ops.sin(angle), ops.cos(angle)], axis=-1), (length, -1))
        return inputs + self.written(ops.cast(pairs[:, :channels], inputs.dtype))

    def written(self, sinusoids):
        """What is added of sinusoids float32 [length, channels]."""
        return sinusoids

    def compute_output_shape(self, inputs_shape, position_shape=None):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "longest": self.longest}


def relative_shift(scores, frames):
    """Transformer-XL's shift (Dai et al. 2019, appendix B).

    scores [batch, heads, frames, 2 frames - 1], column c the distance frames - 1 - c; gives
    [batch, heads, frames, frames] whose (i, j) is the score of the distance i - j.
    """
    heads = scores.shape[1]
    padded = ops.pad(scores, ((0, 0), (0, 0), (0, 0), (1, 0)))
    rolled = ops.reshape(padded, (-1, heads, 2 * frames, frames))[:, :, 1:]
    return ops.reshape(rolled, (-1, heads, frames, 2 * frames - 1))[..., :frames]
