"""How probable CTC finds it that a transcript begins so: scores for joint decoding (Watanabe et al. 2017, algorithm 2).

The probability of a prefix is that of all label sequences which begin with it, summed over their alignments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NEVER = -1e30  # the logarithm of nothing that still adds up


@dataclass(frozen=True)
class Prefixes:
    """Several prefixes of one length.

    last: int64 [prefixes], the last piece of each; -1 for the empty one. length: pieces in each. forward: float64
    [frames, 2, prefixes], log probability of having spelled it by each frame, with the frame on its last piece or on
    the blank.
    """

    last: np.ndarray
    length: int
    forward: np.ndarray


@dataclass(frozen=True)
class Extended:
    """Every prefix of `Prefixes` with every piece behind it.

    scores: float64 [prefixes, pieces], log probability of the longer prefix; under the blank that of the prefix
    itself as the whole transcript. forward: float64 [frames, 2, prefixes, pieces].
    """

    before: Prefixes
    scores: np.ndarray
    forward: np.ndarray

    def chosen(self, rows: np.ndarray, pieces: np.ndarray) -> Prefixes:
        """The prefixes `rows`, each with one of its `pieces`."""
        return Prefixes(
            np.asarray(pieces, np.int64), self.before.length + 1, self.forward[:, :, rows, pieces]
        )


class CTCPrefixScorer:
    """Scores of prefixes of one utterance.

    Args:
        log_probabilities: float [frames, pieces] of the valid frames, natural logarithms.
        blank_id: CTC's blank.
    """

    def __init__(self, log_probabilities: np.ndarray, blank_id: int) -> None:
        self.log_probabilities = np.maximum(log_probabilities.astype(np.float64), _NEVER)
        self.blank_id = blank_id

    def start(self) -> Prefixes:
        """The empty prefix."""
        blanks = np.cumsum(self.log_probabilities[:, self.blank_id])
        forward = np.stack([np.full(len(blanks), _NEVER), blanks], axis=1)
        return Prefixes(np.array([-1]), 0, forward[:, :, None])

    def extended(self, prefixes: Prefixes) -> Extended:
        """Each prefix with each piece behind it."""
        logs, blank = self.log_probabilities, self.blank_id
        frames, pieces = logs.shape
        rows = len(prefixes.last)
        spelled = np.logaddexp(prefixes.forward[:, 0], prefixes.forward[:, 1])  # [frames, rows]
        ready = np.repeat(spelled[:, :, None], pieces, axis=2)
        again = np.flatnonzero(prefixes.last >= 0)
        ready[:, again, prefixes.last[again]] = prefixes.forward[
            :, 1, again
        ]  # a piece twice wants a blank between
        forward = np.full((frames, 2, rows, pieces), _NEVER)
        first = prefixes.length
        if first >= frames:
            scores = np.full((rows, pieces), _NEVER)
            scores[:, blank] = spelled[-1] if frames else 0.0
            return Extended(prefixes, scores, forward)
        if first == 0:
            forward[0, 0] = logs[0]
        scores = forward[first, 0].copy() if first == 0 else np.full((rows, pieces), _NEVER)
        for frame in range(max(first, 1), frames):
            on_piece, on_blank = forward[frame - 1]
            forward[frame, 0] = np.logaddexp(on_piece, ready[frame - 1]) + logs[frame]
            forward[frame, 1] = np.logaddexp(on_piece, on_blank) + logs[frame, blank]
            scores = np.logaddexp(scores, ready[frame - 1] + logs[frame])
        scores[:, blank] = spelled[-1]
        return Extended(prefixes, scores, forward)
