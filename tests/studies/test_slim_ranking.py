"""Rankings of modules and how well two of them agree."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tflite_asr.measure.wer import ErrorCounts
from tflite_asr.studies.slim_ranking import Measured, agreement, correlation, ranks, rows_of


def measured(path: str, kl: float, errors: list[int], parameters: int = 90, macs: int = 900) -> Measured:
    """Ten words an utterance."""
    counts, zeros = np.array(errors), np.zeros(len(errors), np.int64)
    units = np.full(len(errors), 10)
    return Measured(path, (path,), parameters, macs, kl, ErrorCounts(counts, zeros, zeros, units))


FULL = measured("", 0.0, [1, 1, 1, 1], parameters=100, macs=1000)


def test_spearman_of_values_with_ties_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 6, 15), rng.integers(0, 4, 15) + rng.integers(0, 2, 15) * 0.5
        ours = correlation(ranks(first), ranks(second))
        assert ours == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


def test_rankings_that_agree_on_every_utterance_agree_surely() -> None:
    found = [measured(f"m{i}", 0.1 * i, [i, i, i, i]) for i in range(1, 6)]
    result = agreement(found, seed=0)
    assert result is not None
    assert (result["spearman"], result["low"], result["high"]) == (1.0, 1.0, 1.0)
    assert (result["modules"], result["utterances"]) == (5, 4)
    opposite = [measured(one.path, 1 - one.kl, one.errors.errors.tolist()) for one in found]
    assert agreement(opposite, seed=0)["spearman"] == -1.0


def test_an_utterance_that_decides_alone_widens_the_interval() -> None:
    found = [measured(f"m{i}", 0.1 * i, [i, 5 - i, i, 0]) for i in range(1, 6)]
    result = agreement(found, seed=0)
    assert result is not None
    assert result["low"] < result["spearman"] - 0.5
    assert result == agreement(found, seed=0)


def test_without_speech_or_difference_there_is_no_agreement_to_speak_of() -> None:
    silent = [Measured(f"m{i}", (), 1, 1, 0.1 * i) for i in range(5)]
    assert agreement(silent, seed=0) is None
    alike = [measured(f"m{i}", 0.1 * i, [1, 1, 1, 1]) for i in range(5)]
    assert agreement(alike, seed=0) is None
    assert agreement([measured("a", 0.1, [1]), measured("b", 0.2, [2])], seed=0) is None


def test_rows_come_least_damaging_first_with_what_each_saves() -> None:
    rows = rows_of(FULL, [measured("bad", 0.1, [4, 4, 4, 4]), measured("good", 0.3, [1, 1, 1, 0])], seed=0)
    assert [row["path"] for row in rows] == ["good", "bad"]
    assert (rows[0]["parameters_saved"], rows[0]["macs_saved"]) == (10, 100)
    assert rows[1]["wer_rise"]["difference"] == pytest.approx(0.3)
    silent = [Measured("far", (), 90, 900, 0.3), Measured("near", (), 90, 900, 0.1)]
    by_kl = rows_of(Measured("", (), 100, 1000, 0.0), silent, seed=0)
    assert [row["path"] for row in by_kl] == ["near", "far"]
    assert by_kl[0]["wer_rise"] is None


def test_what_was_measured_comes_back_from_json() -> None:
    for one in (measured("a.b", 0.5, [1, 2]), Measured("a", ("a",), 1, 2, 0.5)):
        again = Measured.from_dict(json.loads(json.dumps(one.to_dict())))
        assert again.to_dict() == one.to_dict()
