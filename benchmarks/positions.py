#!/usr/bin/env python3
"""What sinusoidal positions cost beyond the lengths of training: word error rate by length of the utterance.

    tflite-asr train recipes/speech-transformer/with-positions.toml -m ... --out build/train/with-positions.keras
    tflite-asr train recipes/speech-transformer/without-positions.toml -m ... --out build/train/without-positions.keras
    python -m benchmarks.positions build/train/with-positions.keras build/train/without-positions.keras \\
        -m an4/test.jsonl -m speechocean762/test.jsonl --json build/positions.json

Both recipes hear nothing longer than 4 s and differ in the positions alone. Judged are the clips up to 4 s, those of 4
to 8 s, and clips drawn without replacement and joined with nothing between to 8 to 16 s, which one window holds; by
attention, greedy, and by the same encoder's CTC. The difference to the first model has a paired 95 % interval.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from tflite_asr.audio import read_audio
from tflite_asr.errors import TfliteAsrError
from tflite_asr.manifest import Utterance, read_manifest
from tflite_asr.measure.wer import ErrorCounts, bootstrap_interval, paired_difference, word_errors
from tflite_asr.pipeline import export
from tflite_asr.runtime import Transcriber
from tflite_asr.runtime.spelling import Spelling
from tflite_asr.tokens import normalise_text

DECODERS = ("attention", "ctc")
notes = Console(stderr=True)


def buckets(clips: Sequence[Utterance], seed: int = 0) -> dict[str, list[list[Utterance]]]:
    """By name, recordings as the clips that follow one another in each."""
    joined: list[list[Utterance]] = []
    waiting: list[Utterance] = []
    for place in np.random.default_rng(seed).permutation(len(clips)):
        clip = clips[place]
        if sum(c.duration for c in waiting) + clip.duration > 16:
            waiting = []
        waiting.append(clip)
        if sum(c.duration for c in waiting) >= 8:
            joined.append(waiting)
            waiting = []
    return {
        "up to 4 s": [[clip] for clip in clips if clip.duration <= 4],
        "4 to 8 s": [[clip] for clip in clips if 4 < clip.duration <= 8],
        "joined, 8 to 16 s": [row for row in joined if sum(c.duration for c in row) <= 16],
    }


def errors(transcriber: Transcriber, recordings: Sequence[Sequence[Utterance]]) -> ErrorCounts:
    """Word edits, a recording each."""
    heard = []
    for clips in recordings:
        audio = [read_audio(clip.audio_filepath, transcriber.frontend.sample_rate) for clip in clips]
        heard.append(normalise_text(transcriber.transcribe(np.concatenate(audio)).text))
    return word_errors([" ".join(clip.text for clip in clips) for clips in recordings], heard)


def measure(models: Sequence[str], clips: Sequence[Utterance], work: Path) -> list[dict[str, Any]]:
    """A row a bucket, decoder and model."""
    found: dict[tuple[str, str, str], ErrorCounts] = {}
    drawn = buckets(clips)
    for model in models:
        bundle = export(model, work / Path(model).stem, scheme="float32", overwrite=True)
        for decoder in DECODERS:
            transcriber = Transcriber(bundle, spelling=Spelling(decoder))
            for name, recordings in drawn.items():
                notes.print(f"{model}: {decoder}, {name}")
                found[name, decoder, model] = errors(transcriber, recordings)
    rows = []
    for (name, decoder, model), counts in found.items():
        rise = paired_difference(counts, found[name, decoder, models[0]])
        rows.append(
            {
                "bucket": name,
                "recordings": len(drawn[name]),
                "decoder": decoder,
                "model": Path(model).stem,
                "wer": counts.rate,
                "wer_ci95": list(bootstrap_interval(counts)),
                "above_first": None if model == models[0] else rise.to_dict(),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> Table:
    shown = Table(title="WER % by length, float32")
    for heading in (
        "length",
        "recordings",
        "decoder",
        "model",
        "WER % (95 %)",
        "points above the first (95 %)",
    ):
        shown.add_column(heading, justify="right")
    for row in sorted(rows, key=lambda row: (row["decoder"], row["bucket"] != "up to 4 s", row["bucket"])):
        low, high = row["wer_ci95"]
        above = row["above_first"]
        points = [100 * above[key] for key in ("difference", "low", "high")] if above else []
        shown.add_row(
            row["bucket"],
            str(row["recordings"]),
            row["decoder"],
            row["model"],
            f"{100 * row['wer']:.1f} ({100 * low:.1f} to {100 * high:.1f})",
            f"{points[0]:+.1f} ({points[1]:+.1f} to {points[2]:+.1f})" if points else "",
        )
    return shown


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("-m", "--manifest", "manifests", multiple=True, required=True)
@click.option("--work", default="build/positions", show_default=True)
@click.option("--json", "json_path", help="Write the rows here.")
def main(models: tuple[str, ...], manifests: tuple[str, ...], work: str, json_path: str | None) -> None:
    """Judge encoder-decoder MODELs by length of the utterance."""
    try:
        clips = [utterance for manifest in manifests for utterance in read_manifest(manifest)]
        rows = measure(models, clips, Path(work))
    except TfliteAsrError as error:
        raise click.ClickException(str(error)) from None
    Console(width=None if Console().is_terminal else 130).print(table(rows))
    if json_path:
        Path(json_path).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
