"""Environments without TensorFlow: the wheel installed beside one runtime, or none, and commands run there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def install(wheel: Path, extra: str, environment: Path, constraints: Path) -> Path:
    """A fresh environment with the wheel and nothing of this one; this one's pip does it, which saves half the time.

    extra: "[litert]", or "" for the base. Returns `environment`.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "--quiet"]
    requirement = f"tflite-asr{extra} @ {wheel.as_uri()}"
    subprocess.run([*pip, "install", "--constraint", str(constraints), requirement], check=True)
    return environment


def run(environment: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command of `environment`, away from the checkout."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program, *arguments = command
    return subprocess.run(
        [str(environment / "bin" / program), *arguments],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
    )


def packaged_manifest(environment: Path) -> Path:
    """The demo's manifest as the wheel installed it."""
    (found,) = environment.glob("lib/python*/site-packages/tflite_asr/pretrained/demo/demo.jsonl")
    return found
