"""Which drop is worth its damage, and when there is enough."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

import tflite_asr.slim as slim_package
from tests.studies.test_slim_ranking import measured
from tflite_asr.studies import slim_greedy
from tflite_asr.studies.slim_greedy import Budget, Descent, damage, saving
from tflite_asr.studies.slim_ranking import Measured
from tflite_asr.studies.slim_recovery import RATE, cut, learning_rate

FULL = Measured("", (), 1000, 10_000, 0.0)


def after(parameters: int, macs: int, kl: float = 0.1) -> Measured:
    return Measured("m", ("m",), parameters, macs, kl)


def test_a_budget_is_met_when_every_target_is() -> None:
    budget = Budget(parameters=800, macs=9000)
    assert not budget.met(1000, 10_000)
    assert not budget.met(700, 9500)
    assert budget.met(800, 9000)
    assert budget.missing(700, 9500) == {"macs": 500}
    assert not Budget(max_wer_rise=0.01).met(1, 1)


def test_only_what_is_missing_counts_as_saved() -> None:
    budget = Budget(macs=9000)
    assert saving(after(1000, 9500), FULL, FULL, budget) == pytest.approx(0.05)
    assert saving(after(1000, 5000), FULL, FULL, budget) == pytest.approx(0.1)
    assert saving(after(100, 10_000), FULL, FULL, budget) == 0
    both = Budget(parameters=900, macs=9000)
    assert saving(after(900, 9000), FULL, FULL, both) == pytest.approx(0.2)
    assert saving(after(500, 9500), after(900, 10_000), FULL, both) == pytest.approx(0.05)


def test_a_saving_too_small_for_a_recovery_is_none() -> None:
    assert saving(after(1000, 9990), FULL, FULL, Budget(macs=9000)) == 0
    assert saving(after(1000, 9980), FULL, FULL, Budget(macs=9000)) > 0
    # What is left to save may be less than that: then a drop must still be able to end it.
    assert saving(after(1000, 9000), after(1000, 9005), FULL, Budget(macs=9000)) == 0
    assert saving(after(1000, 8000), after(1000, 9005), FULL, Budget(macs=9000)) == pytest.approx(5e-4)


def test_damage_is_what_a_drop_adds_and_never_less_than_nothing() -> None:
    assert damage(after(1, 1, 0.3), after(1, 1, 0.1), "kl") == pytest.approx(0.2)
    assert damage(after(1, 1, 0.1), after(1, 1, 0.3), "kl") == 0
    assert damage(measured("a", 0, [4, 4]), measured("b", 9, [1, 1]), "wer") == pytest.approx(0.3)


def test_the_rate_of_a_recovery_rises_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(RATE)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[0] < 0.2 * RATE
    assert rates[-1] < 0.02 * RATE
    assert all(learning_rate(step, 1) > 0 for step in range(1))
    assert [learning_rate(step, 100, 2 * RATE) for step in range(100)] == [2 * rate for rate in rates]


def test_clips_are_cut_without_losing_a_frame() -> None:
    clips = [np.arange(n, dtype=np.float32)[:, None] + 100 * n for n in (3, 8, 10)]
    pieces = cut(clips, 4)
    assert [len(one) for one in pieces] == [3, 4, 4, 4, 4, 2]
    assert np.array_equal(np.concatenate(pieces), np.concatenate(clips))


class Made:
    """A greedy search over modules a to e, 100 parameters each, whose damages add up, and c's twice beside a."""

    DAMAGE: ClassVar = {"a": 0.1, "b": 0.3, "c": 0.2, "d": 0.25, "e": 0.9}

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at_once: int, least: int) -> None:
        self.tried: list[str] = []
        monkeypatch.setattr(slim_greedy, "without", self.without)
        monkeypatch.setattr(
            slim_package, "slim", lambda model, facts, path: (model + path, model + path, None)
        )
        monkeypatch.setattr(Descent, "_left", lambda _, facts: [one for one in "abcde" if one not in facts])
        alone = [self.measured(one) for one in "abcde"]
        budget, tell = Budget(parameters=least), lambda *_: None
        self.descent = Descent(None, "", "", FULL, alone, budget, None, None, None, 0, tell, 0, at_once)

    def measured(self, gone: str) -> Measured:
        kl = sum(self.DAMAGE[one] for one in gone) + (0.2 if {"a", "c"} <= set(gone) else 0.0)
        return Measured(gone[-1], tuple(gone), 1000 - 100 * len(gone), 10_000, kl)

    def without(self, model: str, facts: str, path: str, reference: object, speech: object) -> tuple:
        self.tried.append(path)
        return None, None, self.measured(model + path)


def test_several_modules_are_chosen_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch, at_once=3, least=400)
    chosen = made.descent._choose("", "", FULL)
    assert chosen is not None
    # Alone c would come before d and b; beside a it is missed more. Of e nobody asks again.
    assert chosen.path == "a,d,b"
    assert chosen.dropped == ("a", "d", "b")
    assert chosen.parameters == 700
    assert "e" not in made.tried
    assert made.descent._choose("adb", "adb", chosen).path == "c,e"


def test_no_more_are_chosen_than_the_budget_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Made(monkeypatch, at_once=5, least=850).descent._choose("", "", FULL).path == "a,d"
    assert Made(monkeypatch, at_once=1, least=850).descent._choose("", "", FULL).path == "a"
