"""The module-by-module table of a slimming study as a Markdown page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tflite_asr.report.slim_table import nats, ranked_by_wer, rise, sentences, share
from tflite_asr.report.table import percent

Row = Mapping[str, Any]
# Sections, the last one first; a module goes to the first that its path's last word matches.
KINDS = {
    "Positions": "positions",
    "Norms": "(batch_)?norm",
    "Biases": "bias",
    "Hidden units of feed-forwards": r"units\d+",
    "Heads": r"head\d+",
    "Modules and blocks": ".*",
}


def page(study: Row, command: str) -> str:
    """The page of what `slim study --json` writes; command: that wrote it."""
    return "\n".join(_lines(study, command)) + "\n"


def _lines(study: Row, command: str) -> Iterator[str]:
    full, settings = study["full"], study["settings"]
    heard = ranked_by_wer(study)
    yield f"# {study['model']}, module by module"
    yield ""
    yield (
        f"Each module left out alone, without recovery. The full model has {full['parameters']:,} parameters and takes "
        f"{full['macs']:,} multiply-adds for {full['frames']} feature frames. KL is of the full model's output "
        f"distribution to the smaller one's, in nats a frame, on synthetic inputs (seed {settings['seed']}): no data."
    )
    if heard:
        corpora = ", ".join(f"{name} {percent(rate)} %" for name, rate in full["corpora"].items())
        limit = f", the first {settings['limit']} utterances of each" if settings["limit"] else ""
        yield (
            f"WER is greedy, in float32, on {full['utterances']} dev utterances{limit}: {percent(full['wer'])} % for "
            f"the full model ({corpora}); points are above it, with the 95 % interval of a paired bootstrap."
        )
    yield ""
    yield f"Made by `{command}`."
    yield from (
        line
        for sentence in sentences({**study, "ended": ""})
        for line in ("", f"{sentence[0].upper()}{sentence[1:]}.")
    )
    for title, rows in _sections(study["rows"]):
        yield ""
        yield f"## {title}"
        yield ""
        yield "| without | parameters saved | multiply-adds saved | KL |" + (
            " WER, points |" if heard else ""
        )
        yield "| --- | ---: | ---: | ---: |" + (" ---: |" if heard else "")
        for row in rows:
            saved = (
                share(row["parameters_saved"], full["parameters"]),
                share(row["macs_saved"], full["macs"]),
            )
            cells = [f"`{row['path']}`", *saved, nats(row["kl"]), *([rise(row["wer_rise"])] if heard else [])]
            yield f"| {' | '.join(cells)} |"


def _sections(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows by kind, the least missed first."""
    left = sorted(rows, key=lambda row: row["kl"])
    found: dict[str, list[Row]] = {title: [] for title in KINDS}
    for row in left:
        last = row["path"].rpartition(".")[2]
        title = next(name for name, pattern in KINDS.items() if re.fullmatch(pattern, last))
        found[title].append(row)
    for title in reversed(KINDS):
        if found[title]:
            yield title, found[title]
