"""Greedy CTC: the best piece of every frame, repeats merged, blanks dropped (Graves et al. 2006, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.tokens import SPACE_MARK, Tokens


@dataclass(frozen=True)
class Word:
    """One word and when it was said.

    Attributes:
        text: the word.
        start, end: seconds from the start of the audio; the end is that of the last frame that holds a piece of it.
    """

    text: str
    start: float
    end: float

    def to_dict(self) -> dict[str, Any]:
        """`{"text", "start", "end"}`, seconds rounded to a millisecond."""
        return {"text": self.text, "start": round(self.start, 3), "end": round(self.end, 3)}


@dataclass(frozen=True)
class Transcript:
    """Text and its words in time."""

    text: str
    words: tuple[Word, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """`{"text", "words"}` in plain values, for JSON."""
        return {"text": self.text, "words": [word.to_dict() for word in self.words]}


def collapse(best: np.ndarray, blank_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge repeats and drop blanks.

    Args:
        best: integers [frames], the best piece of each frame.
        blank_id: CTC's blank.

    Returns:
        ids, first and one-past-last frame of each piece kept: int64 [pieces kept] each.
    """
    best = np.asarray(best, np.int64)
    starts = np.flatnonzero(np.r_[True, best[1:] != best[:-1]]) if len(best) else np.zeros(0, np.int64)
    ends = np.r_[starts[1:], len(best)] if len(best) else starts
    kept = best[starts] != blank_id
    return best[starts][kept], starts[kept], ends[kept]


def greedy_ctc(
    logits: np.ndarray,
    valid: int | None,
    tokens: Tokens,
    frame_seconds: float,
    breaks: Sequence[int] = (),
) -> Transcript:
    """Decode one utterance.

    Args:
        logits: int8, int16 or float [frames, pieces]. One scale for all pieces keeps the order, so quantised logits
            need no dequantising; of equal logits the lowest id wins.
        valid: frames that hold audio; None for all. The rest is not looked at.
        tokens: the model's pieces.
        frame_seconds: seconds that one logit frame spans.
        breaks: frames, in their order, that no word goes across: where audio was cut at a pause no space is heard.

    Raises:
        TfliteAsrError: logits whose last axis is not one per piece.
    """
    if logits.ndim != 2 or logits.shape[1] != len(tokens.pieces):
        raise TfliteAsrError(
            f"logits of shape {list(logits.shape)} do not fit {len(tokens.pieces)} pieces; give [frames, pieces]"
        )
    best = logits[: len(logits) if valid is None else valid].argmax(axis=1)
    ids, firsts, lasts = collapse(best, tokens.blank_id)
    return spelled_words(ids, firsts, lasts, tokens, frame_seconds, breaks)


def spelled_words(
    ids: np.ndarray,
    firsts: np.ndarray,
    lasts: np.ndarray,
    tokens: Tokens,
    frame_seconds: float,
    breaks: Sequence[int] = (),
) -> Transcript:
    """Words of pieces whose frames are known; ids, firsts, lasts: as `collapse` gives them, the rest as `greedy_ctc`
    takes it."""
    words: list[Word] = []
    spelled, start, end = "", 0, 0
    stretches = np.searchsorted(np.asarray(breaks, np.int64), firsts, side="right")
    stretch = 0
    for index, first, last, now in zip(ids, firsts, lasts, stretches, strict=True):
        if spelled and now != stretch:
            words.append(Word(spelled, start * frame_seconds, end * frame_seconds))
            spelled = ""
        stretch = now
        # A piece may hold spaces anywhere ("▁the", " "): every space ends the word before it.
        for place, part in enumerate(tokens.pieces[index].replace(SPACE_MARK, " ").split(" ")):
            if place and spelled:
                words.append(Word(spelled, start * frame_seconds, end * frame_seconds))
                spelled = ""
            if part:
                start = start if spelled else int(first)
                spelled, end = spelled + part, int(last)
    if spelled:
        words.append(Word(spelled, start * frame_seconds, end * frame_seconds))
    return Transcript(" ".join(word.text for word in words), tuple(words))
