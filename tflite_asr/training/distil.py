"""The frame-wise objective of distillation: no text, no labels, only what another model said of the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from tflite_asr.training.ctc import divergence


@dataclass(frozen=True)
class Taught:
    """A batch that a teacher has heard.

    Attributes:
        inputs: what the student is fed: features float32 [batch, frames, mels], mask float32
            [batch, frames / subsampling] and, for an encoder-decoder, tokens int32 [batch, tokens].
        logits: the teacher's, one for each output of the model, float32 [batch, frames / subsampling, pieces] and
            [batch, tokens, pieces].
        valid: 1 where they count, float32 of their first two axes.
    """

    inputs: tuple[np.ndarray, ...]
    logits: tuple[np.ndarray, ...]
    valid: tuple[np.ndarray, ...]

    @property
    def x(self) -> tuple[np.ndarray, ...]:
        """What the student is fed."""
        return self.inputs

    @property
    def y(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """What it is told."""
        return self.logits, self.valid


class Distiller(keras.Model):
    """Trains a model in place toward logits that a teacher gave (Hinton et al. 2015).

    The student runs as it will when it is used. Batch norms keep the statistics that they have, since those of made-up
    inputs are not those of speech; and dropout, which the teacher is heard without, would be most of the distance that
    there is to learn: with it a Conformer-CTC without one attention came out 2.5 times as far as it went in.

    Args:
        model: inputs `features` and, where it has one, `mask`; output logits [batch, frames, pieces]. Or an
            encoder-decoder, which is told tokens too, and gives its decoder's logits besides.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name="distiller")
        self.network = model

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.network(list(inputs)[: len(self.network.inputs)], training=False)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Nats a valid frame: the divergence of the student's distribution from the teacher's. With a decoder the
        mean of that and of its nats a token."""
        outputs = y_pred if isinstance(y_pred, (list, tuple)) else [y_pred]
        nats = [
            ops.sum(divergence(logits, said) * valid) / ops.sum(valid)
            for logits, said, valid in zip(y[0], outputs, y[1], strict=True)
        ]
        return sum(nats) / len(nats)
