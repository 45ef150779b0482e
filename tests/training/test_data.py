"""Batches: every utterance is in one, padded to its bucket, masked, and the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tflite_asr.errors import TfliteAsrError
from tflite_asr.frontend import FrontEnd, log_mel
from tflite_asr.manifest import Utterance, write_manifest
from tflite_asr.tokens import CHARACTERS
from tflite_asr.training import augment, data
from tflite_asr.training.data import (
    Corpus,
    collate,
    evaluation_batches,
    measure_normalisation,
    training_batches,
)
from tflite_asr.training.recipe import Augmentation, Recipe

RAW = FrontEnd(mels=20)
STILL = Augmentation(gain_db=(0, 0), speed=(1, 1), vocal_tract=(1, 1), noise_db=(-300, -300), from_epoch=99)
RECIPE = Recipe("t", batch_seconds=4.0, max_seconds=3.0, augmentation=STILL)
LETTERS = "abcdefghijklmnopqrstuvw"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 utterances of 0.3 to 2.5 s, each with a text of its own."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rows = []
    for index, letter in enumerate(LETTERS):
        seconds = 0.3 + 0.1 * index
        soundfile.write(folder / f"{letter}.wav", 0.1 * rng.standard_normal(round(16000 * seconds)), 16000)
        rows.append(Utterance(folder / f"{letter}.wav", seconds, letter * (1 + index % 3)))
    write_manifest(folder / "train.jsonl", rows)
    return folder / "train.jsonl"


@pytest.fixture(scope="module")
def corpus(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(manifest, RAW, CHARACTERS, tmp_path_factory.mktemp("cache"))


def texts(batches) -> Counter:
    """How often each utterance's letter stands in the batches."""
    letters = [
        CHARACTERS.decode(row[:n])[0]
        for b in batches
        for row, n in zip(b.labels, b.label_lengths, strict=True)
    ]
    return Counter(letters)


def epoch_of(corpus: Corpus, recipe: Recipe = RECIPE, epoch: int = 0):
    frontend = measure_normalisation([corpus], RAW)
    return [make() for make in training_batches([corpus], recipe, frontend, 4, 0, epoch)]


def test_features_are_those_of_the_front_end(corpus: Corpus) -> None:
    for row, features in zip(corpus.rows, corpus.log_mels, strict=True):
        audio, _ = soundfile.read(row.audio_filepath, dtype="float32")
        np.testing.assert_allclose(features.astype(np.float32), log_mel(audio, RAW), rtol=2**-10)


def test_features_are_computed_once(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Corpus(manifest, RAW, CHARACTERS, tmp_path)
    monkeypatch.setattr(data, "read_audio", None)
    again = Corpus(manifest, RAW, CHARACTERS, tmp_path)
    for one, two in zip(first.log_mels, again.log_mels, strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(TypeError):
        Corpus(manifest, replace(RAW, preemphasis=0.97), CHARACTERS, tmp_path)


def test_no_utterance_is_lost_whatever_the_lengths(corpus: Corpus) -> None:
    """Short and long ones are rare, and do not fill a batch of their own."""
    for epoch in range(3):
        assert set(texts(epoch_of(corpus, epoch=epoch))) == set(LETTERS)


def test_an_utterance_is_rarely_drawn_twice(corpus: Corpus) -> None:
    assert max(texts(epoch_of(corpus)).values()) <= 2


def test_one_utterance_alone_makes_a_batch(manifest: Path, tmp_path: Path) -> None:
    lines = manifest.read_text().splitlines()
    (manifest.parent / "one.jsonl").write_text(lines[5] + "\n")
    alone = Corpus(manifest.parent / "one.jsonl", RAW, CHARACTERS, tmp_path)
    assert texts(epoch_of(alone)) == {LETTERS[5]: 1}


def test_batches_hold_as_many_seconds_as_asked_for(corpus: Corpus) -> None:
    for batch in epoch_of(corpus):
        count, frames, _ = batch.features.shape
        assert count * frames * RAW.hop_seconds <= RECIPE.batch_seconds + 1e-9


def test_the_mask_covers_the_valid_frames_and_nothing_else(corpus: Corpus) -> None:
    for batch in epoch_of(corpus):
        assert batch.mask.shape == (len(batch.features), batch.features.shape[1] // 4)
        for features, mask, labels, length in zip(
            batch.features, batch.mask, batch.labels, batch.label_lengths, strict=True
        ):
            valid = int(np.flatnonzero(features.any(axis=1))[-1]) + 1
            assert mask.sum() == -(-valid // 4)
            assert (np.diff(mask) <= 0).all()
            assert (labels[length:] == 0).all()
            assert labels[:length].all()


def test_the_order_follows_from_seed_and_epoch(corpus: Corpus) -> None:
    one, two = epoch_of(corpus, epoch=1), epoch_of(corpus, epoch=1)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.features, second.features)
        np.testing.assert_array_equal(first.labels, second.labels)
    orders = [[CHARACTERS.decode(b.labels[0]) for b in epoch_of(corpus, epoch=e)] for e in (1, 2)]
    assert orders[0] != orders[1]


def test_the_curriculum_and_the_limit_leave_long_ones_out(corpus: Corpus) -> None:
    recipe = replace(RECIPE, curriculum_epochs=1, curriculum_seconds=1.0, max_seconds=2.0)
    assert set(texts(epoch_of(corpus, recipe, epoch=0))) == set(LETTERS[:8])
    assert set(texts(epoch_of(corpus, recipe, epoch=1))) == set(LETTERS[:18])


def test_a_share_of_a_corpus_is_drawn(corpus: Corpus) -> None:
    assert sum(texts(epoch_of(corpus, replace(RECIPE, fractions=(0.5,)))).values()) < 18
    assert min(texts(epoch_of(corpus, replace(RECIPE, fractions=(2.0,)))).values()) >= 2


def test_more_text_than_frames_is_left_out(manifest: Path, tmp_path: Path) -> None:
    """CTC spells a doubled letter with a blank between: 3 letters need 5 frames where all are alike. One frame more is
    for the space to a clip that may be joined."""
    lines = manifest.read_text().splitlines()[:3]  # 0.3 s: 28 frames, 7 of the logits
    texts_given = ["abcabc", "abcabca", "aabbcc", "aaaaa"]  # 6, 7, 9 and 9 frames
    (manifest.parent / "fast.jsonl").write_text(
        "".join(json.dumps({**json.loads(lines[0]), "text": text}) + "\n" for text in texts_given)
    )
    fast = Corpus(manifest.parent / "fast.jsonl", RAW, CHARACTERS, tmp_path)
    batches = epoch_of(fast)
    assert [
        CHARACTERS.decode(row[:n]) for b in batches for row, n in zip(b.labels, b.label_lengths, strict=True)
    ] == ["abcabc"]


def test_where_nothing_fits_one_line_says_so(corpus: Corpus) -> None:
    with pytest.raises(TfliteAsrError, match=r"no utterance lasts from 0\.16 to 0\.2 s .*raise max_seconds"):
        epoch_of(corpus, replace(RECIPE, max_seconds=0.2))


def test_spec_augment_begins_at_its_epoch(corpus: Corpus) -> None:
    recipe = replace(RECIPE, augmentation=replace(STILL, from_epoch=1, frequency_masks=4, frequency_width=5))
    zeros = [
        np.mean([(b.features[0, 0] == 0).any() for b in epoch_of(corpus, recipe, epoch=e)]) for e in (0, 1)
    ]
    assert zeros[0] == 0
    assert zeros[1] > 0.5


def test_fixed_normalisation_is_measured_over_all_frames(corpus: Corpus) -> None:
    frontend = measure_normalisation([corpus], RAW)
    values = np.concatenate(corpus.log_mels).astype(np.float64)
    np.testing.assert_allclose(frontend.mean, values.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(frontend.std, values.std(axis=0), atol=1e-3)


def test_evaluation_gives_every_utterance_once(corpus: Corpus) -> None:
    frontend = measure_normalisation([corpus], RAW)
    seen = []
    for rows, batch in evaluation_batches(corpus, frontend, 4, 0, batch_seconds=5.0):
        seen += rows
        for place, row in enumerate(rows):
            expected = (corpus.log_mels[row].astype(np.float64) - frontend.mean) / frontend.std
            np.testing.assert_allclose(batch.features[place, : len(expected)], expected, atol=1e-4)
            assert not batch.features[place, len(expected) :].any()
    assert sorted(seen) == list(range(len(corpus.rows)))


def test_a_recording_of_minutes_has_a_bucket() -> None:
    assert data._EDGES[-1] > 60 * 60 * 100
    assert all(edge % 8 == 0 for edge in data._EDGES)
    steps = [b / a for a, b in zip(data._EDGES[10:], data._EDGES[11:], strict=False)]
    assert max(steps) < 1.15


@pytest.mark.parametrize(("frames", "subsampling", "expected"), [(50, 4, 52), (48, 8, 48), (50, 1, 50)])
def test_a_batch_is_rounded_up_to_the_subsampling(frames: int, subsampling: int, expected: int) -> None:
    features = [np.ones((n, 3), np.float32) for n in (frames, 7)]
    batch = collate(features, [np.array([1, 2]), np.array([3] * 9)], frames, subsampling, 0)
    assert batch.features.shape == (2, expected, 3)
    assert batch.mask.sum(axis=1).tolist() == [-(-frames // subsampling), -(-7 // subsampling)]
    assert batch.labels.shape == (2, 16)
    assert batch.label_lengths.tolist() == [2, 9]


def test_joined_clips_spell_both_texts_with_a_space_and_fit_the_batch(corpus: Corpus) -> None:
    joining = replace(STILL, join_share=0.7, join_seconds=6.0, silence=(0.1, 0.3))
    batches = epoch_of(corpus, replace(RECIPE, augmentation=joining, batch_seconds=12.0))
    spelled = [
        CHARACTERS.decode(row[:n]) for b in batches for row, n in zip(b.labels, b.label_lengths, strict=True)
    ]
    assert any(" " in text for text in spelled)
    assert {word for text in spelled for word in text.split()} == {row.text for row in corpus.rows}
    for b in batches:
        assert b.features.shape[1] <= 640
        assert (b.mask.sum(axis=1) >= b.label_lengths).all()


def test_silence_is_as_quiet_as_the_clip_beside_it() -> None:
    rng = np.random.default_rng(0)
    clip = np.concatenate([np.full((30, 4), -12.0), np.full((70, 4), -3.0)])
    joined = augment.join([clip, clip + 2], [20, 10, 0], rng)
    assert joined.shape == (230, 4)
    np.testing.assert_array_equal(joined[20:120], clip.astype(np.float32))
    assert abs(joined[:20].mean() + 12.0) < 0.5
    assert abs(joined[120:130].mean() + 10.0) < 0.7
