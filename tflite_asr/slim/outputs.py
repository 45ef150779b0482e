"""What a model says of some clips, and how far another model is from saying the same."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from tflite_asr.facts import ModelFacts


class Reference:
    """The full model's output distribution, to hold smaller ones against.

    The one place that knows what an output distribution is. CTC has one at every frame. That of an encoder-decoder is
    its decoder's at every token, given the tokens that the full model decodes, which are then kept here with it.

    Args:
        model, facts: the full model.
        clips: float32 [frames, mels] each, valid frames only.
    """

    def __init__(self, model: keras.Model, facts: ModelFacts, clips: Sequence[np.ndarray]) -> None:
        self.facts, self.clips = facts, list(clips)
        self.said = log_probabilities(model, facts, self.clips)

    def divergence(self, model: keras.Model) -> float:
        """Mean over valid frames of KL(full model || this one), in nats."""
        return divergence(self.said, log_probabilities(model, self.facts, self.clips))


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over frames of KL(first || second); both log-probabilities float [frames, pieces]."""
    return float((np.exp(first) * (first - second)).sum(axis=-1).mean())


def log_probabilities(model: keras.Model, facts: ModelFacts, features: Sequence[np.ndarray]) -> np.ndarray:
    """Log-softmax over every frame of every clip, float64 [all frames, pieces]."""
    rows = []
    for length in dict.fromkeys(map(len, features)):
        steps = length // facts.subsampling
        clips = np.stack([clip[: steps * facts.subsampling] for clip in features if len(clip) == length])
        batch = [clips, np.ones((len(clips), steps), np.float32)]
        logits = keras.ops.convert_to_numpy(model(batch[: len(model.inputs)], training=False)).astype(
            np.float64
        )
        logits -= logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        rows.append(logits.reshape(-1, logits.shape[-1]))
    return np.concatenate(rows)
