"""Manifests: every line is checked before any audio is touched, and a fault is named by its line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.manifest import Utterance, read_manifest, write_manifest
from tflite_asr.tokens import CHARACTERS, Tokens


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus: lists/train.jsonl beside audio/."""
    for name in ("lists", "audio"):
        (tmp_path / name).mkdir()
    for name in ("one.wav", "two.wav"):
        (tmp_path / "audio" / name).touch()
    return tmp_path


def line(**changes: Any) -> str:
    return json.dumps({"audio_filepath": "../audio/one.wav", "duration": 1.5, "text": "One.", **changes})


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "lists" / "train.jsonl"
    path.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")
    return path


def complaint(path: Path, tokens: Tokens | None = CHARACTERS) -> str:
    with pytest.raises(TfliteAsrError) as caught:
        read_manifest(path, tokens)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def test_paths_are_relative_to_the_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = manifest(folder, line(), line(audio_filepath=str(folder / "audio" / "two.wav"), speaker="f1"))
    monkeypatch.chdir(folder / "audio")
    first, second = read_manifest(os.path.relpath(path))
    assert first == Utterance(folder / "audio" / "one.wav", 1.5, "one")
    assert second == Utterance(folder / "audio" / "two.wav", 1.5, "one", {"speaker": "f1"})


def test_what_is_written_reads_the_same_from_another_folder(folder: Path) -> None:
    rows = [
        Utterance(folder / "audio" / "one.wav", 1.0, "it's one", {"speaker": "\u00e9\u2028x", "score": 3}),
        Utterance(folder / "audio" / "two.wav", 2, "two"),
    ]
    write_manifest(folder / "lists" / "dev.jsonl", rows)
    assert read_manifest(folder / "lists" / "dev.jsonl") == rows
    written = json.loads((folder / "lists" / "dev.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert written["audio_filepath"] == "../audio/one.wav"


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_are_no_fault(folder: Path) -> None:
    path = folder / "lists" / "train.jsonl"
    path.write_bytes(f"\ufeff{line()}\r\n\r\n  \r\n{line(text='two')}".encode())
    assert [row.text for row in read_manifest(path)] == ["one", "two"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('{"audio_filepath": "a.wav", ', ":2: is not JSON"),
        ("[" * 100_000, ":2: is not JSON"),
        ("7", ":2: is not a JSON object"),
        ('{"duration": 1, "text": "a"}', ":2: audio_filepath is None; every line needs audio_filepath"),
        (line(duration="long"), ":2: duration is 'long'; every line needs duration"),
        (line(duration=True), ":2: duration is True"),
        (line(duration=float("nan")), ":2: duration is nan; give the seconds"),
        (line(duration=0), ":2: duration is 0; give the seconds"),
        (line(text=None), ":2: text is None; every line needs text"),
        (line(audio_filepath="gone.wav"), "gone.wav is missing"),
        (line(audio_filepath=""), "is missing"),
        (line(audio_filepath="x" * 5000), "is missing"),
        (line(audio_filepath="a\0b"), "is missing"),
        (
            line(text="\u041f\u0440\u0438\u0432\u0435\u0442"),
            ":2: character '\u041f' is outside the model's alphabet",
        ),
        (line(text="hello \u4f60"), ":2: character '\u4f60' is outside the model's alphabet"),
        (line(text="room \u0663"), ":2: character '\u0663' is outside the model's alphabet"),
    ],
)
def test_a_fault_is_named_by_its_line(folder: Path, broken: str, message: str) -> None:
    assert message in complaint(manifest(folder, line(), broken, line()))


def test_punctuation_digits_and_accents_are_no_foreign_characters(folder: Path) -> None:
    path = manifest(folder, line(text="\u201cCaf\u00e9\u201d \u2013 room 4, \u20ac5!"))
    assert read_manifest(path, CHARACTERS)[0].text == "cafe room four five"


def test_without_tokens_no_alphabet_is_asked_for(folder: Path) -> None:
    assert read_manifest(manifest(folder, line(text="\u4f60")))[0].text == ""


def test_a_character_that_the_model_lacks_is_named(folder: Path) -> None:
    path = manifest(folder, line(), line(text="don't"))
    assert ':2: character "\'" of "don\'t" is outside the alphabet' in complaint(
        path, Tokens(("<blank>", *"donet"))
    )


def test_a_manifest_without_utterances_is_refused(folder: Path) -> None:
    assert "holds no utterance" in complaint(manifest(folder))
    assert "no such manifest" in complaint(folder / "gone.jsonl")
    assert "no such manifest" in complaint(folder)
    (folder / "a.jsonl").write_bytes(b"\xff\xfe{}")
    assert "is not UTF-8 text" in complaint(folder / "a.jsonl")
