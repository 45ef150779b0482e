#!/usr/bin/env python3
"""The whole chain on one model, in a row a bundle: slimmed, zero-shot, int8, against the full float32 model.

    python -m benchmarks.whole_chain conformer-ctc SLIM.keras -m an4/test.jsonl -m speechocean762/test.jsonl \\
        --core cortex-a76 --json build/chain/chain.json

Between the two stand the full model in int8 and the slimmed one in float32: what each half of the chain is worth.
Bytes are model.tflite's, instructions those of the window on the emulated core, front end included (with those
of a token for an encoder-decoder), the real-time factor is that of the whole recognition of the manifests on one
thread, WER is pooled, and its difference to the full float32 model has a paired 95 % interval. Slim checkpoints come
from `tflite-asr slim` or from a candidate of `tflite-asr slim study`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.bench import bench
from tflite_asr.measure.evaluate import evaluate
from tflite_asr.measure.evaluation import Evaluation, compare
from tflite_asr.pipeline import export

ARMS = (("full", "float32"), ("slim", "float32"), ("full", "int8"), ("slim", "int8"))
notes = Console(stderr=True)


def arm(
    which: str,
    scheme: str,
    model: str,
    manifests: tuple[str, ...],
    window: float,
    core: str | None,
    seed: int,
    work: Path,
    full: Evaluation | None,
) -> tuple[dict[str, Any], Evaluation]:
    """Export one bundle, run it on all the manifests, and count one window on the core."""
    notes.print(f"{which}, {scheme}: export")
    bundle = export(model, work / f"{which}-{scheme}", scheme=scheme, seed=seed, overwrite=True)
    notes.print(f"{which}, {scheme}: recognise")
    heard = evaluate(bundle, manifests, measure_footprint=False)
    row: dict[str, Any] = {
        "model": which,
        "scheme": scheme,
        "integer_only": heard.integer_only,
        "wer": heard.pooled.wer,
        "corpora": {name: scores.wer for name, scores in heard.corpora.items()},
        "wer_rise": compare(heard, full).to_dict() if full else None,
        "rtf": heard.pooled.rtf,
    }
    if core:
        notes.print(f"{which}, {scheme}: count")
    (cost,) = bench(bundle, windows=[window], core=core or "host", profile=False).costs
    row |= {"bytes": cost.bytes, "window_seconds": window, "core": core}
    row |= {"instructions_per_audio_second": cost.instructions_per_audio_second}
    row |= {"decode_step_instructions": cost.decode_step_instructions, "decode_step_ms": cost.decode_step_ms}
    return row, heard


def table(rows: list[dict[str, Any]]) -> Table:
    """Each with its share of the first where that is of use."""
    first = rows[0]
    core = first["core"]
    shown = Table(title=f"window of {first['window_seconds']:g} s for {core or 'timing'}")
    headings = ["model", "scheme", "integer-only", "bytes", "RTF", "WER %", "points above (95 %)"]
    counted = ["M instructions a second of audio", "M instructions a token"] if core else []
    for heading in (*headings[:4], *counted, *headings[4:]):
        shown.add_column(heading, justify="right")
    for row in rows:
        cells = [row["model"], row["scheme"], "yes" if row["integer_only"] else "no"]
        cells.append(f"{row['bytes']:,} ({row['bytes'] / first['bytes']:.3f})")
        if core:
            for key in ("instructions_per_audio_second", "decode_step_instructions"):
                cells.append(_millions(row[key], first[key]))
        rise = row["wer_rise"]
        points = [100 * rise[key] for key in ("difference", "low", "high")] if rise else []
        cells += [f"{row['rtf']:.4f} ({row['rtf'] / first['rtf']:.2f})", f"{100 * row['wer']:.2f}"]
        cells.append(f"{points[0]:+.2f} ({points[1]:+.2f} to {points[2]:+.2f})" if points else "")
        shown.add_row(*cells)
    return shown


def _millions(counts: dict[str, float] | None, first: dict[str, float] | None) -> str:
    if not counts or not first:
        return ""
    return f"{counts['total'] / 1e6:.2f} ({counts['total'] / first['total']:.3f})"


@click.command()
@click.argument("model")
@click.argument("slimmed")
@click.option("-m", "--manifest", "manifests", multiple=True, required=True)
@click.option("--window", default=4.0, show_default=True, help="Seconds, for instructions.")
@click.option("--core", help="An emulated core: cortex-a76, cortex-a53. Without it nothing is counted.")
@click.option("--seed", default=0, show_default=True, help="Of the synthetic inputs.")
@click.option("--work", default="build/chain", show_default=True)
@click.option("--json", "json_path", help="Write the rows here.")
def main(
    model: str,
    slimmed: str,
    manifests: tuple[str, ...],
    window: float,
    core: str | None,
    seed: int,
    work: str,
    json_path: str | None,
) -> None:
    """Measure MODEL in float32 against SLIMMED in int8, and the two halves of the way."""
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    full: Evaluation | None = None
    for which, scheme in ARMS:
        of = model if which == "full" else slimmed
        try:
            row, heard = arm(which, scheme, of, manifests, window, core, seed, folder, full)
        except TfliteAsrError as error:
            raise click.ClickException(str(error)) from None
        full = full or heard
        rows.append(row)
    Console(width=None if Console().is_terminal else 170).print(table(rows))
    if json_path:
        Path(json_path).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
