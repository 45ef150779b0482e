"""What the commands are tried on: a recogniser of whistles, a tiny checkpoint, one clip and its manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.tone_bundle import whistle, write_tone_bundle
from tflite_asr.bundle import Bundle
from tflite_asr.manifest import Utterance, write_manifest


@pytest.fixture(scope="session")
def tones(int8_bundle: Bundle) -> Path:
    """An int8 bundle that spells whistles."""
    return int8_bundle.path


@pytest.fixture(scope="session")
def feature_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_bundle(tmp_path_factory.mktemp("tones") / "bare", integer=False, feature_only=True).path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", whistle("abc"), 16000)
    return tmp_path / "a.wav"


@pytest.fixture
def manifest(wav: Path, tmp_path: Path) -> Path:
    write_manifest(tmp_path / "m.jsonl", [Utterance(wav, 1.0, "abc"), Utterance(wav, 1.0, "abd")])
    return tmp_path / "m.jsonl"
