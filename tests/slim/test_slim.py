"""Dropping modules: what is left out, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.models import load_model
from tflite_asr.slim import slim
from tflite_asr.slim.slim import carry_weights

Tiny = tuple[Any, ModelFacts]


def weights(model: Any) -> dict[str, np.ndarray]:
    return {
        f"{layer.name}.{weight.name}": np.asarray(weight)
        for layer in model.layers
        for weight in layer.weights
    }


@pytest.mark.parametrize(
    "spec",
    [
        "encoder.block1",
        "encoder.block*.ff1",
        "positions",
        "biases",
        "norms",
        "encoder.block0.conv.batch_norm",
        "ctc.dense.bias",
    ],
)
def test_surviving_weights_are_bit_equal_and_the_named_ones_are_gone(tiny: Tiny, spec: str) -> None:
    model, facts = tiny
    before = weights(model)
    smaller, _, _ = slim(model, facts, spec)
    after = weights(smaller)
    assert 0 < len(after) < len(before)
    for path, value in after.items():
        assert np.array_equal(value, before[path]), path
    gone = set(before) - set(after)
    marks = {
        "encoder.block1": lambda p: p.startswith("encoder.block1."),
        "encoder.block*.ff1": lambda p: ".ff1." in p,
        "positions": lambda p: p.endswith(("position_kernel", "position_bias", "content_bias")),
        "biases": lambda p: p.endswith("bias") and not p.endswith(("position_bias", "content_bias")),
        "norms": lambda p: ".norm." in p,
        "encoder.block0.conv.batch_norm": lambda p: p.startswith("encoder.block0.conv.batch_norm."),
        "ctc.dense.bias": lambda p: p == "ctc.dense.bias",
    }
    assert gone == {p for p in before if marks[spec](p)}


def test_a_dropped_module_leaves_the_residual_stream_alone(tiny: Tiny, batch: Any) -> None:
    model, facts = tiny
    full = np.asarray(model(batch, training=False))
    silenced = keras.models.clone_model(model)
    for module, last in (("ff1", "dense2"), ("ff2", "dense2"), ("conv", "pointwise2"), ("mhsa", "attention")):
        path = f"encoder.block1.{module}"
        smaller, _, _ = slim(model, facts, path)
        silenced.set_weights(model.get_weights())
        for weight in silenced.get_layer(f"{path}.{last}").weights:
            if last != "attention" or weight.name in ("out_kernel", "out_bias"):
                weight.assign(np.zeros(weight.shape))
        given = np.asarray(smaller(batch, training=False))
        assert np.abs(given - np.asarray(silenced(batch, training=False))).max() < 1e-5, path
        assert np.abs(given - full).max() > 1e-2, path


def test_a_dropped_bias_is_a_bias_of_zero(tiny: Tiny, batch: Any) -> None:
    model, facts = tiny
    smaller, _, _ = slim(
        model, facts, "encoder.block0.mhsa.attention.bias,encoder.block1.conv.depthwise.bias"
    )
    zeroed = keras.models.clone_model(model)
    zeroed.set_weights(model.get_weights())
    names = ("query_bias", "key_bias", "value_bias", "out_bias")
    for layer in ("encoder.block0.mhsa.attention", "encoder.block1.conv.depthwise"):
        for weight in zeroed.get_layer(layer).weights:
            if weight.name in (*names, "bias"):
                weight.assign(np.zeros(weight.shape))
    assert np.abs(np.asarray(smaller(batch)) - np.asarray(zeroed(batch))).max() < 1e-5


def test_the_model_given_is_not_changed(tiny: Tiny, batch: Any) -> None:
    model, facts = tiny
    before = np.asarray(model(batch))
    slim(model, facts, "encoder.block0,biases")
    assert np.array_equal(np.asarray(model(batch)), before)


def test_slimming_twice_is_slimming_once(tiny: Tiny, batch: Any) -> None:
    model, facts = tiny
    once, facts_once, report_once = slim(
        model, facts, ["encoder.block1", "encoder.block0.ff1", "encoder.block0.norm"]
    )
    first, facts_first, _ = slim(model, facts, "encoder.block0.norm,encoder.block1.ff1")
    twice, facts_twice, report_twice = slim(first, facts_first, "encoder.block0.ff1,encoder.block1")
    assert facts_once == facts_twice
    assert np.array_equal(np.asarray(once(batch)), np.asarray(twice(batch)))
    assert (
        report_once.dropped
        == report_twice.dropped
        == ("encoder.block0.ff1", "encoder.block0.norm", "encoder.block1")
    )
    assert report_once.macs_after == report_twice.macs_after


def test_nothing_to_drop_gives_the_same_model(tiny: Tiny, batch: Any) -> None:
    model, facts = tiny
    same, _, report = slim(model, facts, [])
    assert np.array_equal(np.asarray(same(batch)), np.asarray(model(batch)))
    assert (report.parameters_before, report.macs_before) == (report.parameters_after, report.macs_after)


def test_the_report_counts_what_went(tiny: Tiny) -> None:
    model, facts = tiny
    _, _, report = slim(model, facts, "encoder.block1.ff1")
    # Norm 2 x 16, dense 16 x 64 + 64, dense 64 x 16 + 16; at 16 s, 400 frames of it.
    assert report.parameters_before - report.parameters_after == 32 + 16 * 64 + 64 + 64 * 16 + 16
    assert report.frames == 1600
    assert report.macs_before - report.macs_after == 400 * (2 * 16 * 64 + 3 * 16)
    assert report.to_dict()["dropped"] == ["encoder.block1.ff1"]


def test_a_slimmed_model_saves_and_loads(tiny: Tiny, batch: Any, tmp_path: Path) -> None:
    model, facts = tiny
    smaller, smaller_facts, _ = slim(model, facts, "encoder.block1,positions")
    path = tmp_path / "smaller.keras"
    smaller.save(path)
    smaller_facts.write(path)
    read = ModelFacts.read(path)
    assert read is not None
    assert list(read.config["dropped"]) == ["encoder.block0.mhsa.positions", "encoder.block1"]
    again, _, _ = slim(load_model(path), read, "encoder.block0.ff2")
    expected, _, _ = slim(model, facts, "encoder.block1,positions,encoder.block0.ff2")
    assert np.array_equal(np.asarray(again(batch)), np.asarray(expected(batch)))


def test_facts_of_another_model_are_refused(tiny: Tiny) -> None:
    model, facts = tiny
    with pytest.raises(TfliteAsrError, match="another model"):
        slim(model, replace(facts, config={**facts.config, "dim": 32}), "encoder.block0")
    with pytest.raises(TfliteAsrError, match="another model"):
        slim(model, replace(facts, config={**facts.config, "blocks": 1}), "encoder.block0")
    with pytest.raises(TfliteAsrError, match="another model"):
        slim(model, replace(facts, config={**facts.config, "blocks": 3}), "encoder.block0")
    with pytest.raises(TfliteAsrError, match="architecture is unknown"):
        slim(model, None, "encoder.block0")


def test_a_weight_that_nothing_accounts_for_is_not_lost_silently(tiny: Tiny) -> None:
    model, facts = tiny
    smaller, _, _ = slim(model, facts, "encoder.block0.ff1")
    with pytest.raises(TfliteAsrError, match=r"encoder\.block0\.ff1.* is not in its config"):
        carry_weights(model, smaller, {"encoder.block0.ff2"})
