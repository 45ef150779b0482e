"""`train`: a recipe becomes a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tflite_asr.cli.options import JSON
from tflite_asr.cli.terminal import lines_of_stages, notes, write_json

if TYPE_CHECKING:  # the loop starts TensorFlow
    from tflite_asr.training.loop import Progress as Told


@click.command()
@click.argument("recipe")
@click.option(
    "--manifest", "-m", "manifests", multiple=True, required=True, help="Training manifest; may be repeated."
)
@click.option("--dev", "-d", "dev", multiple=True, required=True, help="Dev manifest; may be repeated.")
@click.option(
    "--out", required=True, metavar="FILE.keras", help="Best checkpoint; state and history lie beside it."
)
@click.option("--cache", default="build/features", show_default=True, help="Folder of cached features.")
@JSON
def train(
    recipe: str, manifests: tuple[str, ...], dev: tuple[str, ...], out: str, cache: str, json_path: str | None
) -> None:
    """Train the model of RECIPE (TOML); the same command goes on where it was interrupted."""
    from tflite_asr.manifest import read_manifest
    from tflite_asr.pipeline.model_files import model_path
    from tflite_asr.tokens import CHARACTERS
    from tflite_asr.training.recipe import Recipe

    settings = Recipe.read(recipe)
    if settings.teacher:
        settings = replace(settings, teacher=str(model_path(settings.teacher)))
    for manifest in (*manifests, *dev):
        read_manifest(manifest, CHARACTERS)  # before TensorFlow takes its seconds
    from tflite_asr.training.loop import train as run

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    lines = lines_of_stages()
    with Progress(*columns, console=notes, disable=not notes.is_interactive) as bar:
        task = bar.add_task("features", total=None)

        def tell(p: Told) -> None:
            epoch, loss = f"epoch {p.epoch}/{p.epochs}", f"loss {p.loss:.3f}"
            if not notes.is_interactive and p.stage == "features":
                lines(p.stage, f"{p.step} of {p.steps}")
            if not notes.is_interactive and p.stage == "train":
                lines(epoch, f"{p.step} of {p.steps}, {loss}")
            if p.stage == "dev":
                bar.console.print(f"{epoch}: {loss}, dev WER {100 * p.dev_wer:.2f} %")
            name = f"{epoch}, {loss}" if p.stage == "train" else p.stage
            bar.update(task, description=name, completed=p.step, total=p.steps)

        result = run(settings, manifests, dev, out, cache, tell)
    write_json(json_path, json.dumps(result, indent=1) + "\n")
