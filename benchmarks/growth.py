#!/usr/bin/env python3
"""How time, memory and bytes of an export grow with the model: synthesis, conversion, quantisation and audit to int8.

    python -m benchmarks.growth quartznet:5x5 quartznet:15x5 conformer:S conformer:L --json build/growth/growth.json

Weights are random (neither cost nor bytes depend on them), windows the default four, the calibration budget the
default. Each export is a process of its own: its clock, its processor seconds and the largest resident set of any of
its processes (Linux' `wait4`, which counts the children that it waited for). Bytes are `model.tflite`'s, against the
float32 export of the same checkpoint. Marks: `MARKS`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.side_by_side.checkpoint import draw_checkpoint

# Minutes on two cores and GB (1e9 bytes), at the most; float32 is larger than int8 by BYTES_RATIO at the least.
BYTES_RATIO = 3.8
MARKS = {"quartznet:15x5": (10.0, 8.0), "conformer:L": (20.0, 16.0)}
notes = Console(stderr=True)


@dataclass(frozen=True)
class Growth:
    """One checkpoint's export.

    Attributes:
        model: "architecture:size". weights: of the int8 file, each counted once.
        seconds: on the clock. cpu_seconds: of all its processes.
        peak_bytes: the largest resident set of any of them.
        float32_bytes, int8_bytes: of model.tflite with all windows.
        integer_only: what the audit says.
        stages: seconds on the clock by what was being done.
    """

    model: str
    weights: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    float32_bytes: int
    int8_bytes: int
    integer_only: bool
    stages: dict[str, float]

    @property
    def bytes_ratio(self) -> float:
        return self.float32_bytes / self.int8_bytes

    def misses(self) -> list[str]:
        """Marks that it misses, in words. Two cores at most halve the processor seconds; no more than these count."""
        found = [] if self.integer_only else ["not integer-only"]
        if self.model not in MARKS:
            return found
        minutes, gigabytes = MARKS[self.model]
        if self.bytes_ratio < BYTES_RATIO:
            found.append(f"bytes {self.bytes_ratio:.2f} of {BYTES_RATIO}")
        if self.cpu_seconds > 60 * minutes:
            found.append(f"{self.cpu_seconds / 60:.1f} min of {minutes:g}")
        if self.peak_bytes > 1e9 * gigabytes:
            found.append(f"{self.peak_bytes / 1e9:.1f} GB of {gigabytes:g}")
        return found


def measure(model: str, work: Path) -> Growth:
    """Draw one checkpoint and export it under both schemes."""
    architecture, _, size = model.partition(":")
    path = draw_checkpoint(size, 0, work, architecture).path
    plain, _ = _alone(path, work / f"{path.stem}-float32", "float32")
    own, usage = _alone(path, work / f"{path.stem}-int8", "int8")
    return Growth(
        model,
        own["weights"],
        own["seconds"],
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        plain["bytes"],
        own["bytes"],
        own["integer_only"],
        own["stages"],
    )


def _alone(path: Path, out: Path, scheme: str) -> tuple[dict[str, Any], Any]:
    """`export_once` in a process of its own: what it says, and its resource usage."""
    notes.print(f"{path.stem}: {scheme}")
    report = out.with_suffix(".json")
    report.unlink(missing_ok=True)
    code = f"from benchmarks.growth import export_once; export_once({str(path)!r}, {str(out)!r}, {scheme!r})"
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{path}: export to {scheme} ended with {process.returncode}")
    return {**json.loads(report.read_text()), "seconds": time.monotonic() - started}, usage


def export_once(path: str, out: str, scheme: str) -> None:
    """Export and audit one checkpoint; writes `OUT.json`."""
    from tflite_asr.audit import audit
    from tflite_asr.pipeline import export

    stages: dict[str, float] = {}
    now = ["start", time.monotonic()]

    def told(stage: str, _: float) -> None:
        stages[now[0]] = stages.get(now[0], 0.0) + time.monotonic() - now[1]
        now[:] = [stage, time.monotonic()]

    bundle = export(path, out, scheme=scheme, overwrite=True, progress=told)
    told("audit", 1.0)
    file = Path(bundle.path) / "model.tflite"
    report = audit(file, load=False)
    told("end", 1.0)
    result = {
        "weights": sum(report.weight_bits.values()),
        "bytes": file.stat().st_size,
        "integer_only": report.integer_only,
        "stages": stages,
    }
    Path(out).with_suffix(".json").write_text(json.dumps(result))


def table(rows: list[Growth]) -> Table:
    shown = Table(title="export to int8, windows of 2, 4, 8 and 16 s")
    for heading in ("model", "million weights", "s", "s of processor", "peak GB", "MB", "float32 / int8"):
        shown.add_column(heading, justify="left" if heading == "model" else "right")
    shown.add_column("misses")
    for row in rows:
        shown.add_row(
            row.model,
            f"{row.weights / 1e6:.1f}",
            f"{row.seconds:.0f}",
            f"{row.cpu_seconds:.0f}",
            f"{row.peak_bytes / 1e9:.2f}",
            f"{row.int8_bytes / 1e6:.1f}",
            f"{row.bytes_ratio:.2f}",
            "; ".join(row.misses()),
        )
    return shown


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--work", default="build/growth", show_default=True)
@click.option("--json", "json_path", help="Write the rows here.")
def main(models: tuple[str, ...], work: str, json_path: str | None) -> None:
    """Measure the export of models "architecture:size" of the registry; exit code 1 where a mark is missed."""
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for model in models:
        rows.append(measure(model, folder))
        notes.print(json.dumps(asdict(rows[-1])))
    Console(width=None if Console().is_terminal else 150).print(table(rows))
    if json_path:
        Path(json_path).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    sys.exit(any(row.misses() for row in rows))


if __name__ == "__main__":
    main()
