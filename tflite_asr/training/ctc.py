"""The CTC objective on any Keras backend, as a model that trains another."""

from __future__ import annotations

import keras
from keras import ops

from tflite_asr.training.data import Batch


class CTCTrainer(keras.Model):
    """Trains a CTC model in place; its weights are the model's own.

    Args:
        model: inputs `features`, `mask`; output `logits` [batch, frames, pieces].
        blank_id: the blank's index.
        intermediate: name of a layer whose output [batch, frames, dim] also goes through the model's last layer, and
            that loss's weight (intermediate CTC, Lee and Watanabe 2021).
        teacher: a trained model of the same inputs, logit frames and pieces, and the share of the loss that is the
            distance to it, frame by frame (distillation, Hinton et al. 2015): a model without attention otherwise
            stays for long on CTC's plateau, where every frame is blank.
    """

    def __init__(
        self,
        model: keras.Model,
        blank_id: int,
        intermediate: tuple[str, float] | None = None,
        teacher: tuple[keras.Model, float] | None = None,
    ) -> None:
        super().__init__(name="trainer")
        self.teacher: keras.Model | None = teacher[0] if teacher else None
        self.teacher_weight = teacher[1] if teacher else 0.0
        if self.teacher is not None:
            self.teacher.trainable = False
        self.blank_id, self.weight = blank_id, intermediate[1] if intermediate else 0.0
        self.network = model
        self.outputs_model = model
        if intermediate:
            middle = model.layers[-1](model.get_layer(intermediate[0]).output)
            self.outputs_model = keras.Model(model.inputs, [model.output, middle])

    def fed(self, batch: Batch) -> Batch:
        """What a step is taken on, from what the data gives."""
        return batch

    def call(self, inputs, training=None):
        return self.outputs_model(list(inputs), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Nats a character: the batch's negative log-likelihood over its label count (with the intermediate's), and
        likewise the divergence from the teacher, summed over valid frames."""
        taught = None if self.teacher is None else ops.stop_gradient(self.teacher(list(x), training=False))
        return self.ctc_nats(x, y, y_pred, taught)

    def ctc_nats(self, x, y, y_pred, taught):
        """The loss of the model's logits, given the teacher's or None."""
        labels, label_lengths = y
        frames = ops.cast(ops.sum(x[1], axis=-1), "int32")
        count = ops.cast(ops.sum(label_lengths), "float32")

        def nats(logits):
            return ops.sum(ctc_loss(labels, logits, label_lengths, frames, self.blank_id)) / count

        logits, *middle = y_pred if self.weight else (y_pred,)
        loss = nats(logits)
        if self.weight:
            loss = (1 - self.weight) * loss + self.weight * nats(middle[0])
        if taught is None:
            return loss
        distance = ops.sum(divergence(taught, logits) * x[1]) / count
        return (1 - self.teacher_weight) * loss + self.teacher_weight * distance


def divergence(teacher, student):
    """Kullback-Leibler divergence of the student's pieces from the teacher's in nats, [batch, frames], from logits
    [batch, frames, pieces]."""
    known, guessed = ops.log_softmax(teacher, axis=-1), ops.log_softmax(student, axis=-1)
    return ops.sum(ops.exp(known) * (known - guessed), axis=-1)


def ctc_loss(labels, logits, label_lengths, frames, blank_id: int):
    """Negative log-likelihood in nats, float32 [batch] (Graves et al. 2006).

    labels int32 [batch, longest], logits float32 [batch, frames, pieces], label_lengths and frames int32 [batch].
    """
    if keras.backend.backend() != "tensorflow":
        return ops.ctc_loss(labels, logits, label_lengths, frames, mask_index=blank_id)
    # TensorFlow's dense loss, which Keras calls, walks the frames in a while loop of small ops: half of a training
    # step at 9 s. Sparse labels go to its C++ kernel.
    import tensorflow as tf

    places = tf.where(tf.sequence_mask(label_lengths, tf.shape(labels)[1]))
    shape = tf.shape(labels, out_type=tf.int64)
    sparse = tf.SparseTensor(places, tf.gather_nd(labels, places), shape)
    return tf.nn.ctc_loss(sparse, logits, None, frames, logits_time_major=False, blank_index=blank_id)
