"""What a command writes: tables and progress for people, JSON for machines."""

from __future__ import annotations

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

console = Console()
notes = Console(stderr=True)


def complain(error: TfliteAsrError) -> None:
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
    (notes if json_path == "-" else console).print(table)


@contextmanager
def bar() -> Iterator[Callable[[str, float], None]]:
    """A progress bar fed with (stage, fraction done)."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task("start", total=1.0)
        yield lambda stage, fraction: progress.update(task, description=stage, completed=fraction)


@contextmanager
def counter(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar fed with (done, all)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
