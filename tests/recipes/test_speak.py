"""The synthetic training corpus: its texts stay in the alphabet, its clips repeat, the demo's are left out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tflite_asr.manifest import read_manifest
from tflite_asr.tokens import CHARACTERS, normalise_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def recipe(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The recipe's folder on the path, as running one of its scripts puts it."""
    folder = repository / "recipes" / "conformer-ctc"
    monkeypatch.syspath_prepend(str(folder))
    return folder


def speak(recipe: Path, out: Path, utterances: int, *options: str) -> list[dict[str, Any]]:
    script = [sys.executable, str(recipe / "speak.py"), "--utterances", str(utterances), "--seed", "3"]
    subprocess.run([*script, "--out", str(out), "--jobs", "1", *options], check=True, capture_output=True)
    return [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("number", "joiner", "said"),
    [
        (0, "", "zero"),
        (13, "", "thirteen"),
        (40, "", "forty"),
        (99, "", "ninety nine"),
        (107, "and", "one hundred and seven"),
        (2552, "and", "two thousand five hundred and fifty two"),
        (1000, "and", "one thousand"),
        (119_004, "", "one hundred nineteen thousand four"),
    ],
)
def test_numbers_are_said_as_people_say_them(recipe: Path, number: int, joiner: str, said: str) -> None:
    from spoken_numbers import in_words

    assert in_words(number, joiner) == said


def test_every_text_is_normalised_and_in_the_alphabet(recipe: Path) -> None:
    from sentences import Texts

    texts = Texts(["the dog's in the house", "go to the sea"])
    texts.reseed("a seed")
    drawn = [texts.draw() for _ in range(2000)]
    for text in drawn:
        assert normalise_text(text.text) == text.text
        CHARACTERS.encode(text.text)
    assert {text.kind for text in drawn} == {
        "address",
        "chain",
        "command",
        "date",
        "long_sentence",
        "number",
        "sentence",
        "spelled",
        "word_salad",
    }


def test_without_transcripts_nothing_is_chained(recipe: Path) -> None:
    from sentences import Texts

    assert "chain" not in {Texts().draw().kind for _ in range(300)}


def test_letters_are_said_by_their_names(recipe: Path) -> None:
    from sentences import say_spelling

    assert say_spelling("j a z z".split()) == "j [['eI]] [[z'i:]] [[z'i:]]"


def test_silence_is_cut_at_the_ends_and_shortened_inside(recipe: Path) -> None:
    from speak import trim

    tone = np.sin(np.arange(16000) / 5).astype(np.float32)
    gap = np.zeros(32000, np.float32)
    trimmed = trim(np.concatenate([gap, tone, gap, tone, gap]))
    assert len(trimmed) == pytest.approx(2 * 16000 + 0.6 * 16000, abs=320)


def test_noise_comes_at_the_ratio_that_was_asked_for(recipe: Path) -> None:
    from speak import add_noise

    rng = np.random.default_rng(0)
    tone = np.sin(np.arange(30011) / 5).astype(np.float32)  # a prime length
    noise = add_noise(tone, 10, rng, tilt=0.5) - tone
    assert 10 * np.log10(np.mean(tone**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.1)


@pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed (apt-get install espeak-ng)"
)
def test_a_corpus_repeats_goes_on_and_leaves_out_what_the_demo_speaks(
    recipe: Path, repository: Path, tmp_path: Path
) -> None:
    rows = speak(recipe, tmp_path / "once", 8)
    assert len(read_manifest(tmp_path / "once" / "train.jsonl", CHARACTERS)) == 8
    speak(recipe, tmp_path / "again", 5)
    assert speak(recipe, tmp_path / "again", 3, "--first-index", "5") == rows
    for row in rows:
        first, rate = soundfile.read(tmp_path / "once" / row["audio_filepath"])
        again, _ = soundfile.read(tmp_path / "again" / row["audio_filepath"])
        assert rate == 16000
        assert row["duration"] == pytest.approx(len(first) / rate, abs=1e-3)
        np.testing.assert_array_equal(first, again)

    clips = tomllib.loads((repository / "recipes" / "demo" / "clips.toml").read_text())["clip"]
    # A clips.toml that holds out the first row's text and every variant but two: only those two may speak.
    import speak as recipe_speak

    variants = [name for name in recipe_speak.VARIANTS if name not in ("m1", "f2")]
    held_out = tmp_path / "clips.toml"
    held_out.write_text(
        "".join(f'[[clip]]\nvariant = "{name}"\ntext = "{rows[0]["text"]}"\n' for name in variants)
    )
    others = speak(recipe, tmp_path / "others", 8, "--exclude", str(held_out))
    assert {row["voice"].partition("+")[2] for row in others} <= {"m1", "f2"}
    assert rows[0]["text"] not in {row["text"] for row in others}
    assert {clip["variant"] for clip in clips}.isdisjoint(row["voice"].partition("+")[2] for row in rows)
