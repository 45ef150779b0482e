"""Every module dropped in turn, without recovery: what each saves, how far the output moves, what it costs in words."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.facts import ModelFacts
from tflite_asr.measure.wer import ErrorCounts, paired_difference
from tflite_asr.studies.slim_speech import DevSpeech

RESAMPLES = 2000
_KINDS = ("substitutions", "deletions", "insertions", "units")


@dataclass(frozen=True)
class Measured:
    """A model without some modules.

    Attributes:
        path: the module dropped last; "" for the full model.
        dropped: all that it lacks.
        parameters, macs: that it has; multiply-adds for the longest window.
        kl: nats a valid frame by which its outputs on synthetic inputs differ from the full model's.
        errors: in words, of each dev utterance; None without dev speech.
    """

    path: str
    dropped: tuple[str, ...]
    parameters: int
    macs: int
    kl: float
    errors: ErrorCounts | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {**vars(self), "dropped": list(self.dropped)}
        if self.errors is not None:
            values["errors"] = {kind: getattr(self.errors, kind).tolist() for kind in _KINDS}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Measured:
        """Inverse of `to_dict`."""
        errors = values["errors"]
        counts = errors and ErrorCounts(*(np.array(errors[kind], np.int64) for kind in _KINDS))
        return cls(**{**values, "dropped": tuple(values["dropped"]), "errors": counts})


def without(
    model: Any, facts: ModelFacts, path: str, reference: Any, speech: DevSpeech | None
) -> tuple[Any, ModelFacts, Measured]:
    """A model without one more module, its facts, and what it comes to; reference: `tflite_asr.slim.Reference`."""
    from tflite_asr.slim import slim

    gc.collect()  # models hang in cycles, and a study makes hundreds
    smaller, smaller_facts, report = slim(model, facts, path)
    errors = speech.errors(smaller, smaller_facts) if speech is not None else None
    kl = reference.divergence(smaller)
    measured = Measured(path, report.dropped, report.parameters_after, report.macs_after, kl, errors)
    return smaller, smaller_facts, measured


def rows_of(full: Measured, found: Sequence[Measured], seed: int) -> list[dict[str, Any]]:
    """One record a module, the least damaging first: by dev WER where there is some, then by divergence."""
    rows = []
    for one in found:
        row: dict[str, Any] = {
            "path": one.path,
            "parameters_saved": full.parameters - one.parameters,
            "macs_saved": full.macs - one.macs,
            "kl": one.kl,
            "wer": None,
            "wer_rise": None,
        }
        if one.errors is not None and full.errors is not None:
            row["wer"] = one.errors.rate
            row["wer_rise"] = paired_difference(one.errors, full.errors, seed, RESAMPLES).to_dict()
        rows.append(row)
    return sorted(rows, key=lambda row: (row["wer"] or 0.0, row["kl"]))


def agreement(found: Sequence[Measured], seed: int, resamples: int = RESAMPLES) -> dict[str, Any] | None:
    """Spearman's rank correlation of the data-free ranking with the one by dev WER.

    Returns:
        `{"spearman", "low", "high", "modules", "utterances", "seed", "resamples"}`, the interval of 95 % by a bootstrap
        over the utterances; None without dev speech, for fewer than three modules, or where all are ranked alike.
    """
    heard = [one.errors for one in found if one.errors is not None]
    if len(heard) < max(3, len(found)):
        return None
    errors = np.array([one.errors for one in heard], float)  # [modules, utterances]
    units = heard[0].units.astype(float)
    kl = ranks(np.array([one.kl for one in found]))
    count = len(units)
    whole = correlation(kl, ranks(errors.sum(axis=1)))
    if whole is None:
        return None
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    rates = drawn @ errors.T / np.maximum(drawn @ units, 1)[:, None]  # [resamples, modules]
    values = [one for one in (correlation(kl, ranks(rate)) for rate in rates) if one is not None]
    low, high = np.percentile(values, [2.5, 97.5])
    return {
        "spearman": whole,
        "low": float(low),
        "high": float(high),
        "modules": len(found),
        "utterances": count,
        "seed": seed,
        "resamples": resamples,
    }


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, float64 [n]; equal values share the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[place]


def correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Pearson's; None where one of the two does not vary."""
    first, second = first - first.mean(), second - second.mean()
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / size) if size else None
