"""Greedy CTC against a frame-by-frame loop, and what its timestamps say."""

from __future__ import annotations

import numpy as np
import pytest

from tflite_asr.decoding import greedy_ctc
from tflite_asr.errors import TfliteAsrError
from tflite_asr.tokens import CHARACTERS, Tokens


def logits_of(path: str, tokens: Tokens = CHARACTERS, dtype=np.int8) -> np.ndarray:
    """Logits whose best piece a frame is spelled by `path`, `_` the blank."""
    index = {**{p: i for i, p in enumerate(tokens.pieces)}, "_": tokens.blank_id}
    out = np.full((len(path), len(tokens.pieces)), -100, dtype)
    for frame, piece in enumerate(path):
        out[frame, index[piece]] = 100
    return out


def loop(logits: np.ndarray, tokens: Tokens) -> str:
    """The definition, one frame at a time."""
    ids, previous = [], None
    for row in logits:
        best = max(range(len(row)), key=lambda i: (row[i], -i))
        if best != previous and best != tokens.blank_id:
            ids.append(best)
        previous = best
    return tokens.decode(ids)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32])
def test_repeats_merge_and_a_blank_between_doubles_a_letter(dtype):
    assert greedy_ctc(logits_of("__hhe_ll_lo_", dtype=dtype), None, CHARACTERS, 0.04).text == "hello"


@pytest.mark.parametrize("seed", range(5))
def test_random_logits_decode_as_the_frame_by_frame_loop(seed):
    logits = np.random.default_rng(seed).integers(-128, 128, (200, 29)).astype(np.int8)
    assert greedy_ctc(logits, None, CHARACTERS, 0.04).text == loop(logits, CHARACTERS)


def test_words_span_from_their_first_to_their_last_frame():
    transcript = greedy_ctc(logits_of("__aa_b _ cc__"), None, CHARACTERS, 0.04)
    assert transcript.text == "ab c"
    assert [(w.text, round(w.start, 2), round(w.end, 2)) for w in transcript.words] == [
        ("ab", 0.08, 0.24),
        ("c", 0.36, 0.44),
    ]


def test_frames_beyond_the_valid_ones_are_not_read():
    assert greedy_ctc(logits_of("ab_cd"), 2, CHARACTERS, 0.04).text == "ab"


def test_spaces_at_the_ends_and_doubled_leave_no_empty_word():
    transcript = greedy_ctc(logits_of(" _ a _ b "), None, CHARACTERS, 0.04)
    assert transcript.text == "a b"
    assert len(transcript.words) == 2


def test_sentence_pieces_start_words_at_their_mark():
    tokens = Tokens(("\u2581the", "m", "\u2581cat", "s", "<blank>"), blank_id=4)
    logits = np.eye(5, dtype=np.float32)[[0, 1, 4, 2, 3]]
    transcript = greedy_ctc(logits, None, tokens, 0.1)
    assert transcript.text == "them cats" == tokens.decode([0, 1, 2, 3])
    assert transcript.words[1].start == pytest.approx(0.3)


def test_no_frames_and_all_blank_are_an_empty_text():
    assert greedy_ctc(np.zeros((0, 29), np.int8), None, CHARACTERS, 0.04).text == ""
    assert greedy_ctc(logits_of("____"), None, CHARACTERS, 0.04).words == ()


def test_logits_of_another_alphabet_are_refused():
    with pytest.raises(TfliteAsrError, match="29 pieces"):
        greedy_ctc(np.zeros((4, 30), np.int8), None, CHARACTERS, 0.04)


def test_no_word_goes_across_a_break():
    logits = logits_of("ca_t__do_g")
    assert greedy_ctc(logits, None, CHARACTERS, 0.04).text == "catdog"
    cut = greedy_ctc(logits, None, CHARACTERS, 0.04, breaks=[5])
    assert cut.text == "cat dog"
    assert [(round(word.start, 2), round(word.end, 2)) for word in cut.words] == [(0.0, 0.16), (0.24, 0.4)]


def test_breaks_in_silence_add_nothing():
    assert greedy_ctc(logits_of("__at___"), None, CHARACTERS, 0.04, breaks=[1, 5, 6]).text == "at"
