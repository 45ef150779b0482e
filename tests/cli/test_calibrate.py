"""`calibrate compare`: what it prints and writes of a study, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command_line import fault, run
from tests.studies.made_up import base, outcome, tensor
from tflite_asr.studies import calibration
from tflite_asr.studies.calibration import Comparison, conclude

WALKED = {"near/dev": [tensor("a/mul", 20, 22)], "far/dev": [tensor("a/mul", 25, 40)]}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What the command asks for; a made-up study is the answer."""
    seen: dict = {}

    def answer(model: str, manifests: tuple[str, ...], **settings: object) -> Comparison:
        seen.update(settings, model=model, manifests=manifests)
        real = [outcome("real", seed, walked=WALKED if not seed else {}) for seed in (0, 1)]
        arm = outcome("synthetic", snr_db=([20, 21], [19, 20]), walked=WALKED)
        counts = {name: {"utterances": 2, "words": 20} for name in ("near/dev", "far/dev")}
        return conclude(
            "tiny",
            base(),
            outcome("dynamic_wi8_afp32", calibrator=""),
            [arm, *real],
            ["a note"],
            {"corpora": counts},
        )

    monkeypatch.setattr(calibration, "compare", answer)
    return seen


def test_tables_verdicts_and_notes_are_printed(asked: dict) -> None:
    result = run(
        "calibrate", "compare", "tiny", "-m", "a.jsonl", "-m", "b.jsonl", "--calibrate-on", "c.jsonl"
    )
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "min_max, near/dev: synthetic loses in SNR against real, -5.50 dB" in text
    assert "synthetic loses to real: min_max, near/dev (-5.50 dB); min_max, far/dev (-1.50 dB)" in text
    assert "a note" in text
    assert "ranges against real calibration" in text
    assert asked["manifests"] == ("a.jsonl", "b.jsonl")
    assert (asked["calibrate_on"], asked["seeds"], asked["calibrators"]) == ("c.jsonl", 5, ())


def test_json_page_and_plot_are_written(asked: dict, tmp_path: Path) -> None:
    files = ["--json", tmp_path / "s.json", "--html", tmp_path / "s.html", "--plot", tmp_path / "s.png"]
    result = run("calibrate", "compare", "tiny", "-m", "a.jsonl", *files)
    assert result.exit_code == 0, result.output
    study = json.loads((tmp_path / "s.json").read_text())
    assert [row["arm"] for row in study["rows"]] == ["float32", "dynamic_wi8_afp32", "synthetic", "real"]
    assert len(study["verdicts"]) == 3
    page = (tmp_path / "s.html").read_text()
    assert page.count("<svg") == 1
    assert "near/dev: synthetic loses in SNR against real" in page
    assert "src=" not in page
    assert all(
        words in page for words in ("points above real", "SNR above real", "<h3>far/dev, 2 utterances")
    )
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"


def test_folders_on_the_way_are_made(asked: dict, tmp_path: Path) -> None:
    files = ["--html", tmp_path / "new" / "s.html", "--plot", tmp_path / "newer" / "s.svg"]
    assert run("calibrate", "compare", "tiny", "-m", "a.jsonl", *files).exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["s.html", "s.svg"]


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--plot", "s.gif", "give NAME.png, .pdf or .svg"),
        ("--plot", "/proc/s.png", "/proc/s.png: cannot be written"),
        ("--html", ".", "cannot be written (is a folder)"),
    ],
)
def test_what_could_not_be_written_is_refused_before_the_work(
    asked: dict, tmp_path: Path, option: str, name: str, message: str
) -> None:
    said = fault("calibrate", "compare", "tiny", "-m", "a.jsonl", option, tmp_path / name)
    assert message in said
    assert not asked
    assert not list(tmp_path.iterdir())


def test_a_study_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    work = tmp_path / "work"
    fault("calibrate", "compare", "conformer-ctc", "-m", tmp_path / "none.jsonl", "--work", work)
    assert not work.exists()


def test_wrong_use_is_one_line(tmp_path: Path, demo_manifest: Path) -> None:
    assert "no such manifest" in fault(
        "calibrate", "compare", "conformer-ctc", "-m", tmp_path / "none.jsonl", "--work", tmp_path
    )
    assert "no such model" in fault("calibrate", "compare", "none", "-m", demo_manifest)
