"""The CTC objective against every alignment written out, and the same step on every Keras backend."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tflite_asr.training.ctc import CTCTrainer

FRAMES, PIECES = 5, 3


def nats(logits: np.ndarray, label: list[int], blank_id: int) -> float:
    """-log of the summed probability of every path that collapses to the label (Graves et al. 2006, equation 3)."""
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(logits.shape[-1]), repeat=len(logits)):
        collapsed = [piece for piece, _ in itertools.groupby(path) if piece != blank_id]
        if collapsed == label:
            total += np.prod([shares[t, piece] for t, piece in enumerate(path)])
    return -np.log(total)


def pass_through(middle: bool = False) -> keras.Model:
    """A model whose logits are its features; the last layer is a Dense without effect."""
    x, mask = keras.Input((None, PIECES), name="features"), keras.Input((None,), name="mask")
    inner = keras.layers.Rescaling(0.5, name="middle")(x)
    dense = keras.layers.Dense(PIECES, use_bias=False, kernel_initializer="identity", name="out")
    return keras.Model([x, mask], dense(keras.layers.Rescaling(2.0)(inner)))


def batch(blank_id: int) -> tuple[tuple, tuple, list[list[int]], list[int]]:
    """Two utterances of 5 and 3 frames; a doubled label needs a blank between."""
    logits = np.random.default_rng(0).standard_normal((2, FRAMES, PIECES)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.float32)
    one, two = [piece for piece in range(PIECES) if piece != blank_id]
    texts = [[one, one, two], [two]]
    labels = np.full((2, 4), blank_id, np.int32)
    for row, text in enumerate(texts):
        labels[row, : len(text)] = text
    return (logits, mask), (labels, np.array([3, 1], np.int32)), texts, [5, 3]


@pytest.mark.parametrize("blank_id", [0, 1, 2])
def test_the_loss_is_that_of_all_alignments(blank_id: int) -> None:
    x, y, texts, frames = batch(blank_id)
    trainer = CTCTrainer(pass_through(), blank_id)
    loss = trainer.compute_loss(x, y, trainer(x))
    expected = (
        sum(nats(x[0][row, : frames[row]], texts[row], blank_id) for row in range(2)) / 4
    )  # four characters
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_intermediate_ctc_is_weighed_in() -> None:
    x, y, texts, frames = batch(0)
    trainer = CTCTrainer(pass_through(), 0, ("middle", 0.3))
    loss = trainer.compute_loss(x, y, trainer(x))
    last, inner = (
        sum(nats(scale * x[0][row, : frames[row]], texts[row], 0) for row in range(2)) / 4
        for scale in (1.0, 0.5)
    )
    assert float(loss) == pytest.approx(0.7 * last + 0.3 * inner, rel=1e-5)


def test_the_trainer_adds_no_weights() -> None:
    model = pass_through()
    trainer = CTCTrainer(model, 0, ("middle", 0.3))
    assert [w.path for w in trainer.trainable_variables] == [w.path for w in model.trainable_variables]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_runs_on_other_backends_with_the_same_losses(backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed here; training on it needs `pip install {backend}`")
    from tests.training.one_step import losses

    run = subprocess.run(
        [sys.executable, "-m", "tests.training.one_step"],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.strip().splitlines()[-1])
    assert found["backend"] == backend
    np.testing.assert_allclose(found["losses"], losses(), rtol=1e-3)


def test_training_runs_on_tensorflow_with_the_losses_of_the_other_backends() -> None:
    """What jax 0.10.2 and torch 2.13.0 gave for the same weights and batch, to six digits."""
    from tests.training.one_step import losses

    found = losses()
    np.testing.assert_allclose(found, [8.49968, 4.88278, 3.89920, 3.30672], rtol=1e-3)


def test_a_teacher_adds_its_divergence_over_valid_frames() -> None:
    x, y, texts, frames = batch(0)
    teacher = keras.Model(*(lambda m: (m.inputs, keras.layers.Rescaling(-0.5)(m.output)))(pass_through()))
    trainer = CTCTrainer(pass_through(), 0, teacher=(teacher, 0.25))
    loss = float(trainer.compute_loss(x, y, trainer(x)))
    distance, alone = 0.0, 0.0
    for row in range(2):
        given = x[0][row, : frames[row]].astype(np.float64)
        p, q = (np.exp(v) / np.exp(v).sum(axis=-1, keepdims=True) for v in (-0.5 * given, given))
        distance += float(np.sum(p * np.log(p / q)))
        alone += nats(x[0][row, : frames[row]], texts[row], 0)
    assert loss == pytest.approx((0.75 * alone + 0.25 * distance) / 4, rel=1e-5)


def test_only_the_student_is_trained() -> None:
    student, teacher = pass_through(), pass_through()
    trainer = CTCTrainer(student, 0, teacher=(teacher, 0.5))
    assert [v.path for v in trainer.trainable_variables] == [v.path for v in student.trainable_variables]
