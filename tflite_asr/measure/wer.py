"""Word and character error rates with their uncertainty: jiwer counts, a bootstrap over utterances bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jiwer
import numpy as np

from tflite_asr.errors import TfliteAsrError

RESAMPLES = 10_000


@dataclass(frozen=True)
class ErrorCounts:
    """Edit counts of every utterance.

    Attributes:
        substitutions, deletions, insertions: int64 [utterances].
        units: int64 [utterances], words or characters of the references.
    """

    substitutions: np.ndarray
    deletions: np.ndarray
    insertions: np.ndarray
    units: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """int64 [utterances]."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Corpus rate as a fraction: all errors over all reference units (above 1 where insertions abound)."""
        return float(self.errors.sum() / self.units.sum()) if self.units.sum() else float("nan")

    def totals(self) -> dict[str, int]:
        """`{"substitutions", "deletions", "insertions", "units"}` over all utterances."""
        return {
            name: int(getattr(self, name).sum())
            for name in ("substitutions", "deletions", "insertions", "units")
        }


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Word edits of normalised texts, one utterance each.

    Raises:
        TfliteAsrError: lists of different length, or empty ones.
    """
    _check(references, hypotheses)
    return _counts(jiwer.process_words(list(references), list(hypotheses)))


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Character edits, spaces included, one utterance each; errors as in `word_errors`."""
    _check(references, hypotheses)
    return _counts(jiwer.process_characters(list(references), list(hypotheses)))


def bootstrap_interval(counts: ErrorCounts, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % percentile interval of the corpus rate, utterances drawn with replacement (Bisani and Ney 2004)."""
    errors, units = counts.errors.astype(float), counts.units.astype(float)
    drawn = [(w @ errors) / np.maximum(w @ units, 1.0) for w in _weights(len(units), seed, resamples)]
    return _percentiles(np.concatenate(drawn))


@dataclass(frozen=True)
class PairedDifference:
    """How much one run's error rate lies above another's on the same utterances.

    Attributes:
        difference: this minus that, a fraction.
        low, high: 95 % interval; "no worse than X" means high <= X.
        utterances: how many were paired.
        seed, resamples: of the bootstrap.
    """

    difference: float
    low: float
    high: float
    utterances: int
    seed: int
    resamples: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def paired_difference(
    this: ErrorCounts, that: ErrorCounts, seed: int = 0, resamples: int = RESAMPLES
) -> PairedDifference:
    """Paired bootstrap: both runs are judged on the same draws of utterances.

    Raises:
        TfliteAsrError: runs over different references.
    """
    if not np.array_equal(this.units, that.units):
        raise TfliteAsrError(
            f"runs over {len(this.units)} and {len(that.units)} utterances with different references cannot be "
            "paired; evaluate both on the same manifests"
        )
    gap, units = (this.errors - that.errors).astype(float), this.units.astype(float)
    drawn = [(w @ gap) / np.maximum(w @ units, 1.0) for w in _weights(len(units), seed, resamples)]
    low, high = _percentiles(np.concatenate(drawn))
    return PairedDifference(float(gap.sum() / units.sum()), low, high, len(units), seed, resamples)


def _check(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if len(references) != len(hypotheses) or not len(references):
        raise TfliteAsrError(
            f"{len(references)} references against {len(hypotheses)} hypotheses; give one hypothesis an utterance"
        )


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    kinds = {"substitute": 0, "delete": 1, "insert": 2}
    table = np.zeros((len(output.references), 3), np.int64)
    for row, chunks in zip(table, output.alignments, strict=True):
        for chunk in chunks:
            if (kind := kinds.get(chunk.type)) is not None:
                spans = (chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                row[kind] += max(spans)
    units = np.array([len(reference) for reference in output.references], np.int64)
    return ErrorCounts(table[:, 0], table[:, 1], table[:, 2], units)


def _weights(utterances: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each utterance is drawn: float64 [up to 500, utterances] at a time, to keep memory small."""
    random = np.random.default_rng(seed)
    for start in range(0, resamples, 500):
        rows = min(500, resamples - start)
        yield random.multinomial(utterances, np.full(utterances, 1.0 / utterances), size=rows).astype(float)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
