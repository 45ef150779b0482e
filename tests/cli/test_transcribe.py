"""`transcribe`: text, word times and JSON; sound that is none, bundles and runtimes that are not there."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.command_line import fault, run
from tests.tone_bundle import whistle


def test_transcribe_prints_the_text(tones: Path, wav: Path) -> None:
    result = run("transcribe", tones, wav)
    assert result.exit_code == 0
    assert result.stdout == "abc\n"


def test_transcribe_reads_standard_input(tones: Path, wav: Path) -> None:
    assert run("transcribe", tones, "-", stdin=wav.read_bytes()).stdout == "abc\n"


def test_transcribe_gives_word_times(tones: Path, wav: Path) -> None:
    lines = run("transcribe", tones, wav, "--timestamps").stdout.splitlines()
    start, end, word = lines[1].split()
    assert (lines[0], word) == ("abc", "abc")
    assert 0.0 <= float(start) < float(end) <= 0.8


def test_transcribe_json_is_all_of_standard_output(tones: Path, wav: Path) -> None:
    result = run("transcribe", tones, wav, wav, "--json", "-")
    (one, two) = json.loads(result.stdout)
    assert one == two
    assert one["pred_text"] == "abc"
    assert one["audio_filepath"] == str(wav)
    assert one["words"][0]["word"] == "abc"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such audio file"),
        (b"", "is empty (0 bytes)"),
        (b"hello, I am no sound at all, believe me", "cannot be read as audio"),
        ("cut", "is cut short"),
        ("nan", "is NaN or infinite"),
        ("none", "holds no samples"),
    ],
)
def test_bad_audio(tones: Path, tmp_path: Path, content: bytes | str | None, message: str) -> None:
    path = tmp_path / "bad.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        soundfile.write(path, whistle("abc"), 16000)
        path.write_bytes(path.read_bytes()[:3000])
    elif content is not None:
        samples = np.full(800, np.nan, np.float32) if content == "nan" else np.zeros(0, np.float32)
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    assert message in fault("transcribe", tones, path)


def test_a_bad_file_among_good_ones_is_told_and_the_others_are_transcribed(
    tones: Path, wav: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    files = (wav, tmp_path / "gone.wav", wav, tmp_path / "bad.wav", wav)
    result = run("transcribe", tones, *files)
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [f"{wav}: abc"] * 3
    one, other = result.stderr.splitlines()
    assert one.startswith(f"error: {tmp_path}/gone.wav: no such audio file")
    assert other.startswith(f"error: {tmp_path}/bad.wav: cannot be read as audio")
    result = run("transcribe", tones, *files, "--json", "-")
    assert result.exit_code == 2
    assert [row["audio_filepath"] for row in json.loads(result.stdout)] == [str(wav)] * 3


def test_bad_audio_on_standard_input(tones: Path) -> None:
    result = run("transcribe", tones, "-", stdin=b"no sound")
    assert result.exit_code == 2
    assert "error: <stream>: cannot be read as audio" in result.stderr


def test_a_bundle_that_is_not_there(tmp_path: Path, wav: Path) -> None:
    assert "no such bundle" in fault("transcribe", tmp_path / "gone", wav)
    assert "is a file" in fault("transcribe", wav, wav)


def test_a_newer_schema_is_refused(tones: Path, wav: Path, tmp_path: Path) -> None:
    shutil.copytree(tones, tmp_path / "copy")
    info = json.loads((tmp_path / "copy" / "bundle.json").read_text())
    (tmp_path / "copy" / "bundle.json").write_text(json.dumps({**info, "schema_version": "2.0"}))
    assert "schema_version 2.0 is newer" in fault("transcribe", tmp_path / "copy", wav, code=1)


@pytest.mark.parametrize(
    ("runtime", "package"), [("litert", "ai_edge_litert"), ("tflite-runtime", "tflite_runtime")]
)
def test_a_runtime_that_is_not_installed_names_both_extras(
    tones: Path, wav: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, package: str
) -> None:
    for name in (package, f"{package}.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)  # None there makes an import fail
    message = fault("transcribe", tones, wav, "--runtime", runtime)
    assert message.startswith(f"runtime {runtime} is not installed")
    assert "tflite-asr[litert]" in message
    assert "tflite-asr[tflite-runtime]" in message
