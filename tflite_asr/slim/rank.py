"""Which block a model misses least, asked of the model itself: no data, no labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.slim.outputs import Reference
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
    full = Reference(model, facts, getattr(inputs, "features", inputs))
    uses = []
    for index, path in enumerate(paths):
        smaller, _, _ = slim(model, facts, path)
        uses.append(BlockUse(path, full.divergence(smaller)))
        if progress is not None:
            progress(index + 1, len(paths))
    return sorted(uses, key=lambda use: use.divergence)
