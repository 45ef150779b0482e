"""All commands: help, exit codes, outputs that exist, bundles that are broken; one line for every fault."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
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
        ("calibrate", "nonsense"),
        ("export",),
        ("export", "m.keras", "--out", "d", "--nonsense"),
        ("evaluate", "b", "--manifest", "m", "--delegate", "gpu"),
        ("evaluate", "b", "--manifest", "m", "--threads", "0"),
        ("transcribe", "b"),
        ("bench",),
        ("bench", "b", "--threads", "0"),
    ],
)
def test_wrong_use_is_one_line_that_says_where_to_look(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    where = {"nonsense": ""}.get(arguments[0], f"{arguments[0]} ")
    assert line.endswith(f"; see main {where}--help")


def test_a_bare_command_asks_for_help() -> None:
    result = run()
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


ENDED = """
import os, sys
from tflite_asr import pipeline
from tflite_asr.cli import main
from tflite_asr.staging import scratch_folder

def work():
    with scratch_folder() as folder:
        os.kill(os.getpid(), int(sys.argv.pop()))

pipeline.shipped_models = work
main(["models"])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_command_that_is_ended_says_so_and_leaves_nothing(
    tmp_path: Path, repository: Path, name: str
) -> None:
    number = getattr(signal, name)
    ended = subprocess.run(
        [sys.executable, "-c", ENDED, str(int(number))],
        cwd=repository,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        # A background job of a shell starts with SIGINT ignored.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (128 + number, f"error: ended by {name}\n")
    assert not list(tmp_path.iterdir())


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
