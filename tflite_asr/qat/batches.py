"""What low-bit training is fed: examples of one window with what the float model said of them, or with their text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.qat.graph import Graph
from tflite_asr.quantize.calibrate import lay_into_windows
from tflite_asr.quantize.running import outputs_of

OWN_FRAMES = 16  # of features, under which an utterance says nothing


@dataclass(frozen=True)
class Examples:
    """Rows of one window.

    x: float32 [rows, ...], one an input of the signature, in its order. y: what the objective is told, row by row.
    """

    x: tuple[np.ndarray, ...]
    y: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.x[0])

    def rows(self, places: Sequence[int]) -> Examples:
        """Those rows."""
        chosen = list(places)
        return Examples(tuple(one[chosen] for one in self.x), tuple(one[chosen] for one in self.y))


def taught_examples(data: bytes, graph: Graph, clips: Sequence[np.ndarray], subsampling: int) -> Examples:
    """Clips in the window of a float flatbuffer, with its own outputs: y is (output, mask [rows, frames of the
    output]).

    clips: float32 [frames, mels] each; longer ones are cut.
    """
    steps = [one[0] for one in lay_into_windows(clips, {graph.signature: data}, subsampling)[graph.signature]]
    (name,) = graph.outputs
    said = np.concatenate([one[name] for one in outputs_of(data, graph.signature, steps)])
    x = tuple(np.concatenate([step[inputs] for step in steps]) for inputs in graph.inputs)
    masks = [step["mask"][0] if "mask" in step else np.ones(said.shape[1], np.float32) for step in steps]
    if said.ndim != 3 or masks[0].shape != said.shape[1:2]:
        masks = [np.ones(said.shape[1:-1], np.float32)] * len(steps)
    return Examples(x, (said, np.stack(masks)))


def spoken_examples(
    manifest: str | Path,
    graph: Graph,
    facts: ModelFacts,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Utterances that fit the window, with their text: y is (labels, label lengths), as `training.ctc` takes them.

    Raises TfliteAsrError where no utterance fits, or the facts lack a front end or tokens.
    """
    from tflite_asr.frontend.log_mel import normalise
    from tflite_asr.training.data import Corpus, collate

    if facts.frontend is None or facts.tokens is None:
        raise TfliteAsrError(
            f"{facts.name}: training on speech needs the front end and tokens; write its .toml"
        )
    corpus = Corpus(manifest, facts.frontend, facts.tokens, cache, progress)
    frames = graph.shapes[graph.inputs["features"]][1]
    features, labels = [], []
    for mels, label in zip(corpus.log_mels, corpus.labels, strict=True):
        spelled = len(label) + int(
            np.sum(label[1:] == label[:-1])
        )  # CTC wants a blank between two equal ones
        if OWN_FRAMES <= len(mels) <= frames and spelled <= len(mels) // facts.subsampling:
            features.append(normalise(mels.astype(np.float32), facts.frontend).astype(np.float32))
            labels.append(label)
    if not features:
        raise TfliteAsrError(f"{manifest}: no utterance fits {frames} frames; give a longer --window")
    batch = collate(features, labels, frames, facts.subsampling, facts.tokens.blank_id)
    by_name = {"features": batch.features, "mask": batch.mask}
    return Examples(tuple(by_name[name] for name in graph.inputs), (batch.labels, batch.label_lengths))


def in_batches(examples: Examples, size: int, steps: int, seed: int) -> list[Callable[[], Examples]]:
    """One batch a step, every row once before any comes again; the same for the same seed."""
    rng = np.random.default_rng(seed)
    size = min(size, len(examples))
    order: list[int] = []
    batches: list[Callable[[], Any]] = []
    for _ in range(steps):
        if len(order) < size:
            order += rng.permutation(len(examples)).tolist()
        batches.append(partial(examples.rows, order[:size]))
        order = order[size:]
    return batches
