"""`audit`: proves or finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cli.command_line import fault, run


def test_audit_proves_or_finds(tones: Path, feature_only: Path) -> None:
    result = run("audit", tones, "--json", "-")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["integer_only"] is True
    result = run("audit", feature_only, "--json", "-")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["integer_only"] is False
    assert "Traceback" not in result.output
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_a_file_that_is_no_flatbuffer_is_wrong_input_a_damaged_one_a_finding(
    tones: Path, wav: Path, tmp_path: Path
) -> None:
    assert f"{wav}: not a TFLite flatbuffer" in fault("audit", wav, code=2)
    (tmp_path / "empty.tflite").touch()
    assert "empty.tflite: not a TFLite flatbuffer (0 bytes" in fault(
        "audit", tmp_path / "empty.tflite", code=2
    )
    (tmp_path / "cut.tflite").write_bytes((tones / "model.tflite").read_bytes()[:2000])
    assert "cut.tflite: damaged flatbuffer" in fault("audit", tmp_path / "cut.tflite", code=1)
    shutil.copytree(tones, tmp_path / "bundle")
    (tmp_path / "bundle" / "model.tflite").write_bytes(wav.read_bytes())
    assert "model.tflite" in fault("audit", tmp_path / "bundle", code=1)
