"""The pull toward random labels: the model reads them better afterwards, and no batch norm is needed."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import keras
import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.slim import count_macs
from tflite_asr.synthesis.inputs import on_grid
from tflite_asr.synthesis.labels import draw_labels, nats_per_label, stacked
from tflite_asr.synthesis.prior import prior_clips
from tflite_asr.synthesis.refine import GENTLE
from tflite_asr.synthesis.shapes import ModelInputs, model_inputs
from tflite_asr.synthesis.synthesize import synthesize

SHAPE = ModelInputs(("features", "mask"), (80,), None, 4)


@pytest.fixture(scope="module")
def plain() -> Any:
    """A CTC model without batch norm: a strided convolution and a projection."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 80), name="features")
    x = keras.layers.Conv1D(16, 5, strides=4, padding="same", activation="tanh")(inputs)
    return keras.Model(inputs, keras.layers.Dense(29)(keras.layers.LayerNormalization()(x)))


def test_labels_are_as_long_as_speech_and_never_the_blank(facts: ModelFacts) -> None:
    assert facts.tokens is not None
    draws = [draw_labels(np.random.default_rng(seed), 400, SHAPE, facts) for seed in range(200)]
    assert 16 <= min(map(len, draws)) < 20  # 4 s at 4 to 12 a second
    assert 44 < max(map(len, draws)) <= 48
    pieces = set(np.concatenate(draws).tolist())
    assert pieces == set(range(len(facts.tokens.pieces))) - {facts.tokens.blank_id}
    # Eight-fold subsampling leaves 12 frames a second: every other one at most.
    eighth = replace(SHAPE, subsampling=8)
    coarse = [draw_labels(np.random.default_rng(seed), 400, eighth, facts) for seed in range(50)]
    assert max(map(len, coarse)) == 25
    assert len(draw_labels(np.random.default_rng(0), 4, SHAPE, facts)) == 1


def test_nats_are_those_of_all_paths_summed() -> None:
    """Two clips of 4 frames and 3 pieces, blank 1: every one of the 81 paths is walked."""
    logits = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    wanted = [[0, 0], [2]]
    expected = 0.0
    for clip, labels in zip(logits.astype(np.float64), wanted, strict=True):
        likely = np.exp(clip) / np.exp(clip).sum(axis=1, keepdims=True)
        total = 0.0
        for path in product(range(3), repeat=4):
            said = [p for i, p in enumerate(path) if p != 1 and (i == 0 or p != path[i - 1])]
            if said == labels:
                total += math.prod(likely[i, p] for i, p in enumerate(path))
        expected += -math.log(total) / len(labels) / 2
    labels, lengths = stacked([np.array(one, np.int32) for one in wanted])
    assert labels.tolist() == [[0, 0], [2, 0]]
    assert float(nats_per_label(logits, labels, lengths, 1)) == pytest.approx(expected, rel=1e-5)


def test_without_batch_norm_labels_pull_and_inputs_stay_near(plain: Any, facts: ModelFacts) -> None:
    step = 3 * count_macs(plain, 200)
    made = synthesize(plain, facts, "synthetic:labels", seed=3, budget_macs=4.5 * GENTLE.steps * step)
    assert (made.method, made.refined) == ("synthetic:labels", 4)
    assert made.curve[-1]["labels"] < 0.7 * made.curve[0]["labels"]
    assert all(record["statistics"] == 0 for record in made.curve)
    assert made.spent_macs == len(made.curve) * 4 * step
    start = [clip for batch in prior_clips(model_inputs(plain, facts), facts, 3) for clip in batch]
    for index, (clip, began) in enumerate(zip(made.features, on_grid(start), strict=True)):
        moved = np.abs(clip - began)
        assert moved.max() < 0.01 * GENTLE.steps * 2
        assert moved.any() == (index < 4)
    again = synthesize(plain, facts, "synthetic:labels", seed=3, budget_macs=4.5 * GENTLE.steps * step)
    assert all(np.array_equal(a, b) for a, b in zip(made.features, again.features, strict=True))
    alone = synthesize(plain, facts, seed=3)
    assert (alone.refined, alone.curve) == (0, [])  # not its default


def test_with_batch_norm_both_pull(tiny: Any, facts: ModelFacts) -> None:
    budget = 2.5 * GENTLE.steps * 3 * count_macs(tiny, 200)
    made = synthesize(tiny, facts, "synthetic:labels", budget_macs=budget)
    first, last = made.curve[0], made.curve[-1]
    assert last["labels"] < first["labels"]
    assert last["statistics"] < first["statistics"]
    assert first["loss"] == pytest.approx(first["statistics"] + first["labels"], rel=1e-5)


def test_what_it_needs(own: Any, tiny: Any, facts: ModelFacts) -> None:
    with pytest.raises(TfliteAsrError, match="needs the tokens and the blank"):
        synthesize(tiny, replace(facts, tokens=None), "synthetic:labels")
    with pytest.raises(TfliteAsrError, match="needs the tokens and the blank"):
        synthesize(own, None, "synthetic:labels")
    wrong = replace(facts, frontend=None, subsampling=1)
    with pytest.raises(TfliteAsrError, match=r"\(None, 60, 5\); synthetic:labels needs CTC logits .* 29\]"):
        synthesize(own, wrong, "synthetic:labels")
