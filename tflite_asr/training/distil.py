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
    """A batch that a teacher has heard: features float32 [batch, frames, mels], mask float32
    [batch, frames / subsampling], logits float32 [batch, frames / subsampling, pieces], the teacher's."""

    features: np.ndarray
    mask: np.ndarray
    logits: np.ndarray

    @property
    def x(self) -> tuple[np.ndarray, np.ndarray]:
        """What the student is fed."""
        return self.features, self.mask

    @property
    def y(self) -> tuple[np.ndarray, np.ndarray]:
        """What it is told."""
        return self.logits, self.mask


class Distiller(keras.Model):
    """Trains a model in place toward logits that a teacher gave (Hinton et al. 2015).

    The student runs as it will when it is used. Batch norms keep the statistics that they have, since those of made-up
    inputs are not those of speech; and dropout, which the teacher is heard without, would be most of the distance that
    there is to learn: with it a Conformer-CTC without one attention came out 2.5 times as far as it went in.

    Args:
        model: inputs `features` and, where it has one, `mask`; output logits [batch, frames, pieces].
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
        """Nats a valid frame: the divergence of the student's distribution from the teacher's."""
        logits, mask = y
        return ops.sum(divergence(logits, y_pred) * mask) / ops.sum(mask)
