"""Training data: features cached once, utterances put into buckets of length, batches of constant shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tflite_asr.audio import read_audio
from tflite_asr.errors import TfliteAsrError
from tflite_asr.frontend import FrontEnd, log_mel
from tflite_asr.frontend.log_mel import normalise
from tflite_asr.manifest import Utterance, read_manifest
from tflite_asr.tokens import Tokens
from tflite_asr.training.augment import augment, join, spec_augment
from tflite_asr.training.recipe import Augmentation, Recipe

# A tenth apart: an utterance is padded by 5 % on average, and a compiling backend sees few shapes (40 up to 20 s).
_EDGES = sorted({int(np.ceil(48 * 1.1**i / 8)) * 8 for i in range(120)})


@dataclass(frozen=True)
class Batch:
    """Features float32 [batch, frames, mels], mask float32 [batch, frames / subsampling], labels int32
    [batch, longest] padded with the blank, label_lengths int32 [batch]."""

    features: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    label_lengths: np.ndarray

    @property
    def x(self) -> tuple[np.ndarray, ...]:
        """What the model is fed."""
        return self.features, self.mask

    @property
    def y(self) -> tuple[np.ndarray, np.ndarray]:
        """What its loss is told."""
        return self.labels, self.label_lengths


class Corpus:
    """The utterances of one manifest with their un-normalised log-mels, float16 [frames, mels] each, in memory.

    Features are kept in `cache` as one file a manifest, named after the manifest's text and the front end, so that a
    changed list or front end is computed anew.
    """

    def __init__(
        self,
        manifest: str | Path,
        frontend: FrontEnd,
        tokens: Tokens,
        cache: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.path = Path(manifest)
        self.rows: list[Utterance] = read_manifest(manifest, tokens)
        self.labels = [np.array(tokens.encode(row.text), np.int32) for row in self.rows]
        self.space = np.array(tokens.encode(" "), np.int32)
        raw = replace(frontend, normalise="none", mean=(), std=())
        key = json.dumps([raw.to_dict(), [str(r.audio_filepath) for r in self.rows]], sort_keys=True)
        file = (
            cache
            / f"{self.path.parent.name}-{self.path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"
        )
        if file.is_file():
            with np.load(file) as stored:
                flat, ends = stored["features"], stored["ends"]
            self.log_mels = np.split(flat, ends[:-1])
            return
        self.log_mels = []
        with ThreadPoolExecutor(2) as pool:
            for done, features in enumerate(pool.map(lambda r: _features(r, raw), self.rows), 1):
                self.log_mels.append(features)
                if progress:
                    progress(done, len(self.rows))
        cache.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".part.npz")
        np.savez(
            temporary, features=np.concatenate(self.log_mels), ends=np.cumsum([len(f) for f in self.log_mels])
        )
        temporary.replace(file)


def _features(row: Utterance, frontend: FrontEnd) -> np.ndarray:
    return log_mel(read_audio(row.audio_filepath, frontend.sample_rate), frontend).astype(np.float16)


Clip = tuple[Corpus, int]


def measure_normalisation(corpora: Sequence[Corpus], frontend: FrontEnd) -> FrontEnd:
    """The front end with the fixed per-mel mean and deviation of the training data."""
    count, total, squares = 0, np.zeros(frontend.mels), np.zeros(frontend.mels)
    for corpus in corpora:
        for features in corpus.log_mels:
            values = features.astype(np.float64)
            count += len(values)
            total += values.sum(axis=0)
            squares += np.square(values).sum(axis=0)
    mean = total / max(count, 1)
    std = np.sqrt(squares / max(count, 1) - mean**2)
    return replace(
        frontend,
        normalise="fixed",
        mean=tuple(round(float(v), 4) for v in mean),
        std=tuple(round(float(v), 4) for v in std),
    )


def training_batches(
    corpora: Sequence[Corpus], recipe: Recipe, frontend: FrontEnd, subsampling: int, blank_id: int, epoch: int
) -> list[Callable[[], Batch]]:
    """One epoch's batches, to be made when they are wanted; the same for the same seed and epoch.

    Left out: utterances over the recipe's length, under 16 frames, or with more text than their logit frames can spell.

    Raises:
        TfliteAsrError: no utterance is short enough.
    """
    rng = np.random.default_rng([recipe.seed, epoch])
    limit = recipe.curriculum_seconds if epoch < recipe.curriculum_epochs else recipe.max_seconds
    kept: list[Clip] = []
    for number, corpus in enumerate(corpora):
        share = recipe.fractions[number] if number < len(recipe.fractions) else 1.0
        size = len(corpus.rows)
        picks = np.concatenate([rng.permutation(size) for _ in range(int(np.ceil(share)))])[
            : round(share * size)
        ]
        for index in picks:
            frames = len(corpus.log_mels[index])
            fewest = int(frames / recipe.augmentation.speed[1]) // subsampling
            if (
                frames * frontend.hop_seconds <= limit
                and frames >= 16
                and fewest
                > _needed(corpus.labels[index])  # the space to a clip that is joined needs a frame too
            ):
                kept.append((corpus, int(index)))
    longest = round(max(limit, recipe.augmentation.join_seconds) / frontend.hop_seconds)
    drawn: dict[int, list[Example]] = {}
    for example in _examples(kept, recipe.augmentation, longest, 1 / frontend.hop_seconds, rng):
        edge = next(e for e in _EDGES if e >= example.frames(recipe.augmentation.speed[0]))
        drawn.setdefault(edge, []).append(example)
    batches: list[Callable[[], Batch]] = []
    waiting: list[Example] = []
    for edge, items in sorted(drawn.items()):
        size = max(1, int(recipe.batch_seconds / (edge * frontend.hop_seconds)))
        # What does not fill one batch (the shortest and the longest, often) goes to the next length, and is never lost.
        waiting += items
        if len(waiting) < size and edge != max(drawn):
            continue
        order = [waiting[i] for i in rng.permutation(len(waiting))]
        waiting, size = [], min(size, len(order))
        order += order[: -len(order) % size]
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            batches.append(partial(_make, chosen, edge, recipe, frontend, subsampling, blank_id, epoch))
    if not batches:
        raise TfliteAsrError(
            f"no utterance lasts from 0.16 to {limit} s with time for its text; raise max_seconds or mend the data"
        )
    return [batches[i] for i in rng.permutation(len(batches))]


def _needed(label: np.ndarray) -> int:
    """Logit frames that CTC needs to spell a label: one a piece, and a blank between two equal ones."""
    return len(label) + int(np.sum(label[1:] == label[:-1]))


@dataclass(frozen=True)
class Example:
    """Clips to be read as one recording, with silence around them.

    clips: in their order. silences: frames before the first, between, and after the last. seed: of the augmentation.
    """

    clips: tuple[Clip, ...]
    silences: tuple[int, ...]
    seed: int

    def frames(self, slowest: float) -> float:
        """Frames at the most, every clip at its slowest."""
        return sum(len(c.log_mels[i]) / slowest for c, i in self.clips) + sum(self.silences)

    def label(self) -> np.ndarray:
        """The texts, a space between."""
        parts = [part for corpus, index in self.clips for part in (corpus.space, corpus.labels[index])]
        return np.concatenate(parts[1:])


def _examples(
    kept: Sequence[Clip],
    settings: Augmentation,
    longest: int,
    frames_per_second: float,
    rng: np.random.Generator,
) -> list[Example]:
    """One example a clip; to a share of them others are joined, as long as `longest` frames hold them."""
    examples = []
    for clip in kept:
        clips, total = [clip], len(clip[0].log_mels[clip[1]]) / settings.speed[0]
        while rng.random() < settings.join_share:
            other = kept[int(rng.integers(len(kept)))]
            total += (
                len(other[0].log_mels[other[1]]) / settings.speed[0] + settings.silence[1] * frames_per_second
            )
            if total > longest:
                break
            clips.append(other)
        silences = [0] * (len(clips) + 1)
        if len(clips) > 1 or rng.random() < settings.join_share:
            silences = [max(0, int(rng.uniform(*settings.silence) * frames_per_second)) for _ in silences]
        examples.append(Example(tuple(clips), tuple(silences), int(rng.integers(2**31))))
    return examples


def _make(
    chosen: Sequence[Example],
    edge: int,
    recipe: Recipe,
    frontend: FrontEnd,
    subsampling: int,
    blank_id: int,
    epoch: int,
) -> Batch:
    features = []
    for example in chosen:
        rng = np.random.default_rng(example.seed)
        clips = [c.log_mels[i].astype(np.float32) for c, i in example.clips]
        joined = join(
            [augment(clip, recipe.augmentation, frontend, rng) for clip in clips], example.silences, rng
        )
        x = normalise(joined[:edge], frontend).astype(np.float32)
        if epoch >= recipe.augmentation.from_epoch:
            x = spec_augment(x, recipe.augmentation, rng)
        features.append(x)
    return collate(features, [example.label() for example in chosen], edge, subsampling, blank_id)


def collate(
    features: Sequence[np.ndarray], labels: Sequence[np.ndarray], frames: int, subsampling: int, blank_id: int
) -> Batch:
    """Pad to `frames` (rounded up to the subsampling) and build the mask."""
    frames = -(-frames // subsampling) * subsampling
    longest = max(8, -(-max(map(len, labels)) // 8) * 8)
    x = np.zeros((len(features), frames, features[0].shape[1]), np.float32)
    mask = np.zeros((len(features), frames // subsampling), np.float32)
    y = np.full((len(labels), longest), blank_id, np.int32)
    for row, (f, label) in enumerate(zip(features, labels, strict=True)):
        x[row, : len(f)] = f
        mask[row, : -(-len(f) // subsampling)] = 1.0
        y[row, : len(label)] = label
    return Batch(x, mask, y, np.array([len(label) for label in labels], np.int32))


def evaluation_batches(
    corpus: Corpus, frontend: FrontEnd, subsampling: int, blank_id: int, batch_seconds: float
) -> Iterator[tuple[list[int], Batch]]:
    """Unperturbed batches of neighbours in length, with the index of each row."""
    order = sorted(range(len(corpus.rows)), key=lambda i: len(corpus.log_mels[i]))
    while order:
        edge = next(e for e in _EDGES if e >= len(corpus.log_mels[order[0]]))
        within = [i for i in order if len(corpus.log_mels[i]) <= edge]
        take = within[: max(1, int(batch_seconds / (edge * frontend.hop_seconds)))]
        order = order[len(take) :]
        features = [
            normalise(corpus.log_mels[i].astype(np.float32), frontend).astype(np.float32) for i in take
        ]
        yield take, collate(features, [corpus.labels[i] for i in take], edge, subsampling, blank_id)
