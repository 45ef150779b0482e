#!/usr/bin/env python3
"""What in the prior matters: inputs with one thing taken away, each calibrating int8, judged by its logits' SNR on dev.

    python benchmarks/priors.py --manifest an4/dev.jsonl --manifest speechocean762/dev.jsonl --limit 50

Windows of 4 and 8 s, min-max ranges. "prior" is what everything else changes in one way; "synthetic" and "labels" are
the prior refined within the default budget; "labels, no statistics" is what a model of the same function without batch
norm would get. Results are kept in the work folder, a file an arm and seed, and not made again.

Measured by that command on conformer-ctc, seed 0, with `--arm` for each row (the other arms are still to be run):

| inputs | clips | an4 dev, dB | speechocean762 dev, dB | same argmax, % |
|---|---|---|---|---|
| prior | 18 | 26.15 | 27.31 | 98.53 |
| labels, no statistics | 18 | 26.30 | 27.38 | 98.40 |

So without batch norm labels move SNR by .15 and .07 dB, and argmax the other way, for 2.75e11 multiply-adds: a model
without batch norm keeps the prior by default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from tflite_asr.facts import ModelFacts
from tflite_asr.manifest import Utterance, read_manifest
from tflite_asr.pipeline import model_path
from tflite_asr.quantize.child import run_in_child
from tflite_asr.studies import floats
from tflite_asr.studies.arms import Order, run_arm
from tflite_asr.studies.outcome import Outcome
from tflite_asr.synthesis import babble, prior, refine

WINDOWS_SECONDS = (4.0, 8.0)
Clips = list[np.ndarray]


@dataclass(frozen=True)
class Arm:
    """A way to make inputs.

    Attributes:
        name: in the table.
        method: of `synthesize`. budget: multiply-adds; None for the default, 0 leaves the prior.
        changed: (module, constant, value) while they are made.
        chosen: which of the clips are kept.
    """

    name: str
    method: str = "synthetic"
    budget: float | None = 0.0
    changed: tuple[tuple[Any, str, Any], ...] = ()
    chosen: Callable[[Clips], Clips] = field(default=lambda clips: clips)


def _no_norms(model: Any) -> list[Any]:
    return []


ARMS = (
    Arm("prior"),
    Arm("synthetic", budget=None),
    Arm("labels", "synthetic:labels", None),
    Arm("labels, no statistics", "synthetic:labels", None, ((refine, "batch_norms", _no_norms),)),
    Arm("smooth fields alone", chosen=lambda clips: clips[::2]),
    Arm("babble alone", chosen=lambda clips: clips[1::2]),
    Arm("2 s alone", changed=((prior, "BATCHES", ((18, 2.0),)), (prior, "EDGES", ()))),
    Arm("windows filled", changed=((prior, "BATCHES", ((12, 4.0), (6, 8.0))), (prior, "EDGES", ()))),
    Arm("one level", changed=((babble, "LEVEL_DBFS", (-26.0, -26.0)),)),
    Arm("no digital silence", changed=((babble, "SILENT_ROOM", 0.0), (babble, "SILENT_EDGE", 0.0))),
    Arm("every other pair", chosen=lambda clips: [clip for i, clip in enumerate(clips) if i // 2 % 2 == 0]),
    Arm("4 clips", chosen=lambda clips: clips[:2] + clips[-2:]),
    Arm(
        "twice the clips",
        changed=((prior, "BATCHES", ((16, 2.0), (8, 4.0), (4, 8.0))), (prior, "EDGES", (1.0, 16.0) * 2)),
    ),
    Arm("noise", "noise"),
)


@contextmanager
def constants(changed: tuple[tuple[Any, str, Any], ...]) -> Iterator[None]:
    """These values while open."""
    with ExitStack() as stack:
        for module, name, value in changed:
            stack.enter_context(mock.patch.object(module, name, value))
        yield


def make_inputs(path: Path, facts: ModelFacts, arm: Arm, seed: int, out: Path) -> None:
    """Write an arm's inputs."""
    from tflite_asr.models import load_model
    from tflite_asr.synthesis.synthesize import synthesize

    with constants(arm.changed):
        made = synthesize(load_model(path), facts, arm.method, seed, arm.budget)
    replace(made, features=arm.chosen(made.features)).save(out)


def judge(
    arm: Arm, seed: int, path: Path, facts: ModelFacts, work: Path, heard: list[tuple[str, Utterance]]
) -> Outcome:
    """An arm's outcome, from the work folder if it lies there."""
    slug = f"{arm.name.replace(' ', '-').replace(',', '')}-{seed}"
    result, inputs = work / f"{slug}.json", work / f"{slug}.npz"
    if not result.is_file():
        make_inputs(path, facts, arm, seed, inputs)
        order = Order(
            model=path,
            facts=facts,
            arm=arm.name,
            calibration=str(inputs),
            seed=seed,
            budget_macs=None,
            base=work,
            utterances=heard,
            logits=work / "logits.npz",
            wanted={"min_max": result},
            walked=False,
        )
        run_in_child(run_arm, order, stage=slug)
    return Outcome.read(result)


@click.command()
@click.argument("model", default="conformer-ctc")
@click.option("--manifest", "-m", "manifests", multiple=True, required=True)
@click.option(
    "--limit", default=50, show_default=True, help="Utterances of each manifest, no longer than a window."
)
@click.option("--arm", "names", multiple=True, type=click.Choice([arm.name for arm in ARMS]))
@click.option("--seeds", default=1, show_default=True)
@click.option("--work", default="build/priors", show_default=True)
@click.option("--json", "json_path")
def main(
    model: str,
    manifests: tuple[str, ...],
    limit: int,
    names: tuple[str, ...],
    seeds: int,
    work: str,
    json_path: str | None,
) -> None:
    """Calibrate MODEL on each arm's inputs and table the SNR of its logits, in dB, over seeds."""
    path, folder = model_path(model), Path(work)
    read = ModelFacts.read(path)
    assert read is not None
    facts = replace(read, windows_seconds=WINDOWS_SECONDS)
    heard = []
    for manifest in manifests:
        rows = [row for row in read_manifest(manifest) if (row.duration or 0) < max(WINDOWS_SECONDS)]
        heard += [(f"{Path(manifest).parent.name}/{Path(manifest).stem}", row) for row in rows[:limit]]
    floats.make(path, facts, folder)
    floats.logits_of(folder / floats.FLOAT, heard, folder / "logits.npz")
    corpora = list(dict.fromkeys(name for name, _ in heard))
    table = Table("inputs", "clips", *(f"{name}, dB" for name in corpora), "agree, %")
    found = []
    for arm in [one for one in ARMS if not names or one.name in names]:
        outcomes = [judge(arm, seed, path, facts, folder, heard) for seed in range(seeds)]
        row: dict[str, Any] = {"arm": arm.name, "clips": outcomes[0].provenance["clips"]}
        for name in corpora:
            row[name] = [float(np.mean(one.corpora[name].snr_db)) for one in outcomes]
        sums = [(h.agreeing.sum(), h.frames.sum()) for one in outcomes for h in one.corpora.values()]
        row["agreement"] = float(sum(a for a, _ in sums) / sum(b for _, b in sums))
        found.append(row)
        cells = [f"{np.mean(row[name]):.2f}" for name in corpora]
        table.add_row(arm.name, str(row["clips"]), *cells, f"{100 * row['agreement']:.2f}")
        Console(stderr=True).print(row)
    Console().print(table)
    if json_path:
        Path(json_path).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
