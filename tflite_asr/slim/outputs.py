"""What a model says of some clips, and how far another model is from saying the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from tflite_asr.facts import ModelFacts
from tflite_asr.models.spelling import BatchSpeller, sampler, tokens_before
from tflite_asr.models.transformer import spells
from tflite_asr.slim.slim import model_config


class Reference:
    """The full model's output distribution, to hold smaller ones against.

    The one place that knows what an output distribution is. CTC has one at every frame. That of an encoder-decoder is
    its decoder's at every token, given tokens that the full model drew of its own distribution.

    Args:
        model, facts: the full model.
        clips: float32 [frames, mels] each, valid frames only.
        spelled: tokens of each clip, for an encoder-decoder; None to draw them here.
        seed: of the drawn tokens.
    """

    def __init__(
        self,
        model: keras.Model,
        facts: ModelFacts,
        clips: Sequence[np.ndarray],
        spelled: Sequence[Sequence[int]] | None = None,
        seed: int = 0,
    ) -> None:
        self.facts, self.clips, self.spelled = facts, list(clips), spelled
        if spelled is None and spells(model):
            self.spelled = drawn_tokens(model, facts, self.clips, seed)
        self.said = log_probabilities(model, facts, self.clips, self.spelled)

    def divergence(self, model: keras.Model) -> float:
        """Mean over valid frames, or tokens, of KL(full model || this one), in nats."""
        return divergence(self.said, log_probabilities(model, self.facts, self.clips, self.spelled))


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over frames of KL(first || second); both log-probabilities float [frames, pieces]."""
    return float((np.exp(first) * (first - second)).sum(axis=-1).mean())


def drawn_tokens(
    model: keras.Model, facts: ModelFacts, clips: Sequence[np.ndarray], seed: int
) -> list[list[int]]:
    """Tokens that an encoder-decoder draws for each clip, without the end."""
    speller = BatchSpeller(model, model_config(facts), traced=False)
    found: list[list[int]] = [[] for _ in clips]
    for places, features, mask in _alike(facts, clips):
        tokens, _ = speller.spell(features, mask, facts.blank_id, sampler(seed + len(features[0])))
        for place, one in zip(places, tokens, strict=True):
            found[place] = one
    return found


def log_probabilities(
    model: keras.Model,
    facts: ModelFacts,
    clips: Sequence[np.ndarray],
    spelled: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """Log-softmax over every frame of every clip, or over every token of `spelled` and its end: float64
    [all of them, pieces]."""
    rows = []
    for places, *batch in _alike(facts, clips):
        if spelled is None:
            logits = keras.ops.convert_to_numpy(model(batch[: len(model.inputs)], training=False))
            valid = np.ones(logits.shape[:2], bool)
        else:
            tokens, valid = tokens_before([spelled[place] for place in places], facts.blank_id)
            logits = keras.ops.convert_to_numpy(model([*batch, tokens], training=False)[1])
        said = logits[valid].astype(np.float64)
        said -= said.max(axis=-1, keepdims=True)
        rows.append(said - np.log(np.exp(said).sum(axis=-1, keepdims=True)))
    return np.concatenate(rows)


def _alike(
    facts: ModelFacts, clips: Sequence[np.ndarray]
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Places of the clips of one length, their features and mask, cut to whole logit frames."""
    for length in dict.fromkeys(map(len, clips)):
        places = [place for place, clip in enumerate(clips) if len(clip) == length]
        steps = length // facts.subsampling
        features = np.stack([clips[place][: steps * facts.subsampling] for place in places])
        yield places, features, np.ones((len(places), steps), np.float32)
