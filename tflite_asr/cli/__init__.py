"""The command line: one click command a verb, a file a verb, heavy imports inside the command.

Exit codes: 0 on success, 1 on a finding (a failed audit, a broken bundle), 2 on wrong use or bad input.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from tflite_asr.cli.audit import audit
from tflite_asr.cli.bench import bench
from tflite_asr.cli.calibrate import calibrate
from tflite_asr.cli.evaluate import evaluate
from tflite_asr.cli.export import export
from tflite_asr.cli.import_ import import_
from tflite_asr.cli.prepare_core import prepare_core
from tflite_asr.cli.shipped import demo, models
from tflite_asr.cli.slim import slim
from tflite_asr.cli.terminal import complain
from tflite_asr.cli.train import train
from tflite_asr.cli.transcribe import transcribe
from tflite_asr.errors import TfliteAsrError


class _Commands(click.Group):
    """A group whose commands end in one clear line, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TfliteAsrError as error:
            complain(error)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(0)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            click.echo(
                f"error: {error.filename or ctx.info_name}: cannot be read or written ({reason})", err=True
            )
            sys.exit(TfliteAsrError.exit_code)


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="tflite-asr")
def main() -> None:
    """From a float Keras speech-recognition checkpoint to an integer-only TFLite bundle, without any data."""


# A new verb is a file here, its import above and its name in this list.
for command in (
    demo,
    models,
    export,
    evaluate,
    audit,
    bench,
    transcribe,
    train,
    slim,
    import_,
    calibrate,
    prepare_core,
):
    main.add_command(command)
