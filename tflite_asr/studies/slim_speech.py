"""Real speech that a slimming study judges by: features made once, heard by many models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.audio import read_audio
from tflite_asr.decoding.ctc import greedy_ctc
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import log_mel
from tflite_asr.manifest import Utterance, read_manifest
from tflite_asr.measure.evaluate import corpus_names
from tflite_asr.measure.wer import ErrorCounts, word_errors

BATCH_SECONDS = 60.0  # padding included


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

    def errors(self, model: Any) -> ErrorCounts:
        """Word errors of each utterance under greedy decoding, the corpora one after the other."""
        texts = transcripts(model, self.facts, self.features())
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
    """Greedy texts, in the clips' order. An encoder-decoder's decoding goes here."""
    import keras

    from tflite_asr.synthesis.shapes import model_inputs

    shape, texts = model_inputs(model, facts), [""] * len(clips)
    assert facts.tokens is not None
    assert facts.frontend is not None
    for rows in _batches([len(clip) for clip in clips], BATCH_SECONDS / facts.frontend.hop_seconds):
        # Not predict: it would trace a graph anew for every model.
        logits = keras.ops.convert_to_numpy(model(shape.batch([clips[i] for i in rows]), training=False))
        for row, said in zip(rows, logits, strict=True):
            valid = -(-len(clips[row]) // facts.subsampling)
            texts[row] = greedy_ctc(said, valid, facts.tokens, 1.0).text
    return texts


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
