"""Load time and memory of a bundle, measured in a process that has done nothing else."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tflite_asr.measure.worker import Worker


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
    bundle: str | Path, runtime: str = "litert", delegate: str | None = None, threads: int = 1
) -> Footprint:
    """Measure in a fresh process; the interpreter and NumPy are imported before the first reading.

    Raises:
        TfliteAsrError, Finding: what opening the bundle raises there, or one line about a runtime that aborts.
    """
    with Worker(bundle, measure, str(bundle), runtime, delegate, threads) as worker:
        return Footprint(**worker.ask("to_dict"))


def measure(bundle: str, runtime: str, delegate: str | None, threads: int) -> Footprint:
    """Measure in this process."""
    from tflite_asr.runtime import Transcriber
    from tflite_asr.runtime.interpreter import import_runtime

    import_runtime(runtime)
    forget_peak()
    before = resident_bytes()
    began = time.perf_counter()
    Transcriber(bundle, runtime, delegate, threads).warm_up()
    seconds = time.perf_counter() - began
    return Footprint(seconds, max(0, resident_bytes() - before), max(0, peak_bytes() - before))


def forget_peak() -> None:
    """Let `peak_bytes` begin anew where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def resident_bytes() -> int:
    """This process' resident memory now, or its peak where the system tells no more."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_bytes()


def peak_bytes() -> int:
    """This process' resident memory at its highest; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    with suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return 0
