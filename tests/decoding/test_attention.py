"""Search over a decoder that is a table: greedy, beam, ends, limits, loops, and CTC's say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tflite_asr.decoding import search
from tflite_asr.decoding.attention import without_loop
from tflite_asr.decoding.ctc_prefix import CTCPrefixScorer
from tflite_asr.errors import TfliteAsrError

END = 0


class Table:
    """A decoder whose probabilities after each text are written down; texts that are not there end."""

    def __init__(self, after: Mapping[tuple[int, ...], Mapping[int, float]], pieces: int = 4) -> None:
        self.after, self.pieces, self.steps = after, pieces, 0

    def start(self) -> tuple[int, ...]:
        return ()

    def step(self, state: tuple[int, ...], token: int) -> tuple[np.ndarray, tuple[int, ...]]:
        self.steps += 1
        text = (*state, token)
        given = self.after.get(text[1:], {END: 1.0})
        return np.log([max(given.get(piece, 0.0), 1e-9) for piece in range(self.pieces)]), text


# What looks best at first leads to what is worse in all.
GARDEN_PATH = {(): {1: 0.6, 2: 0.4}, (1,): {3: 0.4, 2: 0.3, END: 0.3}, (2,): {3: 0.95, END: 0.05}}


def test_greedy_takes_the_best_token_each_time() -> None:
    found = search(Table(GARDEN_PATH), END, longest=10)
    assert found.tokens == (1, 3)
    assert found.ended
    assert found.score == pytest.approx(np.log(0.6 * 0.4))


def test_a_beam_finds_what_greed_misses() -> None:
    found = search(Table(GARDEN_PATH), END, longest=10, beam=2)
    assert found.tokens == (2, 3)
    assert found.score == pytest.approx(np.log(0.4 * 0.95))


def test_no_step_is_taken_beyond_the_end() -> None:
    table = Table(GARDEN_PATH)
    search(table, END, longest=10)
    assert table.steps == 3


def test_an_empty_text_may_be_the_best() -> None:
    assert search(Table({(): {END: 0.9, 1: 0.1}}), END, longest=5).tokens == ()


def test_a_text_that_does_not_end_is_cut_at_the_limit() -> None:
    endless = {(1, 2) * n: {1: 1.0} for n in range(9)} | {(1, 2) * n + (1,): {2: 1.0} for n in range(9)}
    found = search(Table(endless), END, longest=7)
    assert found.tokens == (1, 2, 1, 2, 1, 2, 1)
    assert not found.ended


def test_going_round_in_circles_is_cut_to_one_round() -> None:
    endless = {(3,) + (1, 2) * n: {1: 1.0} for n in range(40)}
    endless |= {(3,) + (1, 2) * n + (1,): {2: 1.0} for n in range(40)} | {(): {3: 1.0}}
    found = search(Table(endless), END, longest=60)
    assert found.tokens == (3, 1, 2)
    assert not found.ended


def test_what_people_repeat_is_no_loop() -> None:
    nine = (5, 6, 5, 7, 8)
    assert without_loop(nine * 4) is None
    assert without_loop(nine * 6) == nine
    assert without_loop((1, 1, 1)) is None
    assert without_loop((4, *(2,) * 6)) == (4, 2)


def test_ctc_settles_what_attention_does_not_know() -> None:
    undecided = {(): {1: 0.51, 2: 0.49}}
    heard = np.log(np.array([[0.1, 0.05, 0.8, 0.05], [0.9, 0.03, 0.04, 0.03]]))
    scorer = CTCPrefixScorer(heard, blank_id=0)
    assert search(Table(undecided), END, longest=4).tokens == (1,)
    assert search(Table(undecided), END, longest=4, ctc=scorer, ctc_weight=0.3).tokens == (2,)
    joint = search(Table(undecided), END, longest=4, beam=3, ctc=scorer, ctc_weight=0.3)
    assert joint.tokens == (2,)


@pytest.mark.parametrize(
    ("beam", "weight", "message"), [(0, 0.0, "beam 0"), (9, 0.0, "beam 9"), (1, 1.5, "1.5")]
)
def test_what_is_out_of_bounds_is_refused(beam: int, weight: float, message: str) -> None:
    with pytest.raises(TfliteAsrError, match=message):
        search(Table(GARDEN_PATH), END, 4, beam=beam, ctc_weight=weight)
