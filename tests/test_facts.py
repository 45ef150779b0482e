"""A model's facts come back as they were written, and a file that was damaged by hand says where."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts, read_toml
from tflite_asr.frontend import FrontEnd
from tflite_asr.models.conformer import TINY
from tflite_asr.tokens import CHARACTERS

FIXED = FrontEnd(normalise="fixed", mean=(-8.25,) * 80, std=(3.5,) * 80)
FACTS = ModelFacts(
    name="tiny",
    architecture="conformer",
    config={"blocks": 2, "dim": 16},
    frontend=FIXED,
    tokens=CHARACTERS,
    subsampling=4,
    windows_seconds=(2, 4),
    extra={"training": {"epoch": 3, "dev_wer": 0.25}},
)


def complaint(folder: Path, text: str) -> str:
    (folder / "m.toml").write_text(text, encoding="utf-8")
    with pytest.raises(TfliteAsrError) as caught:
        ModelFacts.read(folder / "m.keras")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(folder / "m.toml"))
    return str(caught.value)


@pytest.mark.parametrize("facts", [FACTS, ModelFacts("bare"), replace(FACTS, frontend=None, tokens=None)])
def test_facts_travel_beside_the_model(tmp_path: Path, facts: ModelFacts) -> None:
    assert facts.write(tmp_path / "model.keras") == tmp_path / "model.toml"
    assert ModelFacts.read(tmp_path / "model.keras") == facts


def test_a_config_with_absent_values_rebuilds_the_same_config(tmp_path: Path) -> None:
    """TOML knows no None: left_context = None is left out, and read back as the default, which is None."""
    config = replace(TINY, dropped=("encoder.block0.ff1",))
    replace(FACTS, config=asdict(config)).write(tmp_path / "m.keras")
    read = ModelFacts.read(tmp_path / "m.keras")
    assert read is not None
    rebuilt = type(TINY)(**{k: tuple(v) if isinstance(v, list) else v for k, v in read.config.items()})
    assert rebuilt == config


def test_without_a_file_there_are_no_facts(tmp_path: Path) -> None:
    assert ModelFacts.read(tmp_path / "model.keras") is None


def test_windows_are_counted_in_frames_of_the_front_end() -> None:
    assert FACTS.windows == (200, 400)
    assert ModelFacts("bare").windows == (200, 400, 800, 1600)
    assert replace(FACTS, frontend=FrontEnd(hop_seconds=0.0125)).windows == (160, 320)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not TOML"),
        ("name = 'a'\ncolour = 1\n", "unknown key 'colour'; known are architecture, config"),
        ("schema_version = '1.0'\n", "'name' is missing"),
        ("name = 'a'\nschema_version = '2.0'\n", "schema_version 2.0 is newer than 1.0"),
        ("name = 'a'\nschema_version = 'new'\n", "schema_version is 'new'"),
        ("name = 'a'\nsubsampling = 0\n", "subsampling is 0"),
        ("name = 'a'\nsubsampling = 'four'\n", "subsampling is 'four'"),
        ("name = 'a'\nwindows_seconds = 4\n", "malformed"),
        ("name = 'a'\nwindows_seconds = []\n", "windows_seconds is []"),
        ("name = 'a'\nwindows_seconds = [2, -1]\n", "windows_seconds is [2, -1]"),
        ("name = 'a'\ntokens = 'abc'\n", "malformed"),
        ("name = 'a'\n[tokens]\npieces = ['a']\n", "'blank_id' is missing"),
        ("name = 'a'\n[tokens]\npieces = ['a', 'a']\nblank_id = 0\n", "piece 'a' stands twice"),
        ("name = 'a'\n[tokens]\npieces = [1, 2]\nblank_id = 0\n", "malformed"),
        ("name = 'a'\n[frontend]\nmels = 'many'\n", "front end: mels is 'many'; give a whole number"),
        ("name = 'a'\n[frontend]\nmells = 80\n", "front end: unknown key 'mells'; known are"),
        ("name = 'a'\nfrontend = 3\n", "malformed"),
    ],
)
def test_a_file_damaged_by_hand_says_where(tmp_path: Path, text: str, message: str) -> None:
    assert message in complaint(tmp_path, text)


def test_toml_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TfliteAsrError, match=r"gone\.toml: cannot be read"):
        read_toml(tmp_path / "gone.toml")
    (tmp_path / "a.toml").write_bytes(b"\xff\xff")
    with pytest.raises(TfliteAsrError, match="is not TOML"):
        read_toml(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": "hamming"}, "window is 'hamming'; give one of hann"),
        ({"mel_scale": "bark"}, "mel_scale is 'bark'"),
        ({"normalise": "fixed"}, "needs 80 means and deviations, got 0 and 0"),
        ({"normalise": "fixed", "mean": (0.0,) * 80, "std": (0.0,) * 80}, "a std is not above 0"),
        ({"fft_size": 256}, "a window of 400 samples does not fit fft_size 256"),
        ({"hop_seconds": 0.0}, "hop_samples is 0"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"log_guard": 0.0}, "log_guard is 0.0"),
        ({"mels": 0}, "mels is 0"),
        ({"high_hz": 9000.0}, "bands from 0.0 to 9000.0 Hz"),
        ({"low_hz": 8000.0}, "bands from 8000.0 to 8000.0 Hz"),
    ],
)
def test_a_front_end_that_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(TfliteAsrError) as caught:
        FrontEnd(**changes)
    assert message in str(caught.value)


def test_a_front_end_comes_back_from_its_plain_values() -> None:
    assert FrontEnd.from_dict(FIXED.to_dict()) == FIXED
    assert FrontEnd.from_dict({"preemphasis": 1}).preemphasis == 1
    for wrong in ({"centre": 1}, {"mels": True}, {"mean": ["a"]}, {"window": 3}):
        with pytest.raises(TfliteAsrError, match="give"):
            FrontEnd.from_dict(wrong)
