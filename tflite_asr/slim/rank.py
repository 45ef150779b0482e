"""Which block a model misses least, asked of the model itself: no data, no labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.slim.paths import module_paths
from tflite_asr.slim.slim import model_config, slim


@dataclass(frozen=True)
class BlockUse:
    """How far the output moves without one block.

    Attributes:
        path: the block.
        divergence: mean over frames of KL(full model || without the block), in nats.
    """

    path: str
    divergence: float


def least_useful_block(model: keras.Model, facts: ModelFacts, inputs: Any) -> str:
    """Path of the block whose loss moves the output distribution least; see `rank_blocks`."""
    return rank_blocks(model, facts, inputs)[0].path


def rank_blocks(
    model: keras.Model,
    facts: ModelFacts,
    inputs: Any,
    progress: Callable[[int, int], None] | None = None,
) -> list[BlockUse]:
    """Drop each block in turn and compare the output distributions on the same inputs.

    Args:
        model, facts: a model with blocks (`encoder.block0`, ...).
        inputs: `SyntheticInputs`, or a list of float32 [frames, mels].
        progress: called with (blocks done, blocks in all).

    Returns:
        One record a block, the least useful first; equal ones in the model's order.
    """
    paths = [p for p in module_paths(model_config(facts)) if re.fullmatch(r".*\.[a-z_]*block\d+", p)]
    if not paths:
        raise TfliteAsrError(f"{facts.name}: has no block to drop")
    features = list(getattr(inputs, "features", inputs))
    full = _log_probabilities(model, facts, features)
    uses = []
    for index, path in enumerate(paths):
        smaller, _, _ = slim(model, facts, path)
        less = _log_probabilities(smaller, facts, features)
        uses.append(BlockUse(path, divergence(full, less)))
        if progress is not None:
            progress(index + 1, len(paths))
    return sorted(uses, key=lambda use: use.divergence)


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over frames of KL(first || second); both log-probabilities float [frames, pieces]."""
    return float((np.exp(first) * (first - second)).sum(axis=-1).mean())


def _log_probabilities(model: keras.Model, facts: ModelFacts, features: Sequence[np.ndarray]) -> np.ndarray:
    """Log-softmax over every frame of every clip, float64 [all frames, pieces]."""
    rows = []
    for length in dict.fromkeys(map(len, features)):
        steps = length // facts.subsampling
        clips = np.stack([clip[: steps * facts.subsampling] for clip in features if len(clip) == length])
        batch = [clips, np.ones((len(clips), steps), np.float32)]
        logits = keras.ops.convert_to_numpy(model(batch[: len(model.inputs)], training=False)).astype(
            np.float64
        )
        logits -= logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        rows.append(logits.reshape(-1, logits.shape[-1]))
    return np.concatenate(rows)
