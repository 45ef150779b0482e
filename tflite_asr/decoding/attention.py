"""Autoregressive search: greedy and beam, by an attention decoder alone or with CTC's prefix scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tflite_asr.decoding.ctc_prefix import CTCPrefixScorer, Prefixes
from tflite_asr.errors import TfliteAsrError

WIDEST_BEAM = 8
LONGEST_LOOP = 16  # tokens of a stretch that is looked for in repetition
MOST_REPEATS = 5  # of a stretch, one after the other; spoken numbers go up to four


class Speller(Protocol):
    """A decoder of one utterance, token by token."""

    def start(self) -> Any:
        """The state before the first token."""

    def step(self, state: Any, token: int) -> tuple[np.ndarray, Any]:
        """Log probabilities float [pieces] of what follows `token`, and the state then; `state` stays as it was."""


@dataclass(frozen=True)
class Hypothesis:
    """Tokens without start and end, and the logarithm of their weighed probability.

    ended: whether the decoder ended it; else it ran to the limit, or a repetition was cut.
    """

    tokens: tuple[int, ...]
    score: float
    ended: bool = True

    @property
    def per_token(self) -> float:
        """The score a token, the end counted: a longer text is not worse for its length."""
        return self.score / (len(self.tokens) + 1)


@dataclass(frozen=True)
class _Running:
    tokens: tuple[int, ...]
    attention: float
    score: float
    state: Any


def search(
    speller: Speller,
    end_id: int,
    longest: int,
    beam: int = 1,
    ctc: CTCPrefixScorer | None = None,
    ctc_weight: float = 0.0,
) -> Hypothesis:
    """The best transcript that the search finds.

    Args:
        speller: the decoder.
        end_id: the token that starts and ends a sequence.
        longest: tokens at the most, the end not counted.
        beam: hypotheses that are kept, 1 (greedy) to 8.
        ctc: scores prefixes; with `ctc_weight` between 0 and 1 its share of a hypothesis' log probability.

    Raises:
        TfliteAsrError: a beam or a weight that is out of bounds.
    """
    if not 1 <= beam <= WIDEST_BEAM:
        raise TfliteAsrError(f"beam {beam}: give 1 (greedy) to {WIDEST_BEAM}")
    if not 0 <= ctc_weight <= 1:
        raise TfliteAsrError(f"ctc weight {ctc_weight}: give a share from 0 to 1")
    running = [_Running((), 0.0, 0.0, speller.start())]
    prefixes = ctc.start() if ctc is not None else None
    done: list[Hypothesis] = []
    for _ in range(longest + 1):
        attention, states = [], []
        for one in running:
            logs, state = speller.step(one.state, one.tokens[-1] if one.tokens else end_id)
            attention.append(one.attention + logs.astype(np.float64))
            states.append(state)
        by_attention = np.stack(attention)
        scores, longer = by_attention, None
        if ctc is not None and prefixes is not None:
            longer = ctc.extended(prefixes)
            scores = (1 - ctc_weight) * by_attention + ctc_weight * longer.scores
        rows, pieces = _best(scores, beam)
        running, kept = _moved_on(running, states, by_attention, scores, rows, pieces, end_id, longest, done)
        if len(done) >= beam or not running:
            break
        if longer is not None:
            prefixes = _prefixes(longer, rows, pieces, kept)
    return max(done, key=lambda one: one.per_token)


def _best(scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and pieces of the highest scores, best first; of equal ones the first."""
    order = np.argsort(-scores, axis=None, kind="stable")[:count]
    rows, pieces = np.unravel_index(order, scores.shape)
    return np.asarray(rows), np.asarray(pieces)


def _moved_on(
    running: Sequence[_Running],
    states: Sequence[Any],
    attention: np.ndarray,
    scores: np.ndarray,
    rows: np.ndarray,
    pieces: np.ndarray,
    end_id: int,
    longest: int,
    done: list[Hypothesis],
) -> tuple[list[_Running], list[int]]:
    """Chosen hypotheses with their new token, and which of the choices they are; what is over goes into `done`."""
    further: list[_Running] = []
    kept: list[int] = []
    for choice, (row, piece) in enumerate(zip(rows, pieces, strict=True)):
        score = float(scores[row, piece])
        if piece == end_id:
            done.append(Hypothesis(running[row].tokens, score))
            continue
        tokens = (*running[row].tokens, int(piece))
        if (once := without_loop(tokens)) is not None:
            done.append(Hypothesis(once, score, ended=False))
        elif len(tokens) > longest:
            done.append(Hypothesis(tokens[:longest], score, ended=False))
        else:
            further.append(_Running(tokens, float(attention[row, piece]), score, states[row]))
            kept.append(choice)
    return further, kept


def _prefixes(longer: Any, rows: np.ndarray, pieces: np.ndarray, kept: Sequence[int]) -> Prefixes:
    places = np.asarray(kept, np.int64)
    found: Prefixes = longer.chosen(rows[places], pieces[places])
    return found


def without_loop(tokens: Sequence[int]) -> tuple[int, ...] | None:
    """The tokens with the stretch at their end once, where it stands there more than `MOST_REPEATS` times in a row;
    None where nothing does. An attention decoder that has lost its place goes round in circles."""
    for size in range(1, LONGEST_LOOP + 1):
        span = size * (MOST_REPEATS + 1)
        if len(tokens) < span:
            return None
        tail = tokens[-span:]
        if tail[size:] == tail[:-size]:
            return tuple(tokens[: len(tokens) - span + size])
    return None
