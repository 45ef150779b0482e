"""What low-bit training is fed: examples of one window with what the float model said of them, or with their text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.qat.graph import Graph
from tflite_asr.quantize.calibrate import lay_into_windows
from tflite_asr.quantize.running import Feed, outputs_of
from tflite_asr.quantize.steps import encoder_of_step, step_sequences

OWN_FRAMES = 16  # of features, under which an utterance says nothing
STEPS = 4  # of a decoder, of each clip: .8 MB each of a model of 2 million parameters


@dataclass(frozen=True)
class Examples:
    """Rows of one window.

    x: [rows, ...], one an input of the signature, in its order. y: what the objective is told, row by row.
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
    """Clips in the window of a float flatbuffer, with its own outputs, as `told_examples` gives them.

    clips: float32 [frames, mels] each; longer ones are cut.
    """
    laid = lay_into_windows(clips, {graph.signature: data}, subsampling)
    return told_examples(data, graph, [one[0] for one in laid[graph.signature]])


def taught_steps(
    parts: Mapping[str, bytes],
    graph: Graph,
    clips: Sequence[np.ndarray],
    subsampling: int,
    end_id: int,
    seed: int = 0,
    spelled: Sequence[Sequence[int]] = (),
) -> Examples:
    """Steps of a decoder while it hears clips, with its own outputs, as `told_examples` gives them.

    parts: the float flatbuffers of the graph's signature and of the encoder that it reads. clips, subsampling: as of
    `taught_examples`; of a clip `STEPS` steps are taken. end_id: the token that starts and ends a sequence. seed: of
    the tokens that the decoder is told for every other clip. spelled: the tokens of each clip, where they are known.
    """
    encode = encoder_of_step(graph.signature)
    laid = lay_into_windows(clips, {encode: parts[encode]}, subsampling)
    both = {name: parts[name] for name in (encode, graph.signature)}
    found = step_sequences(both, laid, end_id, seed, STEPS, spelled)[graph.signature]
    return told_examples(parts[graph.signature], graph, [one[0] for one in found])


def told_examples(data: bytes, graph: Graph, feeds: Sequence[Feed]) -> Examples:
    """What a float flatbuffer is fed, and what it says: y is every output in the graph's order, and then as many masks,
    float32 of their axes but the last: 1 where an output is of a real frame, or of a token that was there."""
    said = outputs_of(data, graph.signature, feeds)
    outputs = tuple(np.concatenate([one[name] for one in said]) for name in graph.outputs)
    masks = tuple(
        np.concatenate(
            [_real(name, one[name].shape[:-1], feed) for one, feed in zip(said, feeds, strict=True)]
        )
        for name in graph.outputs
    )
    x = tuple(np.concatenate([feed[name] for feed in feeds]) for name in graph.inputs)
    return Examples(x, (*outputs, *masks))


def _real(name: str, shape: tuple[int, ...], feed: Feed) -> np.ndarray:
    """Where an output counts; a cache, which goes in by the name that it comes out by, counts where it has history."""
    mask = feed.get("history" if name in feed else "mask")
    return mask if mask is not None and mask.shape == shape else np.ones(shape, np.float32)


def spoken_examples(
    manifest: str | Path,
    graph: Graph,
    facts: ModelFacts,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Utterances that fit the window, with their text: y is (labels, label lengths), as `training.ctc` takes them.

    Raises as `spoken_clips`.
    """
    from tflite_asr.training.data import collate

    frames = graph.shapes[graph.inputs["features"]][1]
    features, labels = spoken_clips(manifest, frames, facts, cache, progress)
    assert facts.tokens is not None
    batch = collate(features, labels, frames, facts.subsampling, facts.tokens.blank_id)
    by_name = {"features": batch.features, "mask": batch.mask}
    return Examples(tuple(by_name[name] for name in graph.inputs), (batch.labels, batch.label_lengths))


def spoken_clips(
    manifest: str | Path,
    frames: int,
    facts: ModelFacts,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Normalised features float32 [frames, mels] and labels int32 of the utterances that fit so many frames, and that
    CTC can spell there.

    Raises TfliteAsrError where no utterance fits, or the facts lack a front end or tokens.
    """
    from tflite_asr.frontend.log_mel import normalise
    from tflite_asr.training.data import Corpus

    if facts.frontend is None or facts.tokens is None:
        raise TfliteAsrError(
            f"{facts.name}: training on speech needs the front end and tokens; write its .toml"
        )
    corpus = Corpus(manifest, facts.frontend, facts.tokens, cache, progress)
    features, labels = [], []
    for mels, label in zip(corpus.log_mels, corpus.labels, strict=True):
        spelled = len(label) + int(
            np.sum(label[1:] == label[:-1])
        )  # CTC wants a blank between two equal ones
        if OWN_FRAMES <= len(mels) <= frames and spelled <= len(mels) // facts.subsampling:
            features.append(normalise(mels.astype(np.float32), facts.frontend).astype(np.float32))
            labels.append(label)
    if not features:
        raise TfliteAsrError(
            f"{manifest}: no utterance fits {frames} frames and its text them; give a longer --window"
        )
    return features, labels


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
