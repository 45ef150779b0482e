"""Random label sequences, and how likely a CTC model finds them: what pulls inputs where no batch norm remembers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.synthesis.shapes import ModelInputs

# From dictated word pieces to characters read fast; drawn anew for each clip.
PIECES_PER_SECOND = (4.0, 12.0)


def check_ctc(model: Any, facts: ModelFacts | None) -> None:
    """Refuse a model that labels cannot pull.

    Raises:
        TfliteAsrError: no tokens in the facts, or no single output of logits [batch, frames, pieces].
    """
    if facts is None or facts.tokens is None:
        raise TfliteAsrError(
            f"{model.name}: synthetic:labels needs the tokens and the blank; write them into its .toml or use synthetic"
        )
    shapes = [tuple(tensor.shape) for tensor in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != len(facts.tokens.pieces):
        raise TfliteAsrError(
            f"{model.name}: gives {', '.join(map(str, shapes))}; synthetic:labels needs CTC logits [batch, frames, "
            f"{len(facts.tokens.pieces)}], use synthetic"
        )


def draw_labels(rng: np.random.Generator, frames: int, shape: ModelInputs, facts: ModelFacts) -> np.ndarray:
    """A sequence of pieces, none of them the blank, as long as speech of `frames` feature frames could say.

    Every piece is as likely as any other, so that each one's weights are used. At most half of the logit frames: then
    even a run of one piece fits, with blanks between.

    Returns:
        int32 [pieces], one or more.
    """
    assert facts.tokens is not None
    hop = facts.frontend.hop_seconds if facts.frontend else 0.01
    wanted = round(rng.uniform(*PIECES_PER_SECOND) * frames * hop)
    length = max(1, min(wanted, frames // shape.subsampling // 2))
    spoken = np.setdiff1d(np.arange(len(facts.tokens.pieces)), [facts.tokens.blank_id])
    return rng.choice(spoken, length).astype(np.int32)


def stacked(sequences: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Labels int32 [batch, longest], zeros after each end, and their lengths, int32 [batch]."""
    lengths = np.array([len(one) for one in sequences], np.int32)
    labels = np.zeros((len(sequences), max(1, lengths.max(initial=0))), np.int32)
    for row, one in zip(labels, sequences, strict=True):
        row[: len(one)] = one
    return labels, lengths


def nats_per_label(logits: Any, labels: Any, lengths: Any, blank_id: int) -> Any:
    """Mean over clips of the CTC loss (Graves et al. 2006) divided by the number of labels, a float32 scalar.

    logits: float32 [batch, frames, pieces], all frames valid. labels, lengths: as `stacked` gives them.
    """
    import tensorflow as tf

    places = tf.where(tf.sequence_mask(lengths, tf.shape(labels)[1]))
    sparse = tf.SparseTensor(places, tf.gather_nd(labels, places), tf.shape(labels, out_type=tf.int64))
    frames = tf.fill(tf.shape(lengths), tf.shape(logits)[1])
    loss = tf.nn.ctc_loss(sparse, logits, None, frames, logits_time_major=False, blank_index=blank_id)
    return tf.reduce_mean(loss / tf.cast(lengths, tf.float32))
