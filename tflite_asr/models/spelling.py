"""An encoder-decoder that spells while it is a Keras model: a batch of utterances at a time, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tflite_asr.models.transformer import decode_step_of, encoder_of
from tflite_asr.models.transformer_config import TransformerConfig, initial_state

Choose = Callable[[np.ndarray], np.ndarray]
Cut = Callable[[Sequence[int]], "tuple[int, ...] | None"]


def greedy(logits: np.ndarray) -> np.ndarray:
    """The best piece of each row: int64 [rows] of float [rows, pieces]."""
    return logits.argmax(axis=-1)


def sampler(seed: int) -> Choose:
    """Draws each row's piece from its distribution (by Gumbel noise); the same draws for the same seed."""
    rng = np.random.default_rng(seed)
    return lambda logits: (logits + rng.gumbel(size=logits.shape)).argmax(axis=-1)


def tokens_before(spelled: Sequence[Sequence[int]], end_id: int) -> tuple[np.ndarray, np.ndarray]:
    """What an encoder-decoder is told of texts, ends not counted: the token before each token and before the end,
    int32 [texts, longest + 1], padded with the end; and where there is one, bool of the same shape."""
    tokens = np.full((len(spelled), max(map(len, spelled), default=0) + 1), end_id, np.int32)
    valid = np.zeros(tokens.shape, bool)
    for row, ids in enumerate(spelled):
        tokens[row, 1 : len(ids) + 1] = ids
        valid[row, : len(ids) + 1] = True
    return tokens, valid


class BatchSpeller:
    """The two halves of an encoder-decoder, run as they are in a bundle, on many utterances at once.

    Args:
        model: as `tflite_asr.models.transformer.build_transformer` makes it.
        config: the model's.
        traced: compile the halves: worth it where one model hears much, and not where many models hear little.
    """

    def __init__(self, model: keras.Model, config: TransformerConfig, traced: bool = True) -> None:
        self.config, self.traced = config, traced
        self.encoder, self.step = encoder_of(model, config), decode_step_of(model, config)
        self._fed = {tensor.name for tensor in keras.tree.flatten(self.step.inputs)}

    def spell(
        self,
        features: np.ndarray,
        mask: np.ndarray,
        end_id: int,
        choose: Choose = greedy,
        cut: Cut | None = None,
        watch: Callable[[int, dict[str, np.ndarray]], None] = lambda count, feeds: None,
    ) -> tuple[list[list[int]], np.ndarray]:
        """Tokens of each utterance, without the end, and CTC's logits.

        Args:
            features, mask: as the model takes them, float32 [batch, frames, mels] and [batch, frames / subsampling].
            end_id: of start and end.
            choose: the next pieces from logits float32 [batch, pieces].
            cut: given a row's tokens, what is to be left of them where they have begun to go round in circles, or None.
            watch: told what each step is fed, and its number.

        Returns:
            the tokens, as many as the caches and the valid frames have room for at the most; logits float32
            [batch, frames / subsampling, pieces].
        """
        config, rows = self.config, len(mask)
        memory = self._run(self.encoder, {"features": features, "mask": mask})
        logits = memory.pop("logits")
        longest = config.longest(features.shape[1])
        state: dict[str, Any] = {
            name: np.zeros((rows, *shape), np.float32)
            for name, shape in initial_state(config, longest).items()
        }
        token, history = np.full((rows, 1), end_id, np.int32), np.zeros((rows, longest), np.float32)
        limits = np.minimum(longest, mask.sum(axis=1) * config.subsampling / config.frames_per_token)
        spelled: list[list[int]] = [[] for _ in range(rows)]
        running = np.ones(rows, bool)
        for count in range(longest):
            history[:, longest - 1 - count] = 1.0
            feeds = {"token": token, "mask": mask, "history": history, **memory, **state}
            feeds["position"] = np.full((rows, 1), count, np.int32)
            watch(count, feeds)
            state = self._run(self.step, {name: feeds[name] for name in self._fed})
            chosen = choose(state.pop("logits")).astype(np.int32)
            running &= (chosen != end_id) & (count < limits)
            for row in np.flatnonzero(running):
                spelled[row].append(int(chosen[row]))
                if cut is not None and (left := cut(spelled[row])) is not None:
                    spelled[row], running[row] = list(left), False
            if not running.any():
                break
            token = chosen[:, None]
        return spelled, logits

    def _run(self, half: keras.Model, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
        outputs = half.predict_on_batch(feeds) if self.traced else half(feeds, training=False)
        return {name: np.array(keras.ops.convert_to_numpy(value)) for name, value in outputs.items()}
