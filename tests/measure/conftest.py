"""Bundles of the whistled-letter recogniser, built once for the room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tone_bundle import write_tone_bundle
from tflite_asr.bundle import Bundle


@pytest.fixture(scope="session")
def float_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("tones")
    return write_tone_bundle(folder / "float", integer=False)


@pytest.fixture(scope="session")
def int8_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("tones")
    return write_tone_bundle(folder / "int8", integer=True)
