"""A function run in a process of its own, so that whatever kills it leaves one clear line here.

TensorFlow's converter and the TFLite interpreters can abort the whole process on some graphs (SIGABRT, no
Python exception), and print hundreds of lines. The child's stdout and stderr go to a file; its result comes
back through a file; its progress through a third. All lie in one temporary folder, with whatever else the child
writes where temporary files go; it goes with the child, and the child goes with its parent.
"""

from __future__ import annotations

import importlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tflite_asr.errors import TfliteAsrError
from tflite_asr.staging import scratch_folder

Result = TypeVar("Result")
Progress = Callable[[str, float], None]

_POLL_SECONDS = 0.05
# One thread and no oneDNN: constant folding then sums in one order, and the bytes are the same on every run.
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONHASHSEED": "0",
    "TF_CPP_MAX_VLOG_LEVEL": "0",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
}
_progress_file: Path | None = None


def run_in_child(
    function: Callable[..., Result],
    *args: Any,
    stage: str = "",
    progress: Progress | None = None,
    **kwargs: Any,
) -> Result:
    """`function(*args, **kwargs)`, in a fresh Python process.

    function: importable by its module and name. args, kwargs, result: anything that pickles. stage: what is
    being done, in words, for the error message, until `report_progress` says something else. progress:
    called here with (stage, fraction done) as the child starts, and for each of its `report_progress`. Raises
    what the child raised where that is a TfliteAsrError; TfliteAsrError with one line for everything else: another
    exception, a signal, an exit without a result. An interrupt here kills the child.
    """
    if progress is not None and stage:
        progress(stage, 0.0)
    with scratch_folder() as folder:
        call = (function.__module__, function.__qualname__, args, kwargs)
        (folder / "call").write_bytes(pickle.dumps(call))
        (folder / "progress").touch()
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tflite_asr.quantize.child", str(folder), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    **_ENVIRONMENT,
                    "TMPDIR": str(folder),  # TensorFlow leaves files there: it is not let to its end
                    "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
                },
                start_new_session=True,
            )
        try:
            stage = _follow(process, folder / "progress", stage or function.__name__, progress)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return _result(process.returncode, folder, stage)


def report_progress(stage: str, fraction: float) -> None:
    """Say from inside the child what is being done now and how much (0 to 1) is behind; elsewhere,
    nothing."""
    if _progress_file is not None:
        with open(_progress_file, "a", encoding="utf-8") as lines:
            lines.write(f"{fraction:.4f} {stage}\n")


def _follow(process: subprocess.Popen[bytes], path: Path, stage: str, progress: Progress | None) -> str:
    """Wait for the child and hand its progress on. Returns the last stage it reported."""
    with open(path, encoding="utf-8") as lines:
        pending = ""
        while True:
            ended = process.poll() is not None
            pending += lines.read()
            while "\n" in pending:
                line, pending = pending.split("\n", 1)
                fraction, stage = line.split(" ", 1)
                if progress is not None:
                    progress(stage, float(fraction))
            if ended:
                return stage
            time.sleep(_POLL_SECONDS)


def _result(returncode: int, folder: Path, stage: str) -> Any:
    """What the child left: its result, or the error that it stands for."""
    path = folder / "result"
    if returncode == 0 and path.exists():
        ok, value, details = pickle.loads(path.read_bytes())
        if ok:
            return value
        if isinstance(value, TfliteAsrError):
            raise value
        raise TfliteAsrError(f"{stage}: {value}") from RuntimeError(details)
    if returncode < 0:
        number = -returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
        how = f"killed by signal {number} ({name})"
        if number == getattr(signal, "SIGKILL", 9):
            how += ", most likely for want of memory"
    else:
        how = f"ended with exit code {returncode} and no result"
    log = (folder / "log").read_text(encoding="utf-8", errors="replace")
    raise TfliteAsrError(
        f"{stage}: the process doing it was {how}; last line of its log: {_last_line(log)!r}"
    )


def _last_line(log: str) -> str:
    """The last line of the log that says something, shortened to 200 characters; "" where there is none."""
    lines = [line.strip() for line in log.splitlines()]
    said = [
        line for line in lines if line and not line.startswith(("***", "@ ", "Extension modules:", "File "))
    ]
    return said[-1][:200] if said else ""


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:400]}" if text else type(error).__name__


def _leave_with_parent(folder: Path, parent: int) -> None:
    """End this process, and take its folder along, as soon as the process that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _main(folder: Path, parent: int) -> None:
    if hasattr(os, "getppid") and os.name == "posix":
        threading.Thread(target=_leave_with_parent, args=(folder, parent), daemon=True).start()
    module = importlib.import_module("tflite_asr.quantize.child")
    module._progress_file = folder / "progress"  # type: ignore[attr-defined]
    details = ""
    outcome: tuple[bool, Any]
    try:
        module_name, name, args, kwargs = pickle.loads((folder / "call").read_bytes())
        function: Any = importlib.import_module(module_name)
        for part in name.split("."):
            function = getattr(function, part)
        outcome = (True, function(*args, **kwargs))
    except TfliteAsrError as error:
        outcome = (False, error)
    except (Exception, SystemExit) as error:
        outcome = (False, _one_line(error))
        details = traceback.format_exc()
        traceback.print_exc()
    partial = folder / "result.partial"
    partial.write_bytes(pickle.dumps((*outcome, details)))
    partial.rename(folder / "result")
    sys.stdout.flush()
    os._exit(
        0
    )  # Not sys.exit: TensorFlow's and LiteRT's destructors may still abort, with the result already written.


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
