"""What is installed: small without TensorFlow, complete with its clips, and working from the built wheel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.environments import install, packaged_manifest, run
from tflite_asr.audio import read_audio
from tflite_asr.manifest import read_manifest
from tflite_asr.runtime.transcriber import Transcriber
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


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-tflite-runtime.txt"])
def test_every_constraint_is_one_version_and_names_no_host(repository: Path, name: str) -> None:
    lines = (repository / name).read_text().splitlines()
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
            name = re.split(r"[<>=;\[ ]", line)[0].lower()
            assert name in pinned | {"tflite-asr"}, f"{name} is not in constraints.txt"


@pytest.fixture(scope="module")
def base(wheel: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(wheel, "", tmp_path_factory.mktemp("base") / "venv", repository / "constraints.txt")


@pytest.fixture(scope="module")
def with_litert(wheel: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(
        wheel, "[litert]", tmp_path_factory.mktemp("litert") / "venv", repository / "constraints.txt"
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 bundle of an untrained tiny Conformer: what it says means nothing, and must be the same anywhere."""
    import keras

    from tflite_asr.facts import ModelFacts
    from tflite_asr.frontend import FrontEnd
    from tflite_asr.models.conformer import TINY, build_conformer
    from tflite_asr.pipeline import export

    folder = tmp_path_factory.mktemp("bundle")
    keras.utils.set_random_seed(1)
    frontend = FrontEnd(normalise="fixed", mean=(-9.0,) * 80, std=(4.0,) * 80)
    build_conformer(TINY).save(folder / "tiny.keras")
    facts = ModelFacts("tiny", "conformer", asdict(TINY), frontend, CHARACTERS, 4, windows_seconds=(2, 4))
    facts.write(folder / "tiny.keras")
    return export(folder / "tiny.keras", folder / "int8", calibration="noise").path


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path, repository: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "tflite_asr"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert held == set(tracked.stdout.splitlines())


@pytest.mark.slow
def test_the_base_helps_audits_and_names_both_runtimes_where_none_is_installed(
    base: Path, bundle: Path, tmp_path: Path
) -> None:
    modules = run(base, "python", "-c", "help('modules')", cwd=tmp_path).stdout.split()
    assert "tflite_asr" in modules
    assert set(HEAVY).isdisjoint(modules)
    helped = run(base, "tflite-asr", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "evaluate" in helped.stdout
    audited = run(base, "tflite-asr", "audit", str(bundle), cwd=tmp_path)
    assert audited.returncode == 0, audited.stderr
    manifest = str(packaged_manifest(base))
    evaluated = run(base, "tflite-asr", "evaluate", str(bundle), "--manifest", manifest, cwd=tmp_path)
    assert evaluated.returncode == 2
    (line,) = evaluated.stderr.strip().splitlines()
    assert "tflite-asr[litert]" in line
    assert "tflite-asr[tflite-runtime]" in line


@pytest.mark.slow
def test_the_wheel_evaluates_a_bundle_without_tensorflow_and_hears_what_the_checkout_hears(
    with_litert: Path, bundle: Path, demo_manifest: Path, tmp_path: Path
) -> None:
    modules = run(with_litert, "python", "-c", "help('modules')", cwd=tmp_path).stdout.split()
    assert {"keras", "librosa", "tensorflow"}.isdisjoint(modules)
    manifest = str(packaged_manifest(with_litert))
    options = ["--manifest", manifest, "--json", "run.json", "--hypotheses", "said.jsonl"]
    evaluated = run(with_litert, "tflite-asr", "evaluate", str(bundle), *options, cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    (variant,) = json.loads((tmp_path / "run.json").read_text())["variants"]
    assert variant["integer_only"] is True
    assert variant["utterances"] == len(read_manifest(demo_manifest))
    said = [json.loads(line)["pred_text"] for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    here = Transcriber(bundle)
    assert said == [here.transcribe(row.audio_filepath).text for row in read_manifest(demo_manifest)]
