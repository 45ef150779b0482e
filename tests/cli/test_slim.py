"""`slim`: modules that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command_line import fault, run
from tflite_asr.facts import ModelFacts
from tflite_asr.pipeline import preparation


def test_an_unknown_module_path_lists_the_valid_ones(checkpoint: Path, tmp_path: Path) -> None:
    message = fault("slim", checkpoint, "--drop", "encoder.block7", "--out", tmp_path / "s.keras")
    assert "encoder.block7" in message
    assert "encoder.block1" in message.split("encoder.block7", 1)[1]
    assert not (tmp_path / "s.keras").exists()


def test_neither_file_of_a_checkpoint_that_exists_is_replaced_unasked(
    checkpoint: Path, tmp_path: Path
) -> None:
    slim = ("slim", checkpoint, "--drop", "encoder.block1", "--out", tmp_path / "there.keras")
    for suffix in (".keras", ".toml"):
        there = tmp_path / f"there{suffix}"
        there.write_bytes(b"mine")
        assert f"{there}: exists; choose another name" in fault(*slim)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"mine"]
        there.unlink()
    there.write_bytes(b"mine")
    assert run(*slim, "--overwrite").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.keras", "there.toml"]
    facts = ModelFacts.read(tmp_path / "there.keras")
    assert facts is not None
    assert facts.name == "there"


def test_a_specification_that_names_nothing_is_refused_before_tensorflow_starts(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "run_in_child", lambda *_, **__: pytest.fail("TensorFlow was started"))
    assert "drop: names no module" in fault("slim", checkpoint, "--drop", " ,", "--out", tmp_path / "s.keras")
