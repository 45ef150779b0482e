"""Emulated cores, laid out once for all tests that count on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tflite_asr.measure.arm import prepare


@pytest.fixture(scope="session")
def prepared_cores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `prepare` made from nothing; skips where Debian's tools are missing."""
    missing = [tool for tool in ("gcc", "apt-get", "dpkg-deb") if not shutil.which(tool)]
    if missing:
        pytest.skip(f"{missing[0]}, which preparing an emulated core needs, is not installed")
    return prepare(tmp_path_factory.mktemp("cores") / "here, and there")
