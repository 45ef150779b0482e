"""`prepare-core`: what an emulated ARM core needs, laid out in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from tflite_asr.cli.terminal import bar, console


@click.command("prepare-core")
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    help="Where; by default $TFLITE_ASR_CORES, or a folder in the user's cache.",
)
def prepare_core(folder: str | None) -> None:
    """Lay out the emulated ARM cores that `bench --core` counts on: about 180 MB, fetched by apt and pip."""
    from tflite_asr.measure.arm import CORES, prepare

    with bar() as tell:
        prepared = prepare(Path(folder) if folder else None, tell)
    console.print(f"{', '.join(CORES)} are in {prepared}", highlight=False)
