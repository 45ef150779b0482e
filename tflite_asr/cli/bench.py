"""`bench`: what bundles cost to run, side by side."""

from __future__ import annotations

import click

from tflite_asr.cli.options import DELEGATES, DELEGATES_HELP, JSON, RUNTIME
from tflite_asr.cli.terminal import bar, notes, show, write_json


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...")
@click.option(
    "--window",
    "windows",
    multiple=True,
    type=float,
    metavar="S",
    help="Window in seconds; may be repeated.  [default: the longest]",
)
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(1, 64),
    default=[1],
    show_default=True,
    help="May be repeated.",
)
@click.option("--runs", type=int, help="Rounds that time each bundle once, at least 20.  [default: 20]")
@click.option(
    "--core",
    default="host",
    show_default=True,
    help="Count instructions on an emulated core instead: cortex-a53, cortex-a76, i8mm (see prepare-core).",
)
@RUNTIME
@click.option("--delegate", type=DELEGATES, help=DELEGATES_HELP)
@click.option("--profile", is_flag=True, help="Show time (or instructions) by op; JSON always has it.")
@JSON
def bench(
    bundles: tuple[str, ...],
    windows: tuple[float, ...],
    threads: tuple[int, ...],
    runs: int | None,
    core: str,
    runtime: str,
    delegate: str | None,
    profile: bool,
    json_path: str | None,
) -> None:
    """Measure latency, load time, memory and time by op of BUNDLEs; ratios are to the first."""
    from tflite_asr.measure.bench import bench as run
    from tflite_asr.report.bench_table import bench_tables

    with bar() as tell:
        result = run(
            bundles,
            windows=windows,
            threads=threads,
            runs=runs,
            core=core,
            runtime=runtime,
            delegate=delegate,
            profile=profile or json_path is not None,
            progress=tell,
        )
    for table in bench_tables(result.to_dict(), profile):
        show(table, json_path)
    if profile:
        for missing in dict.fromkeys(c.profile_missing for c in result.costs if c.profile_missing):
            notes.print(f"no profile: {missing}", highlight=False, markup=False)
    write_json(json_path, result.to_json())
