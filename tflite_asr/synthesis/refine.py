"""Move inputs until the model's batch norms see what they remember, or it reads the labels. TensorFlow only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.synthesis.labels import nats_per_label, stacked
from tflite_asr.synthesis.shapes import ModelInputs
from tflite_asr.synthesis.statistics import batch_norms, divergence, recorded_inputs


@dataclass(frozen=True)
class Recipe:
    """How inputs are moved.

    Attributes:
        rate: of Adam.
        steps: at most so many.
        pull: weight of the mean squared distance from the start.
        patience: steps without a gain of `gain` (relative) before the rate is halved (`halve`) or the batch is done.
        halve: True: reduce on plateau down to `floor`, never stop; False: stop.
    """

    rate: float
    steps: int
    pull: float
    patience: int
    gain: float = 0.01
    halve: bool = False
    floor: float = 1e-4


GENTLE = Recipe(rate=0.01, steps=60, pull=1.0, patience=10)
PUBLISHED = Recipe(rate=0.05, steps=200, pull=0.0, patience=25, gain=1e-4, halve=True)

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-7


@contextmanager
def deterministic_ops() -> Iterator[None]:
    """TensorFlow's deterministic kernels while open; the caller's own setting comes back."""
    from tensorflow.python.framework import config  # the public module can only switch it on

    before = config.is_op_determinism_enabled()
    config.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            config.disable_op_determinism()


def arguments_of(clip: tuple[int | None, ...]) -> list[Any]:
    """Types of what a measure takes: features, start, mask, pull, labels, lengths; clip: the shape of one."""
    import tensorflow as tf

    features = tf.TensorSpec((None, *clip), tf.float32)
    mask, labels = (tf.TensorSpec((None, None), kind) for kind in (tf.float32, tf.int32))
    return [
        features,
        features,
        mask,
        tf.TensorSpec((), tf.float32),
        labels,
        tf.TensorSpec((None,), tf.int32),
    ]


def measure_of(model: Any, shape: ModelInputs, blank_id: int | None = None) -> Any:
    """A compiled function (features, start, mask, pull, labels, lengths) to (loss, statistics, distance, nats a label,
    gradient by features). Without a blank id labels are not looked at and their nats are 0.

    One trace serves every length: tracing a Conformer costs more than twenty steps of it.
    """
    import tensorflow as tf

    layers = batch_norms(model)

    @tf.function(input_signature=arguments_of((shape.fixed_frames, *shape.tail)), autograph=False)
    def measure(
        features: Any, start: Any, mask: Any, pull: Any, labels: Any, lengths: Any
    ) -> tuple[Any, ...]:
        given = [features if role == "features" else mask for role in shape.roles]
        with tf.GradientTape() as tape:
            tape.watch(features)
            with recorded_inputs(layers) as seen:
                logits = model(given if len(given) > 1 else given[0], training=False)
            statistics = tf.convert_to_tensor(divergence(seen), tf.float32)
            distance = tf.reduce_mean(tf.square(features - start))
            loss = statistics + pull * distance
            nats = tf.constant(0.0)
            if blank_id is not None:
                nats = nats_per_label(tf.cast(logits, tf.float32), labels, lengths, blank_id)
                loss = loss + nats
        return loss, statistics, distance, nats, tape.gradient(loss, features)

    return measure


def refine(
    measure: Any,
    clips: list[np.ndarray],
    mask: np.ndarray,
    recipe: Recipe,
    on_step: Callable[[dict[str, float]], None] | None = None,
    labels: list[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Move one batch of equally long clips, no padding among them; the model is frozen.

    Args:
        measure: from `measure_of`, of a model with at least one BatchNormalization, or with a blank id.
        clips: float32 [frames, mels], all of one length.
        mask: float32 [clips, frames / subsampling], all ones.
        recipe: how.
        on_step: told each step's loss, statistics and distance (and nats a label), as measured before the step.
        labels: what each clip is to be read as; None where the measure has no blank id.

    Returns:
        The clips of the step with the least loss.
    """
    start = np.stack(clips)
    features, best = start.copy(), start.copy()
    pull = np.float32(recipe.pull)
    wanted = stacked(labels if labels is not None else [np.zeros(0, np.int32)] * len(clips))
    moment, power = np.zeros_like(features), np.zeros_like(features)
    rate, least, plateau, waited = recipe.rate, np.inf, np.inf, 0
    for step in range(1, recipe.steps + 1):
        loss, statistics, distance, nats, gradient = (
            value.numpy() for value in measure(features, start, mask, pull, *wanted)
        )
        if on_step is not None:
            record = {
                "step": step - 1,
                "loss": float(loss),
                "statistics": float(statistics),
                "distance": float(distance),
            }
            on_step(record | {"labels": float(nats)} if labels is not None else record)
        if loss < least:
            least, best = loss, features.copy()
        if loss < plateau * (1 - recipe.gain):
            plateau, waited = loss, 0
        elif (waited := waited + 1) >= recipe.patience:
            if not recipe.halve:
                break
            rate, waited = max(rate / 2, recipe.floor), 0
        # Adam (Kingma and Ba 2015), on scale-free gradients: the loss is a mean over all values.
        gradient = gradient * np.float32(gradient.size)
        moment = _BETA1 * moment + (1 - _BETA1) * gradient
        power = _BETA2 * power + (1 - _BETA2) * gradient**2
        corrected = moment / (1 - _BETA1**step) / (np.sqrt(power / (1 - _BETA2**step)) + _EPSILON)
        features = (features - rate * corrected).astype(np.float32)
    return list(best)
