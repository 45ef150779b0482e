"""`slim`: modules that are not there."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command_line import fault


def test_an_unknown_module_path_lists_the_valid_ones(checkpoint: Path, tmp_path: Path) -> None:
    message = fault("slim", checkpoint, "--drop", "encoder.block7", "--out", tmp_path / "s.keras")
    assert "encoder.block7" in message
    assert "encoder.block1" in message.split("encoder.block7", 1)[1]
    assert not (tmp_path / "s.keras").exists()
