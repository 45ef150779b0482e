"""What tests of several rooms share: real speech, a recogniser of known answers, a quiet, small TensorFlow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tflite_asr.bundle import Bundle

# Read by TensorFlow and its thread pools when they are first imported, so set before any test module is.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
for threads in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(threads, "2")

REPOSITORY = Path(__file__).resolve().parent.parent
CORPORA = ("an4", "speechocean762", "ljspeech_part")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run in."""
    return REPOSITORY


@pytest.fixture(scope="session")
def speech_data() -> Path:
    """The folder of real speech: $TFLITE_ASR_DATA, or ../shared/data; skips where neither holds the corpora."""
    folder = Path(os.environ.get("TFLITE_ASR_DATA", REPOSITORY.parent / "shared" / "data"))
    missing = [name for name in CORPORA if not (folder / name / "train.jsonl").is_file()]
    if missing:
        pytest.skip(f"real speech is not part of the project, and {folder} holds no {missing[0]}/train.jsonl")
    return folder


@pytest.fixture(scope="session")
def demo_manifest() -> Path:
    """The manifest of the clips that the package ships."""
    return REPOSITORY / "tflite_asr" / "pretrained" / "demo" / "demo.jsonl"


@pytest.fixture(scope="session")
def float_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The whistled-letter recogniser in float32."""
    from tests.tone_bundle import write_tone_bundle

    return write_tone_bundle(tmp_path_factory.mktemp("tones") / "float", integer=False)


@pytest.fixture(scope="session")
def int8_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The whistled-letter recogniser in int8."""
    from tests.tone_bundle import write_tone_bundle

    return write_tone_bundle(tmp_path_factory.mktemp("tones") / "int8", integer=True)


@pytest.fixture(scope="session")
def prepared_cores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of emulated cores that `prepare` made from nothing; skips where Debian's tools are missing."""
    from tflite_asr.measure.arm import prepare

    missing = [tool for tool in ("gcc", "apt-get", "dpkg-deb") if not shutil.which(tool)]
    if missing:
        pytest.skip(f"{missing[0]}, which preparing an emulated core needs, is not installed")
    return prepare(tmp_path_factory.mktemp("cores") / "here, and there")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that leftovers of earlier builds in the checkout cannot hide a missing file."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(
        REPOSITORY / "tflite_asr", source / "tflite_asr", ignore=shutil.ignore_patterns("__pycache__")
    )
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built
