"""The CTC objective on any Keras backend, as a model that trains another."""

from __future__ import annotations

import keras
from keras import ops


class CTCTrainer(keras.Model):
    """Trains a CTC model in place; its weights are the model's own.

    Args:
        model: inputs `features`, `mask`; output `logits` [batch, frames, pieces].
        blank_id: the blank's index.
        intermediate: name of a layer whose output [batch, frames, dim] also goes through the model's last layer, and
            that loss's weight (intermediate CTC, Lee and Watanabe 2021).
    """

    def __init__(
        self, model: keras.Model, blank_id: int, intermediate: tuple[str, float] | None = None
    ) -> None:
        super().__init__(name="trainer")
        self.blank_id, self.weight = blank_id, intermediate[1] if intermediate else 0.0
        self.network = model
        self.outputs_model = model
        if intermediate:
            middle = model.layers[-1](model.get_layer(intermediate[0]).output)
            self.outputs_model = keras.Model(model.inputs, [model.output, middle])

    def call(self, inputs, training=None):
        return self.outputs_model(list(inputs), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Nats a character: the batch's negative log-likelihood over its label count (plus the intermediate's)."""
        labels, label_lengths = y
        frames = ops.cast(ops.sum(x[1], axis=-1), "int32")
        count = ops.cast(ops.sum(label_lengths), "float32")

        def nats(logits):
            return ops.sum(ctc_loss(labels, logits, label_lengths, frames, self.blank_id)) / count

        if not self.weight:
            return nats(y_pred)
        return (1 - self.weight) * nats(y_pred[0]) + self.weight * nats(y_pred[1])


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
