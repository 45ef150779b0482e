"""The options that several commands share."""

from __future__ import annotations

import click

JSON = click.option(
    "--json", "json_path", metavar="FILE", help="Write the result as JSON ('-': standard output)."
)
RUNTIMES = click.Choice(["litert", "tflite-runtime"])
RUNTIME = click.option("--runtime", type=RUNTIMES, default="litert", show_default=True)
DELEGATES = click.Choice(["xnnpack", "builtin", "reference"])
DELEGATES_HELP = "[default: xnnpack; for an integer bundle of export --min-runtime builtin]"
THREADS = click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
