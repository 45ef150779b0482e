"""The command line: one click command a verb, a file a verb, heavy imports inside the command.

Exit codes: 0 on success, 1 on a finding (a failed audit, a broken bundle), 2 on wrong use or bad input, 128 and the
signal's number where one ended it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from tflite_asr.cli.audit import audit
from tflite_asr.cli.bench import bench
from tflite_asr.cli.calibrate import calibrate
from tflite_asr.cli.evaluate import evaluate
from tflite_asr.cli.export import export
from tflite_asr.cli.import_ import import_
from tflite_asr.cli.prepare_core import prepare_core
from tflite_asr.cli.qat import qat
from tflite_asr.cli.shipped import demo, models
from tflite_asr.cli.slim import slim
from tflite_asr.cli.terminal import complain
from tflite_asr.cli.train import train
from tflite_asr.cli.transcribe import transcribe
from tflite_asr.errors import TfliteAsrError


class _Ended(BaseException):
    """A signal asked this process to end; argument: its number."""


class _Commands(click.Group):
    """A group whose commands end in one clear line, never in a traceback."""

    def main(self, *args: Any, **settings: Any) -> Any:  # type: ignore[override]
        """Click's, whose own errors take three lines."""
        if not settings.get("standalone_mode", True):
            return super().main(*args, **settings)
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except click.ClickException as error:
            if isinstance(error, click.exceptions.NoArgsIsHelpError):
                error.show()  # a bare `tflite-asr` asks for help
            else:
                complain(_one_line(error))
            sys.exit(error.exit_code)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _ending_in_order():
                return self._invoke(ctx)
        except KeyboardInterrupt:
            number = signal.SIGINT
        except _Ended as ended:
            number = signal.Signals(ended.args[0])
        complain(f"ended by {number.name}")
        sys.exit(128 + number)

    def _invoke(self, ctx: click.Context) -> Any:
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
            complain(f"{error.filename or ctx.info_name}: cannot be read or written ({reason})")
            sys.exit(TfliteAsrError.exit_code)


def _one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    where = f"; see {context.command_path} --help" if context else ""
    return f"{message[:1].lower()}{message[1:]}{where}"


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let what asks a process to end do it as an error would: children are ended, temporary folders removed."""

    def end(number: int, _: object) -> None:
        raise _Ended(number)

    ours = []
    if threading.current_thread() is threading.main_thread():
        asking = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        ours = [number for number in asking if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


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
    qat,
    slim,
    import_,
    calibrate,
    prepare_core,
):
    main.add_command(command)
