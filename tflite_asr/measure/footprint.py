"""Load time and memory of a bundle, measured in a process that has done nothing else.

Run as `python -m tflite_asr.measure.footprint BUNDLE RUNTIME DELEGATE THREADS`: prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tflite_asr.errors import TfliteAsrError


@dataclass(frozen=True)
class Footprint:
    """What a bundle costs before and beside its speed.

    Attributes:
        load_seconds: checking the digests, opening both flatbuffers and running every window once, which is when the
            delegate packs the weights.
        resident_bytes: growth of the resident set once every window has run.
        peak_bytes: growth of the resident set at its highest.
    """

    load_seconds: float
    resident_bytes: int
    peak_bytes: int

    def to_dict(self) -> dict[str, float | int]:
        """Plain values for JSON."""
        return asdict(self)


def footprint(
    bundle: str | Path, runtime: str = "litert", delegate: str = "xnnpack", threads: int = 1
) -> Footprint:
    """Measure in a fresh process; the interpreter and NumPy are imported before the first reading.

    Raises:
        TfliteAsrError: what opening the bundle raises there, as one line.
    """
    code = "import json, runpy, sys; sys.path[:0] = json.loads(sys.argv.pop(1)); "
    code += "runpy.run_module('tflite_asr.measure.footprint', run_name='__main__')"
    arguments = [str(bundle), runtime, delegate, str(threads)]
    child = subprocess.run(
        [sys.executable, "-c", code, json.dumps([p for p in sys.path if p]), *arguments],
        capture_output=True,
        text=True,
    )
    if child.returncode:
        lines = child.stderr.strip().splitlines()
        why = lines[-1] if lines else f"exit code {child.returncode}"
        raise TfliteAsrError(f"{bundle}: its footprint could not be measured ({why})")
    return Footprint(**json.loads(child.stdout))


def measure(bundle: str, runtime: str, delegate: str, threads: int) -> Footprint:
    """Measure in this process."""
    from tflite_asr.runtime import Transcriber
    from tflite_asr.runtime.interpreter import import_runtime

    import_runtime(runtime)
    with suppress(OSError):  # Linux: forget the imports' own peak
        Path("/proc/self/clear_refs").write_text("5")
    before = _resident_bytes()
    began = time.perf_counter()
    Transcriber(bundle, runtime, delegate, threads).warm_up()
    seconds = time.perf_counter() - began
    return Footprint(seconds, max(0, _resident_bytes() - before), max(0, _peak_bytes() - before))


def _resident_bytes() -> int:
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return _peak_bytes()


def _peak_bytes() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    with suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return 0


if __name__ == "__main__":
    try:
        print(json.dumps(measure(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])).to_dict()))
    except TfliteAsrError as error:
        sys.exit(str(error))
