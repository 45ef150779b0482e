"""Folders that are whole or absent, made in a locked temporary sibling, then renamed; scratch folders; figures.

A lock tells a folder at work from one that a killed process left.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tflite_asr.errors import TfliteAsrError

try:
    import fcntl
except ImportError:  # Windows: a stale folder is then told from a live one by nothing, and removed
    fcntl = None  # type: ignore[assignment]

_SCRATCH = ("tflite-asr.", ".scratch")


@contextmanager
def plain_errors(out: Path) -> Iterator[None]:
    """An operating-system error as one line that names the folder and the mend."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            mend = "no space is left on the device; free some or choose another folder"
        else:
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            mend = f"cannot be written ({reason}); choose a folder that you may write to"
        raise TfliteAsrError(f"{out}: {mend}") from error


def save_figure(figure: Any, path: str | Path) -> Path:
    """Write a matplotlib figure in the format of the name's ending; folders on the way are made.

    Raises:
        TfliteAsrError: another ending, or a file that cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(str(path))
    except ValueError as error:
        reason = " ".join(str(error).split())[:120]
        raise TfliteAsrError(f"{path}: cannot be written ({reason}); give NAME.png, .pdf or .svg") from error
    except OSError as error:
        raise TfliteAsrError(f"{path}: cannot be written ({error.strerror}); choose another file") from error
    return path


def probe(folder: Path) -> None:
    """Try whether a folder can be written into, leaving nothing there. Raises OSError where it cannot."""
    os.rmdir(tempfile.mkdtemp(prefix=".", suffix=".probe", dir=folder))


@contextmanager
def staging_folder(out: Path) -> Iterator[Path]:
    """A locked temporary sibling, removed unless it was renamed away."""
    with _locked_folder(out.absolute().parent, f".{out.name}.", ".partial") as folder:
        mask = os.umask(0)
        os.umask(mask)
        folder.chmod(0o777 & ~mask)  # mkdtemp's 0700 would follow the bundle
        yield folder


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A locked folder of this user's alone where temporary files go (`TMPDIR`), removed at the end.

    Those that killed processes left go first.
    """
    place = Path(tempfile.gettempdir())
    if fcntl is not None:
        _remove_unheld(place, f"{_SCRATCH[0]}*{_SCRATCH[1]}")
    with _locked_folder(place, *_SCRATCH) as folder:
        yield folder


@contextmanager
def _locked_folder(place: Path, prefix: str, suffix: str) -> Iterator[Path]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=place))
        try:
            lock = _lock(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # before it was locked, another process took it for a stale one
        if folder.exists():
            break
        if lock is not None:
            os.close(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Hold a folder as long as this process lives; None where locks do not exist.

    Raises BlockingIOError where another process holds it, OSError where it cannot be opened.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def remove_stale(out: Path) -> None:
    """Remove siblings that a killed process left: those that no living process holds."""
    _remove_unheld(out.absolute().parent, f".{out.name}.*.partial")


def _remove_unheld(place: Path, pattern: str) -> None:
    for folder in place.glob(pattern):
        with suppress(OSError):
            descriptor = _lock(folder)
            if descriptor is not None or fcntl is None:
                shutil.rmtree(folder, ignore_errors=True)
            if descriptor is not None:
                os.close(descriptor)


def move_into_place(staging: Path, out: Path) -> None:
    """Rename; what was there goes only once the new one stands."""
    if not out.exists():
        staging.rename(out)
        return
    with staging_folder(out) as aside:
        old = aside / "old"
        out.rename(old)
        try:
            staging.rename(out)
        except OSError:
            old.rename(out)
            raise
