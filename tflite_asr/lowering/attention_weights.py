"""Softmax attention over the visible keys, written for int8: what both attention rules are made of.

Weights are exp(score - what is at least the row's largest visible score), their product with the values is divided by
their sum. Why so, measured on 400 frames, 4 heads of 36, one thread, int8 SNR of the layer's output against float:
- Products of activations are FULLY_CONNECTED with a filter that is no constant, one per head: BATCH_MATMUL
  takes 22 ms in int8, these 2.1 to 2.7 (float32 of the unlowered layer: 2.7).
- SOFTMAX writes steps of 1/256: attention spread over 400 frames rounds to nothing (13 dB; written out 32 to 34). On
  sharp attention both have 24 dB. It also takes 1 ms more.
- A mask added as -1e9 (Keras) makes the range of the scores useless: .2 to 7 dB. Here masked scores are set to the
  least score of their row, which cannot be above its maximum, and their exponentials to zero: 24 to 27 dB. The half
  trained shipped Conformer, on real speech: 6.5 dB and 81 % of the argmax unlowered, 29.2 dB and 99 % lowered.
- One scale serves flat rows, whose sums reach hundreds, and peaked rows, whose sums are near 1. Where all queries see
  the same keys, what is taken off a row's scores is more than their maximum by half an estimate of log(sum): softmax
  does not see it, sums and products of all rows come out within one range, and 1 / sum is taken on the product alone.
  The estimate takes only the row's maximum, and its errors cancel out. The sum of all keys' weights less the hidden
  ones' would take MEAN instead of a product with the mask, and loses what cancels: 2.7 dB of the shipped Conformer at
  16 s.
- Elsewhere rsqrt(sum) on the weights and again on the product does the same: up to .8 dB more than 1 / sum on the
  weights. 1 / sum on the product alone, nothing taken off, costs the shipped Conformer .6 dB.
- exp(x) is ELU(x) + 1, since no x is above 0: XNNPACK looks both up in one table of bytes, .6 A76 instructions a score
  where EXP takes 5. Under a mask that changes from query to query the 1 is added where a key is visible, and what lies
  below 0 is cut: 3.8 instructions, where EXP and a product with the mask take 7.9.
- There the sum is taken twice, by one product: as it is, up to 255 / FINE, and FINE / 255 of it. One int8 scale for
  sums of 1 and of 400 has steps of 1.6, and the steps of a peaked row's root were up to a third of it.

ELU and REDUCE_MAX are left in float by AI Edge Quantizer; the finishing pass folds them (policy.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from tflite_asr.lowering.reciprocal_root import reciprocal_root

FINE = 12  # quanta of 1/255: sums up to 21.25 in steps of 1/12, and up to 451 in steps of 1.8


def visible_keys(mask: Any) -> Any:
    """`mask` (1 visible, 0 not; [..., queries or 1, keys]), with ones throughout a row that would see nothing.

    Keras gives such a query the mean of all values, and so does this.
    """
    return mask + ops.min(1.0 - mask, axis=-1, keepdims=True)


def exponentials(scores: Any, visible: Any = None) -> Any:
    """exp(score - the row's largest) where a key is visible, else 0; float32 [..., queries, keys] as the scores.

    scores: none of the invisible ones above the largest visible one of its row. visible: ones and zeros that
    broadcast to scores; None for ones.
    """
    below = ops.elu(scores - ops.max(scores, axis=-1, keepdims=True))
    return below + 1.0 if visible is None else ops.relu(below + visible)


def softmax_parts(scores: Any, visible: Any = None) -> tuple[Any, Any]:
    """`exponentials` and the reciprocal root of their sum, [..., queries, 1]."""
    parts = exponentials(scores, visible)
    return parts, ops.exp(_half_logarithm(_sums(parts, ops.ones((1, parts.shape[-1]), parts.dtype))))


def attend(
    scores: Any, values: Any, mask: Any = None, visible: Any = None, drop: Callable[[Any], Any] | None = None
) -> tuple[Any, Any]:
    """softmax(scores where mask) times values.

    scores: float32 [..., queries, keys]. values: float32 [..., channels, keys], transposed: that way the long
    side of the product is the filter's output side, which LiteRT's dynamic FULLY_CONNECTED handles best.
    mask: float32, ones and zeros, broadcastable to scores, None for all visible. visible: `visible_keys(mask)`.
    drop: dropout for the weights.
    Returns the product, transposed, [..., channels, queries], and a pair (exponentials, rsqrt of their sum) whose
    product with the second again is the softmax.
    """
    return _mix(*softmax_parts(_masked(scores, mask), visible), values, drop)


def _masked(scores: Any, mask: Any) -> Any:
    """Scores with the least of their row where `mask` is 0, all moved up by it."""
    return scores if mask is None else (scores - ops.min(scores, axis=-1, keepdims=True)) * mask


def _mix(
    parts: Any, half: Any, values: Any, drop: Callable[[Any], Any] | None
) -> tuple[Any, tuple[Any, Any]]:
    """What `attend` returns, from `softmax_parts`."""
    weights = parts * half
    mixed = ops.matmul(values, _transposed(weights if drop is None else drop(weights))) * _transposed(half)
    return mixed, (weights, half)


def _sums(parts: Any, counted: Any) -> Any:
    """Exponentials of `counted` keys ([1, keys], ones and zeros) summed, in two grains: [..., queries, 2].

    The first is the sum, right up to the limit of `_half_logarithm`; the second, for larger ones, a part of it.
    """
    grains = ops.convert_to_tensor(np.array([[1.0], [FINE / 255]], np.float32))
    return ops.matmul(parts, ops.transpose(counted * grains))


def _half_logarithm(sums: Any) -> Any:
    """-log(sum) / 2 [..., 1] from its two grains [..., 2]; sums of at least 1, as a row's largest exponential is.

    log(sum) = log(min(sum, L)) + relu(log(sum / L)), L = 255 / FINE; the first stops where the second begins.
    """
    logarithms = ops.relu(ops.log(ops.minimum(sums, 255 / FINE)))
    return ops.mean(logarithms, axis=-1, keepdims=True) * -1.0


def attend_alike(
    queries: Sequence[Any],
    keys: Sequence[Any],
    values: Any,
    mask: Any = None,
    drop: Callable[[Any], Any] | None = None,
) -> tuple[Any, list[Any]]:
    """`attend_heads` where all queries see the same keys, mask [1, keys] or None, and scores have no biases.

    queries, keys: of each head, the latter `centred`: with that the mean of a row's scores is zero, a hidden one's too,
    and never above the largest. Keys and values are zero where they are hidden, so nothing is done to each score for
    the mask, and what is visible is counted by a product with it.
    """
    visible = None if mask is None else visible_keys(mask)
    count = (
        keys[0].shape[0] if visible is None else ops.mean(visible, axis=-1, keepdims=True) * keys[0].shape[0]
    )
    heads = len(keys)
    log_count = ops.log(count + 1.0)
    parts, sums = [], []
    for query, key in zip(queries, keys, strict=True):
        scores = ops.matmul(query, ops.transpose(key))
        top = ops.max(scores, axis=-1, keepdims=True)
        parts.append(ops.elu(scores - (top + _half_spread(top, log_count))) + 1.0)
        sums.append(_summed(parts[-1], visible))
    wholes = ops.split(ops.exp(ops.log(ops.concatenate(sums, axis=0)) * -1.0), heads)
    mixed = [
        ops.matmul(value, ops.transpose(one if drop is None else drop(one))) * whole
        for value, one, whole in zip(ops.split(ops.transpose(values), heads), parts, wholes, strict=True)
    ]
    shown = [one if visible is None else one * visible for one in parts]
    weights = [(one, ops.transpose(whole)) for one, whole in zip(shown, wholes, strict=True)]
    return ops.transpose(ops.concatenate(mixed, axis=0)), weights


def centred(frames: Any, mask: Any = None) -> Any:
    """Frames [keys, channels] less the mean of those that are visible: softmax does not see it in keys.

    mask: [1, keys], None for all visible; hidden frames are zero, and stay so.
    """
    if mask is None:
        return frames - ops.mean(frames, axis=0, keepdims=True)
    root = reciprocal_root(ops.mean(visible_keys(mask), axis=-1, keepdims=True))
    return frames - ops.transpose(mask) * (ops.mean(frames, axis=0, keepdims=True) * root * root)


def _half_spread(top: Any, log_count: Any) -> Any:
    """Half an estimate of log(sum of exp(score - top)), [queries, 1], from the largest of scores whose mean is zero.

    Of `count` normal scores whose largest is sqrt(2 log(count)) deviations above their mean, as it is expected to be:
    (1 - top / 2 log(count))^2 log(count) (Derrida 1981, the random-energy model).
    """
    flatness = ops.relu(1.0 - top * ops.exp(ops.log(log_count * 2.0) * -1.0))
    return flatness * flatness * (log_count * 0.5)


def _summed(parts: Any, visible: Any) -> Any:
    """Sums over the visible keys [1, keys], None for all: [1, queries]."""
    if visible is None:
        return ops.transpose(ops.mean(parts, axis=-1, keepdims=True) * parts.shape[-1])
    return ops.matmul(visible, ops.transpose(parts))


def attend_heads(
    queries: Any,
    keys: Any,
    values: Any,
    heads: int,
    mask: Any = None,
    biases: Sequence[Any] | None = None,
    drop: Callable[[Any], Any] | None = None,
) -> tuple[Any, list[Any]]:
    """Attention of each head by itself, in two dimensions: batch 1.

    queries: float32 [queries, heads * key channels], already scaled; keys [keys, heads * key channels].
    values: float32 [keys, heads * channels]. mask: [queries or 1, keys]. biases: [queries, keys] a head, added
    to its scores. Returns float32 [queries, heads * channels] and for each head the pair of `attend`.
    """
    if biases is None and (mask is None or mask.shape[0] == 1):
        if mask is not None:
            keys, values = keys * ops.transpose(mask), values * ops.transpose(visible_keys(mask))
        query, key = (ops.split(one, heads, axis=-1) for one in (queries, centred(keys, mask)))
        return attend_alike(query, key, values, mask, drop)
    visible = None if mask is None else visible_keys(mask)
    parts = []
    heads_of_both = zip(ops.split(queries, heads, axis=-1), ops.split(keys, heads, axis=-1), strict=True)
    for head, (query, key) in enumerate(heads_of_both):
        scores = ops.matmul(query, ops.transpose(key))
        if biases is not None:
            scores = scores + biases[head]
        parts.append(exponentials(_masked(scores, mask), visible))
    ones = ops.ones((1, keys.shape[0]), keys.dtype)
    sums = ops.stack([_sums(one, ones) for one in parts], axis=1)
    halves = ops.squeeze(_half_logarithm(sums), axis=-1)
    mixed = [
        _mix(one, ops.exp(half), value, drop)
        for one, half, value in zip(
            parts, ops.split(halves, heads, axis=-1), ops.split(ops.transpose(values), heads), strict=True
        )
    ]
    weights = [pair for _, pair in mixed]
    return ops.transpose(ops.concatenate([one for one, _ in mixed], axis=0)), weights


def unbatched(tensor: Any) -> Any:
    """[1, ...] without its batch axis, by RESHAPE: `tensor[0]` is a STRIDED_SLICE, whose int8 kernel copies number by
    number (14 % of a Conformer's time)."""
    return tensor[0] if None in tensor.shape[1:] else ops.reshape(tensor, tensor.shape[1:])


def _transposed(matrix: Any) -> Any:
    return ops.swapaxes(matrix, -1, -2)
