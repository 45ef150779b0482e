"""`qat`: what cannot be trained is refused before TensorFlow starts; what is trained is exported as it was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.command_line import fault, run


def test_wrong_use_is_one_line(checkpoint: Path, tmp_path: Path):
    (tmp_path / "there.npz").write_bytes(b"")
    (tmp_path / "there.tflite").write_bytes(b"")
    assert "is no .npz name" in fault("qat", checkpoint, "--out", tmp_path / "q.keras")
    assert "exists" in fault("qat", checkpoint, "--out", tmp_path / "there.npz")
    assert "needs the Keras model" in fault("qat", tmp_path / "there.tflite", "--out", tmp_path / "q.npz")
    assert "has no window of 3 s" in fault("qat", checkpoint, "--out", tmp_path / "q.npz", "--window", 3)
    assert "learning rate 7" in fault("qat", checkpoint, "--out", tmp_path / "q.npz", "--learning-rate", 7)
    (tmp_path / "d.npz").mkdir()
    assert "d.npz: is a folder" in fault("qat", checkpoint, "--out", tmp_path / "d.npz", "--overwrite")
    said = tmp_path / "long.jsonl"
    soundfile.write(tmp_path / "a.wav", np.zeros(24000, np.float32), 16000)
    said.write_text('{"audio_filepath": "a.wav", "duration": 1.5, "text": "yes"}\n')
    message = fault("qat", checkpoint, "--out", tmp_path / "q.npz", "--window", 1, "-m", said)
    assert "no utterance fits the window of 1 s; give --window 2" in message
    assert not list(tmp_path.glob("q*"))


def test_export_refuses_what_does_not_go_with_low_bit_weights(checkpoint: Path, tmp_path: Path):
    out = tmp_path / "bundle"
    assert "no such file of low-bit weights" in fault(
        "export", checkpoint, "--out", out, "--qat", tmp_path / "no.npz"
    )
    (tmp_path / "q.npz").write_bytes(b"")
    assert "leave out --scheme float32" in fault(
        "export", checkpoint, "--out", out, "--qat", tmp_path / "q.npz", "--scheme", "float32"
    )
    assert "repair would change" in fault(
        "export", checkpoint, "--out", out, "--qat", tmp_path / "q.npz", "--repair"
    )
    for option, value in (("--calibrator", "mse"), ("--calibration", "noise")):
        assert f"{option[2:]} {value} would change what was trained" in fault(
            "export", checkpoint, "--out", out, "--qat", tmp_path / "q.npz", option, value
        )
    assert not out.exists()


@pytest.mark.slow
def test_what_is_trained_is_what_is_exported(checkpoint: Path, tmp_path: Path):
    trained = tmp_path / "q.npz"
    done = run(
        "qat", checkpoint, "--out", trained, "--steps", 4, "--batch", 2, "--budget-macs", 0, "--json", "-"
    )
    assert done.exit_code == 0, done.output
    how = json.loads(done.stdout)
    assert how["grids_moved"] == 0
    assert len(how["losses"]) == 4
    assert not list(tmp_path.glob("*.state.npz"))
    bundle = tmp_path / "bundle"
    exported = run("export", checkpoint, "--qat", trained, "--out", bundle, "--json", "-")
    assert exported.exit_code == 0, exported.output
    info = json.loads(exported.stdout)
    assert info["integer_only"]
    assert info["calibration"]["calibrator"] == "qat"
    assert info["calibration"]["ranges_sha256"] == how["ranges_sha256"]
    grid = info["signatures"]["ctc_100"]["outputs"]["logits"]
    with np.load(trained) as held:
        ranges = json.loads(json.loads(held["metadata"].tobytes())["ranges"])
    low, high = next(value[:2] for name, value in ranges.items() if name.startswith("ctc."))
    assert grid["scale"] == pytest.approx((high - low) / 255, rel=1e-4)
