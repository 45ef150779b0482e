"""What a command writes: tables and progress for people, JSON for machines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tflite_asr.errors import TfliteAsrError

_SILENCE_SECONDS = 60.0  # that a log may keep while a stage lasts
_FILE_WIDTH = 120  # columns of a table in a file or a pipe, which say nothing of their width


def _console(stderr: bool = False) -> Console:
    made = Console(stderr=stderr)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _FILE_WIDTH
    return made


console = _console()
notes = _console(stderr=True)


def complain(error: Exception | str) -> None:
    """The one line of an error, on standard error."""
    click.echo(f"error: {error}", err=True)


def write_json(path: str | None, text: str) -> None:
    if path is None:
        return
    if path == "-":
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise TfliteAsrError(f"{path}: cannot be written ({error.strerror}); choose another file") from error


def show(table: Any, json_path: str | None) -> None:
    """Tables are for people; with `--json -` standard output belongs to the machine."""
    # A sentence is one line where no terminal wraps it: it can be searched for.
    (notes if json_path == "-" else console).print(table, soft_wrap=isinstance(table, str))


@contextmanager
def bar() -> Iterator[Callable[[str, float], None]]:
    """Progress fed with (stage, fraction done): a bar, or lines where standard error is no terminal."""
    if not notes.is_interactive:
        lines = lines_of_stages()
        yield lambda stage, fraction: lines(stage, f"{fraction:.0%}")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task("start", total=1.0)
        yield lambda stage, fraction: progress.update(task, description=stage, completed=fraction)


@contextmanager
def counter(title: str) -> Iterator[Callable[[int, int], None]]:
    """Progress fed with (done, all): a bar, or lines where standard error is no terminal."""
    if not notes.is_interactive:
        lines = lines_of_stages()
        yield lambda done, total: lines(title, f"{done} of {total}")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def lines_of_stages() -> Callable[[str, str], None]:
    """Fed with (stage, how far): a plain line for each stage as it begins, and one a minute while it lasts."""
    begun: set[str] = set()
    last = time.monotonic()

    def tell(stage: str, how_far: str) -> None:
        nonlocal last
        if stage in begun and time.monotonic() - last < _SILENCE_SECONDS:
            return
        click.echo(f"{stage}: {how_far}" if stage in begun else stage, err=True)
        begun.add(stage)
        last = time.monotonic()

    return tell
