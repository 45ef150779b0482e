"""Greedy transcripts of a whole corpus while a model is in training: by CTC, and by an encoder-decoder's attention."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tflite_asr.frontend import FrontEnd
from tflite_asr.models.transformer import TransformerConfig, decode_step_of, encoder_of, initial_state
from tflite_asr.tokens import Tokens
from tflite_asr.training.data import Batch, Corpus, evaluation_batches


class CTCTranscriber:
    """Greedy CTC.

    Args:
        model: inputs `features`, `mask`; output `logits` [batch, frames, pieces].
        tokens: the model's pieces.
    """

    def __init__(self, model: keras.Model, tokens: Tokens) -> None:
        self.model, self.tokens = model, tokens

    def texts(self, batch: Batch) -> dict[str, list[str]]:
        """Texts of a batch by decoder, the one that counts first."""
        logits = keras.ops.convert_to_numpy(self.model.predict_on_batch([batch.features, batch.mask]))
        return {"ctc": self.spelled(logits, batch.mask)}

    def spelled(self, logits: np.ndarray, mask: np.ndarray) -> list[str]:
        """Repeats merged, blanks dropped."""
        texts = []
        for best, valid in zip(logits.argmax(-1), mask, strict=True):
            ids = best[: int(valid.sum())]
            kept = [int(i) for i, before in zip(ids, [-1, *ids[:-1]], strict=True) if i != before]
            texts.append(self.tokens.decode(kept))
        return texts


class AttentionTranscriber(CTCTranscriber):
    """Greedy decoding, token by token with caches, beside CTC's.

    Args:
        model: as `tflite_asr.models.transformer.build_transformer` makes it.
        config: the model's.
        tokens: the model's pieces; the blank starts and ends a sequence.
    """

    def __init__(self, model: keras.Model, config: TransformerConfig, tokens: Tokens) -> None:
        super().__init__(encoder_of(model, config), tokens)
        self.step, self.config = decode_step_of(model, config), config

    def texts(self, batch: Batch) -> dict[str, list[str]]:
        memory = _numpy(self.model.predict_on_batch({"features": batch.features, "mask": batch.mask}))
        ctc = self.spelled(memory.pop("logits"), batch.mask)
        rows, end = len(batch.mask), self.tokens.blank_id
        longest = self.config.longest(batch.features.shape[1])
        state: dict[str, Any] = {
            name: np.zeros((rows, *shape), np.float32)
            for name, shape in initial_state(self.config, longest).items()
        }
        token, history = np.full((rows, 1), end, np.int32), np.zeros((rows, longest), np.float32)
        limits = np.minimum(
            longest, batch.mask.sum(axis=1) * self.config.subsampling / self.config.frames_per_token
        )
        spelled: list[list[int]] = [[] for _ in range(rows)]
        running = np.ones(rows, bool)
        names = {tensor.name for tensor in keras.tree.flatten(self.step.inputs)}
        for count in range(longest):
            history[:, longest - 1 - count] = 1.0
            feeds = {"token": token, "mask": batch.mask, "history": history, **memory, **state}
            feeds["position"] = np.full((rows, 1), count, np.int32)
            state = _numpy(self.step.predict_on_batch({n: v for n, v in feeds.items() if n in names}))
            best = state.pop("logits").argmax(-1).astype(np.int32)
            running &= (best != end) & (count < limits)
            if not running.any():
                break
            for row in np.flatnonzero(running):
                spelled[row].append(int(best[row]))
            token = best[:, None]
        return {"attention": [self.tokens.decode(ids) for ids in spelled], "ctc": ctc}


def _numpy(outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(keras.ops.convert_to_numpy(value)) for name, value in outputs.items()}


def transcripts(
    transcriber: CTCTranscriber,
    corpus: Corpus,
    frontend: FrontEnd,
    subsampling: int,
    batch_seconds: float = 160,
) -> dict[str, list[str]]:
    """Transcripts of a corpus, in its order, by decoder; the first is the one that counts."""
    texts: dict[str, list[str]] = {}
    blank_id = transcriber.tokens.blank_id
    for rows, batch in evaluation_batches(corpus, frontend, subsampling, blank_id, batch_seconds):
        for name, found in transcriber.texts(batch).items():
            whole = texts.setdefault(name, [""] * len(corpus.rows))
            for row, text in zip(rows, found, strict=True):
                whole[row] = text
    return texts
