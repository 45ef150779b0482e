"""What is installed: small without TensorFlow, complete with its clips, and working from the built wheel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tflite_asr.audio import read_audio
from tflite_asr.manifest import read_manifest
from tflite_asr.tokens import CHARACTERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HEAVY = ("ai_edge_litert", "ai_edge_quantizer", "keras", "librosa", "tensorflow", "tflite_runtime")


def test_the_demo_clips_are_many_small_and_readable(demo_manifest: Path) -> None:
    clips = read_manifest(demo_manifest, CHARACTERS)
    assert len(clips) >= 24
    assert len({clip.text for clip in clips}) == len(clips)
    assert sum(clip.audio_filepath.stat().st_size for clip in clips) < 600_000
    for clip in clips:
        samples = read_audio(clip.audio_filepath)
        assert len(samples) / 16000 == pytest.approx(clip.duration, abs=0.05)
        assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.2


def test_the_base_brings_no_runtime_and_no_tensorflow(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    base = {re.split(r"[<>=;\[ ]", line)[0].replace("-", "_") for line in project["dependencies"]}
    assert base.isdisjoint(HEAVY)


def test_the_command_line_imports_nothing_heavy_before_a_command_needs_it() -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, tflite_asr.cli; print([m for m in {HEAVY} if m in sys.modules])",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == "[]"


def test_every_constraint_is_one_version_and_names_no_host(repository: Path) -> None:
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    for line in pins:
        assert re.fullmatch(r"[a-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line), line


def test_what_the_extras_name_is_pinned(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    pinned = {line.partition("==")[0] for line in (repository / "constraints.txt").read_text().splitlines()}
    extras = {
        name: lines for name, lines in project["optional-dependencies"].items() if name != "tflite-runtime"
    }
    for lines in (project["dependencies"], *extras.values()):
        for line in lines:
            name = re.split(r"[<>=;\[ ]", line)[0]
            assert name in pinned | {"tflite-asr"}, f"{name} is not in constraints.txt"
