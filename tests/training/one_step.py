"""A few training steps of the tiny Conformer on the backend of $KERAS_BACKEND; run as a program, prints JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import keras
import numpy as np

from tests.models.random_weights import randomise
from tflite_asr.models import build
from tflite_asr.models.conformer import TINY
from tflite_asr.training.ctc import CTCTrainer


def losses(steps: int = 4) -> list[float]:
    """Losses of the same weights on the same batch, without dropout: alike on every backend, up to rounding."""
    keras.utils.set_random_seed(0)
    model = randomise(build("conformer", replace(TINY, dropout=0.0, positions="relative")))
    trainer = CTCTrainer(model, blank_id=0, intermediate=("encoder.block0.norm", 0.3))
    optimizer = keras.optimizers.AdamW(1e-2, weight_decay=0.01, beta_2=0.98, global_clipnorm=1.0)
    trainer.compile(optimizer=optimizer, jit_compile=keras.backend.backend() == "jax")
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3, 64, 80)).astype(np.float32)
    mask = np.ones((3, 16), np.float32)
    mask[2, 12:] = 0
    labels = rng.integers(1, 29, (3, 8)).astype(np.int32)
    lengths = np.array([5, 3, 4], np.int32)
    found = []
    for _ in range(steps):
        trainer.reset_metrics()
        found.append(float(trainer.train_on_batch((features, mask), (labels, lengths))))
    return found


if __name__ == "__main__":
    print(json.dumps({"backend": keras.backend.backend(), "losses": losses()}))
