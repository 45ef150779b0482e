"""`qat`: a checkpoint trained in 8 bits, for `export --qat`.

A verb of its own: `train` makes a checkpoint of a recipe, this takes a checkpoint and makes none. What it writes holds
the weights and ranges of the model that `export` makes of it, where float modules no longer stand one by one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from tflite_asr.cli.options import JSON, OVERWRITE
from tflite_asr.cli.terminal import bar, show, write_json
from tflite_asr.qat.settings import RANGES


@click.command()
@click.argument("model")
@click.option(
    "--out", required=True, metavar="FILE.npz", help="Weights and ranges; the state lies beside it."
)
@click.option(
    "--manifest",
    "-m",
    help="Speech to train on, by CTC; an encoder-decoder is taught on it.  [default: taught on synthetic inputs]",
)
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Examples a step.")
@click.option("--learning-rate", type=float, metavar="X", help="Of AdamW.  [default: 1e-6]")
@click.option(
    "--ranges",
    type=click.Choice(RANGES),
    default="calibrated",
    show_default=True,
    help="Stay as calibrated, grow to the widest that is seen, or follow a moving average, for half of the steps.",
)
@click.option(
    "--sparsity",
    metavar="SHARE|2:4",
    help="Let a share of the weights become zeros, the smallest, or two of every four.",
)
@click.option(
    "--window",
    type=float,
    metavar="SECONDS",
    help="Of the model's windows, the one that is trained.  [default: the shortest of 4 s or more, else the longest]",
)
@click.option(
    "--calibration",
    default="synthetic",
    show_default=True,
    metavar="METHOD|FILE",
    help="What ranges begin from, as export takes it.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of inputs and order.")
@click.option("--budget-macs", type=float, help="Multiply-adds that synthesis may spend.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--cache", default="build/features", show_default=True, help="Folder of cached features.")
@OVERWRITE
@JSON
def qat(
    model: str,
    out: str,
    manifest: str | None,
    steps: int,
    batch: int,
    learning_rate: float | None,
    ranges: str,
    sparsity: str | None,
    window: float | None,
    calibration: str,
    seed: int,
    budget_macs: float | None,
    threads: int,
    cache: str,
    overwrite: bool,
    json_path: str | None,
) -> None:
    """Train all weights and activations of MODEL in 8 bits, on the very ops that run; export --qat takes the result.

    Without --manifest it takes no data: the float model teaches on synthetic inputs. The same command goes on from the
    last hundred steps of one that was interrupted.
    """
    from tflite_asr.pipeline.low_bit import train_low_bit
    from tflite_asr.report.table import key_value_table

    with bar() as tell:
        trained = train_low_bit(
            model,
            out,
            manifest=manifest,
            calibration=calibration,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            ranges=ranges,
            sparsity=sparsity,
            window_seconds=window,
            seed=seed,
            budget_macs=budget_macs,
            threads=threads,
            cache=cache,
            overwrite=overwrite,
            progress=tell,
        )
    how: dict[str, Any] = dict(trained.how)
    rows = [row for one in how.get("signatures", [how]) for row in _rows(one, how["objective"])]
    show(key_value_table(rows, out), json_path)
    write_json(
        json_path, json.dumps({"out": out, "ranges_sha256": trained.ranges.sha256, **how}, indent=1) + "\n"
    )


def _rows(how: Mapping[str, Any], objective: str) -> list[tuple[str, str]]:
    """What became of one signature."""
    before, after = how["held_back"]["before"], how["held_back"]["after"]
    losses = how["losses"]
    few = max(1, len(losses) // 10)
    return [
        ("trained", f"{how['trained_values']:,} values of {how['signature']}"),
        ("loss", f"{sum(losses[:few]) / few:.4f} -> {sum(losses[-few:]) / few:.4f} ({objective})"),
        ("held-back SNR, dB", f"{before['snr_db']:.2f} -> {after['snr_db']:.2f}"),
        ("held-back argmax", f"{before['argmax']:.2%} -> {after['argmax']:.2%}"),
        ("zeros", f"{how['sparsity']:.1%}"),
        ("grids that moved at the end", f"{how['grids_moved']} of {how['grids']}"),
    ]
