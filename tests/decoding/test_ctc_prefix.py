"""Prefix probabilities and alignments against every path written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tflite_asr.decoding.alignment import align
from tflite_asr.decoding.ctc_prefix import CTCPrefixScorer

FRAMES, PIECES = 5, 3


@pytest.fixture(scope="module")
def logs() -> np.ndarray:
    logits = np.random.default_rng(0).standard_normal((FRAMES, PIECES)) * 2
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def spelled(path: tuple[int, ...]) -> tuple[int, ...]:
    """Repeats merged, blanks (0) dropped."""
    return tuple(p for p, before in zip(path, (None, *path[:-1]), strict=True) if p != before and p)


def paths(logs: np.ndarray) -> list[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """Every path: itself, what it spells, its probability."""
    return [
        (path, spelled(path), float(np.exp(sum(logs[t, p] for t, p in enumerate(path)))))
        for path in itertools.product(range(PIECES), repeat=FRAMES)
    ]


def test_a_prefix_has_the_probability_of_all_that_begins_with_it(logs: np.ndarray) -> None:
    scorer, every = CTCPrefixScorer(logs, blank_id=0), paths(logs)
    prefixes, texts = scorer.start(), [()]
    for length in range(1, 5):
        longer = scorer.extended(prefixes)
        for row, text in enumerate(texts):
            whole = sum(chance for _, said, chance in every if said == text)
            assert np.exp(longer.scores[row, 0]) == pytest.approx(whole, abs=1e-12)
            for piece in (1, 2):
                begun = sum(c for _, said, c in every if said[:length] == (*text, piece))
                assert np.exp(longer.scores[row, piece]) == pytest.approx(begun, abs=1e-12)
        choices = [(row, piece) for row in range(len(texts)) for piece in (1, 2)]
        rows, pieces = (np.array(side) for side in zip(*choices, strict=True))
        prefixes, texts = longer.chosen(rows, pieces), [(*texts[row], piece) for row, piece in choices]


def test_a_text_longer_than_the_frames_has_no_chance(logs: np.ndarray) -> None:
    scorer = CTCPrefixScorer(logs[:1], blank_id=0)
    one = scorer.extended(scorer.start()).chosen(np.array([0]), np.array([1]))
    assert scorer.extended(one).scores[0, 2] < -1e20
    assert np.exp(scorer.extended(one).scores[0, 0]) == pytest.approx(np.exp(logs[0, 1]))


@pytest.mark.parametrize("text", [(1,), (2, 1), (1, 1), (1, 2, 1), ()])
def test_a_text_lies_where_its_best_path_has_it(logs: np.ndarray, text: tuple[int, ...]) -> None:
    best = max((one for one in paths(logs) if one[1] == text), key=lambda one: one[2])[0]
    found = align(logs, text, blank_id=0)
    assert found is not None
    starts = [t for t, p in enumerate(best) if p and (t == 0 or best[t - 1] != p)]
    ends = [t + 1 for t, p in enumerate(best) if p and (t + 1 == FRAMES or best[t + 1] != p)]
    assert found[0].tolist() == starts
    assert found[1].tolist() == ends


def test_what_no_path_spells_is_told(logs: np.ndarray) -> None:
    assert align(logs, (1, 1, 1, 1), blank_id=0) is None
    assert align(logs[:0], (1,), blank_id=0) is None
