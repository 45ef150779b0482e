"""All commands: help, exit codes, outputs that exist, bundles that are broken; one line for every fault."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.command_line import fault, run
from tflite_asr.cli import main


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {command}")
    assert "--help" in result.stdout


def test_the_help_lists_every_command_of_the_walk_through() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in ("demo", "models", "export", "evaluate", "audit", "transcribe", "train", "slim"):
        assert f"\n  {command} " in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert version("tflite-asr") in run("--version").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("export",),
        ("export", "m.keras", "--out", "d", "--nonsense"),
        ("evaluate", "b", "--manifest", "m", "--delegate", "gpu"),
        ("evaluate", "b", "--manifest", "m", "--threads", "0"),
        ("transcribe", "b"),
    ],
)
def test_wrong_use_ends_in_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("command", ["export", "slim"])
def test_an_output_that_exists_is_kept(checkpoint: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / ("there" if command == "export" else "there.keras")
    out.mkdir() if command == "export" else out.write_bytes(b"mine")
    drop = ("--drop", "encoder.block1") if command == "slim" else ()
    assert "exists; choose another" in fault(command, checkpoint, "--out", out, *drop)
    assert out.is_dir() or out.read_bytes() == b"mine"


def test_a_feature_only_bundle_cannot_hear(feature_only: Path, wav: Path, manifest: Path) -> None:
    for arguments in (("transcribe", feature_only, wav), ("evaluate", feature_only, "-m", manifest)):
        message = fault(*arguments)
        assert "feature-only" in message
        assert "the front end" in message
        assert "the tokens" in message


@pytest.mark.parametrize("name", ["model.tflite", "frontend.tflite", "tokens.txt", "bundle.json"])
@pytest.mark.parametrize("change", ["changed", "missing", "extra"])
def test_a_broken_bundle_is_a_finding(tones: Path, wav: Path, tmp_path: Path, name: str, change: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tones, copy)
    data = bytearray((copy / name).read_bytes())
    if change == "changed":
        data[len(data) // 2] ^= 1
    (copy / name).write_bytes(
        bytes(data[:-1] if change == "missing" else data + b" " if change == "extra" else data)
    )
    for arguments in (("transcribe", copy, wav), ("audit", copy)):
        assert name in fault(*arguments, code=1)


def test_results_that_cannot_be_written(tones: Path, manifest: Path, wav: Path) -> None:
    below = wav / "below"
    assert "cannot be written" in fault("transcribe", tones, wav, "--json", below)
    assert f"{below}: cannot be" in fault("evaluate", tones, "-m", manifest, "--hypotheses", below)
    # What cannot be written is said before any work: the bundle is not even looked for.
    assert f"{below}: cannot be" in fault(
        "evaluate", wav.parent / "no bundle", "-m", manifest, "--json", below
    )
    (wav.parent / "r.toml").write_text("size = 'tiny'\n")
    assert f"{below}: cannot be" in fault(
        "train", wav.parent / "r.toml", "-m", manifest, "-d", manifest, "--out", below / "m.keras"
    )


def test_a_reader_that_leaves_early_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from tflite_asr import pipeline

    def broken() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(pipeline, "shipped_models", broken)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert CliRunner().invoke(main, ["models"]).exit_code == 0
