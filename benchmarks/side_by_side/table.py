"""The rows as people read them: a table for each window and number of threads, on a terminal or in markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tflite_asr.measure.fidelity import CEILING_DB

Row = dict[str, Any]


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        title: window and threads.
        headings: of the columns; a line break where a narrow column needs one. Instructions are millions for a second
            of audio, the acoustic model's alone.
        cells: a line a peer; one that refused has dashes.
        refusals: why, a line each.
    """

    title: str
    headings: list[str]
    cells: list[list[str]]
    refusals: list[str]


def sheets(rows: Sequence[Row]) -> Iterator[Sheet]:
    """Tables of what `measure_window` gave, of one window or more."""
    for seconds in dict.fromkeys(row["window_seconds"] for row in rows):
        some = [row for row in rows if row["window_seconds"] == seconds]
        for threads in _keys(some, "latency"):
            yield _sheet(some, seconds, threads)


def _sheet(rows: Sequence[Row], seconds: float, threads: str) -> Sheet:
    corpora = _keys(rows, "corpora")
    judged = [name for name in corpora if any("wer" in row["corpora"].get(name, {}) for row in rows)]
    cores = {
        row["instructions_per_audio_second"]["core"] for row in rows if row["instructions_per_audio_second"]
    }
    headings = [
        "peer",
        "bytes",
        "integer-only",
        "min\nms",
        "median\nms",
        "times float32\n(95 %)",
        *(f"{name}\nSNR dB, argmax %" for name in corpora),
        *(f"{name}\nWER %" for name in judged),
        *(f"{core}\nM instructions" for core in sorted(cores)),
    ]
    cells = []
    for row in rows:
        found = row["latency"].get(threads)
        fidelity = row["corpora"]
        cells.append(
            [
                row["title"],
                f"{row['bytes']:,}" if row["bytes"] else "-",
                _integers(row),
                *([f"{found['latency_ms'][key]:.2f}" for key in ("min", "median")] if found else "--"),
                "{value:.2f} ({low:.2f}-{high:.2f})".format(**found["ratio"]) if found else "-",
                *(_fidelity(fidelity[name]) if name in fidelity else "-" for name in corpora),
                *(f"{100 * fidelity[name]['wer']:.2f}" if name in fidelity else "-" for name in judged),
                *([_instructions(row)] if cores else []),
            ]
        )
    title = f"{seconds:g} s window, {threads} thread{'s' * (threads != '1')}"
    refusals = [f"{row['title']}: refused, {row['refusal']}" for row in rows if row["status"] == "refused"]
    return Sheet(title, headings, cells, refusals)


def rich_table(sheet: Sheet, name: str) -> Table:
    """For a terminal.

    name: what was measured, and where.
    """
    shown = Table(
        title=f"{name}, {sheet.title}",
        box=SIMPLE_HEAD,
        caption="\n".join(sheet.refusals),
        caption_justify="left",
    )
    for number, heading in enumerate(sheet.headings):
        shown.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for line in sheet.cells:
        shown.add_row(*line)
    return shown


def markdown(sheet: Sheet) -> str:
    """For a page."""
    headings = [heading.replace("\n", " ") for heading in sheet.headings]
    lines = [headings, ["---"] * len(headings), *sheet.cells]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    refusals = "".join(f"- {line}\n" for line in sheet.refusals)
    return "\n".join(part for part in (f"{sheet.title}:\n", table, refusals) if part) + "\n"


def _keys(rows: Sequence[Row], part: str) -> list[str]:
    """The keys of a part, over all rows, in order of appearance."""
    return list(dict.fromkeys(key for row in rows for key in row[part]))


def _integers(row: Row) -> str:
    """Whether every tensor is an integer's; the audit reads no ONNX."""
    if row["integer_only"] is None:
        return "-" if row["status"] == "refused" else "not audited"
    return "yes" if row["integer_only"] else "no"


def _fidelity(found: Row) -> str:
    if found["snr_db"] >= CEILING_DB:
        return "the same"
    return f"{found['snr_db']:.1f}, {100 * found['argmax_agreement']:.1f}"


def _instructions(row: Row) -> str:
    found = row["instructions_per_audio_second"]
    return f"{found['total'] / 1e6:.1f}" if found else "-"
