"""Utterances laid into one window and judged: the float model agrees with itself, longer audio comes out whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.side_by_side.checkpoint import Checkpoint
from benchmarks.side_by_side.trial import Corpus, Trial, joined, score
from tflite_asr.facts import ModelFacts
from tflite_asr.runtime.windows import cut
from tflite_asr.tokens import CHARACTERS

WINDOW, SUBSAMPLING = 40, 4
SAID = "yes no"


def spelled(text: str) -> np.ndarray:
    """One-hot logits of a text, a blank after every letter: float32 [2 letters, pieces]."""
    ids = [one for piece in CHARACTERS.encode(text) for one in (piece, CHARACTERS.blank_id)]
    return 10 * np.eye(len(CHARACTERS.pieces), dtype=np.float32)[ids]


@pytest.fixture
def checkpoint() -> Checkpoint:
    facts = ModelFacts("m", tokens=CHARACTERS, subsampling=SUBSAMPLING)
    return Checkpoint("m", Path("m.keras"), facts)


def trial_of(*frames: int, text: str | None = SAID) -> Trial:
    features = [np.zeros((count, 80), np.float32) for count in frames]
    corpus = Corpus("made/up", features, None if text is None else [text] * len(frames))
    return Trial(corpus, [cut(count, WINDOW, SUBSAMPLING) for count in frames], Path("feeds.npz"))


def rows_of(logits: np.ndarray, rows: int) -> np.ndarray:
    """A row a window, filled up with what must not be looked at."""
    row = np.full((WINDOW // SUBSAMPLING, logits.shape[1]), 99.0, np.float32)
    row[: len(logits)] = logits[: len(row)]
    return np.repeat(row[None], rows, axis=0)


def test_the_float_model_against_itself_is_at_the_ceiling(checkpoint: Checkpoint) -> None:
    logits = rows_of(spelled("yes"), 1)
    found = score(trial_of(24, text="yes"), logits, logits, checkpoint)
    assert (found["snr_db"], found["argmax_agreement"], found["wer"]) == (120.0, 1.0, 0.0)
    assert found["wer_difference"]["difference"] == 0.0


def test_noise_and_a_wrong_letter_are_counted(checkpoint: Checkpoint) -> None:
    truth, heard = spelled("yes"), spelled("yet")
    found = score(trial_of(24, text="yes"), rows_of(heard, 1), rows_of(truth, 1), checkpoint)
    assert found["wer"] == 1.0
    assert found["argmax_agreement"] == pytest.approx(5 / 6)
    # One frame of six has its 10 in another place: 600 of signal, 200 of noise.
    assert found["snr_db"] == pytest.approx(10 * np.log10(600 / 200))


def test_padding_behind_the_valid_frames_is_not_looked_at(checkpoint: Checkpoint) -> None:
    these, those = rows_of(spelled("yes"), 1), rows_of(spelled("yes"), 1)
    these[:, 6:] = -50.0
    assert score(trial_of(24, text="yes"), these, those, checkpoint)["snr_db"] == 120.0


def test_audio_longer_than_the_window_is_joined_to_its_own_length() -> None:
    trial = trial_of(100, 8)
    rows = rows_of(spelled("yes"), sum(map(len, trial.pieces)))
    first, second = joined(rows, trial, SUBSAMPLING, CHARACTERS.blank_id)
    assert len(trial.pieces[0]) > 1
    assert (len(first), len(second)) == (25, 2)


def test_without_texts_there_is_no_word_error_rate(checkpoint: Checkpoint) -> None:
    logits = rows_of(spelled("yes"), 1)
    assert "wer" not in score(trial_of(24, text=None), logits, logits, checkpoint)
