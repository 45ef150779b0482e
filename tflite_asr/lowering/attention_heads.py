"""tflite_asr's AttentionHeads (over what was projected before) as products per head and a softmax written out; why:
attention_weights.py.

A single query, as a decoder has at each step, hides its scores, [heads, keys] in one go: to hide the keys themselves,
as many queries do, would be a pass over every channel of every key.
"""

from __future__ import annotations

import math

import keras
from keras import ops

from tflite_asr.lowering.attention_weights import (
    attend,
    attend_heads,
    softmax_parts,
    unbatched,
    visible_keys,
)
from tflite_asr.lowering.replacement import Replacement
from tflite_asr.models.layers import AttentionHeads


@keras.saving.register_keras_serializable(package="tflite_asr")
class PerHeadAttentionHeads(AttentionHeads):
    """AttentionHeads with the same config, arguments and result."""

    def call(self, queries, keys, values, mask=None):
        scaled = queries * (1.0 / math.sqrt(queries.shape[-1] // self.heads))
        seen = self.visible(queries, keys, mask)
        if queries.shape[0] == 1 and None not in (queries.shape[1], keys.shape[1]):
            query, key, value = (unbatched(one) for one in (scaled, keys, values))
            seen = None if seen is None else unbatched(seen)
            if queries.shape[1] == 1:
                mixed = self.of_one_query(query, key, value, seen)
            else:
                mixed, _ = attend_heads(query, key, value, self.heads, seen)
            return ops.expand_dims(mixed, 0)
        seen = None if seen is None else ops.expand_dims(seen, 1)
        query, key, value = (self.split_heads(one) for one in (scaled, keys, values))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        visible = None if seen is None else visible_keys(seen)
        mixed, _ = attend(scores, ops.transpose(value, (0, 1, 3, 2)), seen, visible)
        mixed = ops.transpose(mixed, (0, 3, 1, 2))
        return ops.reshape(mixed, (-1, ops.shape(queries)[1], values.shape[-1]))

    def of_one_query(self, query, keys, values, seen):
        """float32 [1, inner] of query [1, inner], already scaled, keys and values [keys, inner], seen [1, keys]."""
        pairs = zip(ops.split(query, self.heads, -1), ops.split(keys, self.heads, -1), strict=True)
        scores = ops.concatenate([ops.matmul(q, ops.transpose(k)) for q, k in pairs], axis=0)
        if seen is not None:
            scores = (scores - ops.min(scores, axis=-1, keepdims=True)) * seen
        parts, half = softmax_parts(scores, None if seen is None else visible_keys(seen))
        weights = ops.split(parts * half, self.heads, axis=0)
        columns = ops.split(ops.transpose(values), self.heads)
        mixed = [
            ops.matmul(weight, ops.transpose(column)) for weight, column in zip(weights, columns, strict=True)
        ]
        rows = ops.concatenate(mixed, axis=0) * half
        return ops.reshape(rows, (1, -1))


def rule(operation: keras.Operation) -> Replacement | None:
    """An AttentionHeads layer."""
    if type(operation) is not AttentionHeads:
        return None
    return Replacement((PerHeadAttentionHeads.from_config(operation.get_config()),))
