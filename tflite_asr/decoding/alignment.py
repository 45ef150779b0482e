"""When each token of a known text was said: the best CTC path that spells it (Viterbi)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def align(
    log_probabilities: np.ndarray, tokens: Sequence[int], blank_id: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """First and one-past-last frame of each token: int64 [tokens] each; None where no path spells them.

    log_probabilities: float [frames, pieces] of the valid frames. A path needs a frame a token, and a blank between two
    equal ones.
    """
    frames, count = len(log_probabilities), len(tokens)
    labels = np.full(2 * count + 1, blank_id, np.int64)
    labels[1::2] = tokens
    skips = np.zeros(len(labels), bool)  # a token may follow the one before it at once, if they differ
    skips[3::2] = labels[3::2] != labels[1:-2:2]
    score = np.full(len(labels), -np.inf)
    came = np.zeros((frames, len(labels)), np.int8)
    if not frames:
        return None if count else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    score[:2] = log_probabilities[0, labels[:2]]
    for frame in range(1, frames):
        ways = np.full((3, len(labels)), -np.inf)
        ways[0] = score
        ways[1, 1:] = score[:-1]
        ways[2, 2:] = np.where(skips[2:], score[:-2], -np.inf)
        came[frame] = ways.argmax(axis=0)
        score = ways.max(axis=0) + log_probabilities[frame, labels]
    place = int(np.argmax(score[-2:])) + len(labels) - 2 if count else 0
    if not np.isfinite(score[place]):
        return None
    path = np.zeros(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = place
        place -= int(came[frame, place])
    firsts, ends = (np.zeros(count, np.int64) for _ in range(2))
    for token in range(count):
        there = np.flatnonzero(path == 2 * token + 1)
        firsts[token], ends[token] = there[0], there[-1] + 1
    return firsts, ends
