#!/usr/bin/env python3
"""What in calibration inputs matters: clips chosen, changed or refined, each set calibrating int8, judged on dev.

    python -m benchmarks.priors -m an4/dev.jsonl -m speechocean762/dev.jsonl

Every clip is observed once by itself, and the ranges of a set are the union of its clips' (min-max, as `export` takes
them): so a part of a set costs nothing. Judged are utterances of up to 4 s, in a window of 4 s, by the SNR of the
logits and the share of frames with the same argmax. Biases stay as they are (`quantize.squares`), so export does a
little better. Observations are kept in the work folder.

"refined" moves 12 of the 18 clips toward the batch norms' statistics, for 3e11 multiply-adds, and "all refined" every
one, as `export` does; every other set of synthetic clips is the prior alone, changed in one way.

    python -m benchmarks.priors quartznet -m an4/dev.jsonl -m speechocean762/dev.jsonl \
        --real speechocean762/train.jsonl --arm 'all refined 0' --arm 'real speech 0' --room 1.1

Mean SNR in dB and agreement in % on an4 dev; speechocean762 dev (the small Jasper: 10 epochs of recipes/jasper; real
speech is 48 clips of speechocean762's train split; 2 seeds, 3 for what is marked *):

| inputs | conformer-ctc * | quartznet | Jasper |
|---|---|---|---|
| refined | 28.6, 99.2; 27.4, 98.0 | 36.7, 98.9; 37.0, 97.6 * | |
| all refined | 29.0, 99.2; 27.4, 98.0 | 37.4, 99.0; 37.3, 97.6 * | 37.3, 99.3; 37.7, 98.2 * |
| real speech | 28.4, 99.0; 26.8, 97.9 | 37.4, 98.9; 36.2, 97.4 * | 38.4, 99.5; 38.0, 98.3 |
| all refined, ranges 1.1 times as wide | | 37.7, 99.0; 37.1, 97.6 | |
| the same, 1.2 times | | 37.7, 99.0; 36.5, 97.6 | |
| all refined, pulled toward labels too | | | 36.6, 99.3; 37.4, 98.1 |
| all refined, by steps three times as large | | | 37.2, 99.3; 36.8, 98.1 |
| all refined, pulled back by a quarter | | | 37.6, 99.5; 37.8, 98.2 |

Wider ranges win on an4 what they lose on speechocean762. Real speech shows as much: Jasper calibrated on an4's own
train split has 38.1 dB on an4 dev and 36.7 on speechocean762, and no block's ranges of real speech, put in the place of
the synthetic ones, better either by more than .2 dB. The last product's grid counts for more: with its output left
unrounded quartznet has 38.6 dB and 99.6 % on an4 dev, 39.3 and 98.9 % on speechocean762 (every third clip).

Every set, printed on conformer-ctc by the same steps, taken one by one, before attention was rewritten again (86 clips
of an4, 208 of speechocean762; a later graph gave 26.26 and 27.19 dB for the first prior, 24.97 and 26.72 for smooth
fields alone, agreement 98.90, 97.77; 98.52, 97.75):

| inputs | clips | an4 dev, dB | speechocean762 dev, dB | same argmax, %: an4, speechocean762 |
|---|---|---|---|---|
| prior, seeds 0 and 1 | 18 | 26.42, 27.44 | 27.35, 27.33 | 99.01, 99.05; 97.96, 97.90 |
| refined, seeds 0 and 1 | 18 | 28.51, 28.51 | 27.69, 26.99 | 99.24, 99.09; 98.13, 97.81 |
| all 18 refined, seeds 0 and 1 (8e11 multiply-adds) | 18 | 28.92, 28.70 | 27.47, 27.04 | 99.05, 99.22; 97.97, 97.88 |
| the refined clips alone | 12 | 28.13 | 27.67 | 99.13, 98.05 |
| the same clips unrefined | 12 | 25.83 | 27.28 | 98.76, 97.93 |
| refined, both seeds together | 36 | 28.81 | 27.13 | 99.13, 97.79 |
| prior, both seeds together | 36 | 27.68 | 27.40 | 98.99, 98.04 |
| labels, no statistics | 18 | 26.48 | 27.49 | 99.14, 97.98 |
| one level | 18 | 27.03 | 27.48 | 98.82, 98.00 |
| no digital silence | 18 | 27.15 | 27.52 | 98.78, 97.94 |
| 2 s alone | 18 | 27.02 | 27.42 | 98.86, 97.95 |
| windows filled | 18 | 27.23 | 27.63 | 99.01, 98.20 |
| without 16 s | 16 | 26.12 | 27.28 | 98.99, 97.99 |
| babble alone | 9 | 26.00 | 27.34 | 98.84, 97.89 |
| every other pair | 10 | 25.89 | 27.21 | 98.75, 97.93 |
| 4 clips | 4 | 25.31 | 26.93 | 98.63, 97.81 |
| smooth fields alone | 9 | 24.75 | 26.59 | 98.35, 97.73 |
| noise | 18 | 15.63 | 17.80 | 97.30, 95.16 |

Refinement matters most: 1 to 2 dB on an4. Two draws of one prior differ by 1 dB, so nothing that moves it by less
(levels, silence, lengths) is shown to matter; both kinds of clips and more than a handful of them are. Labels do not
take the place of statistics: a model without batch norm keeps the prior.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from tflite_asr.audio import read_audio
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import log_mel
from tflite_asr.manifest import read_manifest
from tflite_asr.pipeline import model_path
from tflite_asr.quantize.observed import Observed
from tflite_asr.quantize.ranges import Range, Ranges
from tflite_asr.synthesis import babble, prior, refine
from tflite_asr.synthesis.real import real_inputs

SECONDS = 4.0
REAL = "real"
Clips = list[np.ndarray]
Seen = Mapping[str, Observed]


@dataclass(frozen=True)
class Source:
    """A way to make clips.

    Attributes:
        method: of `synthesize`, or "real": 48 clips of the manifest that the command is given. seed: of either.
        budget: multiply-adds; None for the default, 0 leaves the prior.
        changed: (module, constant, value) while they are made.
    """

    method: str = "synthetic"
    seed: int = 0
    budget: float | None = 0.0
    changed: tuple[tuple[Any, str, Any], ...] = ()


def _no_norms(model: Any) -> list[Any]:
    return []


SOURCES = {
    "prior 0": Source(),
    "prior 1": Source(seed=1),
    **{f"refined {seed}": Source(seed=seed, budget=3e11) for seed in range(2)},
    **{f"all refined {seed}": Source(seed=seed, budget=None) for seed in range(3)},
    **{f"real speech {seed}": Source(REAL, seed) for seed in range(3)},
    "labels, no statistics": Source(
        "synthetic:labels", budget=None, changed=((refine, "batch_norms", _no_norms),)
    ),
    "one level": Source(changed=((babble, "LEVEL_DBFS", (-26.0, -26.0)),)),
    "no digital silence": Source(changed=((babble, "SILENT_ROOM", 0.0), (babble, "SILENT_EDGE", 0.0))),
    "2 s alone": Source(changed=((prior, "BATCHES", ((18, 2.0),)), (prior, "EDGES", ()))),
    "windows filled": Source(changed=((prior, "BATCHES", ((12, 4.0), (6, 8.0))), (prior, "EDGES", ()))),
    "noise": Source("noise"),
}
REFINED = 12  # clips of "refined", the first ones
Choice = Callable[[list[Any]], list[Any]]
# Name to the sources that it takes clips from, and which.
PARTS: dict[str, tuple[tuple[str, ...], Choice]] = {
    "the refined clips alone": (("refined 0",), lambda clips: clips[:REFINED]),
    "the same clips unrefined": (("prior 0",), lambda clips: clips[:REFINED]),
    "refined, both seeds together": (("refined 0", "refined 1"), list),
    "prior, both seeds together": (("prior 0", "prior 1"), list),
    "without 16 s": (("prior 0",), lambda clips: clips[:-2]),
    "smooth fields alone": (("prior 0",), lambda clips: clips[::2]),
    "babble alone": (("prior 0",), lambda clips: clips[1::2]),
    "every other pair": (("prior 0",), lambda clips: [c for i, c in enumerate(clips) if i // 2 % 2 == 0]),
    "4 clips": (("prior 0",), lambda clips: clips[:2] + clips[-2:]),
}
ARMS = {name: ((name,), list) for name in SOURCES} | PARTS


@contextmanager
def constants(changed: tuple[tuple[Any, str, Any], ...]) -> Iterator[None]:
    """These values while open."""
    with ExitStack() as stack:
        for module, name, value in changed:
            stack.enter_context(mock.patch.object(module, name, value))
        yield


def together(some: list[Seen]) -> dict[str, Observed]:
    """What several clips were seen to hold, extremes alone."""
    whole: dict[str, Observed] = {}
    for seen in some:
        for name, one in seen.items():
            found = whole.setdefault(name, Observed(one.signature, histogram=False))
            found.minimum, found.maximum = min(found.minimum, one.minimum), max(found.maximum, one.maximum)
            found.real_minimum = min(found.real_minimum, one.real_minimum)
            found.real_maximum = max(found.real_maximum, one.real_maximum)
    return whole


def widened(ranges: Ranges, room: float, kept: frozenset[str] = frozenset()) -> Ranges:
    """Ends `room` times as far from zero, save of the tensors that are kept."""
    return Ranges(
        {
            name: one
            if name in kept
            else Range(one.minimum * room, one.maximum * room, one.source, one.signature)
            for name, one in ranges.items()
        }
    )


class Bench:
    """A lowered model, and speech to judge its int8 by.

    manifests: of that speech. real: of what real speech calibrates. room: what sums of products get for ranges, over
    what was seen.
    """

    def __init__(
        self,
        path: Path,
        work: Path,
        manifests: tuple[str, ...],
        real: str | None = None,
        room: float = 1.0,
    ) -> None:
        import tflite_asr.lowering  # noqa: F401  its layers are then known, and a lowered model opens too
        from tflite_asr.models import load_model
        from tflite_asr.quantize.convert import convert
        from tflite_asr.quantize.kept_whole import kept_whole
        from tflite_asr.quantize.lowered import lowered
        from tflite_asr.quantize.running import outputs_of

        facts = ModelFacts.read(path)
        assert facts is not None
        assert facts.frontend is not None
        self.facts, self.work, self.model = facts, work, load_model(path)
        self.real, self.room = real, room
        low = lowered(self.model, facts.subsampling, facts)
        floats = [convert(low, frames, facts.subsampling) for frames in facts.windows]
        self.flatbuffers = {window.signature: window.data for window in floats}
        self.kept = kept_whole(self.flatbuffers.values())
        frames = round(SECONDS / facts.frontend.hop_seconds)
        self.signature = next(one for one in self.flatbuffers if int(one.rpartition("_")[2]) >= frames)
        self.heard: dict[str, list[dict[str, np.ndarray]]] = {}
        self.expected: dict[str, list[np.ndarray]] = {}
        for manifest in manifests:
            corpus = f"{Path(manifest).parent.name}/{Path(manifest).stem}"
            rows = (
                read_audio(row.audio_filepath, facts.frontend.sample_rate) for row in read_manifest(manifest)
            )
            clips = [log_mel(audio, facts.frontend) for audio in rows]
            feeds = self.laid([clip for clip in clips if len(clip) <= frames])
            self.heard[corpus] = feeds
            self.expected[corpus] = self.logits(
                outputs_of(self.flatbuffers[self.signature], self.signature, feeds), feeds
            )

    def laid(self, clips: Clips) -> list[dict[str, np.ndarray]]:
        """Into the window that is judged."""
        from tflite_asr.quantize.calibrate import lay_into_windows

        window = {self.signature: self.flatbuffers[self.signature]}
        laid = lay_into_windows(clips, window, self.facts.subsampling)[self.signature]
        return [step for sequence in laid for step in sequence]

    def logits(
        self, outputs: list[dict[str, np.ndarray]], feeds: list[dict[str, np.ndarray]]
    ) -> list[np.ndarray]:
        """Real frames, float64 [frames, pieces]."""
        real = [round(float(feed["mask"].sum())) for feed in feeds]
        return [
            one["logits"][0, :frames].astype(np.float64) for one, frames in zip(outputs, real, strict=True)
        ]

    def observed(self, name: str) -> list[Seen]:
        """What each clip of a source alone makes tensors hold, from the work folder if it lies there."""
        from tflite_asr.quantize.calibrate import lay_into_windows, observe

        kept = self.work / f"{name.replace(' ', '-').replace(',', '')}.pickle"
        if not kept.is_file():
            found = []
            for clip in self.clips(SOURCES[name]):
                sequences = lay_into_windows([clip], self.flatbuffers, self.facts.subsampling)
                signature = next(
                    one
                    for one in sequences
                    if int(one.rpartition("_")[2]) >= min(len(clip), max(self.facts.windows))
                )
                found.append(observe(self.flatbuffers, {signature: sequences[signature]}, histograms=False))
            kept.write_bytes(pickle.dumps(found))
        return list(pickle.loads(kept.read_bytes()))

    def clips(self, source: Source) -> Clips:
        """Float32 [frames, mels] each."""
        from tflite_asr.synthesis.synthesize import synthesize

        if source.method == REAL:
            if self.real is None:
                raise click.UsageError("real speech: give the manifest that it calibrates on (--real)")
            return real_inputs(self.real, self.facts, seed=source.seed).features
        with constants(source.changed):
            return synthesize(self.model, self.facts, source.method, source.seed, source.budget).features

    def judge(self, name: str) -> dict[str, Any]:
        """An arm's row."""
        from tflite_asr.quantize.calibrate import ranges_of
        from tflite_asr.quantize.calibrators import MIN_MAX
        from tflite_asr.quantize.finish import finish
        from tflite_asr.quantize.quantizer import quantize
        from tflite_asr.quantize.running import outputs_of
        from tflite_asr.quantize.schemes import scheme

        sources, choose = ARMS[name]
        clips = choose([one for source in sources for one in self.observed(source)])
        ranges = widened(ranges_of(together(clips), MIN_MAX, self.kept), self.room, self.kept.whole)
        data = finish(quantize(self.flatbuffers[self.signature], ranges, (), scheme("int8")), ranges)
        row: dict[str, Any] = {"arm": name, "clips": len(clips)}
        for corpus, feeds in self.heard.items():
            found = self.logits(outputs_of(data, self.signature, feeds), feeds)
            pairs = list(zip(self.expected[corpus], found, strict=True))
            row[corpus] = float(
                np.mean([10 * np.log10(np.square(a).sum() / np.square(a - b).sum()) for a, b in pairs])
            )
            same = np.concatenate([a.argmax(-1) == b.argmax(-1) for a, b in pairs])
            row[f"{corpus}, same argmax"] = float(same.mean())
        return row


@click.command()
@click.argument("model", default="conformer-ctc")
@click.option("--manifest", "-m", "manifests", multiple=True, required=True)
@click.option("--arm", "names", multiple=True, type=click.Choice(list(ARMS)))
@click.option("--real", help="Manifest that real speech is drawn from; no evaluation set.")
@click.option("--room", default=1.0, show_default=True, help="Width of sums' ranges over what was seen.")
@click.option("--work", default="build/priors", show_default=True)
@click.option("--json", "json_path")
def main(
    model: str,
    manifests: tuple[str, ...],
    names: tuple[str, ...],
    real: str | None,
    room: float,
    work: str,
    json_path: str | None,
) -> None:
    """Calibrate MODEL on each arm's inputs and table the SNR of its logits, in dB, and their agreement."""
    path, folder = model_path(model), Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(path, folder, manifests, real, room)
    known = [name for name in ARMS if real or not name.startswith("real speech")]
    table = Table("inputs", "clips", *(text for one in bench.heard for text in (f"{one}, dB", "agree, %")))
    found = []
    for name in names or known:
        found.append(bench.judge(name))
        row = found[-1]
        cells = [
            text
            for corpus in bench.heard
            for text in (f"{row[corpus]:.2f}", f"{100 * row[f'{corpus}, same argmax']:.2f}")
        ]
        table.add_row(name, str(row["clips"]), *cells)
        Console(stderr=True).print(row)
    Console().print(table)
    if json_path:
        Path(json_path).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
