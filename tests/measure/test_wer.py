"""Error rates against Levenshtein's own recurrence, and bootstraps against the arithmetic they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.wer import bootstrap_interval, character_errors, paired_difference, word_errors


def edits(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein distance by its recurrence."""
    row = list(range(len(hypothesis) + 1))
    for i, r in enumerate(reference, 1):
        previous, row = row, [i]
        for j, h in enumerate(hypothesis, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (r != h)))
    return row[-1]


def random_texts(seed: int, count: int = 60) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    words = ["a", "bb", "ccc", "dd"]
    texts = [" ".join(random.choice(words, random.integers(0, 8))) for _ in range(2 * count)]
    return texts[:count], texts[count:]


def test_counts_name_substitutions_deletions_and_insertions_of_each_utterance():
    counts = word_errors(["a b c", "a b", "", "x y"], ["a x c", "a", "q", "x y"])
    assert counts.substitutions.tolist() == [1, 0, 0, 0]
    assert counts.deletions.tolist() == [0, 1, 0, 0]
    assert counts.insertions.tolist() == [0, 0, 1, 0]
    assert counts.units.tolist() == [3, 2, 0, 2]
    assert counts.rate == pytest.approx(3 / 7)
    assert counts.totals() == {"substitutions": 1, "deletions": 1, "insertions": 1, "units": 7}


@pytest.mark.parametrize("seed", range(3))
def test_errors_of_an_utterance_are_its_levenshtein_distance(seed):
    references, hypotheses = random_texts(seed)
    words = word_errors(references, hypotheses).errors.tolist()
    characters = character_errors(references, hypotheses).errors.tolist()
    assert words == [edits(r.split(), h.split()) for r, h in zip(references, hypotheses, strict=True)]
    assert characters == [edits(list(r), list(h)) for r, h in zip(references, hypotheses, strict=True)]


def test_the_interval_is_that_of_the_plain_bootstrap_and_repeats_with_its_seed():
    counts = word_errors(*random_texts(1, 200))
    low, high = bootstrap_interval(counts, seed=3)
    random = np.random.default_rng(99)
    draws = [random.integers(0, 200, 200) for _ in range(4000)]
    expected = np.percentile([counts.errors[d].sum() / counts.units[d].sum() for d in draws], [2.5, 97.5])
    assert low == pytest.approx(expected[0], abs=0.006)
    assert high == pytest.approx(expected[1], abs=0.006)
    assert low < counts.rate < high
    assert bootstrap_interval(counts, seed=3) == (low, high) != bootstrap_interval(counts, seed=4)


def test_a_run_against_itself_differs_by_nothing():
    counts = word_errors(*random_texts(2))
    result = paired_difference(counts, counts)
    assert (result.difference, result.low, result.high) == (0.0, 0.0, 0.0)


def test_pairing_is_far_tighter_than_two_separate_intervals():
    references, hypotheses = random_texts(3, 200)
    worse = [h if i % 40 else h + " extra" for i, h in enumerate(hypotheses)]
    this, that = word_errors(references, worse), word_errors(references, hypotheses)
    result = paired_difference(this, that)
    assert result.difference == pytest.approx(this.rate - that.rate)
    assert 0 <= result.low < result.difference < result.high
    low, high = bootstrap_interval(this)
    assert result.high - result.low < (high - low) / 4


def test_runs_over_other_references_cannot_be_paired():
    with pytest.raises(TfliteAsrError, match="same manifests"):
        paired_difference(word_errors(["a b"], ["a"]), word_errors(["a"], ["a"]))


def test_one_hypothesis_an_utterance_is_asked_for():
    with pytest.raises(TfliteAsrError, match="2 references against 1"):
        word_errors(["a", "b"], ["a"])
