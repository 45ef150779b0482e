"""`slim`: modules that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command_line import fault
from tflite_asr import pipeline


def test_an_unknown_module_path_lists_the_valid_ones(checkpoint: Path, tmp_path: Path) -> None:
    message = fault("slim", checkpoint, "--drop", "encoder.block7", "--out", tmp_path / "s.keras")
    assert "encoder.block7" in message
    assert "encoder.block1" in message.split("encoder.block7", 1)[1]
    assert not (tmp_path / "s.keras").exists()


def test_a_specification_that_names_nothing_is_refused_before_tensorflow_starts(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run_in_child", lambda *_, **__: pytest.fail("TensorFlow was started"))
    assert "drop: names no module" in fault("slim", checkpoint, "--drop", " ,", "--out", tmp_path / "s.keras")
