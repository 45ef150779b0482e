"""keras.layers.MultiHeadAttention as products per head and a softmax written out; why: attention_weights.py.

400 frames, 4 heads of 36, int8 as it stands to lowered (float32), `benchmarks/rules.py`: 17.5 to 2.0 ms (4.5), 163 to
14.0 million A76 instructions (46.7).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tflite_asr.lowering.attention_weights import attend, attend_heads, unbatched, visible_keys
from tflite_asr.lowering.replacement import Replacement, same_weights
from tflite_asr.lowering.truth import as_numbers, is_set


@keras.saving.register_keras_serializable(package="tflite_asr")
class PerHeadAttention(keras.layers.MultiHeadAttention):
    """keras.layers.MultiHeadAttention over one axis with the same weights, config, arguments and result.

    The key's bias adds the same number to all scores of a query, which softmax does not see: it is left out, so that it
    does not widen the range of the scores.
    """

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        key = value if key is None else key
        mask = self._compute_attention_mask(
            query,
            value,
            query_mask=query_mask,
            value_mask=value_mask,
            key_mask=key_mask,
            attention_mask=None if attention_mask is None else is_set(attention_mask),
            use_causal_mask=use_causal_mask,
        )
        mask = None if mask is None else as_numbers(mask, query.dtype)
        inner = self.num_heads * self.key_dim
        queries = self._project(self._query_dense, query, inner, self._inverse_sqrt_key_dim)
        keys = self._project(self._key_dense, key, inner, bias=False)
        values = self._project(self._value_dense, value, self.num_heads * self.value_dim)
        heads, drop = self.num_heads, None
        if self.dropout > 0 and training:
            drop = self._dropout_layer
        if query.shape[0] == 1 and (mask is None or (mask.shape[0] == 1 and len(mask.shape) == 3)):
            mixed, pairs = attend_heads(
                unbatched(queries),
                unbatched(keys),
                unbatched(values),
                heads,
                None if mask is None else unbatched(mask),
                drop=drop,
            )
            mixed = ops.expand_dims(mixed, 0)
            weights = (
                ops.expand_dims(ops.stack([a * b for a, b in pairs]), 0) if return_attention_scores else None
            )
        else:
            q, k, v = (_split_heads(x, heads) for x in (queries, keys, values))
            if mask is not None and len(mask.shape) == 3:
                mask = ops.expand_dims(mask, 1)
            visible = None if mask is None else visible_keys(mask)
            scores = ops.matmul(q, ops.swapaxes(k, -1, -2))
            mixed, (half_way, half) = attend(scores, ops.swapaxes(v, -1, -2), mask, visible, drop)
            mixed = ops.transpose(mixed, (0, 3, 1, 2))
            weights = half_way * half
        if self._use_gate:
            gate = keras.activations.sigmoid(self._project(self._gate_dense, query, heads * self.value_dim))
            mixed = ops.reshape(mixed, (-1, ops.shape(gate)[1], gate.shape[-1])) * gate
        mixed = ops.reshape(mixed, (-1, ops.shape(query)[1], heads * self.value_dim))
        out = self._output_dense
        mixed = ops.matmul(mixed, ops.reshape(out.kernel, (heads * self.value_dim, -1)))
        if out.bias is not None:
            mixed = mixed + out.bias
        return (mixed, weights) if return_attention_scores else mixed

    def _project(self, dense: Any, x: Any, width: int, scale: float = 1.0, bias: bool = True) -> Any:
        """x [batch, frames, channels] through an EinsumDense of kernel [channels, heads, width / heads]."""
        y = ops.matmul(x, ops.reshape(dense.kernel, (-1, width)) * scale)
        return y if dense.bias is None or not bias else y + ops.reshape(dense.bias, (width,)) * scale


def _split_heads(x: Any, heads: int) -> Any:
    """[batch, frames, heads * channels] to [batch, heads, frames, channels]."""
    return ops.transpose(ops.reshape(x, (-1, ops.shape(x)[1], heads, x.shape[-1] // heads)), (0, 2, 1, 3))


def rule(operation: keras.Operation) -> Replacement | None:
    """A MultiHeadAttention over one axis, [batch, frames, channels] to the same rank."""
    if type(operation) is not keras.layers.MultiHeadAttention:
        return None
    one_axis = operation.attention_axes in (None, (1,), [1])
    plain = operation._output_shape is None or len(operation._output_shape) == 1
    if not (one_axis and plain and len(operation._query_dense.kernel.shape) == 3 and _rank(operation) == 3):
        return None
    return same_weights(PerHeadAttention.from_config(operation.get_config()), operation)


def _rank(layer: keras.layers.MultiHeadAttention) -> int:
    return len(layer._inbound_nodes[0].input_tensors[0].shape)
