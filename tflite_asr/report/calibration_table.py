"""What `calibrate compare` shows: costs by arm and calibrator, overlaps of ranges, worst tensors, losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tflite_asr.report.table import percent

Row = Mapping[str, Any]


def comparison_tables(study: Row) -> Iterator[Table]:
    """Tables of what `calibrate compare --json` writes."""
    yield _costs(study)
    for corpus in study["settings"]["corpora"]:
        yield _by_corpus(study, corpus)
    if study["overlaps"]:
        yield _overlaps(study["overlaps"])
    for one in study["worst"]:
        yield _tensors(f"{_name(one)}, seed {one['seed']}: the worst tensors", one["tensors"])
    for one in study["losses"]:
        if one["tensors"] and one["against"] == "real":
            yield _blamed(one)


def points(difference: Row | None) -> str:
    """A paired difference of WER in points with its interval."""
    return decibels(difference, 100.0)


def decibels(difference: Row | None, factor: float = 1.0) -> str:
    """A paired difference with its interval."""
    if difference is None:
        return "-"
    middle, low, high = (factor * difference[key] for key in ("difference", "low", "high"))
    return f"{middle:+.2f} ({low:+.2f}, {high:+.2f})"


def fidelity(scores: Row) -> str:
    """SNR with its spread over seeds, and agreement."""
    if scores["snr_db"] is None:
        return "-"
    seeds = scores["snr_db_seeds"]
    spread = f" ({min(seeds):.1f}-{max(seeds):.1f})" if len(seeds) > 1 else ""
    return f"{scores['snr_db']:.1f}{spread}, {percent(scores['argmax_agreement'], 1)}"


def _name(row: Row) -> str:
    return f"{row['arm']}, {row['calibrator']}" if row["calibrator"] else str(row["arm"])


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right")
    return table


def _by_calibrator(table: Table, rows: Sequence[Row], cells: Callable[[Row], Sequence[str]]) -> Table:
    """A line for each row, under its calibrator's name: a column of these would not fit a terminal."""
    above = ""
    for row in rows:
        if row["calibrator"] != above:
            above = row["calibrator"]
            table.add_section()
            table.add_row(f"[bold]{above}")
        table.add_row(row["arm"], *cells(row))
    return table


def _costs(study: Row) -> Table:
    counts = ", ".join(
        f"{name} ({one['utterances']} utterances)" for name, one in study["settings"]["corpora"].items()
    )
    right = ["seeds", "bytes", "WER %", "points above\nfloat32 (95 %)", "points above\nreal (95 %)"]
    table = _table(f"{study['model']} on {counts}", ["calibrator, arm"], right)
    rest = dict.fromkeys(_name(row) for row in study["rows"] if not row["integer_only"])
    table.caption = f"integer-only: all but {'; '.join(rest)}" if rest else "integer-only: all"
    return _by_calibrator(
        table,
        study["rows"],
        lambda row: (
            str(len(row["seeds"])),
            f"{row['bytes']:,}",
            percent(row["wer"]),
            points(row["against_float32"]),
            points(row["against_real"]),
        ),
    )


def _by_corpus(study: Row, corpus: str) -> Table:
    right = [
        "WER %",
        "points above\nfloat32 (95 %)",
        "SNR dB (seeds),\nargmax %",
        "SNR above real,\ndB (95 %)",
    ]

    def cells(row: Row) -> Sequence[str]:
        scores = row["corpora"][corpus]
        return (
            percent(scores["wer"]),
            points(scores["against_float32"]),
            fidelity(scores),
            decibels(scores["snr_db_against_real"]),
        )

    return _by_calibrator(_table(corpus, ["calibrator, arm"], right), study["rows"], cells)


def _overlaps(rows: Sequence[Row]) -> Table:
    names = ("tensors", "twice as\nwide, %", "clipping\n5 %, %", "width,\nmedian", "outside %,\nmedian")
    table = _table(
        "ranges against real calibration (real: another draw)",
        ["calibrator, arm"],
        names,
    )
    return _by_calibrator(
        table,
        rows,
        lambda row: (
            str(row["tensors"]),
            percent(row["too_wide"], 1),
            percent(row["clipping"], 1),
            f"{row['median_width_ratio']:.2f}",
            percent(row["median_outside"], 1),
        ),
    )


def _tensors(title: str, rows: Sequence[Row]) -> Table:
    corpora = list(rows[0]["snr_db"]) if rows else []
    right = [
        *(f"{_corpus(name, corpora)}\nSNR dB" for name in corpora),
        "its grid\nalone",
        "clipped\n%",
        "width",
    ]
    table = _table(title, ["tensor"], right)
    for row in rows:
        table.add_row(
            row["name"],
            *(f"{row['snr_db'][name]:.1f}" for name in corpora),
            f"{row['grid_snr_db']:.1f}",
            percent(row["share_clipped"]),
            _width(row),
        )
    return table


def _corpus(name: str, all_names: Sequence[str]) -> str:
    """Without its split, where that leaves it its own."""
    first = name.partition("/")[0]
    return first if sum(one.partition("/")[0] == first for one in all_names) == 1 else name


def _blamed(loss: Row) -> Table:
    title = f"{_name(loss)}, {loss['corpus']}: grids that cost more than real calibration's"
    right = ["its grid\nalone, dB", "real's", "SNR dB", "real's", "clipped\n%", "width"]
    table = _table(title, ["tensor"], right)
    for row in loss["tensors"]:
        keys = ("grid_snr_db", "real_grid_snr_db", "snr_db", "real_snr_db")
        table.add_row(
            row["name"],
            *(f"{row[key]:.1f}" for key in keys),
            percent(row["share_clipped"]),
            _width(row),
        )
    return table


def _width(row: Row) -> str:
    return "-" if row["width_ratio"] is None else f"{row['width_ratio']:.2f}"
