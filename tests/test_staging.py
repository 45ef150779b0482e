"""Temporary folders go with their process, however it ends; one at work is left alone."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tflite_asr import staging
from tflite_asr.staging import scratch_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and signals")
HOLD = """
import time
from tflite_asr.staging import scratch_folder
with scratch_folder() as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_scratch_folder_is_its_user_s_alone_and_goes_at_the_end(place: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == place
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "file").touch()
    assert not list(place.iterdir())


def test_it_goes_when_an_error_ends_the_work(place: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder():
        raise ZeroDivisionError
    assert not list(place.iterdir())


def test_the_next_one_removes_what_a_killed_process_left_and_nothing_that_is_at_work(place: Path) -> None:
    (place / "tflite-asr-mine").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env={**os.environ, "TMPDIR": str(place), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    with holder.stdout:
        held = Path(holder.stdout.readline().strip())
    assert held.parent == place
    with scratch_folder():
        assert held.exists()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert held.exists()
    with scratch_folder():
        assert not held.exists()
    assert [path.name for path in place.iterdir()] == ["tflite-asr-mine"]


def test_a_folder_taken_for_a_stale_one_before_it_was_locked_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = staging._lock, []

    def late(folder: Path) -> int | None:
        if not taken:
            taken.append(folder)
            folder.rmdir()
        return lock(folder)

    monkeypatch.setattr(staging, "_lock", late)
    with scratch_folder() as folder:
        assert folder.exists()
        assert folder not in taken
