"""Greedy transcripts of a whole corpus while a model is in training: by CTC, and by an encoder-decoder's attention."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tflite_asr.decoding.attention import without_loop
from tflite_asr.frontend import FrontEnd
from tflite_asr.models.spelling import BatchSpeller
from tflite_asr.models.transformer import spells
from tflite_asr.models.transformer_config import TransformerConfig
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
        super().__init__(model, tokens)
        self.speller = BatchSpeller(model, config)

    def texts(self, batch: Batch) -> dict[str, list[str]]:
        ids, logits = self.speller.spell(batch.features, batch.mask, self.tokens.blank_id, cut=without_loop)
        return {
            "attention": [self.tokens.decode(some) for some in ids],
            "ctc": self.spelled(logits, batch.mask),
        }


def transcriber_of(model: keras.Model, config: Any, tokens: Tokens) -> CTCTranscriber:
    """What reads a model on dev."""
    return AttentionTranscriber(model, config, tokens) if spells(model) else CTCTranscriber(model, tokens)


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
