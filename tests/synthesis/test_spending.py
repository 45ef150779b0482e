"""Budget, memory and what an interrupted synthesis leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.slim import cost, count_macs
from tflite_asr.synthesis import spending
from tflite_asr.synthesis import synthesize as synthesis
from tflite_asr.synthesis.refine import GENTLE, PUBLISHED
from tflite_asr.synthesis.shapes import model_inputs
from tflite_asr.synthesis.spending import BYTES_PER_VALUE
from tflite_asr.synthesis.synthesize import synthesize


class Stop(Exception):
    pass


def test_values_are_what_the_graphs_operations_give() -> None:
    inputs = keras.Input((10, 4))
    x = keras.layers.Conv1D(3, 2, strides=2)(inputs)  # 5 x 3
    model = keras.Model(inputs, keras.layers.Activation("relu")(x))
    outer = keras.Input((10, 4))
    assert cost(model).values == 30
    assert cost(keras.Model(outer, keras.layers.Dense(2)(model(outer)))).values == 30 + 10


@pytest.fixture(scope="module")
def budget(own: Any) -> float:
    """Enough for 13 clips: the batch of 8, that of 4, and one more."""
    return 13.5 * GENTLE.steps * 3 * count_macs(own, 60)


def test_a_batch_is_split_where_memory_is_short(own: Any, budget: float) -> None:
    wide = synthesize(own, None, budget_macs=budget)
    clip = BYTES_PER_VALUE * cost(own, 60).values
    narrow = synthesize(own, None, budget_macs=budget, memory_bytes=3.5 * clip)
    first = {record["batch"]: record for record in reversed(narrow.curve)}
    assert len({record["batch"] for record in wide.curve}) == 3
    assert len(first) == 3 + 2 + 1 + bool(narrow.refined > 13)  # of 8, of 4, and what is left
    assert narrow.spent_macs <= budget
    none = synthesize(own, None, budget_macs=budget, memory_bytes=0.9 * clip)
    assert (none.refined, none.spent_macs, len(none.features)) == (0, 0, len(wide.features))


def test_a_model_too_large_for_the_budget_keeps_the_prior_and_shorter_clips_come_first(
    tiny: Any, facts: ModelFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[int] = []

    def note(measure: Any, clips: list[np.ndarray], *rest: Any) -> list[np.ndarray]:
        moved.extend(map(len, clips))
        return clips

    monkeypatch.setattr(spending, "refine", note)
    monkeypatch.setattr(spending, "measure_of", lambda *rest: None)
    price = GENTLE.steps * 3 * count_macs(tiny, 200)
    for budget, lengths in ((0.9 * price, []), (2.2 * price, [200, 200])):
        moved.clear()
        made = synthesize(tiny, facts, budget_macs=budget)
        assert moved == lengths
        assert made.refined == len(lengths)
        assert {len(clip) for clip in made.features} == {100, 200, 400, 800, 1600}


@pytest.mark.parametrize("method", ["synthetic", "synthetic:published"])
def test_an_interrupted_synthesis_goes_on(
    method: str, own: Any, budget: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget *= 3
    straight = synthesize(own, None, method, budget_macs=budget)
    batches = len({record["batch"] for record in straight.curve})
    assert batches >= 2
    runs = []
    refine = spending.refine

    def counted(*arguments: Any) -> list[np.ndarray]:
        if len(runs) == 1:
            raise Stop
        runs.append(1)
        return refine(*arguments)

    monkeypatch.setattr(spending, "refine", counted)
    with pytest.raises(Stop):
        synthesize(own, None, method, budget_macs=budget, work=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    runs[:] = [1, 1]
    resumed = synthesize(own, None, method, budget_macs=budget, work=tmp_path)
    assert len(runs) - 2 == batches - 1  # the first was not done again
    assert resumed.curve == straight.curve
    assert resumed.provenance() == straight.provenance()
    assert all(np.array_equal(a, b) for a, b in zip(resumed.features, straight.features, strict=True))


def test_parts_are_of_one_model_method_seed_and_budget(own: Any, budget: float, tmp_path: Path) -> None:
    synthesize(own, None, budget_macs=budget, work=tmp_path)
    kept = set(tmp_path.iterdir())
    synthesize(own, None, budget_macs=budget, work=tmp_path)
    assert set(tmp_path.iterdir()) == kept
    synthesize(own, None, budget_macs=budget, seed=1, work=tmp_path)
    assert len(set(tmp_path.iterdir())) == 2 * len(kept)
    bias = own.layers[-1].bias
    before = bias.numpy()
    bias.assign(before + 1)
    synthesize(own, None, budget_macs=budget, work=tmp_path)
    bias.assign(before)
    assert len(set(tmp_path.iterdir())) == 3 * len(kept)


def test_a_damaged_part_is_made_anew(own: Any, budget: float, tmp_path: Path) -> None:
    made = synthesize(own, None, budget_macs=budget, work=tmp_path)
    path = min(tmp_path.iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    again = synthesize(own, None, budget_macs=budget, work=tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(made.features, again.features, strict=True))
    assert path.read_bytes() == whole


def test_a_work_folder_that_cannot_be_made_is_one_line(own: Any, budget: float, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TfliteAsrError, match="cannot be written"):
        synthesize(own, None, budget_macs=budget, work=tmp_path / "file")


def test_the_default_budget_pays_for_the_first_batch_of_any_model_and_never_for_less_than_was_settled(
    tiny: Any, facts: ModelFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = model_inputs(tiny, facts)
    settled = synthesis.LEAST_BUDGET_MACS
    assert (
        synthesis.default_budget(tiny, shape, facts, "synthetic") == settled
    )  # a tiny model's batch costs less
    monkeypatch.setattr(synthesis, "LEAST_BUDGET_MACS", 0.0)
    batch = 8 * GENTLE.steps * 3 * count_macs(tiny, 200)
    for method in ("synthetic", "synthetic:labels"):
        assert synthesis.default_budget(tiny, shape, facts, method) == batch
    one = PUBLISHED.steps * 3 * count_macs(tiny, 500)
    assert synthesis.default_budget(tiny, shape, facts, "synthetic:published") == one

    def spend(measure: Any, clips: list[np.ndarray], mask: Any, recipe: Any, note: Any, *rest: Any) -> Any:
        for _ in range(recipe.steps):
            note({"loss": 0.0})
        return clips

    monkeypatch.setattr(spending, "refine", spend)
    monkeypatch.setattr(spending, "measure_of", lambda *rest: None)
    made = synthesize(tiny, facts)
    assert (made.budget_macs, made.spent_macs, made.refined) == (batch, batch, 8)
