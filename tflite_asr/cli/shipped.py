"""What the package ships: its checkpoints, and the main job on them."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tflite_asr.cli.options import JSON
from tflite_asr.cli.terminal import bar, console, show, write_json


@click.command()
@click.option(
    "--out", default="build/demo", show_default=True, help="Folder for the bundles and report.json."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the synthetic calibration.")
def demo(out: str, seed: int) -> None:
    """Run the main job on what the package ships: float, dynamic, zero-shot int8, and int8 with one block dropped."""
    from tflite_asr.demo import run_demo
    from tflite_asr.report.table import variants_table

    with bar() as tell:
        variants = run_demo(Path(out), seed, tell)
    console.print(variants_table(variants, "conformer-ctc on the package's clips"))
    console.print(f"bundles and report.json are in {out}", highlight=False)


@click.command()
@JSON
def models(json_path: str | None) -> None:
    """List the shipped checkpoints."""
    from tflite_asr.facts import ModelFacts
    from tflite_asr.pipeline import shipped_models
    from tflite_asr.report.table import key_value_table

    found = {}
    for name, path in shipped_models().items():
        facts = ModelFacts.read(path)
        found[name] = {"file_bytes": path.stat().st_size, **(facts.extra if facts else {})}
    rows = [(name, f"{facts['file_bytes']:,} bytes") for name, facts in found.items()]
    show(key_value_table(rows, "shipped checkpoints"), json_path)
    write_json(json_path, json.dumps(found, indent=1) + "\n")
