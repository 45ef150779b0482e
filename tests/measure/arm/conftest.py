"""An emulator with the plugin but without an arm64 Python, where this machine has one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm.emulator import Emulator
from tflite_asr.measure.arm.layout import compile_plugin, cores_folder, read_record


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("gcc, which compiles the counting plugin, is not installed")
    return compile_plugin(tmp_path_factory.mktemp("plugin") / "plugin.so")


@pytest.fixture(scope="session")
def bare_core(plugin: Path) -> Emulator:
    """Runs programs that need no library, on all that QEMU knows."""
    if host := shutil.which("qemu-aarch64"):
        record = {"qemu": host, "qemu_libraries": []}
    else:
        try:
            prepared = read_record(cores_folder())
        except TfliteAsrError:
            pytest.skip("qemu-aarch64 is not installed (Debian's qemu-user), and no core is prepared")
        record = {
            "qemu": str(cores_folder() / prepared["qemu"]),
            "qemu_libraries": [str(cores_folder() / path) for path in prepared["qemu_libraries"]],
        }
    return Emulator(plugin.parent, "i8mm", record)
