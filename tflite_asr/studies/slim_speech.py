"""Real speech that a slimming study judges by: features made once, heard by many models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.audio import read_audio
from tflite_asr.decoding.attention import without_loop
from tflite_asr.decoding.ctc import greedy_ctc
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import log_mel
from tflite_asr.manifest import Utterance, read_manifest
from tflite_asr.measure.evaluate import corpus_names
from tflite_asr.measure.wer import ErrorCounts, word_errors

BATCH_SECONDS = 60.0  # padding included
# Texts of a batch: what the model is fed, and the valid logit frames of each row.
Read = Callable[[list[np.ndarray], list[int]], list[str]]


class DevSpeech:
    """Utterances of some manifests.

    Args:
        manifests: each a corpus. limit: of each, its first utterances only.
        facts: with a front end and tokens.

    Raises:
        TfliteAsrError: a broken manifest.
    """

    def __init__(self, manifests: Sequence[Path], facts: ModelFacts, limit: int | None = None) -> None:
        self.facts = facts
        self.corpora: dict[str, list[Utterance]] = {
            name: read_manifest(path, facts.tokens)[:limit] for path, name in corpus_names(manifests).items()
        }
        self.utterances = [one for some in self.corpora.values() for one in some]
        self._features: list[np.ndarray] = []

    @property
    def sha256(self) -> str:
        """Of the texts and the audio, by name and size."""
        rows = [
            [one.audio_filepath.name, one.audio_filepath.stat().st_size, one.text] for one in self.utterances
        ]
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    def errors(self, model: Any, facts: ModelFacts | None = None) -> ErrorCounts:
        """Word errors of each utterance under greedy decoding, the corpora one after the other.

        facts: of a model with other modules than the one whose facts the speech was read by.
        """
        texts = transcripts(model, facts or self.facts, self.features())
        return word_errors([one.text for one in self.utterances], texts)

    def by_corpus(self, errors: ErrorCounts) -> dict[str, float]:
        """Word error rate of each corpus, a fraction."""
        found, start = {}, 0
        for name, some in self.corpora.items():
            part = slice(start, start + len(some))
            found[name] = ErrorCounts(*(values[part] for values in vars(errors).values())).rate
            start += len(some)
        return found

    def features(self) -> list[np.ndarray]:
        """float32 [frames, mels] an utterance."""
        if not self._features:
            frontend = self.facts.frontend
            assert frontend is not None
            self._features = [
                log_mel(read_audio(one.audio_filepath, frontend.sample_rate), frontend)
                for one in self.utterances
            ]
        return self._features


def transcripts(model: Any, facts: ModelFacts, clips: Sequence[np.ndarray]) -> list[str]:
    """Greedy texts, in the clips' order: by CTC, or by an encoder-decoder's attention."""
    from tflite_asr.models.transformer import ctc_part, spells
    from tflite_asr.synthesis.shapes import model_inputs

    shape, texts = model_inputs(ctc_part(model), facts), [""] * len(clips)
    assert facts.frontend is not None
    read = _by_attention(model, facts) if spells(model) else _by_ctc(model, facts)
    # A decoder's step costs much the same for one clip as for many.
    seconds = BATCH_SECONDS * (5 if spells(model) else 1)
    for rows in _batches([len(clip) for clip in clips], seconds / facts.frontend.hop_seconds):
        batch = shape.batch([clips[i] for i in rows])
        frames = [-(-len(clips[i]) // facts.subsampling) for i in rows]
        for row, text in zip(rows, read(batch, frames), strict=True):
            texts[row] = text
    return texts


def _by_ctc(model: Any, facts: ModelFacts) -> Read:
    import keras

    def read(batch: list[np.ndarray], frames: list[int]) -> list[str]:
        # Not predict: it would trace a graph anew for every model.
        logits = keras.ops.convert_to_numpy(model(batch, training=False))
        assert facts.tokens is not None
        return [
            greedy_ctc(said, valid, facts.tokens, 1.0).text
            for said, valid in zip(logits, frames, strict=True)
        ]

    return read


def _by_attention(model: Any, facts: ModelFacts) -> Read:
    from tflite_asr.models.spelling import BatchSpeller
    from tflite_asr.slim.slim import model_config

    speller = BatchSpeller(model, model_config(facts), traced=False)

    def read(batch: list[np.ndarray], frames: list[int]) -> list[str]:
        ids, _ = speller.spell(batch[0], batch[1], facts.blank_id, cut=without_loop)
        assert facts.tokens is not None
        return [facts.tokens.decode(some) for some in ids]

    return read


def _batches(lengths: Sequence[int], most: float) -> Iterator[list[int]]:
    """Indices of neighbours in length; no batch holds more than `most` frames with its padding, or only one clip."""
    rows: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and lengths[index] * (len(rows) + 1) > most:
            yield rows
            rows = []
        rows.append(index)
    if rows:
        yield rows
