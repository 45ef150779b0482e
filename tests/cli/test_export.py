"""`export`: from a checkpoint to a bundle that transcribes; models, facts and options that cannot be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import fault, run
from tflite_asr.audit import audit
from tflite_asr.bundle import Bundle
from tflite_asr.cli.export import calibration_rows
from tflite_asr.pipeline import preparation
from tflite_asr.releases import age

PARENT = """
import sys
from tflite_asr.cli import main
main(sys.argv[1:], standalone_mode=False)
print([m for m in ("keras", "tensorflow", "ai_edge_quantizer") if m in sys.modules], file=sys.stderr)
"""


@pytest.fixture(scope="module")
def exported(
    checkpoint: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], str]:
    """A checkpoint slimmed and exported from the command line: the bundle, the command's JSON, its standard error.

    Calibrated, since it is the inputs that come back from the child. TensorFlow may say what it likes there.
    """
    folder = tmp_path_factory.mktemp("exported")
    slim = run("slim", checkpoint, "--drop", "encoder.block1", "--out", folder / "s.keras", "--json", "-")
    assert slim.exit_code == 0, slim.output
    saved = json.loads(slim.stdout)
    assert saved["parameters_after"] < saved["parameters_before"]
    loud = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    out = ("--out", str(folder / "b"), "--calibration", "noise", "--min-runtime", "2.14", "--json", "-")
    out += ("--calibrator", "percentile")
    done = subprocess.run(
        [sys.executable, "-c", PARENT, "export", str(folder / "s.keras"), *out],
        cwd=repository,
        env=loud,
        capture_output=True,
        text=True,
        check=True,
    )
    return folder / "b", json.loads(done.stdout), done.stderr


def test_a_slimmed_checkpoint_is_exported_and_heard(
    exported: tuple[Path, dict[str, Any], str], repository: Path
) -> None:
    path, facts, _ = exported
    assert facts["scheme"] == "static_wi8_ai8"
    assert facts["integer_only"] is True
    assert facts["calibration"]["calibrator"] == "percentile"
    assert Bundle.load(path).info.name == "s"
    clip = repository / "tflite_asr" / "pretrained" / "demo" / "demo00.ogg"
    assert run("transcribe", path, clip).exit_code == 0


def test_a_bundle_for_an_old_runtime_says_so_and_keeps_to_its_ops(
    exported: tuple[Path, dict[str, Any], str],
) -> None:
    path, facts, _ = exported
    assert (facts["min_runtime"], facts["delegate"]) == ("2.14", "builtin")
    expected = json.loads((path / "samples" / "expected.json").read_text())
    assert expected["delegate"] == "builtin"
    for name in ("model.tflite", "frontend.tflite"):
        first = audit(path / name, load=False).first_release
        assert first is not None
        assert age(first) <= (2, 14)


def test_an_export_keeps_tensorflow_and_its_log_out_of_the_user_s_process(
    exported: tuple[Path, dict[str, Any], str],
) -> None:
    said = exported[2].splitlines()
    assert said[-1] == "[]"
    assert [line for line in said if "port.cc" in line or "tensorflow" in line] == []


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert "nonsense: no such model; give a .keras file or a shipped checkpoint" in fault(
        "export", "nonsense", "--out", tmp_path / "b"
    )
    assert "no such model" in fault("export", tmp_path / "gone.keras", "--out", tmp_path / "b")
    (tmp_path / "a.h5").touch()
    assert "is no .keras file" in fault("export", tmp_path / "a.h5", "--out", tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("cut", "(File is not a zip file)"),
        ("flipped", "(model.weights.h5 is not what was written)"),
        ("without config.json", "(holds no config.json)"),
        ("without model.weights.h5", "(holds no model.weights.h5)"),
    ],
)
def test_a_damaged_model_is_refused_before_tensorflow_is_started(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str, said: str
) -> None:
    monkeypatch.setattr(preparation, "run_in_child", lambda *_, **__: pytest.fail("TensorFlow was started"))
    path, data = tmp_path / "m.keras", bytearray(checkpoint.read_bytes())
    with zipfile.ZipFile(checkpoint) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if harm == "cut":
        path.write_bytes(data[:5000])
    elif harm == "flipped":
        data[data.index(members["model.weights.h5"]) + len(members["model.weights.h5"]) // 2] ^= 1
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w") as less:
            for name, member in members.items():
                if name != harm.removeprefix("without "):
                    less.writestr(name, member)
    message = fault("export", path, "--out", tmp_path / "b", "--scheme", "float32")
    assert message.startswith(f"{path}: is damaged or not a .keras file {said}")
    assert not (tmp_path / "b").exists()


def test_facts_that_are_broken(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint, tmp_path / "m.keras")
    (tmp_path / "m.toml").write_text("name = 'm'\ncolour = 'red'\n")
    message = fault("export", tmp_path / "m.keras", "--out", tmp_path / "b", "--scheme", "float32")
    assert "m.toml: unknown key 'colour'" in message


def test_an_output_that_cannot_be_written(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "b: cannot be written (" in fault("export", checkpoint, "--out", tmp_path / "file" / "b")
    if os.geteuid():  # root writes anywhere
        tmp_path.chmod(0o500)
        assert "cannot be written (permission denied)" in fault("export", checkpoint, "--out", tmp_path / "b")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--scheme", "int5", "int5"),
        ("--scheme", "float32 --repair", "repair: scheme float32 has no ranges to repair"),
        ("--calibrator", "median", "'median': unknown; the known ones are min_max, moving_average,"),
        ("--seed", "-1", "seed -1: give 0 or more"),
        ("--budget-macs", "-1", "budget of -1 multiply-adds: give 0 or more"),
        ("--budget-macs", "nan", "budget of nan multiply-adds"),
        ("--budget-macs", "inf", "budget of inf multiply-adds"),
        ("--calibration", "gone.jsonl", "calibration 'gone.jsonl': give synthetic, noise"),
        ("--calibration", "BROKEN", "broken.jsonl:1: is not JSON"),
        ("--min-runtime", "2.13", "min-runtime '2.13': is none that files are written for; give 2.14"),
        ("--blank-id", "0", "says nothing without --tokens"),
        ("--tokens", "gone.txt", "gone.txt: no such token file"),
        ("--frontend", "gone.toml", "gone.toml: cannot be read"),
    ],
)
def test_an_export_option_that_cannot_be(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str, message: str
) -> None:
    """Said at once: no process with TensorFlow is started first."""
    monkeypatch.setattr(preparation, "run_in_child", lambda *_, **__: pytest.fail("TensorFlow was started"))
    (tmp_path / "broken.jsonl").write_text("{\n")
    value = str(tmp_path / "broken.jsonl") if value == "BROKEN" else value
    assert message in fault("export", checkpoint, "--out", tmp_path / "b", option, *value.split(" "))
    assert not (tmp_path / "b").exists()


def test_real_speech_needs_a_front_end(
    checkpoint: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "run_in_child", lambda *_, **__: pytest.fail("TensorFlow was started"))
    shutil.copy(checkpoint, tmp_path / "bare.keras")
    assert "real speech needs the model's front end; give --frontend" in fault(
        "export", tmp_path / "bare.keras", "--out", tmp_path / "new" / "b", "--calibration", manifest
    )
    assert not (tmp_path / "new").exists()


def test_the_table_says_what_auto_tried_and_what_was_repaired() -> None:
    step = {
        "remedy": "correct biases",
        "tensors": ["a", "b"],
        "before_db": 20.1,
        "after_db": 20.4,
        "kept": True,
    }
    auto = {"scores_db": {"min_max": 24.0, "mse": 24.46}, "window": "ctc_200", "clips": 5}
    rows = dict(calibration_rows({"calibrator": "mse", "auto": auto, "repair": [step]}))
    assert rows["calibrator"] == "mse"
    assert rows["held-back SNR, dB"] == "min_max 24.0, mse 24.5 (5 clips of ctc_200)"
    assert rows["repair: correct biases"] == "2 tensors, 20.10 to 20.40 dB held back, kept"
    assert calibration_rows({}) == []
