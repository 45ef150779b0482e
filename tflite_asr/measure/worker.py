"""A process of its own in which a bundle is measured: fresh memory, and an interpreter that aborts is one line here.

The child holds one object and answers calls of its methods, one JSON line each way. What the runtimes print goes to
a file of which only the last line is ever shown. The child ends when this process does.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tflite_asr.errors import Finding, TfliteAsrError

_CODE = (
    "import json, sys; sys.path[:0] = json.loads(sys.argv.pop(1)); "
    "from tflite_asr.measure.worker import serve; serve()"
)
_PATIENCE_SECONDS = 10.0  # for a child that was told to end


class Worker:
    """A child process that holds `kind(*arguments)`.

    Args:
        subject: what is measured, as error messages begin.
        kind: a class, or a function that gives an object; the child imports it by its module and name.
        arguments: of it; JSON.

    Raises:
        TfliteAsrError, Finding: what `kind` raised there, or one line about a child that died.
    """

    def __init__(self, subject: str | Path, kind: Callable[..., Any], *arguments: Any):
        self._subject = str(subject)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, json.dumps([path or os.getcwd() for path in sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self._exchange([kind.__module__, kind.__qualname__, list(arguments)], "being opened")
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the method returns there; errors as for `kind`."""
        return self._exchange([method, list(arguments)], method.replace("_", " "))

    def close(self) -> None:
        """End the child."""
        if self._process.stdin and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
                self._process.wait(_PATIENCE_SECONDS)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, message: list[Any], doing: str) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise TfliteAsrError(self._obituary(doing))
        reply = json.loads(line)
        if "error" in reply:
            raise (Finding if reply["finding"] else TfliteAsrError)(reply["error"])
        return reply["result"]

    def _obituary(self, doing: str) -> str:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines()]
        said = next((line[:200] for line in reversed(lines) if line), "")
        last = f", last words {said!r}" if said else ""
        return (
            f"{self._subject}: the runtime ended its process ({how}{last}) in {doing}; try another --delegate"
        )


def serve() -> None:
    """The child's side: answer until standard input ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what a runtime prints is no answer
        held: Any = None
        for line in sys.stdin:
            *names, arguments = json.loads(line)
            try:
                if len(names) == 2:
                    held = getattr(importlib.import_module(names[0]), names[1])(*arguments)
                    reply: dict[str, Any] = {"result": None}
                else:
                    reply = {"result": getattr(held, names[0])(*arguments)}
            except TfliteAsrError as error:
                reply = {"error": str(error), "finding": isinstance(error, Finding)}
            print(json.dumps(reply), file=answers, flush=True)
