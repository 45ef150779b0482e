"""A model trained for some steps on some batches: what every training has in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import keras

from tflite_asr.errors import TfliteAsrError


class Fed(Protocol):
    """A batch as a trainer takes it."""

    @property
    def x(self) -> Any:
        """What the model is fed."""

    @property
    def y(self) -> Any:
        """What its loss is told."""


def adamw(rate: float, weight_decay: float, clip_norm: float) -> keras.optimizers.Optimizer:
    """The optimizer of every training here; biases and norms do not decay."""
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=weight_decay, beta_2=0.98, global_clipnorm=clip_norm
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def run_steps(
    trainer: keras.Model,
    batches: Sequence[Callable[[], Fed]],
    rate: Callable[[int], float],
    tell: Callable[[int, list[float]], None],
    name: str,
) -> list[float]:
    """Take a step on each batch; the next one is made meanwhile.

    Args:
        trainer: compiled, with an optimizer.
        batches: made when they are wanted, each once.
        rate: learning rate at a step, counted from 0.
        tell: called after every step with (steps done, losses so far).
        name: for the error.

    Returns:
        The loss of each step.

    Raises:
        TfliteAsrError: a loss that is no number.
    """
    losses: list[float] = []
    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(batches[0])
        for i in range(len(batches)):
            batch = waiting.result()
            if i + 1 < len(batches):
                waiting = ahead.submit(batches[i + 1])
            trainer.optimizer.learning_rate = rate(i)
            trainer.reset_metrics()  # Keras averages over calls otherwise
            loss = float(trainer.train_on_batch(batch.x, batch.y))
            if not math.isfinite(loss):
                raise TfliteAsrError(f"{name}: the loss is {loss} at step {i}; lower learning_rate")
            losses.append(loss)
            tell(i + 1, losses)
    return losses
