"""`calibrate synthesize`: inputs as an artefact, what it goes on from, and an export that takes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command_line import fault, run
from tflite_asr.bundle import Bundle
from tflite_asr.facts import ModelFacts
from tflite_asr.pipeline import export
from tflite_asr.synthesis.inputs import SyntheticInputs

BUDGET = 5e9


@pytest.fixture(scope="module")
def made(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The artefact, made by one run that went on from another's first batch; and its JSON.

    That batch is moved by 7 before the second run, so that whoever looks sees where it was taken from.
    """
    from tflite_asr.pipeline.synthesis import _synthesize

    folder = tmp_path_factory.mktemp("inputs")
    out, work = folder / "inputs.npz", folder / "inputs.npz.part"
    _synthesize(checkpoint, ModelFacts.read(checkpoint), "synthetic:labels", 3, BUDGET, work)
    for part in work.iterdir():
        if part.name.startswith("batch000"):
            one = SyntheticInputs.load(part)
            replace(one, features=[clip + 7 for clip in one.features]).save(part)
        else:
            part.unlink()
    settings = ("--method", "synthetic:labels", "--seed", 3, "--budget-macs", BUDGET, "--json", "-")
    result = run("calibrate", "synthesize", checkpoint, "--out", out, *settings)
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def test_it_is_written_with_its_curve_and_goes_on_where_it_stopped(made: tuple[Path, dict[str, Any]]) -> None:
    out, said = made
    inputs = SyntheticInputs.load(out)
    assert (inputs.method, inputs.seed, inputs.budget_macs) == ("synthetic:labels", 3, BUDGET)
    assert said["curve"] == inputs.curve
    assert said["refined"] == inputs.refined > 8  # more than the first batch
    assert {record["batch"] for record in inputs.curve} >= {0, 1}
    levels = [float(np.mean(clip)) for clip in inputs.features]
    assert min(levels[:8]) > 4 > max(levels[8:])
    assert [path.name for path in out.parent.iterdir()] == ["inputs.npz"]


@pytest.mark.slow
def test_an_export_takes_it_and_says_so(
    made: tuple[Path, dict[str, Any]], checkpoint: Path, tmp_path: Path
) -> None:
    bundle = export(checkpoint, tmp_path / "b", calibration=made[0])
    told = Bundle.load(bundle.path).info.calibration
    assert told is not None
    assert (told["method"], told["seed"], told["artefact"]["file"]) == ("synthetic:labels", 3, "inputs.npz")
    assert len(told["artefact"]["sha256"]) == 64


def test_a_picture_beside_real_speech(checkpoint: Path, demo_manifest: Path, tmp_path: Path) -> None:
    picture = tmp_path / "inputs.png"
    out = (
        "--out",
        tmp_path / "inputs.npz",
        "--budget-macs",
        0,
        "--plot",
        picture,
        "--against",
        demo_manifest,
    )
    result = run("calibrate", "synthesize", checkpoint, *out)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "synthesized" in result.stdout


def test_wrong_use_is_one_line_and_costs_nothing(checkpoint: Path, tmp_path: Path) -> None:
    command = ("calibrate", "synthesize", checkpoint, "--out")
    out = tmp_path / "inputs.npz"
    assert "write to NAME.npz" in fault(*command, tmp_path / "inputs.bin")
    assert "method 'magic': unknown; give one of synthetic, noise" in fault(
        *command, out, "--method", "magic"
    )
    assert "seed -1" in fault(*command, out, "--seed", -1)
    assert "says nothing without --plot" in fault(*command, out, "--against", "m.jsonl")
    assert "give NAME.png, .pdf or .svg" in fault(*command, out, "--plot", tmp_path / "p.txt")
    plot = ("--plot", tmp_path / "p.png", "--against")
    assert "'gone.jsonl'" in fault(*command, out, *plot, "gone.jsonl")
    assert "is no real speech" in fault(*command, out, *plot, "noise")
    assert not list(tmp_path.iterdir())
    out.write_bytes(b"mine")
    assert "exists; choose another name" in fault(*command, out)
    assert out.read_bytes() == b"mine"


def test_an_export_refuses_an_artefact_that_is_broken_or_of_another_model(
    checkpoint: Path, tmp_path: Path
) -> None:
    def said() -> str:
        return fault("export", checkpoint, "--out", tmp_path / "b", "--calibration", tmp_path / "inputs.npz")

    assert "that exists" in said()
    SyntheticInputs([np.zeros((50, 64), np.float32)]).save(tmp_path / "inputs.npz")
    assert "holds clips of [50, 64], the model takes [frames, 80]" in said()
    SyntheticInputs([]).save(tmp_path / "inputs.npz")
    assert "holds no clip" in said()
    (tmp_path / "inputs.npz").write_bytes(b"PK nothing")
    assert "is damaged or holds no inputs" in said()
