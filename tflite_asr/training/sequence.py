"""The joint CTC/attention objective (Watanabe et al. 2017) on any Keras backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from tflite_asr.models.transformer import spells
from tflite_asr.training.ctc import CTCTrainer, divergence
from tflite_asr.training.data import Batch


@dataclass(frozen=True)
class SequenceBatch(Batch):
    """A batch with the token before each token and before the end: int32 [batch, longest + 1]."""

    tokens: np.ndarray

    @property
    def x(self) -> tuple[np.ndarray, ...]:
        return self.features, self.mask, self.tokens


class SequenceTrainer(CTCTrainer):
    """Trains an encoder-decoder in place; its weights are the model's own.

    Args:
        model: inputs `features`, `mask`, `tokens`; outputs CTC's logits [batch, frames, pieces] and the decoder's
            [batch, tokens, pieces].
        blank_id: CTC's blank, and the decoder's start and end.
        ctc_weight: share of the loss that is CTC's (with the teacher's, as `CTCTrainer` has it).
        label_smoothing: share of the decoder's targets that is spread over all pieces (Szegedy et al. 2016).
        teacher: as `CTCTrainer` takes it, of CTC's logits; an encoder-decoder, of the same tokens, is one of the
            decoder's too, and with the same share.
    """

    def __init__(
        self,
        model: keras.Model,
        blank_id: int,
        ctc_weight: float,
        label_smoothing: float,
        teacher: tuple[keras.Model, float] | None = None,
    ) -> None:
        super().__init__(model, blank_id, teacher=teacher)
        self.ctc_weight, self.label_smoothing = ctc_weight, label_smoothing

    def fed(self, batch: Batch) -> SequenceBatch:
        return SequenceBatch(
            batch.features,
            batch.mask,
            batch.labels,
            batch.label_lengths,
            previous(batch.labels, self.blank_id),
        )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Nats a character, of CTC and of the decoder."""
        taught: Any = (None, None)
        if self.teacher is not None:
            said = self.teacher(list(x)[: len(self.teacher.inputs)], training=False)
            logits = said if spells(self.teacher) else (said, None)
            taught = [one if one is None else ops.stop_gradient(one) for one in logits]
        ctc = self.ctc_nats(x[:2], y, y_pred[0], taught[0])
        labels, label_lengths = y
        nats = decoder_loss(y_pred[1], labels, label_lengths, self.blank_id, self.label_smoothing)
        if taught[1] is not None:
            distance = decoder_distance(taught[1], y_pred[1], label_lengths)
            nats = (1 - self.teacher_weight) * nats + self.teacher_weight * distance
        return self.ctc_weight * ctc + (1 - self.ctc_weight) * nats


def previous(labels: np.ndarray, start_id: int) -> np.ndarray:
    """The token before each of [labels..., end]: int32 [batch, longest + 1] of labels [batch, longest]."""
    return np.concatenate([np.full((len(labels), 1), start_id, np.int32), labels], axis=1)


def decoder_loss(logits: Any, labels: Any, label_lengths: Any, end_id: int, smoothing: float) -> Any:
    """Cross-entropy of the labels and the end after them in nats a label, with label smoothing.

    logits float32 [batch, longest + 1, pieces], labels int32 [batch, longest] padded with end_id, label_lengths int32
    [batch].
    """
    targets = ops.pad(ops.cast(labels, "int32"), ((0, 0), (0, 1)), constant_values=end_id)
    log_probabilities = ops.log_softmax(logits, axis=-1)
    pieces = logits.shape[-1]
    wanted = ops.sum(log_probabilities * ops.one_hot(targets, pieces), axis=-1)
    nats = -(1 - smoothing) * wanted - smoothing * ops.mean(log_probabilities, axis=-1)
    return _a_label(nats, label_lengths)


def decoder_distance(teacher: Any, logits: Any, label_lengths: Any) -> Any:
    """Divergence from the teacher over the labels and the end after them, in nats a label; both float32
    [batch, longest + 1, pieces]."""
    return _a_label(divergence(teacher, logits), label_lengths)


def _a_label(nats: Any, label_lengths: Any) -> Any:
    """Sum over the labels and the ends, of nats [batch, longest + 1], by the number of labels."""
    longest = ops.shape(nats)[1]  # unknown while TensorFlow traces batches of several lengths
    spelled = ops.expand_dims(ops.arange(longest), 0) <= ops.expand_dims(ops.cast(label_lengths, "int32"), 1)
    return ops.sum(nats * ops.cast(spelled, "float32")) / ops.cast(ops.sum(label_lengths), "float32")
