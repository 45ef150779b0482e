"""`slim study`: what it prints, draws and writes of a study, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import fault, run
from tflite_asr.studies import slim as room
from tflite_asr.studies.slim import SlimStudy

RISE = {"difference": 0.02, "low": -0.01, "high": 0.05}


def row(path: str, kl: float, wer: float | None) -> dict[str, Any]:
    return {
        "path": path,
        "parameters_saved": 50,
        "macs_saved": 250,
        "kl": kl,
        "wer": wer,
        "wer_rise": None if wer is None else RISE,
    }


def made_up(heard: bool, ended: str = "met") -> SlimStudy:
    wer = 0.1 if heard else None
    step = {
        "number": 1,
        "path": "encoder.block1",
        "dropped": ["encoder.block1"],
        "parameters": 950,
        "macs": 9750,
        "kl_before_recovery": 0.5,
        "kl": 0.2,
        "wer": wer and 0.12,
        "control_wer": wer,
        "wer_rise": RISE if heard else None,
        "accepted": ended != "wer",
    }
    agreement = {"spearman": 0.81, "low": 0.7, "high": 0.9, "modules": 3, "utterances": 8}
    full = {"parameters": 1000, "macs": 10_000, "frames": 1600, "wer": wer, "utterances": 8, "corpora": {}}
    paths = ("encoder.block1", "encoder.block0.ff1.norm", "encoder.block0.ff1.dense1.bias")
    return SlimStudy(
        "tiny",
        full,
        [row(path, 0.1 * n, wer) for n, path in enumerate(paths)],
        agreement if heard else None,
        [step],
        ended,
        "s/candidates/001-encoder.block1",
        {"recover": "distil", "steps": 300, "seed": 0, "limit": None},
        "s",
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks for; a made-up study is the answer."""
    seen: dict[str, Any] = {"ended": "met"}

    def answer(model: str, out: str, **settings: Any) -> SlimStudy:
        seen.update(settings, model=model, out=out)
        found = made_up(bool(settings["dev"]), seen["ended"])
        if "paths" in seen:
            found.steps[0]["path"] = seen["paths"]
        for one in found.rows if not seen.get("ranked", True) else ():
            one["wer"] = one["wer_rise"] = None
        return found

    monkeypatch.setattr(room, "slim_study", answer)
    return seen


def test_modules_drops_and_agreement_are_printed(asked: dict[str, Any]) -> None:
    result = run("slim", "study", "tiny", "--out", "s", "--dev", "d.jsonl", "--target-macs", "0.8")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "Spearman 0.81 (0.70 to 0.90), 3 modules, 8 utterances" in text
    assert "the budget is met; s/candidates/001-encoder.block1" in text
    assert "encoder.block1 95.00, 97.50 0.5000 12.00 +2.0 (-1.0 to +5.0)" in text
    assert (asked["dev"], asked["target_macs"], asked["steps"]) == (("d.jsonl",), 0.8, 300)


@pytest.mark.parametrize("heard", [True, False])
def test_json_picture_and_page_are_written(
    heard: bool, asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        "--json",
        tmp_path / "s.json",
        "--plot",
        tmp_path / "s.svg",
        "--markdown",
        tmp_path / "docs" / "m.md",
    ]
    given = ["slim", "study", "tiny", "--out", "s", *(["--dev", "d.jsonl"] if heard else []), *files]
    monkeypatch.setattr(sys, "argv", ["tflite-asr", *map(str, given)])
    result = run(*given)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "s.json").read_text())["steps"][0]["path"] == "encoder.block1"
    assert (tmp_path / "s.svg").read_text().startswith("<?xml")
    page = (tmp_path / "docs" / "m.md").read_text()
    assert "Made by `tflite-asr slim study tiny --out s" in page
    assert "s.json" not in page
    assert "s.svg" not in page
    for title in ("## Modules and blocks", "## Norms", "## Biases"):
        assert title in page
    assert "| `encoder.block1` | 50 (5.0 %) | 250 (2.5 %) |" in page
    assert ("+2.0 (" in page) == heard


def test_drops_of_several_modules_that_dev_speech_did_not_rank_are_shown(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    asked["paths"], asked["ranked"] = "encoder.block1,encoder.block0.ff1", False
    files = ["--plot", tmp_path / "s.svg", "--markdown", tmp_path / "m.md"]
    options = ["--at-once", "2", "--rate", "1e-3", "--no-rank-wer", "--target-macs", "0.8"]
    result = run("slim", "study", "tiny", "--out", "s", "--dev", "d.jsonl", *options, *files)
    assert result.exit_code == 0, result.output
    assert (asked["at_once"], asked["rate"], asked["rank_wer"]) == (2, 1e-3, False)
    text = " ".join(result.stdout.split())
    assert "95.00, 97.50 0.5000 12.00" in text
    assert text.count("encoder.block0.ff1 ") == 1  # folded behind the other, in the table of drops
    assert "2 modules" in (tmp_path / "s.svg").read_text()
    assert "WER, points" not in (tmp_path / "m.md").read_text()


def test_a_target_that_was_not_reached_is_a_finding(asked: dict[str, Any]) -> None:
    asked["ended"] = "wer"
    message = fault("slim", "study", "tiny", "--out", "s", "--dev", "d.jsonl", "--target-macs", "0.8", code=1)
    assert "raised the dev WER by more than allowed" in message
    assert run("slim", "study", "tiny", "--out", "s", "--dev", "d", "--max-wer-rise", "1").exit_code == 0


def test_a_picture_that_cannot_be_is_refused_before_the_study(asked: dict[str, Any]) -> None:
    assert "is no kind of picture" in fault("slim", "study", "tiny", "--out", "s", "--plot", "s.txt")
    assert "model" not in asked


def test_help_names_both_uses_and_a_wrong_option_is_told(asked: dict[str, Any]) -> None:
    text = run("slim", "--help").stdout
    assert "slim MODEL --drop SPEC --out FILE.keras" in text
    assert "study" in text
    assert run("slim").exit_code == 2
    assert run("slim", "tiny", "--drop", "x").exit_code == 2
