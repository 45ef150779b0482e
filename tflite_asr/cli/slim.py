"""`slim`: a checkpoint without some of its modules."""

from __future__ import annotations

import json

import click

from tflite_asr.cli.options import JSON, OVERWRITE
from tflite_asr.cli.terminal import show, write_json


@click.command()
@click.argument("model")
@click.option(
    "--drop", multiple=True, required=True, metavar="SPEC", help="Modules to leave out; may be repeated."
)
@click.option("--out", required=True, metavar="FILE.keras")
@OVERWRITE
@JSON
def slim(model: str, drop: tuple[str, ...], out: str, overwrite: bool, json_path: str | None) -> None:
    """Write MODEL without some of its modules, e.g. --drop encoder.block3 --drop 'encoder.block*.ff1'."""
    from tflite_asr.pipeline import slim_checkpoint
    from tflite_asr.report.table import key_value_table

    saved = slim_checkpoint(model, out, drop, overwrite=overwrite)
    rows = [("dropped", ", ".join(saved["dropped"]))]
    for what in ("parameters", "macs"):
        before, after = saved[f"{what}_before"], saved[f"{what}_after"]
        name = "multiply-adds" if what == "macs" else what
        rows.append((name, f"{before:,} -> {after:,} ({100 * (after / before - 1):+.1f} %)"))
    show(key_value_table(rows, out), json_path)
    write_json(json_path, json.dumps(saved, indent=1) + "\n")
