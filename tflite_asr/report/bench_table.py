"""What `bench` shows: costs side by side, time by type of op, the slowest ops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

Cost = dict[str, Any]
FIRST = "times first: this bundle over the first; below 1 is cheaper"


def bench_tables(report: dict[str, Any], profile: bool) -> Iterator[Table]:
    """Tables of what `bench --json` writes; those of the profiles only where asked for."""
    costs: list[Cost] = report["bundles"]
    timed = report["core"] == "host"
    likes = dict.fromkeys((cost["window_seconds"], cost["threads"]) for cost in costs)
    groups = [[c for c in costs if (c["window_seconds"], c["threads"]) == like] for like in likes]
    for group in groups:
        yield _latency_table(report, group) if timed else _instruction_table(report, group)
    if not profile:
        return
    for group in groups:
        if some := [cost for cost in group if cost["profile"]]:
            yield _type_table(some) if timed else _core_type_table(some)
    for cost in costs:
        if cost["profile"]:
            yield _slowest_table(cost) if timed else _kernel_table(cost)


def _latency_table(report: dict[str, Any], costs: Sequence[Cost]) -> Table:
    delegates = dict.fromkeys(cost["delegate"] for cost in costs)
    kernels = f"{report['cpu']}, {report['runtime']} on {' and '.join(delegates)}, {report['runs']} rounds"
    table = _table(f"{_words(costs[0])}: {kernels}", ["bundle"])
    for name in ("min\nms", "median\nms", "p95\nms", "times first\n(95 %)", "front\nend ms", "RTF"):
        table.add_column(name, justify="right", no_wrap=True)
    spells = any(cost["decode_step_ms"] is not None for cost in costs)
    for name in (*(["token\nms"] if spells else []), "load\nms", "grows\nby MB", "model\nMB"):
        table.add_column(name, justify="right", no_wrap=True)
    for cost, name in zip(costs, _names(costs), strict=True):
        latency, ratio = cost["latency_ms"], cost["ratio"]
        rtf = cost["rtf_model"] if cost["rtf"] is None else cost["rtf"]
        table.add_row(
            f"{name}\n{cost['delegate']}" if len(delegates) > 1 else name,
            *(f"{latency[key]:.2f}" for key in ("min", "median", "p95")),
            f"{ratio['value']:.2f}\n({ratio['low']:.2f}-{ratio['high']:.2f})",
            _or_dash(cost["frontend_ms"], 1.0),
            f"{rtf:.4f}",
            *([_or_dash(cost["decode_step_ms"], 1.0)] if spells else []),
            f"{cost['load_ms']:.0f}",
            f"{cost['memory_growth_bytes'] / 1e6:.1f}",
            f"{cost['bytes'] / 1e6:.2f}",
        )
    table.caption = FIRST
    return table


def _instruction_table(report: dict[str, Any], costs: Sequence[Cost]) -> Table:
    title = f"{_words(costs[0])}: {report['core']}, emulated: millions of instructions per second of audio"
    table = _table(title, ["bundle"])
    for name in ("total", "front\nend", "dot", "vector", "memory", "times\nfirst", "output\nas host's"):
        table.add_column(name, justify="right", no_wrap=True)
    spells = any(cost["decode_step_instructions"] for cost in costs)
    for name in (*(["a\ntoken"] if spells else []), "model\nMB"):
        table.add_column(name, justify="right", no_wrap=True)
    for cost, name in zip(costs, _names(costs), strict=True):
        counts = cost["instructions_per_audio_second"]
        frontend = cost["frontend_instructions_per_audio_second"]
        table.add_row(
            name,
            f"{counts['total'] / 1e6:.2f}",
            _or_dash((frontend or {}).get("total"), 1e-6),
            *(f"{counts[key] / 1e6:.2f}" for key in ("dot", "vector", "memory")),
            f"{cost['ratio']['value']:.3f}",
            _difference(cost),
            *([_or_dash((cost["decode_step_instructions"] or {}).get("total"), 1e-6)] if spells else []),
            f"{cost['bytes'] / 1e6:.2f}",
        )
    table.caption = FIRST
    return table


def _or_dash(value: float | None, times: float) -> str:
    return "-" if value is None else f"{value * times:.2f}"


def _difference(cost: Cost) -> str:
    """What the core computed against this machine, in the output's own steps where it is stored as integers."""
    found = cost["against_host"]
    if not found["different"]:
        return "same bytes"
    largest = found["largest"]
    stored = f"{largest:.0f} step{'s' if largest != 1 else ''}"
    by = stored if cost["scheme"].startswith("static") else f"{largest:.1e}"
    return f"{found['different']:,} of\n{found['values']:,} differ\nby {by} or less"


def _type_table(costs: Sequence[Cost]) -> Table:
    """A column a bundle: ms by type of op."""
    table = _table(f"ms by type of op (number of ops), {_words(costs[0])}", ["type", *_names(costs)])
    columns = [{row["type"]: row for row in cost["profile"]["by_type"]} for cost in costs]
    most = {kind: max(column.get(kind, {"ms": 0.0})["ms"] for column in columns) for kind in _all(columns)}
    for kind in sorted(most, key=lambda kind: -most[kind]):
        rows = [column.get(kind) for column in columns]
        cells = (f"{r['ms']:.3f} ({r['count']}{_mark(r['runs_on'])})" if r else "-" for r in rows)
        table.add_row(kind, *cells)
    for key, label in (("sum_ms", "all ops"), ("outside_ops_ms", "outside of ops *"), ("whole_ms", "whole")):
        table.add_row(label, *(f"{cost['profile'][key]:.3f}" for cost in costs))
    table.caption = (
        "b: on the runtime's builtin kernels, all or some; the others on XNNPACK. "
        "* and what is cut off: the profiler counts whole microseconds an op, so that short ops count for less"
    )
    return table


def _slowest_table(cost: Cost) -> Table:
    table = _table(f"slowest ops of {escape(cost['bundle'])}, {_words(cost)}", ["op"])
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("% of ops", justify="right", no_wrap=True)
    table.add_column("shapes", overflow="fold")
    table.add_column("kernel", overflow="fold")
    for op in cost["profile"]["slowest"]:
        table.add_row(
            escape(op["name"]), f"{op['ms']:.3f}", f"{100 * op['share']:.1f}", op["shapes"], op["kernel"]
        )
    return table


def _core_type_table(costs: Sequence[Cost]) -> Table:
    """A column a bundle: instructions by kind of op."""
    key = "instructions_per_audio_second"
    title = f"acoustic model alone: millions of instructions per second of audio by kind of op, {_words(costs[0])}"
    table = _table(title, ["kind", *_names(costs)])
    columns = [{row["name"]: row for row in cost["profile"]["op_types"]} for cost in costs]
    most = {kind: max(column.get(kind, {key: 0.0})[key] for column in columns) for kind in _all(columns)}
    for kind in sorted(most, key=lambda kind: -most[kind]):
        rows = [column.get(kind) for column in columns]
        table.add_row(escape(kind), *(f"{r[key] / 1e6:.3f}" if r else "-" for r in rows))
    whole = (_without_frontend(cost) for cost in costs)
    table.add_row("all, those not shown included", *(f"{one / 1e6:.3f}" for one in whole))
    return table


def _without_frontend(cost: Cost) -> float:
    frontend = cost["frontend_instructions_per_audio_second"]
    total: float = cost["instructions_per_audio_second"]["total"]
    return total - frontend["total"] if frontend else total


def _kernel_table(cost: Cost) -> Table:
    table = _table(f"kernels of {escape(cost['bundle'])}, {_words(cost)}", ["kernel"])
    table.add_column("millions per\nsecond of audio", justify="right", no_wrap=True)
    table.add_column("%", justify="right", no_wrap=True)
    for row in cost["profile"]["kernels"]:
        millions = row["instructions_per_audio_second"] / 1e6
        table.add_row(escape(short_name(row["name"])), f"{millions:.3f}", f"{100 * row['share']:.1f}")
    return table


def short_name(function: str) -> str:
    """A C++ function without its template's and its own arguments."""
    name = function.removeprefix("void ").removeprefix("bool ")
    while (inner := re.sub(r"<[^<>]*>", "", name)) != name:
        name = inner
    named = name.replace("(anonymous namespace)", "{anonymous}").partition("(")[0]
    return named.rsplit(" ", 1)[-1] or function


def _table(title: str, folded: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(folded):
        table.add_column(name, overflow="fold", justify="right" if index else "left", min_width=7)
    return table


def _names(costs: Sequence[Cost]) -> list[str]:
    """The last parts of the paths, as few as tell the bundles apart."""
    paths = [cost["bundle"].rstrip("/").split("/") for cost in costs]
    for parts in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-parts:]) for path in paths]
        if len(set(names)) == len({tuple(path) for path in paths}):
            return [escape(name) for name in names]
    return [escape("/".join(path)) for path in paths]


def _all(columns: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(kind for column in columns for kind in column))


def _mark(runs_on: str) -> str:
    return "" if runs_on == "xnnpack" else " b"


def _words(cost: Cost) -> str:
    threads = cost["threads"]
    return f"{cost['window_seconds']:g} s, {threads} thread{'s' if threads > 1 else ''}"
