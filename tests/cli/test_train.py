"""`train`: what is wrong with a recipe, and what a log says of a training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.command_line import fault, run


def test_training_looks_at_its_manifests_before_it_starts_tensorflow(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tflite_asr.training.loop", None)  # None there makes an import fail
    (tmp_path / "r.toml").write_text("size = 'tiny'\n")
    (tmp_path / "bad.jsonl").write_text("{\n")
    out = ("--out", tmp_path / "m.keras")
    for good, bad in (("-m", "-d"), ("-d", "-m")):
        message = fault("train", tmp_path / "r.toml", good, manifest, bad, tmp_path / "bad.jsonl", *out)
        assert "bad.jsonl:1: is not JSON" in message


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


def test_a_log_has_a_line_for_each_epoch(manifest: Path, tmp_path: Path) -> None:
    """Where no terminal draws a bar."""
    (tmp_path / "r.toml").write_text("size = 'tiny'\nepochs = 2\nconfig = {blocks = 1}\n")
    out = ("--out", tmp_path / "m.keras", "--cache", tmp_path / "cache")
    result = run("train", tmp_path / "r.toml", "-m", manifest, "-d", manifest, *out)
    lines = result.stderr.splitlines()
    assert [line for line in lines if ":" not in line] == ["features", "epoch 1/2", "epoch 2/2"]
    assert [line.partition(":")[0] for line in lines if "dev WER" in line] == ["epoch 1/2", "epoch 2/2"]
