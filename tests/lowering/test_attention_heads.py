"""AttentionHeads written out for integers says what it said: one query or many, masked, causal, neither."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tflite_asr.lowering import lower
from tflite_asr.lowering.attention_heads import PerHeadAttentionHeads
from tflite_asr.models.layers import AttentionHeads


@pytest.mark.parametrize("rows", [1, None], ids=["batch of one", "open batch"])
@pytest.mark.parametrize(
    ("queries", "causal", "masked"),
    [(1, False, True), (1, False, False), (6, False, True), (9, True, False), (9, True, True)],
)
def test_the_layer_keeps_its_function(rows: int | None, queries: int, causal: bool, masked: bool) -> None:
    query = keras.Input(batch_shape=(rows, queries, 8), name="query")
    key, value = (keras.Input(batch_shape=(rows, 9, 8), name=name) for name in ("key", "value"))
    inputs = [query, key, value]
    if masked:
        inputs.append(keras.Input(batch_shape=(rows, 9), name="mask"))
    model = keras.Model(inputs, AttentionHeads(2, causal=causal, name="heads")(*inputs))
    lowered = lower(model)
    assert isinstance(lowered.get_layer("heads"), PerHeadAttentionHeads)
    rng = np.random.default_rng(0)
    given = [3 * rng.standard_normal((rows or 2, n, 8)).astype(np.float32) for n in (queries, 9, 9)]
    if masked:
        given.append(np.tile(np.array([1, 1, 1, 1, 1, 0, 1, 0, 0], np.float32), (rows or 2, 1)))
    expected = np.asarray(model(given))
    np.testing.assert_allclose(np.asarray(lowered(given)), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


def test_a_head_attends_as_the_formula_says() -> None:
    rng = np.random.default_rng(1)
    query, key, value = (rng.standard_normal((1, n, 6)).astype(np.float32) for n in (2, 4, 4))
    mask = np.array([[1, 1, 0, 1]], np.float32)
    found = np.asarray(AttentionHeads(2)(query, key, value, mask))[0]
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        scores = query[0, :, part] @ key[0, [0, 1, 3], part].T / np.sqrt(3)
        weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[:, part], weights @ value[0, [0, 1, 3], part], atol=1e-5)
