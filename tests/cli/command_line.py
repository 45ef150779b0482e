"""The command line as a user meets it: what a command prints, and the one line that a fault ends in."""

from __future__ import annotations

from click.testing import CliRunner, Result

from tflite_asr.cli import main


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], input=stdin, catch_exceptions=False)


def fault(*arguments: object, code: int = 2) -> str:
    """The one line that a command ends in."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert lines[-1].startswith("error: ")
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    return lines[-1].removeprefix("error: ")
