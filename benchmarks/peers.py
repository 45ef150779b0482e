#!/usr/bin/env python3
"""One checkpoint through every tool that makes it small, side by side on this machine, in one run.

    python -m benchmarks.peers conformer-ctc -m an4/test.jsonl -m speechocean762/test.jsonl
    python -m benchmarks.peers --random S --window 4 --core cortex-a76

float32 and dynamic-range of the model as its author wrote it, TensorFlow's and AI Edge Quantizer's int8 of the same,
this package's int8, and ONNX Runtime's float32, dynamic and static int8 of the same weights. Every static peer is
calibrated by its own tool on the same synthetic clips. Each is made and run in a process of its own; one that refuses
is a row with its reason. Files are kept in --work and taken again while checkpoint, versions and sources are the same.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import tflite_asr
from benchmarks.side_by_side.checkpoint import (
    Checkpoint,
    digest,
    draw_checkpoint,
    make_clips,
    open_checkpoint,
)
from benchmarks.side_by_side.makers import FLOAT, PEERS
from benchmarks.side_by_side.measuring import Plan, measure_window
from benchmarks.side_by_side.table import markdown, rich_table, sheets
from benchmarks.side_by_side.trial import Corpus, read_corpus
from benchmarks.side_by_side.workshop import versions
from tflite_asr.cli.terminal import complain, write_json
from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm import find_core
from tflite_asr.measure.bench import FEWEST_RUNS, cpu_model
from tflite_asr.synthesis.inputs import SyntheticInputs


def clips(
    checkpoint: Checkpoint, seed: int, folder: Path, budget_macs: float | None, console: Console
) -> Path:
    """Synthetic clips on disk, made where they are not there yet; the name says what they come from."""
    sources = digest(
        *(Path(tflite_asr.__file__).with_name(room) for room in ("frontend", "models", "synthesis"))
    )
    budget = "" if budget_macs is None else f"-{budget_macs:g}"
    path = folder / f"clips-{seed}{budget}-{sources[:12]}.npz"
    if not path.is_file():
        with console.status(f"{checkpoint.name}: synthetic clips, seed {seed}"):
            make_clips(checkpoint, seed, path, budget_macs)
    return path


def held_out(path: Path) -> Corpus:
    """Every fourth of the clips at `path` as something to compare logits on where there is no speech."""
    return Corpus("synthetic", SyntheticInputs.load(path).features[::4], None)


def compare(plan: Plan, windows: tuple[float, ...], console: Console) -> dict[str, Any]:
    """Every window of one checkpoint, each shown as soon as it is measured.

    plan: of a window; its length and folder are set here for each of `windows`, in seconds. Its folder also keeps
    what was measured so far, as `peers.json`, should a later window be interrupted.

    Returns:
        What --json writes.
    """
    checkpoint = plan.checkpoint
    packages = sorted({package for peer in PEERS for package in peer.packages})
    report: dict[str, Any] = {
        "model": checkpoint.name,
        "checkpoint_sha256": digest(checkpoint.path),
        "random_weights": checkpoint.random,
        "machine": cpu_model(),
        "versions": versions(["tflite-asr", *packages]),
        "rounds": plan.rounds,
        "base": FLOAT,
        "corpora": {corpus.name: len(corpus.features) for corpus in plan.corpora},
        "peers": [],
    }
    with console.status("") as status:
        for seconds in windows:
            label = f"{checkpoint.name}, {seconds:g} s"

            def tell(line: str, label: str = label) -> None:
                if console.is_terminal:
                    status.update(f"{label}: {line}")
                elif " rounds" not in line:
                    console.print(f"{label}: {line}", highlight=False, soft_wrap=True)

            this = replace(plan, seconds=seconds, folder=plan.folder / f"{seconds:g}s")
            rows = measure_window(this, PEERS, tell)
            for sheet in sheets(rows):
                console.print(rich_table(sheet, f"{checkpoint.name} on {report['machine']}"))
            report["peers"] += rows
            (plan.folder / "peers.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


@click.command()
@click.argument("model", required=False)
@click.option(
    "--random", "size", help="Random weights of this size instead of MODEL: tiny, shipped, S, M, L."
)
@click.option("--seed", default=0, show_default=True, help="Of random weights and of the synthetic clips.")
@click.option("--budget-macs", type=float, help="Multiply-adds that the clips' refinement may spend.")
@click.option("--window", "windows", type=float, multiple=True, default=(16.0, 4.0), show_default=True)
@click.option("--threads", type=int, multiple=True, default=(1,), show_default=True)
@click.option("--rounds", default=FEWEST_RUNS, show_default=True, help="In each, every peer is timed once.")
@click.option(
    "--manifest", "-m", "manifests", multiple=True, help="Speech to judge on; synthetic clips without."
)
@click.option("--limit", type=int, help="Of each manifest, its first utterances only.")
@click.option("--core", help="Count instructions on this emulated core too: cortex-a76, say.")
@click.option(
    "--work", default="build/peers", show_default=True, help="Where files are kept for the next run."
)
@click.option("--json", "json_path", help="Write all that was measured ('-': standard output).")
@click.option("--markdown", "markdown_path", help="Write the table ('-': standard output).")
def main(
    model: str | None,
    size: str | None,
    seed: int,
    budget_macs: float | None,
    windows: tuple[float, ...],
    threads: tuple[int, ...],
    rounds: int,
    manifests: tuple[str, ...],
    limit: int | None,
    core: str | None,
    work: str,
    json_path: str | None,
    markdown_path: str | None,
) -> None:
    """Measure MODEL (a .keras file or a shipped checkpoint's name) in every peer."""
    console = Console(stderr="-" in (json_path, markdown_path))
    if not console.is_terminal:
        console.width = 200  # a table in a file need not fit a screen
    if (model is None) == (size is None):
        raise click.UsageError("give MODEL or --random SIZE, one of the two")
    try:
        if core is not None:
            find_core(core)
        random = None if size is None else draw_checkpoint(size, seed, Path(work))
        checkpoint = random or open_checkpoint(str(model))
        folder = Path(work) / f"{checkpoint.name}-{digest(checkpoint.path)[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        corpora = [read_corpus(Path(manifest), checkpoint, limit) for manifest in manifests]
        calibration = clips(checkpoint, seed, folder, budget_macs, console)
        if not corpora:
            corpora = [held_out(clips(checkpoint, seed + 1, folder, budget_macs, console))]
        plan = Plan(checkpoint, calibration, tuple(corpora), 0.0, threads, rounds, folder, core)
        report = compare(plan, windows, console)
        write_json(json_path, json.dumps(report, indent=1) + "\n")
        write_json(markdown_path, "".join(markdown(sheet) for sheet in sheets(report["peers"])))
    except TfliteAsrError as error:
        complain(error)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
