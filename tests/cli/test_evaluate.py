"""`evaluate`: the keys of its JSON; manifests and runs that are broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command_line import fault, run
from tests.measure.test_evaluate import VARIANT_KEYS


def test_evaluate_json_has_the_agreed_keys(tones: Path, manifest: Path, tmp_path: Path) -> None:
    hypotheses = tmp_path / "h.jsonl"
    result = run("evaluate", tones, "-m", manifest, "--json", "-", "--hypotheses", hypotheses)
    assert result.exit_code == 0, result.output
    (variant,) = json.loads(result.stdout)["variants"]
    assert set(variant) >= VARIANT_KEYS
    assert variant["wer"] == 0.5
    assert variant["integer_only"] is True
    assert [json.loads(line)["pred_text"] for line in hypotheses.read_text().splitlines()] == ["abc", "abc"]


def test_evaluate_against_itself_differs_by_nothing(tones: Path, manifest: Path, tmp_path: Path) -> None:
    run("evaluate", tones, "-m", manifest, "--json", tmp_path / "run.json")
    result = run("evaluate", tones, "-m", manifest, "--against", tmp_path / "run.json", "--json", "-")
    assert result.exit_code == 0, result.output
    (variant,) = json.loads(result.stdout)["variants"]
    assert [variant["against"]["wer"][part] for part in ("difference", "low", "high")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "m.jsonl:2: is not JSON"),
        ('{"audio_filepath": "gone.wav", "duration": 1, "text": "a"}', "m.jsonl:2: audio file"),
        ('{"audio_filepath": "a.wav", "duration": 1, "text": "\u043f"}', "m.jsonl:2: character '\u043f'"),
        ('{"audio_filepath": "a.wav", "text": "a"}', "m.jsonl:2: duration is None"),
    ],
)
def test_a_broken_manifest_is_named_by_its_line(tones: Path, manifest: Path, line: str, message: str) -> None:
    lines = manifest.read_text().splitlines()
    manifest.write_text(f"{lines[0]}\n{line}\n", encoding="utf-8")
    assert message in fault("evaluate", tones, "-m", manifest)


def test_a_run_to_compare_with_that_is_none(
    tones: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before anything is recognised."""
    recognise = "tflite_asr.runtime.transcriber.Transcriber.recognise"
    monkeypatch.setattr(recognise, lambda *_: pytest.fail("an utterance was recognised"))
    (tmp_path / "run.json").write_text("{}")
    assert "run.json" in fault("evaluate", tones, "-m", manifest, "--against", tmp_path / "run.json")
    assert "gone.json" in fault("evaluate", tones, "-m", manifest, "--against", tmp_path / "gone.json")
