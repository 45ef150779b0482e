"""What `slim study` shows: modules by what they are missed, and the greedy drops beside their control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tflite_asr.report.table import percent

Row = Mapping[str, Any]
ENDS = {
    "met": "the budget is met",
    "wer": "the last drop raised the dev WER by more than allowed; the one before it stands",
    "nothing left": "nothing is left to drop, and the budget is not met",
}


def study_tables(study: Row) -> Iterator[Table]:
    """Tables of what `slim study --json` writes."""
    yield _modules(study)
    if study["steps"]:
        yield _drops(study)


def ranked_by_wer(study: Row) -> bool:
    """Whether every module was heard on dev speech, and not the full model and the drops alone."""
    return study["full"]["wer"] is not None and all(row["wer"] is not None for row in study["rows"])


def sentences(study: Row) -> Iterator[str]:
    """What the tables do not say."""
    if found := study["agreement"]:
        yield (
            f"data-free ranking against dev WER: Spearman {found['spearman']:.2f} "
            f"({found['low']:.2f} to {found['high']:.2f}), {found['modules']} modules, "
            f"{found['utterances']} utterances"
        )
    if study["ended"]:
        yield f"{ENDS[study['ended']]}; {study['chosen'] or 'no candidate'}"


def share(part: int, whole: int) -> str:
    """A count and what it is of the whole: `65,929 (4.1 %)`."""
    return f"{part:,} ({100 * part / whole:.1f} %)"


def rise(difference: Row | None) -> str:
    """A paired difference of WER in points."""
    if difference is None:
        return "-"
    middle, low, high = (100 * difference[key] for key in ("difference", "low", "high"))
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"


def _percents(parameters: int, macs: int, full: Row) -> str:
    """Two counts as percentages of the full model's."""
    return f"{100 * parameters / full['parameters']:.2f}, {100 * macs / full['macs']:.2f}"


def nats(value: float) -> str:
    """A divergence, small ones too."""
    return f"{value:.4f}" if value >= 0.001 or not value else f"{value:.1e}"


def _table(title: str, names: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        if name in ("without", "dropped"):
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right")
    return table


def _modules(study: Row) -> Table:
    full, heard = study["full"], ranked_by_wer(study)
    title = f"{study['model']}: {full['parameters']:,} parameters, {full['macs']:,} multiply-adds"
    names = ["without", "% saved:\nparameters,\nmultiply-adds", "KL, nats\na frame"]
    if full["wer"] is not None:
        title += f", dev WER {percent(full['wer'])} %"
    if heard:
        names.append("dev WER,\npoints (95 %)")
    table = _table(title, names)
    for row in study["rows"]:
        cells = [
            row["path"],
            _percents(row["parameters_saved"], row["macs_saved"], full),
            nats(row["kl"]),
        ]
        table.add_row(*cells, *([rise(row["wer_rise"])] if heard else []))
    return table


def _drops(study: Row) -> Table:
    full, heard = study["full"], study["full"]["wer"] is not None
    settings = study["settings"]
    how = (
        "without recovery"
        if settings["recover"] == "none"
        else f"{settings['recover']}, {settings['steps']} steps"
    )
    names = ["dropped", "% left:\nparameters,\nmultiply-adds", "KL before,\nafter"]
    names += ["WER %,\ncontrol's", "points above\n(95 %)"] if heard else []
    table = _table(f"one after the other, {how}", names)
    for one in study["steps"]:
        name = one["path"].replace(",", ", ") or f"recovered, {one['steps']} steps more"
        cells = [
            name if one["accepted"] else f"({name})",
            _percents(one["parameters"], one["macs"], full),
            f"{nats(one['kl_before_recovery'])}\n{nats(one['kl'])}",
        ]
        if heard:
            cells += [f"{percent(one['wer'])}\n{percent(one['control_wer'])}", rise(one["wer_rise"])]
        table.add_row(*cells)
    return table
