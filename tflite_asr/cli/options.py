"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from tflite_asr.errors import TfliteAsrError
from tflite_asr.staging import probe


def writable(context: click.Context, parameter: click.Parameter, path: str | None) -> str | None:
    """Refuse at once what could not be written after minutes of work; folders on the way are made then, not now."""
    if path is None or path == "-":
        return path
    folder = next(one for one in Path(path).absolute().parents if one.exists())
    try:
        if Path(path).is_dir():
            raise IsADirectoryError(21, "is a folder")
        probe(folder)
    except OSError as error:
        raise TfliteAsrError(f"{path}: cannot be written ({error.strerror}); choose another file") from error
    return path


JSON = click.option(
    "--json",
    "json_path",
    metavar="FILE",
    callback=writable,
    help="Write the result as JSON ('-': standard output).",
)
RUNTIMES = click.Choice(["litert", "tflite-runtime"])
RUNTIME = click.option("--runtime", type=RUNTIMES, default="litert", show_default=True)
DELEGATES = click.Choice(["xnnpack", "builtin", "reference"])
DELEGATES_HELP = "[default: xnnpack; for an integer bundle of export --min-runtime builtin]"
THREADS = click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
DECODER = click.option(
    "--decoder",
    type=click.Choice(["attention", "ctc", "joint"]),
    help="What spells: attention, CTC, or both scored together.  [default: attention where the bundle has it]",
)
BEAM = click.option(
    "--beam", type=click.IntRange(1, 8), default=1, show_default=True, help="Hypotheses kept; 1 is greedy."
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
