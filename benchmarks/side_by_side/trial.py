"""What the peers are judged on: real utterances (or synthetic clips) laid into one window, logits scored.

As in the runtime, audio longer than the window is cut with overlap and joined at the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side.checkpoint import Checkpoint
from benchmarks.side_by_side.makers import window_feeds
from tflite_asr.audio import read_audio
from tflite_asr.decoding import greedy_ctc
from tflite_asr.errors import TfliteAsrError
from tflite_asr.frontend.log_mel import log_mel
from tflite_asr.manifest import read_manifest
from tflite_asr.measure.fidelity import argmax_agreement, snr_db
from tflite_asr.measure.wer import bootstrap_interval, paired_difference, word_errors
from tflite_asr.runtime.windows import Piece, cut, join
from tflite_asr.tokens import normalise_text


@dataclass(frozen=True)
class Corpus:
    """Utterances as features.

    Attributes:
        name: folder and stem of its manifest, or "synthetic".
        features: float32 [frames, mels] each.
        texts: what was said, normalised; None where nobody said anything.
    """

    name: str
    features: list[np.ndarray]
    texts: list[str] | None


@dataclass(frozen=True)
class Trial:
    """A corpus laid into one window.

    Attributes:
        corpus: the corpus.
        pieces: of each utterance, in the order of the rows.
        feeds: .npz of input name to float32 [rows, ...].
    """

    corpus: Corpus
    pieces: list[list[Piece]]
    feeds: Path


def read_corpus(manifest: Path, checkpoint: Checkpoint, limit: int | None) -> Corpus:
    """The first `limit` utterances of a manifest through the checkpoint's front end.

    Raises:
        TfliteAsrError: a broken manifest or audio file, or a checkpoint without a front end.
    """
    facts = checkpoint.facts
    if facts.frontend is None or facts.tokens is None:
        raise TfliteAsrError(
            f"{checkpoint.path}: has no front end or tokens; put a .toml beside it, or leave --manifest out"
        )
    rows = read_manifest(manifest, facts.tokens)[:limit]
    features = [
        log_mel(read_audio(row.audio_filepath, facts.frontend.sample_rate), facts.frontend) for row in rows
    ]
    texts = None if checkpoint.random else [row.text for row in rows]
    return Corpus(f"{manifest.absolute().parent.name}/{manifest.stem}", features, texts)


def lay_out(corpus: Corpus, flatbuffer: bytes, frames: int, checkpoint: Checkpoint, folder: Path) -> Trial:
    """Write a corpus' feeds for one window into `folder`."""
    subsampling = checkpoint.facts.subsampling
    pieces = [cut(len(one), frames, subsampling) for one in corpus.features]
    parts = [
        one[piece.start : piece.start + piece.frames]
        for one, some in zip(corpus.features, pieces, strict=True)
        for piece in some
    ]
    rows = window_feeds(parts, flatbuffer, frames, subsampling)
    path = folder / f"{corpus.name.replace('/', '-')}.npz"
    np.savez(path, **{name: np.concatenate([row[name] for row in rows]) for name in rows[0]})
    return Trial(corpus, pieces, path)


def joined(logits: np.ndarray, trial: Trial, subsampling: int, blank_id: int) -> list[np.ndarray]:
    """The rows of one run as whole utterances: [logit frames, pieces of text] each, valid frames only."""
    rows = iter(logits)
    whole = []
    for pieces in trial.pieces:
        parts = [next(rows)[: -(-piece.frames // subsampling)] for piece in pieces]
        whole.append(join(parts, pieces, subsampling, blank_id) if parts else logits[0][:0])
    return whole


def score(trial: Trial, logits: np.ndarray, reference: np.ndarray, checkpoint: Checkpoint) -> dict[str, Any]:
    """One peer on one corpus.

    Args:
        trial: what it ran on.
        logits, reference: float [rows, frames, pieces] of the peer and of the float model.
        checkpoint: for subsampling and tokens.

    Returns:
        `snr_db` (mean over utterances), `argmax_agreement` (share of frames) and, where there are texts, `wer` with its
        interval and `wer_difference` to the float model (paired bootstrap).
    """
    tokens, subsampling = checkpoint.facts.tokens, checkpoint.facts.subsampling
    blank_id = tokens.blank_id if tokens else 0
    these = joined(logits, trial, subsampling, blank_id)
    those = joined(reference, trial, subsampling, blank_id)
    pairs = [(float_, one) for float_, one in zip(those, these, strict=True) if len(one)]
    agreeing = np.array([argmax_agreement(float_, one) for float_, one in pairs]).sum(axis=0)
    found: dict[str, Any] = {
        "utterances": len(pairs),
        "snr_db": float(np.mean([snr_db(float_, one) for float_, one in pairs])),
        "argmax_agreement": float(agreeing[0] / agreeing[1]),
    }
    if trial.corpus.texts is not None and tokens is not None:
        seconds = checkpoint.hop_seconds * subsampling

        def texts(whole: Sequence[np.ndarray]) -> list[str]:
            return [normalise_text(greedy_ctc(one, None, tokens, seconds).text) for one in whole]

        mine, floats = (word_errors(trial.corpus.texts, texts(whole)) for whole in (these, those))
        found |= {
            "wer": mine.rate,
            "wer_ci95": list(bootstrap_interval(mine)),
            "wer_difference": paired_difference(mine, floats).to_dict(),
        }
    return found
