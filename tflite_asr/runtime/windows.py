"""Audio longer than the longest window: cut at pauses (pauses.py), and where there are none with overlap, joined frame
by frame where both sides hear nothing.

Joined at the logits, not at the text, so that a word on a cut is neither lost nor doubled: every frame of the result
comes from exactly one window, and the seam lies in the overlap's middle, where both windows have context on both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Part of the longest window that two neighbours share: 4 s of 16 s, so that the searched middle half (2 s) holds
# a pause between words in nearly all speech, 1 s away from either window's edge.
OVERLAP = 1 / 4

# Logit frames on each side of a seam that must be quiet too: the two windows may place a letter a frame or two apart.
QUIET = 3


@dataclass(frozen=True)
class Piece:
    """Feature frames [start, start + frames) of an utterance."""

    start: int
    frames: int


def cut(frames: int, longest: int, subsampling: int, places: Sequence[float] = ()) -> list[Piece]:
    """Pieces that cover `frames` feature frames, each at most `longest`.

    What fits one piece is one. Else it is cut at `places`, feature frames in their order, and what lies between two and
    is longer still is cut so that neighbours overlap by at least `OVERLAP`. Starts are multiples of `subsampling`, so
    that logit frames of all pieces lie on one grid. No frames, no pieces.
    """
    if frames <= longest:
        return [Piece(0, frames)] if frames else []
    grid = [round(place / subsampling) * subsampling for place in places]
    bounds = [0, *sorted({place for place in grid if 0 < place < frames}), frames]
    step = max(subsampling, round(longest * (1 - OVERLAP)) // subsampling * subsampling)
    pieces = []
    for start, end in itertools.pairwise(bounds):
        while start + longest < end:
            pieces.append(Piece(start, longest))
            start += step
        pieces.append(Piece(start, end - start))
    return pieces


def breaks(pieces: Sequence[Piece], subsampling: int) -> list[int]:
    """Logit frames at which a piece begins that shares nothing with the one before it: where it was cut."""
    pairs = itertools.pairwise(pieces)
    return [
        after.start // subsampling for before, after in pairs if before.start + before.frames <= after.start
    ]


def apart(
    parts: Sequence[np.ndarray], pieces: Sequence[Piece], subsampling: int, blank_id: int
) -> list[Piece]:
    """The same time in pieces that do not overlap, each changing over where `join` does; arguments as its."""
    starts = [piece.start for piece in pieces]
    ends = [piece.start + piece.frames for piece in pieces]
    for index, (before, after) in enumerate(itertools.pairwise(pieces)):
        if before.start + before.frames <= after.start:
            continue
        shift = (after.start - before.start) // subsampling
        shared = len(parts[index]) - shift
        place = seam(parts[index][shift:], parts[index + 1][:shared], blank_id)
        starts[index + 1] = ends[index] = after.start + place * subsampling
    return [Piece(start, end - start) for start, end in zip(starts, ends, strict=True) if end > start]


def join(parts: Sequence[np.ndarray], pieces: Sequence[Piece], subsampling: int, blank_id: int) -> np.ndarray:
    """Logits of the whole utterance.

    Args:
        parts: [logit frames, pieces of text] of each piece, valid frames only, all of one dtype and scale.
        pieces: as `cut` gave them.
        subsampling: feature frames that become one logit frame.
        blank_id: CTC's blank.

    Returns:
        [ceil(frames / subsampling), pieces of text].
    """
    kept = [parts[0]]
    for left, right, before, after in zip(parts, parts[1:], pieces, pieces[1:], strict=False):
        shift = (after.start - before.start) // subsampling
        shared = len(left) - shift
        place = seam(left[shift:], right[:shared], blank_id)
        # `left` may itself begin at an earlier seam: count what is dropped from its end.
        kept[-1] = kept[-1][: len(kept[-1]) - (shared - place)]
        kept.append(right[place:])
    return np.concatenate(kept)


def seam(left: np.ndarray, right: np.ndarray, blank_id: int) -> int:
    """Where to change over in an overlap: frames before it come from `left`, the others from `right`.

    The middle half is searched for the place around which both are surest of the blank, and of equally sure ones the
    middlemost.

    Args:
        left, right: [shared frames, pieces of text] of the same time.
    """
    shared = min(len(left), len(right))
    low, high = shared // 4, shared - shared // 4
    if high <= low:
        return shared // 2
    sure = np.minimum(_blank_margin(left[:shared], blank_id), _blank_margin(right[:shared], blank_id))
    # A change at t puts frame t - 1 left of the seam and t right of it.
    around = [sure[max(0, t - QUIET) : t + QUIET].min() for t in range(low, high)]
    best = np.flatnonzero(around == np.max(around)) + low
    return int(best[np.argmin(np.abs(best - shared / 2))])


def _blank_margin(logits: np.ndarray, blank_id: int) -> np.ndarray:
    """How far the blank lies above every other piece: float64 [frames]; negative where a letter is heard."""
    real = logits.astype(np.float64)
    others = np.delete(real, blank_id, axis=1)
    return real[:, blank_id] - others.max(axis=1)
