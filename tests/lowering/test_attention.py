"""Both attention layers, against Keras' own formulas in float and against themselves in int8."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import pytest
from keras import ops
from keras.layers import MultiHeadAttention

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.lowering import lower
from tflite_asr.models.layers import RelativeAttention
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.serialize import read_model

FRAMES, DIM = 24, 16
VALID = (24, 15, 6)


def feeds(mask: str = "") -> list[dict[str, np.ndarray]]:
    """White noise; with a mask of 24, 15 and 6 valid frames, float or bool."""
    some = noise((FRAMES, DIM))
    if mask:
        for feed, valid in zip(some, VALID, strict=True):
            feed["mask"] = (np.arange(FRAMES) < valid)[None].astype(mask)
    return some


def multi_head(mask: str = "", settings: dict | None = None, **call) -> keras.Model:
    x = keras.Input((FRAMES, DIM), name="x")
    inputs = [x]
    if mask:
        inputs.append(keras.Input((FRAMES,), name="mask", dtype=mask))
        call["attention_mask"] = ops.expand_dims(inputs[1], 1)
    attention = MultiHeadAttention(**{"num_heads": 2, "key_dim": 6, "name": "attention", **(settings or {})})
    return randomised(keras.Model(inputs, attention(x, x, **call)))


def relative(key_dim: int = 8, **settings) -> keras.Model:
    x, mask = keras.Input((FRAMES, DIM), name="x"), keras.Input((FRAMES,), name="mask")
    return randomised(
        keras.Model([x, mask], RelativeAttention(2, key_dim, name="attention", **settings)(x, mask))
    )


MULTI_HEAD = {
    "plain": {},
    "no bias": {"settings": {"use_bias": False}},
    "value_dim": {"settings": {"value_dim": 5, "output_shape": 7}},
    "gate": {"settings": {"use_gate": True}},
    "window": {"settings": {"sliding_window": 3}},
    "causal": {"use_causal_mask": True},
    "scores": {"return_attention_scores": True},
    "float mask": {"mask": "float32"},
    "bool mask": {"mask": "bool"},
    "mask, scores": {"mask": "float32", "return_attention_scores": True},
    "mask, causal, scores": {"mask": "float32", "use_causal_mask": True, "return_attention_scores": True},
}
RELATIVE = {
    "none": {},
    "relative": {"positions": "relative"},
    "no bias": {"use_bias": False, "positions": "relative"},
    "heads of 16": {"key_dim": 16},
    "heads of 16, no bias": {"key_dim": 16, "use_bias": False},
    "band": {"left_context": 4, "lookahead": 2},
    "relative band": {"positions": "relative", "left_context": 4, "lookahead": 0},
}


@pytest.mark.parametrize("case", MULTI_HEAD)
def test_multi_head_attention_keeps_its_function(case):
    model = multi_head(**MULTI_HEAD[case])
    lowered = lower(model)
    assert type(lowered.get_layer("attention")).__name__ == "PerHeadAttention"
    assert largest_difference(model, lowered, feeds(MULTI_HEAD[case].get("mask", ""))) < 1e-5


@pytest.mark.parametrize("case", RELATIVE)
def test_relative_attention_keeps_its_function(case):
    model = relative(**RELATIVE[case])
    assert largest_difference(model, lower(model), feeds("float32")) < 1e-5


def test_attention_to_another_sequence_keeps_its_function():
    x, memory = keras.Input((5, DIM), name="x"), keras.Input((9, 12), name="memory")
    model = randomised(keras.Model([x, memory], MultiHeadAttention(2, 4)(x, memory)))
    some = [{**a, **b} for a, b in zip(noise((5, DIM)), noise((9, 12), name="memory"), strict=True)]
    assert largest_difference(model, lower(model), some) < 1e-5


def test_scores_far_below_zero_are_no_trouble():
    """exp(score - the largest visible one) must not vanish where every visible score is far below the hidden ones."""
    model = relative()
    layer = model.get_layer("attention")
    layer.query_bias.assign(np.full(16, 6.0, np.float32))
    some = feeds("float32")
    for feed in some:
        feed["x"] = np.where(feed["mask"][..., None] > 0, feed["x"] - 8, feed["x"] + 8).astype(np.float32)
    assert largest_difference(model, lower(model), some[:1]) < 1e-4


@pytest.mark.parametrize("valid", [1, 2, FRAMES])
def test_any_number_of_visible_frames_keeps_the_function(valid):
    model, some = relative(), feeds("float32")[:1]
    some[0]["mask"] = (np.arange(FRAMES) < valid)[None].astype("float32")
    assert largest_difference(model, lower(model), some) < 1e-5


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_flat_and_peaked_rows_keep_their_function(spread):
    model, some = relative(), feeds("float32")
    layer = model.get_layer("attention")
    layer.query_kernel.assign(np.asarray(layer.query_kernel) * spread)
    assert largest_difference(model, lower(model), some) < 1e-4


def test_one_mask_for_all_queries_takes_no_product_with_every_score():
    """Nor another pass: the scores, what is left of them below their shift, and their exponentials."""
    lowered = to_integers(lower(relative()), feeds("float32"))
    model = read_model(lowered.data)
    graph = model.subgraphs[0]
    writers = Counter(
        op_name(model, op)
        for op in graph.operators
        if list(graph.tensors[op.outputs[0]].shape) == [FRAMES, FRAMES]
    )
    assert writers == {"FULLY_CONNECTED": 2, "SUB": 2, "ELU": 2, "ADD": 2}


@pytest.mark.parametrize("case", ["plain", "causal", "float mask", "bool mask"])
def test_multi_head_attention_becomes_integers_and_exact(case):
    settings = MULTI_HEAD[case]
    model, some = multi_head(**settings), feeds(settings.get("mask", ""))
    lowered = to_integers(lower(model), some)
    assert lowered.offending() == []
    assert not lowered.outside_policy()
    assert "BATCH_MATMUL" not in lowered.ops()
    valid = VALID if settings.get("mask") else None
    assert lowered.snr(some, valid=valid) > to_integers(model, some).snr(some, valid=valid) - 1


@pytest.mark.parametrize("case", ["none", "relative", "relative band"])
def test_relative_attention_becomes_integers_and_exact(case):
    model, some = relative(**RELATIVE[case]), feeds("float32")
    lowered = to_integers(lower(model), some)
    assert lowered.offending() == []
    assert not lowered.outside_policy()
    assert "BATCH_MATMUL" not in lowered.ops()
    assert lowered.snr(some, valid=VALID) > to_integers(model, some).snr(some, valid=VALID) + 3
    assert lowered.snr(some, valid=VALID) > 20
