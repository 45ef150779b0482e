#!/usr/bin/env python3
"""Whether int8 takes more instructions than it did: the shipped checkpoint and one Conformer-S block against a record.

    python -m benchmarks.instruction_gate             # a table against the record; above it by more than 1 %: exit 1
    python -m benchmarks.instruction_gate --record    # what is measured becomes the record

Instructions of one inference of the acoustic model on the emulated core (`tflite-asr prepare-core`), by kind of op. A
block is what a model of two takes less what a model of one takes. Calibration is noise, the weights of blocks are
random, so that neither clips nor their synthesis move the numbers; they repeat to 1e-4.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tflite_asr.cli.terminal import complain
from tflite_asr.errors import Finding, TfliteAsrError
from tflite_asr.measure.arm import cores_folder, count_instructions
from tflite_asr.measure.arm.layout import read_record

CORE = "cortex-a76"
CHECKPOINT = "conformer-ctc"
WINDOWS = (400, 1600)  # feature frames of 10 ms
ALLOWED = 0.01  # of the recorded total
RECORD = Path(__file__).parents[1] / "tests" / "measure" / "arm" / "instruction_record.json"
RENEW = "python -m benchmarks.instruction_gate --record"
OpTypes = dict[str, int]
notes = Console(stderr=True)


def measure(folder: Path | None = None) -> dict[str, Any]:
    """Count now.

    Args:
        folder: of prepared cores; None: the default one.

    Returns:
        `{"core", "runtime", "instructions": {case: {"total", "op_types"}}}`: case names model and window, op_types has
        the instructions by kind of op, most first, which add up to the total.

    Raises:
        TfliteAsrError: a folder that is not prepared, a program that failed on the core.
    """
    runtime = runtime_of(folder)
    shipped, one, two = _flatbuffers()
    counted = {}
    for frames in WINDOWS:
        window = f"{frames / 100:g} s"
        counted[f"{CHECKPOINT}, {window}"] = _count(shipped, frames, folder)
        alone = _count(one, frames, folder)
        pair = _count(two, frames, folder)
        counted[f"Conformer-S block, {window}"] = {
            op: pair.get(op, 0) - alone.get(op, 0) for op in {**pair, **alone}
        }
    instructions = {case: _entry(op_types) for case, op_types in sorted(counted.items())}
    return {"core": CORE, "runtime": runtime, "instructions": instructions}


def _flatbuffers() -> tuple[bytes, bytes, bytes]:
    """int8 of the shipped checkpoint, of a Conformer-S of one block and of one of two."""
    from benchmarks.side_by_side.checkpoint import open_checkpoint
    from benchmarks.sizes import flatbuffers, noise
    from tflite_asr.models.conformer import SMALL
    from tflite_asr.quantize.build import build_flatbuffers

    notes.print(f"{CHECKPOINT}, Conformer-S of one block and of two: to int8")
    checkpoint = open_checkpoint(CHECKPOINT)
    facts = checkpoint.facts
    assert facts.frontend is not None
    inputs = noise(WINDOWS, facts.frontend.mels)
    (shipped,) = build_flatbuffers(
        checkpoint.path, WINDOWS, ["int8"], inputs, subsampling=facts.subsampling, facts=facts
    )
    with tempfile.TemporaryDirectory(prefix="tflite_asr-") as work:
        one, two = (
            flatbuffers(replace(SMALL, blocks=blocks), WINDOWS, Path(work), ["int8"])["int8"]
            for blocks in (1, 2)
        )
    return shipped.data, one, two


def _count(data: bytes, frames: int, folder: Path | None) -> OpTypes:
    notes.print(f"{len(data) / 1e6:.2f} MB, {frames / 100:g} s: counting on {CORE}")
    counts = count_instructions(data, f"ctc_{frames}", CORE, frames / 100, folder=folder, repeats=1)
    return counts.op_types()


def _entry(op_types: OpTypes) -> dict[str, Any]:
    most_first = sorted(op_types.items(), key=lambda item: -item[1])
    return {"total": sum(op_types.values()), "op_types": {op: n for op, n in most_first if n}}


def runtime_of(folder: Path | None = None) -> str:
    """The runtime on the prepared cores, with its version. Raises TfliteAsrError where none are prepared."""
    return str(read_record(folder or cores_folder())["runtime"])


def read() -> dict[str, Any]:
    """The record, as `measure` gives it. Raises TfliteAsrError where there is none."""
    if not RECORD.is_file():
        raise TfliteAsrError(f"{RECORD}: is not there; run {RENEW}")
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))


def check_runtime(recorded: Mapping[str, Any], runtime: str) -> None:
    """Raises TfliteAsrError where the record is of another runtime: its kernels are others."""
    if recorded["runtime"] != runtime:
        raise TfliteAsrError(
            f"{RECORD.name}: is of {recorded['runtime']}, and this is {runtime}; run {RENEW}"
        )


def check_growth(recorded: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
    """Compare every case.

    Raises:
        Finding: a total is more than `ALLOWED` above the recorded one; the line names the kind of op that grew most,
            with both numbers.
        TfliteAsrError: the cases are others.
    """
    before, after = recorded["instructions"], measured["instructions"]
    if before.keys() != after.keys():
        raise TfliteAsrError(
            f"{RECORD.name}: has {sorted(before)} and measured is {sorted(after)}; run {RENEW}"
        )
    grown = [
        _complaint(case, before[case], after[case])
        for case in before
        if after[case]["total"] > (1 + ALLOWED) * before[case]["total"]
    ]
    if grown:
        raise Finding(f"{'; '.join(grown)} (where it is meant: {RENEW})")


def most_grown(before: OpTypes, after: OpTypes) -> str:
    """The kind of op whose count rose by most instructions."""
    return max({**before, **after}, key=lambda op: after.get(op, 0) - before.get(op, 0))


def _complaint(case: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    op = most_grown(before["op_types"], after["op_types"])
    was, now = (one["op_types"].get(op, 0) / 1e6 for one in (before, after))
    rise = 100 * (after["total"] / before["total"] - 1)
    return (
        f"{case}: {after['total'] / 1e6:.2f} M instructions, {rise:.1f} % above the recorded "
        f"{before['total'] / 1e6:.2f} M; what grew most is {op}, from {was:.2f} M to {now:.2f} M"
    )


def table(recorded: Mapping[str, Any] | None, measured: Mapping[str, Any]) -> Table:
    """A row for each case, beside the record if there is one."""
    shown = Table(title=f"millions of {CORE} instructions, one inference, int8, {measured['runtime']}")
    for heading in ("", "recorded", "measured", "change %", "changed most", "from", "to"):
        shown.add_column(heading, justify="left" if heading in ("", "changed most") else "right")
    for case, now in measured["instructions"].items():
        was = recorded["instructions"].get(case) if recorded else None
        if was is None:
            shown.add_row(case, "", f"{now['total'] / 1e6:.2f}", "", "", "", "")
            continue
        before, after = was["op_types"], now["op_types"]
        op = max({**before, **after}, key=lambda op: abs(after.get(op, 0) - before.get(op, 0)))
        shown.add_row(
            case,
            f"{was['total'] / 1e6:.2f}",
            f"{now['total'] / 1e6:.2f}",
            f"{100 * (now['total'] / was['total'] - 1):+.2f}",
            op,
            *(f"{one.get(op, 0) / 1e6:.2f}" for one in (before, after)),
        )
    return shown


@click.command()
@click.option("--record", "renew", is_flag=True, help="Write the record instead of comparing with it.")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="Of prepared cores, if not the default."
)
def main(renew: bool, folder: Path | None) -> None:
    """Compare the instructions of int8 with the record."""
    console = Console(width=None if Console().is_terminal else 150)
    try:
        if not renew:
            check_runtime(read(), runtime_of(folder))
        recorded = read() if RECORD.is_file() else None
        measured = measure(folder)
        console.print(table(recorded, measured))
        if renew:
            RECORD.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        else:
            check_growth(read(), measured)
    except TfliteAsrError as error:
        complain(error)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
