"""Cuts cover everything on one grid; joins take each frame once, from where both windows are sure."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tflite_asr.decoding import greedy_ctc
from tflite_asr.runtime.windows import OVERLAP, Piece, apart, breaks, cut, join, seam
from tflite_asr.tokens import Tokens

TOKENS = Tokens(("<blank>", *"abcdefghijklmnopqrstuvwxyz"), blank_id=0)


@settings(max_examples=200, deadline=None)
@given(
    frames=st.integers(0, 20_000),
    longest=st.sampled_from([50, 100, 200, 1600, 1601]),
    subsampling=st.sampled_from([1, 2, 4, 6, 8]),
)
def test_cuts_cover_every_frame_and_overlap_enough(frames, longest, subsampling):
    pieces = cut(frames, longest, subsampling)
    if not frames:
        assert pieces == []
        return
    assert pieces[0].start == 0
    assert pieces[-1].start + pieces[-1].frames == frames
    for before, after in pairwise(pieces):
        assert after.start % subsampling == 0
        assert before.frames == longest
        overlap = before.start + before.frames - after.start
        assert round(longest * OVERLAP) <= overlap <= round(longest * OVERLAP) + subsampling
        assert after.frames > overlap - subsampling


def test_what_fits_is_not_cut():
    assert cut(1600, 1600, 4) == [Piece(0, 1600)]


@settings(max_examples=100, deadline=None)
@given(
    frames=st.integers(1601, 9000),
    places=st.lists(st.floats(0, 9000), max_size=20),
    subsampling=st.sampled_from([1, 4, 8]),
)
def test_cuts_at_given_places_share_nothing_there_and_overlap_elsewhere(frames, places, subsampling):
    pieces = cut(frames, 1600, subsampling, sorted(places))
    assert pieces[0].start == 0
    assert pieces[-1].start + pieces[-1].frames == frames
    wanted = {round(place / subsampling) * subsampling for place in places}
    at = {frame * subsampling for frame in breaks(pieces, subsampling)}
    assert at == {place for place in wanted if 0 < place < frames}
    for before, after in pairwise(pieces):
        shared = before.start + before.frames - after.start
        assert shared == 0 if after.start in at else shared >= round(1600 * OVERLAP)
    parts = [
        np.full((-(-one.frames // subsampling), 3), number, np.int8) for number, one in enumerate(pieces)
    ]
    assert len(join(parts, pieces, subsampling, blank_id=0)) == -(-frames // subsampling)


def logits_of(path: list[int], jitter: np.random.Generator | None = None) -> np.ndarray:
    """int8 logits of a path of pieces; with jitter, letters move by a frame at most and levels vary."""
    logits = np.full((len(path), len(TOKENS.pieces)), -60, np.int8)
    logits[:, 0] = 20
    for frame, piece in enumerate(path):
        if piece:
            at = min(len(path) - 1, max(0, frame + (int(jitter.integers(-1, 2)) if jitter else 0)))
            logits[at, piece] = 60 if jitter is None else int(jitter.integers(40, 80))
    return logits


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), subsampling=st.sampled_from([1, 4, 8]))
def test_windows_that_disagree_at_their_edges_and_jitter_lose_and_double_nothing(seed, subsampling):
    """Letters every 7 to 12 frames; each window moves each by up to a frame, and is wrong near its ends."""
    random = np.random.default_rng(seed)
    longest = 400 * subsampling
    frames = int(random.integers(longest + 1, 5 * longest))
    pieces = cut(frames, longest, subsampling)
    path = [0] * -(-frames // subsampling)
    for at in np.cumsum(random.integers(7, 13, len(path))):
        if at < len(path) - 3:
            path[at] = int(random.integers(1, 27))
    parts = []
    for number, piece in enumerate(pieces):
        start = piece.start // subsampling
        stop = start + -(-piece.frames // subsampling)
        part = logits_of(path[start:stop], random)
        garbled = random.integers(-128, 127, (20, part.shape[1])).astype(np.int8)
        if number:
            part[:20] = garbled
        if number + 1 < len(pieces):
            part[-20:] = garbled
        parts.append(part)
    joined = join(parts, pieces, subsampling, 0)
    assert len(joined) == len(path)
    expected = "".join(TOKENS.pieces[p] for p in path if p)
    assert greedy_ctc(joined, None, TOKENS, 0.04).text == expected


def test_every_frame_comes_from_one_window():
    pieces = cut(1000, 400, 4)
    parts = [np.full((-(-p.frames // 4), 3), n, np.float32) for n, p in enumerate(pieces)]
    joined = join(parts, pieces, 4, 0)
    assert len(joined) == 250
    assert (np.diff(joined[:, 0]) >= 0).all()
    assert set(joined[:, 0]) == set(range(len(pieces)))


def test_the_seam_lies_in_the_only_pause_of_the_middle_half():
    path = [1 + n % 20 for n in range(100)]
    path[55:66] = [0] * 11
    logits = logits_of(path)
    assert seam(logits, logits, 0) in range(58, 64)


def test_the_seam_lies_where_both_windows_are_quiet():
    left, right = [1 + n % 20 for n in range(100)], [1 + n % 20 for n in range(100)]
    left[30:42] = [0] * 12  # quiet on one side only
    left[60:70] = right[60:70] = [0] * 10
    assert seam(logits_of(left), logits_of(right), 0) in range(62, 69)


def test_silence_is_cut_in_the_middle():
    silence = logits_of([0] * 100)
    assert seam(silence, silence, 0) == 50


@pytest.mark.parametrize("shared", [0, 1, 2, 3])
def test_an_overlap_of_almost_nothing_still_has_a_seam(shared):
    logits = logits_of([0] * shared) if shared else np.zeros((0, 27), np.int8)
    assert 0 <= seam(logits, logits, 0) <= shared


def test_pieces_apart_change_over_where_joined_logits_do():
    rng = np.random.default_rng(0)
    pieces = [*cut(400, 200, 4, []), Piece(400, 80)]
    parts = [rng.standard_normal((piece.frames // 4, 3)) for piece in pieces]
    joined = join(parts, pieces, 4, blank_id=0)
    stretches = apart(parts, pieces, 4, blank_id=0)
    assert [stretches[0].start, stretches[-1].start + stretches[-1].frames] == [0, 480]
    for before, after in pairwise(stretches):
        assert before.start + before.frames == after.start
    for stretch, piece, part in zip(stretches, pieces, parts, strict=True):
        first = (stretch.start - piece.start) // 4
        inside = part[first : first + stretch.frames // 4]
        np.testing.assert_array_equal(joined[stretch.start // 4 :][: len(inside)], inside)
    assert apart(parts[-1:], pieces[-1:], 4, blank_id=0) == pieces[-1:]
    assert apart([], [], 4, blank_id=0) == []
