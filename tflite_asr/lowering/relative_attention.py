"""tflite_asr's RelativeAttention as products per head and a softmax written out; why: attention_weights.py.

400 frames, 4 heads of 36, int8 as it stands to lowered (float32), `benchmarks/rules.py`: without positions 8.0 to 1.9
ms (2.2), 48 to 14.0 million A76 instructions (35); with them 26 to 4.7 ms (5.8), 271 to 37.3 (64.7).
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from tflite_asr.lowering.attention_weights import (
    attend,
    attend_alike,
    attend_heads,
    centred,
    unbatched,
    visible_keys,
)
from tflite_asr.lowering.replacement import Replacement, same_weights
from tflite_asr.models.layers import RelativeAttention


@keras.saving.register_keras_serializable(package="tflite_asr")
class PerHeadRelativeAttention(RelativeAttention):
    """RelativeAttention with the same weights, config, arguments and result.

    The key's bias adds the same number to all scores of a query, which softmax does not see: it is left out, so that it
    does not widen the range of the scores.
    """

    def call(self, inputs, mask_frames):
        relative = self.positions == "relative"
        frames = ops.shape(inputs)[1]
        mask = ops.expand_dims(ops.cast(mask_frames, inputs.dtype), 1)
        band = self.band(frames)
        single = inputs.shape[0] == 1 and inputs.shape[1] is not None
        if single and not relative and band is None:
            return ops.expand_dims(self._of_shown(unbatched(inputs), unbatched(mask)), 0)
        query = ops.matmul(inputs, self.query_kernel * self._scale)
        bias = 0.0 if self.query_bias is None else self.query_bias
        content = query + (bias + self.content_bias if relative else bias) * self._scale
        position = query + (bias + self.position_bias) * self._scale if relative else None
        key = ops.matmul(inputs, self.key_kernel)
        value = self.project("value", inputs)
        if band is not None:
            mask = mask * ops.expand_dims(ops.cast(band, inputs.dtype), 0)
        if single:
            biases = self._position_biases(unbatched(position), inputs.shape[1]) if relative else None
            mixed, _ = attend_heads(
                unbatched(content), unbatched(key), unbatched(value), self.heads, unbatched(mask), biases
            )
            mixed = ops.expand_dims(mixed, 0)
        else:
            scores = ops.matmul(self.split_heads(content), ops.transpose(self.split_heads(key), (0, 1, 3, 2)))
            if relative:
                scores = scores + self.position_scores(position, frames)
            mask = ops.expand_dims(mask, 1)
            columns = ops.transpose(self.split_heads(value), (0, 1, 3, 2))
            mixed, _ = attend(scores, columns, mask, visible_keys(mask))
            mixed = ops.reshape(ops.transpose(mixed, (0, 3, 1, 2)), (-1, frames, self.heads * self.key_dim))
        return self.project("out", mixed)

    def _of_shown(self, inputs, mask):
        """float32 [frames, dim] of inputs [frames, dim] under a mask [1, frames] for all queries, without positions.

        Frames are hidden once, before their keys and values are made of them, and centred before they become keys.
        Products of each head's own, instead of one that is split, would save .05 million A76 instructions of the
        shipped Conformer at 4 s and .3 at 16 s, and cost 6 KB of scales, buffers and tables.
        Keys of hidden frames that are left as they are, and so may be the largest, would save .18 million at 4 s, and
        cost 7 to 11 dB where most of a window is padding. The value's bias comes through weights that sum to 1 as it
        is, and goes into the last one; where nothing is visible it is all that comes.
        """
        shown = inputs * ops.transpose(mask)
        query = ops.matmul(inputs, self.query_kernel * self._scale)
        if self.query_bias is not None:
            query = query + self.query_bias * self._scale
        key = ops.matmul(centred(shown, mask), self.key_kernel)
        queries, keys = (ops.split(one, self.heads, axis=-1) for one in (query, key))
        mixed, _ = attend_alike(queries, keys, ops.matmul(shown, self.value_kernel), mask)
        mixed = ops.matmul(mixed, self.out_kernel)
        if self.value_bias is None:
            return mixed
        bias = ops.matmul(ops.expand_dims(self.value_bias, 0), self.out_kernel)
        return mixed + (ops.squeeze(bias, 0) + self.out_bias)

    @property
    def _scale(self) -> float:
        return 1.0 / math.sqrt(self.key_dim)

    def _position_biases(self, query: Any, frames: int) -> list[Any]:
        """For each head (q + v) r_{i-j}, float32 [frames, frames]; query [frames, heads * key_dim].

        The products of all distances are read off by two slices around a reshape, `relative_shift` without its padding:
        row i of `frames` numbers starts frames - 1 - i into its row of 2 frames - 1.
        """
        distances = ops.cast(frames - 1, "float32") - ops.cast(ops.arange(2 * frames - 1), "float32")
        table = ops.matmul(ops.cast(self._distance_table(distances), query.dtype), self.position_kernel)
        biases = []
        for q, keys in zip(ops.split(query, self.heads, -1), ops.split(table, self.heads, -1), strict=True):
            scores = ops.reshape(ops.matmul(q, ops.transpose(keys)), (-1,))
            if frames > 1:
                scores = scores[frames - 1 : frames - 1 + frames * (2 * frames - 2)]
            biases.append(ops.reshape(scores, (frames, -1))[:, :frames])
        return biases


def rule(operation: keras.Operation) -> Replacement | None:
    """A RelativeAttention layer."""
    if type(operation) is not RelativeAttention:
        return None
    return same_weights(PerHeadRelativeAttention.from_config(operation.get_config()), operation)
