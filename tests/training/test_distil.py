"""A student learns what its teacher said of valid frames, and steps are taken in order."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.training.distil import Distiller, Taught
from tflite_asr.training.steps import adamw, run_steps


def student() -> keras.Model:
    features, mask = keras.Input((None, 3), name="features"), keras.Input((None,), name="mask")
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(features)
    x = keras.layers.Dropout(0.5)(x)  # would change the loss from one step to the next
    return keras.Model([features, mask], keras.layers.Dense(4)(x))


def taught(seed: int) -> Taught:
    """Two clips of five frames, the second one two frames long."""
    rng = np.random.default_rng(seed)
    mask = np.ones((2, 5), np.float32)
    mask[1, 2:] = 0
    features, logits = rng.normal(3, 1, (2, 5, 3)), rng.normal(0, 2, (2, 5, 4))
    return Taught((features.astype(np.float32), mask), (logits.astype(np.float32),), (mask,))


def by_hand(batch: Taught, said: np.ndarray) -> float:
    """Nats a valid frame, one frame after the other."""
    total = 0.0
    for clip, frame in zip(*np.nonzero(batch.valid[0]), strict=True):
        p = np.exp(batch.logits[0][clip, frame].astype(np.float64))
        q = np.exp(said[clip, frame].astype(np.float64))
        p, q = p / p.sum(), q / q.sum()
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / batch.valid[0].sum()


def test_the_loss_is_nats_a_valid_frame_without_dropout_and_batch_norm_keeps_its_statistics() -> None:
    model, batch = student(), taught(0)
    expected = by_hand(batch, np.asarray(model(list(batch.x), training=False)))
    norm = (
        model.layers[1] if isinstance(model.layers[1], keras.layers.BatchNormalization) else model.layers[2]
    )
    held = [np.array(norm.moving_mean), np.array(norm.moving_variance)]
    trainer = Distiller(model)
    trainer.compile(optimizer=adamw(1e-2, 0.0, 1.0))
    kernel = np.array(model.layers[-1].kernel)
    rates, seen = [], []

    def rate(step: int) -> float:
        rates.append(step)
        return 1e-2

    losses = run_steps(trainer, [lambda: batch] * 30, rate, lambda done, _: seen.append(done), "test")
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < losses[0]
    assert rates == list(range(30))
    assert seen == list(range(1, 31))
    assert not np.array_equal(kernel, model.layers[-1].kernel)
    assert np.array_equal(held[0], norm.moving_mean)
    assert np.array_equal(held[1], norm.moving_variance)


def test_a_loss_that_is_no_number_ends_the_training_in_one_line() -> None:
    batch = taught(0)
    broken = Taught(batch.inputs, (np.full_like(batch.logits[0], np.nan),), batch.valid)
    trainer = Distiller(student())
    trainer.compile(optimizer=adamw(1e-2, 0.0, 1.0))
    with pytest.raises(TfliteAsrError, match="recovery 1: the loss is nan at step 1; lower learning_rate"):
        run_steps(trainer, [lambda: batch, lambda: broken], lambda _: 1e-2, lambda *_: None, "recovery 1")
