"""The decoder's loss by NumPy, and its weight beside CTC's."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.random_weights import randomise
from tflite_asr.models import build
from tflite_asr.models.transformer import ctc_part
from tflite_asr.models.transformer_config import TINY
from tflite_asr.training.ctc import ctc_loss, divergence
from tflite_asr.training.data import Batch
from tflite_asr.training.sequence import SequenceTrainer, decoder_loss, previous
from tflite_asr.training.steps import adamw

LABELS = np.array([[3, 5, 5, 2], [7, 0, 0, 0]], np.int32)
LENGTHS = np.array([4, 1], np.int32)


def cross_entropy(logits: np.ndarray, smoothing: float) -> float:
    """Nats a label: of the labels and of the end, blank 0, after each row's last."""
    total = 0.0
    for row, (label, length) in enumerate(zip(LABELS, LENGTHS, strict=True)):
        for place, wanted in enumerate([*label[:length], 0]):
            given = logits[row, place].astype(np.float64)
            logs = given - np.log(np.exp(given).sum())
            target = np.full(len(logs), smoothing / len(logs))
            target[wanted] += 1 - smoothing
            total -= float((target * logs).sum())
    return total / LENGTHS.sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_text_and_end(smoothing: float) -> None:
    logits = np.random.default_rng(0).standard_normal((2, 5, 9)).astype(np.float32)
    loss = float(decoder_loss(logits, LABELS, LENGTHS, 0, smoothing))
    assert loss == pytest.approx(cross_entropy(logits, smoothing), rel=1e-5)


def test_the_decoder_is_told_the_token_before() -> None:
    assert previous(LABELS, 0).tolist() == [[0, 3, 5, 5, 2], [0, 7, 0, 0, 0]]


def test_the_objective_weighs_ctc_and_decoder() -> None:
    model = randomise(build("transformer", TINY))
    trainer = SequenceTrainer(model, 0, ctc_weight=0.3, label_smoothing=0.1)
    rng = np.random.default_rng(1)
    features, mask = rng.standard_normal((2, 40, 80)).astype(np.float32), np.ones((2, 10), np.float32)
    batch = trainer.fed(Batch(features, mask, LABELS, LENGTHS))
    assert [one.shape for one in batch.x] == [(2, 40, 80), (2, 10), (2, 5)]
    ctc, decoder = trainer(batch.x)
    loss = float(trainer.compute_loss(batch.x, batch.y, (ctc, decoder)))
    frames = np.full(2, 10, np.int32)
    by_ctc = float(np.sum(ctc_loss(LABELS, ctc, LENGTHS, frames, 0))) / LENGTHS.sum()
    assert loss == pytest.approx(0.3 * by_ctc + 0.7 * cross_entropy(np.asarray(decoder), 0.1), rel=1e-5)


@pytest.mark.parametrize("spelling", [True, False])
def test_a_teacher_that_spells_teaches_the_decoder_too(spelling: bool) -> None:
    model, other = (randomise(build("transformer", TINY), seed=seed) for seed in (1, 2))
    teacher = other if spelling else ctc_part(other)
    trainer = SequenceTrainer(model, 0, 0.3, 0.1, (teacher, 0.25))
    rng = np.random.default_rng(1)
    features, mask = rng.standard_normal((2, 40, 80)).astype(np.float32), np.ones((2, 10), np.float32)
    batch = trainer.fed(Batch(features, mask, LABELS, LENGTHS))
    ctc, decoder = trainer(batch.x)
    loss = float(trainer.compute_loss(batch.x, batch.y, (ctc, decoder)))
    by_ctc = float(np.sum(ctc_loss(LABELS, ctc, LENGTHS, np.full(2, 10, np.int32), 0))) / LENGTHS.sum()
    theirs = [np.asarray(one) for one in other(list(batch.x), training=False)]
    apart = np.asarray(divergence(theirs[0], ctc)).sum() / LENGTHS.sum()
    nats = np.asarray(divergence(theirs[1], decoder))
    spelled = (nats[0, :5].sum() + nats[1, :2].sum()) / LENGTHS.sum()
    by_text = cross_entropy(np.asarray(decoder), 0.1)
    by_decoder = 0.75 * by_text + 0.25 * spelled if spelling else by_text
    expected = 0.3 * (0.75 * by_ctc + 0.25 * apart) + 0.7 * by_decoder
    assert loss == pytest.approx(expected, rel=1e-5)


def test_batches_of_several_lengths_go_through_one_trainer() -> None:
    """TensorFlow traces a step again for lengths that it has not seen, and then leaves them open."""
    trainer = SequenceTrainer(build("transformer", TINY), 0, ctc_weight=0.3, label_smoothing=0.1)
    trainer.compile(optimizer=adamw(1e-3, 0.0, 1.0))
    rng = np.random.default_rng(2)
    for frames, longest in ((40, 4), (48, 6), (56, 5)):
        features, mask = rng.standard_normal((2, frames, 80)), np.ones((2, frames // 4))
        labels = np.pad(LABELS, ((0, 0), (0, longest - 4)))
        batch = Batch(features.astype(np.float32), mask.astype(np.float32), labels, LENGTHS)
        fed = trainer.fed(batch)
        assert np.isfinite(float(trainer.train_on_batch(fed.x, fed.y)))
