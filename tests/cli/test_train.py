"""`train`: what is wrong with a recipe."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command_line import fault


def test_training_says_what_is_wrong_with_its_recipe(manifest: Path, tmp_path: Path) -> None:
    arguments = ("-m", manifest, "-d", manifest, "--out", tmp_path / "m.keras", "--cache", tmp_path / "cache")
    assert "gone.toml: cannot be read" in fault("train", tmp_path / "gone.toml", *arguments)
    (tmp_path / "r.toml").write_text("epoch = 3\n")
    assert "unknown key 'epoch'; known are" in fault("train", tmp_path / "r.toml", *arguments)
    (tmp_path / "r.toml").write_text("size = 'XXL'\n")
    assert "size 'XXL' is unknown" in fault("train", tmp_path / "r.toml", *arguments)
    (tmp_path / "r.toml").write_text("size = 'tiny'\n")
    assert "gone.jsonl: no such manifest" in fault(
        "train", tmp_path / "r.toml", "-m", "gone.jsonl", "-d", manifest, "--out", tmp_path / "m.keras"
    )
