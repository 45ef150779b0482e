#!/usr/bin/env python3
"""What int8 gains on each size of Conformer: instructions on an emulated core, time on this machine.

    python benchmarks/sizes.py shipped S M L --window 4 --window 16 --core cortex-a76 --work build/sizes
    python benchmarks/sizes.py shipped S M L --window 4 --window 16 --host --work build/sizes

Weights are random (cost does not depend on them), calibration is noise. Instructions: models of one and of two blocks
are counted, and since blocks are alike, the whole is what both share and `blocks` times their difference. Time: the
whole model, float32, dynamic and int8 in turn, one thread. The floor is 16 multiply-adds an instruction.

Counts are kept in the work folder by the content of the flatbuffer, so a second run counts only what has changed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from tflite_asr.audit import audit
from tflite_asr.measure.arm import count_instructions
from tflite_asr.measure.latency import in_turn, ratio
from tflite_asr.models.conformer import SIZES, ConformerConfig, build_conformer
from tflite_asr.quantize.build import build_flatbuffers
from tflite_asr.runtime import open_interpreter

SCHEMES = ("float32", "dynamic_wi8_afp32", "int8")
notes = Console(stderr=True)


def noise(windows: Sequence[int], mels: int) -> list[np.ndarray]:
    """To calibrate on, the same every time: float32 [frames, mels], for each window a clip that fills it and one that
    leaves half of it masked, as a mask of nothing but ones has no scale."""
    random = np.random.default_rng(0)
    lengths = [length for frames in windows for length in (frames, frames // 2)]
    return [random.normal(size=(length, mels)).astype(np.float32) for length in lengths]


def flatbuffers(
    config: ConformerConfig, windows: Sequence[int], work: Path, schemes: Sequence[str] = SCHEMES
) -> dict[str, bytes]:
    """Scheme to flatbuffer, of a model with random weights."""
    import keras

    keras.utils.set_random_seed(0)
    path = work / "model.keras"
    build_conformer(config).save(path)
    inputs = noise(windows, config.mels)
    built = build_flatbuffers(path, windows, schemes, inputs, subsampling=config.subsampling)
    return {name: one.data for name, one in zip(schemes, built, strict=True)}


class Counts:
    """Instructions of one inference, kept in a file by what was counted."""

    def __init__(self, core: str, work: Path) -> None:
        self.core, self.path = core, work / f"counts-{core}.json"
        self.kept: dict[str, int] = json.loads(self.path.read_text()) if self.path.is_file() else {}

    def of(self, data: bytes, frames: int) -> int:
        key = f"{hashlib.sha256(data).hexdigest()[:16]}/{frames}"
        if key not in self.kept:
            one = count_instructions(data, f"ctc_{frames}", self.core, frames / 100, repeats=1)
            self.kept[key] = one.total
            self.path.write_text(json.dumps(self.kept, indent=1))
        return self.kept[key]


def count(size: str, windows: Sequence[int], core: str, work: Path) -> list[dict[str, Any]]:
    """Rows of instructions, a window each."""
    config, counts = SIZES[size], Counts(core, work)
    pair = [flatbuffers(replace(config, blocks=blocks), windows, work) for blocks in (1, 2)]
    rows = []
    for frames in windows:
        totals: dict[str, int] = {}
        macs: list[int] = []
        for scheme in SCHEMES:
            notes.print(f"{size}, {frames / 100:g} s, {scheme}: counting")
            one, two = (counts.of(data[scheme], frames) for data in pair)
            totals[scheme] = one + (config.blocks - 1) * (two - one)
        for data in pair:
            macs.append(audit(data["float32"], load=False).macs[f"ctc_{frames}"])
        floor = (macs[0] + (config.blocks - 1) * (macs[1] - macs[0])) / 16
        rows.append({"size": size, "window_seconds": frames / 100, "core": core, **totals, "floor": floor})
    return rows


def time_on_host(size: str, windows: Sequence[int], runs: int, work: Path) -> list[dict[str, Any]]:
    """Rows of milliseconds, a window each; the whole model."""
    built = flatbuffers(SIZES[size], windows, work)
    opened = {scheme: open_interpreter(data, threads=1) for scheme, data in built.items()}
    rows = []
    for frames in windows:
        steps = []
        for interpreter in opened.values():
            name = f"ctc_{frames}"
            given = {key: _stored(t) for key, t in interpreter.signatures[name].inputs.items()}
            steps.append(lambda run=interpreter.run, name=name, given=given: _timed(run, name, given))
        readings = [np.array(one[3:]) for one in in_turn(steps, runs + 3)]
        medians = {scheme: float(np.median(one)) for scheme, one in zip(opened, readings, strict=True)}
        gains = {
            scheme: asdict(ratio(readings[0], one))
            for scheme, one in zip(opened, readings, strict=True)
            if scheme != "float32"
        }
        sizes = {f"{scheme}_bytes": len(data) for scheme, data in built.items()}
        rows.append({"size": size, "window_seconds": frames / 100, **medians, "float32_over": gains, **sizes})
    return rows


def _stored(tensor: Any) -> np.ndarray:
    if len(tensor.shape) == 2:
        return np.full(tensor.shape, 127 if tensor.scale else 1, tensor.dtype)
    values = np.random.default_rng(0).normal(size=tensor.shape)
    return (30 * values if tensor.scale else values).astype(tensor.dtype)


def _timed(run: Any, name: str, given: dict[str, np.ndarray]) -> float:
    started = time.perf_counter()
    run(name, given)
    return 1e3 * (time.perf_counter() - started)


def show_counts(rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"millions of {rows[0]['core']} instructions, one inference of the acoustic model")
    for heading in ("size", "window s", *SCHEMES, "floor", "of float32", "of dynamic", "times the floor"):
        table.add_column(heading, justify="right")
    for row in rows:
        own = row["int8"]
        table.add_row(
            row["size"],
            f"{row['window_seconds']:g}",
            *(f"{row[scheme] / 1e6:.1f}" for scheme in (*SCHEMES, "floor")),
            *(f"{own / row[scheme]:.3f}" for scheme in SCHEMES[:2]),
            f"{own / row['floor']:.2f}",
        )
    return table


def show_times(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        title="milliseconds on this machine, one thread, median; float32 over int8 with 95 % interval"
    )
    for heading in ("size", "window s", *SCHEMES, "float32 / dynamic", "float32 / int8"):
        table.add_column(heading, justify="right")
    for row in rows:
        gains = (row["float32_over"][scheme] for scheme in SCHEMES[1:])
        table.add_row(
            row["size"],
            f"{row['window_seconds']:g}",
            *(f"{row[scheme]:.2f}" for scheme in SCHEMES),
            *(f"{one['value']:.2f} ({one['low']:.2f}-{one['high']:.2f})" for one in gains),
        )
    return table


@click.command()
@click.argument("sizes", nargs=-1, required=True, type=click.Choice(list(SIZES)))
@click.option("--window", "windows", multiple=True, type=float, default=(4.0, 16.0), show_default=True)
@click.option("--core", help="Count on this emulated core (`tflite-asr prepare-core`).")
@click.option("--host", is_flag=True, help="Time on this machine.")
@click.option("--runs", default=20, show_default=True)
@click.option("--work", default="build/sizes", show_default=True)
@click.option("--json", "json_path", help="Write the rows here.")
def main(
    sizes: tuple[str, ...],
    windows: tuple[float, ...],
    core: str | None,
    host: bool,
    runs: int,
    work: str,
    json_path: str | None,
) -> None:
    """Compare float32, dynamic and int8 of Conformers of several sizes."""
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    frames = [round(100 * seconds) for seconds in windows]
    counted = [row for size in sizes for row in count(size, frames, core, folder)] if core else []
    timed = [row for size in sizes for row in time_on_host(size, frames, runs, folder)] if host else []
    console = Console(width=None if Console().is_terminal else 150)
    if counted:
        console.print(show_counts(counted))
    if timed:
        console.print(show_times(timed))
    if json_path:
        Path(json_path).write_text(json.dumps({"counted": counted, "timed": timed}, indent=1) + "\n")


if __name__ == "__main__":
    main()
