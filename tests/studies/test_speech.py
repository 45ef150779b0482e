"""Calibration never sees what it is judged by: what is set aside, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tflite_asr.errors import TfliteAsrError
from tflite_asr.manifest import Utterance, read_manifest, write_manifest
from tflite_asr.studies.speech import divide


@pytest.fixture
def corpora(tmp_path: Path) -> list[Path]:
    """Two manifests, of six and of two hundred utterances; no recording is another's."""
    paths: list[Path] = []
    for name, count in (("small", 6), ("large", 200)):
        (tmp_path / name).mkdir()
        rows = []
        for index in range(count):
            audio = tmp_path / name / f"{index:03d}.wav"
            soundfile.write(audio, np.full(160, (200 * len(paths) + index) / 500, np.float32), 16000)
            rows.append(Utterance(audio, 0.1, "a"))
        paths.append(tmp_path / name / "test.jsonl")
        write_manifest(paths[-1], rows)
    return paths


def names(some) -> set[Path]:
    return {one.audio_filepath for one in some}


def test_clips_are_set_aside_from_every_corpus_and_not_evaluated(corpora, tmp_path: Path) -> None:
    speech = divide(corpora, None, tmp_path)
    aside = names(read_manifest(speech.calibration))
    heard = names(one for _, one in speech.utterances)
    assert (
        len(aside) == speech.calibration_clips == 3 + 24
    )  # half of the small one, half of 48 of the large one
    assert not aside & heard
    assert len(aside | heard) == 206
    assert list(speech.corpora) == ["small/test", "large/test"]
    assert "27 clips set aside" in speech.note


def test_the_draw_is_the_same_every_time_and_another_with_another_seed(corpora, tmp_path: Path) -> None:
    first, again, other = (divide(corpora, None, tmp_path, seed=seed) for seed in (0, 0, 1))
    assert first.calibration == again.calibration
    assert first.sha256 == again.sha256
    assert other.sha256 != first.sha256
    assert names(read_manifest(other.calibration)) != names(read_manifest(first.calibration))


def test_a_manifest_to_calibrate_on_leaves_the_others_whole(corpora, tmp_path: Path) -> None:
    speech = divide(corpora[:1], corpora[1], tmp_path, limit=4)
    assert (len(speech.utterances), speech.calibration_clips) == (4, 200)
    assert "48 of 200 clips" in speech.note


def test_a_recording_in_both_is_refused(corpora, tmp_path: Path) -> None:
    with pytest.raises(TfliteAsrError, match="calibration must never see what it is judged by"):
        divide(corpora, corpora[1], tmp_path)


@pytest.mark.parametrize("how", [shutil.copytree, lambda there, here: here.symlink_to(there)])
def test_a_recording_in_both_is_refused_by_whatever_path_it_comes(corpora, tmp_path: Path, how: Any) -> None:
    how(corpora[1].parent, tmp_path / "again")
    with pytest.raises(TfliteAsrError, match=r"again/000.wav is evaluated too"):
        divide(corpora, tmp_path / "again" / "test.jsonl", tmp_path)


def test_too_few_to_divide_is_told(corpora, tmp_path: Path) -> None:
    with pytest.raises(TfliteAsrError, match="give --calibrate-on"):
        divide(corpora, None, tmp_path, limit=1)
