"""What a calibration study found: rows, overlaps of ranges, worst tensors, and where synthetic inputs lose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tflite_asr.measure.walk import TensorFidelity
from tflite_asr.measure.wer import ErrorCounts, paired_difference
from tflite_asr.quantize.ops import SAME_SCALE
from tflite_asr.studies.outcome import Heard, Outcome

REAL, SYNTHETIC = "real", "synthetic"
TOO_WIDE = 2.0  # times real speech's width: a bit of eight is wasted
CLIPPING = 0.05  # of real speech's range lies outside
WORST = 10
# A grid's own noise is to blame for a tensor only where it is at least a tenth of all the noise in it.
BLAME_DB = 10.0
LEAST_BLAME_DB = 1.0

Row = dict[str, Any]


def mean_errors(runs: Sequence[Heard]) -> ErrorCounts:
    """Mean edits of each utterance over runs on the same utterances."""
    kinds = ("substitutions", "deletions", "insertions")
    some, deleted, inserted = (np.mean([getattr(run.errors, kind) for run in runs], axis=0) for kind in kinds)
    return ErrorCounts(some, deleted, inserted, runs[0].errors.units)


def pooled(outcome: Outcome) -> Heard:
    """All corpora as one."""
    some = list(outcome.corpora.values())
    kinds = ("substitutions", "deletions", "insertions", "units")
    errors = ErrorCounts(*(np.concatenate([getattr(one.errors, kind) for one in some]) for kind in kinds))
    arrays = ([getattr(one, name) for one in some] for name in ("snr_db", "agreeing", "frames"))
    return Heard(errors, *(np.concatenate(one) for one in arrays))


def summarise(runs: Sequence[Outcome], base: Outcome, real: Sequence[Outcome]) -> Row:
    """One arm under one calibrator, as the mean over its seeds.

    Args:
        runs: its seeds.
        base: float32.
        real: the real arm under the same calibrator; empty where there is none.

    Returns:
        WER with paired differences to float32 and to `real` (fractions, 95 % intervals), pooled and by corpus; SNR in
        dB and agreement by corpus, with the difference of SNR to `real` paired by utterance.
    """
    views = {name: [run.corpora[name] for run in runs] for name in base.corpora}
    real_views = {name: [run.corpora[name] for run in real] for name in base.corpora}
    all_runs, all_real = [pooled(run) for run in runs], [pooled(run) for run in real]
    return {
        "arm": runs[0].arm,
        "calibrator": runs[0].calibrator,
        "seeds": [run.seed for run in runs],
        "bytes": max(run.bytes for run in runs),
        "integer_only": all(run.integer_only for run in runs),
        "provenance": [run.provenance for run in runs],
        **_rates(all_runs, pooled(base), all_real),
        "corpora": {
            name: _rates(some, base.corpora[name], real_views[name]) | _fidelity(some, real_views[name])
            for name, some in views.items()
        },
    }


def _rates(runs: Sequence[Heard], base: Heard, real: Sequence[Heard]) -> Row:
    errors = mean_errors(runs)
    return {
        "wer": errors.rate,
        "against_float32": paired_difference(errors, base.errors).to_dict(),
        "against_real": paired_difference(errors, mean_errors(real)).to_dict() if real else None,
    }


def _fidelity(runs: Sequence[Heard], real: Sequence[Heard]) -> Row:
    if all(np.isnan(run.snr_db).all() for run in runs):
        return {"snr_db": None, "snr_db_seeds": [], "argmax_agreement": None, "snr_db_against_real": None}
    seeds = [float(np.nanmean(run.snr_db)) for run in runs]
    agreement = np.mean([run.agreeing.sum() / run.frames.sum() for run in runs])
    against = None
    if real:
        gap = np.mean([run.snr_db for run in runs], axis=0) - np.mean([run.snr_db for run in real], axis=0)
        against = _mean_interval(gap[np.isfinite(gap)])
    return {
        "snr_db": float(np.mean(seeds)),
        "snr_db_seeds": seeds,
        "argmax_agreement": float(agreement),
        "snr_db_against_real": against,
    }


def _mean_interval(values: np.ndarray, seed: int = 0, resamples: int = 2000) -> dict[str, float]:
    """Mean of one value an utterance, and its 95 % bootstrap interval."""
    random = np.random.default_rng(seed)
    drawn = [float(values[random.integers(0, len(values), len(values))].mean()) for _ in range(resamples)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"difference": float(values.mean()), "low": float(low), "high": float(high)}


def overlap(runs: Sequence[Outcome], real: Sequence[Outcome]) -> Row:
    """How an arm's grids lie to those of real speech, tensor by tensor, as the mean over seeds.

    Both arms of a pair have the same seed where there is one, else real speech's first. The real arm is held against
    its own next seed: what another draw of clips alone makes of ranges.

    Returns:
        `tensors` compared; the share `too_wide` (`TOO_WIDE` times as wide and more) and `clipping` (at least
        `CLIPPING` of the real range outside); medians of the two measures; the tensors at both ends.
    """
    ratios: dict[str, list[float]] = {}
    outside: dict[str, list[float]] = {}
    for place, run in enumerate(runs):
        twin = _twin(run, place, real)
        if twin is None:
            continue
        for name, (low, high) in run.grids.items():
            real_low, real_high = twin.grids[name]
            width = max(real_high - real_low, 1e-30)
            ratios.setdefault(name, []).append((high - low) / width)
            beyond = max(0.0, low - real_low) + max(0.0, real_high - high)
            outside.setdefault(name, []).append(min(1.0, beyond / width))
    if not ratios:
        return {"tensors": 0}
    names = list(ratios)
    wide = np.array([np.mean(ratios[name]) for name in names])
    cut = np.array([np.mean(outside[name]) for name in names])

    def end(values: np.ndarray) -> list[Row]:
        places = np.argsort(-values, kind="stable")[:WORST]
        return [{"name": names[i], "width_ratio": float(wide[i]), "outside": float(cut[i])} for i in places]

    return {
        "tensors": len(names),
        "too_wide": float(np.mean(wide >= TOO_WIDE)),
        "clipping": float(np.mean(cut >= CLIPPING)),
        "median_width_ratio": float(np.median(wide)),
        "median_outside": float(np.median(cut)),
        "widest": end(wide),
        "most_clipping": end(cut),
        "by_tensor": {name: [float(wide[i]), float(cut[i])] for i, name in enumerate(names)},
    }


def _twin(run: Outcome, place: int, real: Sequence[Outcome]) -> Outcome | None:
    if run.arm == REAL:
        return real[(place + 1) % len(real)] if len(real) > 1 else None
    return next((one for one in real if one.seed == run.seed), real[0] if real else None)


def worst_tensors(walked: Mapping[str, Sequence[TensorFidelity]]) -> list[Row]:
    """The ten tensors with the lowest SNR in any corpus, worst first: `snr_db` by corpus, the rest from the corpus
    where it is worst. Tensors that only move another's values are left out."""
    by_name: dict[str, dict[str, TensorFidelity]] = {}
    for corpus, some in walked.items():
        for one in some:
            if one.op not in SAME_SCALE:
                by_name.setdefault(one.name, {})[corpus] = one
    worst = {name: min(found.values(), key=lambda one: one.snr_db) for name, found in by_name.items()}
    chosen = sorted(worst.values(), key=lambda one: one.snr_db)[:WORST]
    return [
        {
            **one.to_dict(),
            "width_ratio": one.width_ratio,
            "snr_db": {corpus: found.snr_db for corpus, found in by_name[one.name].items()},
        }
        for one in chosen
    ]


def blamed(arm: Iterable[TensorFidelity], real: Iterable[TensorFidelity]) -> list[Row]:
    """Tensors whose grid costs more than real speech's does, on the same speech, where that shows: the most costly
    first, at most ten."""
    twins = {one.name: one for one in real}
    found: list[Row] = []
    for one in arm:
        twin = twins[one.name]
        lost = twin.grid_snr_db - one.grid_snr_db
        if lost >= LEAST_BLAME_DB and one.grid_snr_db <= one.snr_db + BLAME_DB and one.op not in SAME_SCALE:
            found.append(
                {
                    "name": one.name,
                    "op": one.op,
                    "grid_snr_db": one.grid_snr_db,
                    "real_grid_snr_db": twin.grid_snr_db,
                    "snr_db": one.snr_db,
                    "real_snr_db": twin.snr_db,
                    "share_clipped": one.share_clipped,
                    "width_ratio": one.width_ratio,
                }
            )
    return sorted(found, key=lambda row: float(row["grid_snr_db"] - row["real_grid_snr_db"]))[:WORST]


def losses(runs: Sequence[Outcome], others: Sequence[Outcome]) -> list[Row]:
    """Corpus by corpus, what one arm loses to another under the same calibrator, as the mean over seeds, and the
    tensors to blame where both were walked."""
    found = []
    for corpus in runs[0].corpora:
        ours, theirs = ([one.corpora[corpus] for one in some] for some in (runs, others))
        snr = _fidelity(ours, theirs)["snr_db_against_real"]
        if snr is None:  # no utterance is long enough for one frame
            continue
        wer = paired_difference(mean_errors(ours), mean_errors(theirs)).to_dict()
        walks = [one.walked[corpus] for one in (runs[0], others[0]) if corpus in one.walked]
        found.append(
            {
                "arm": runs[0].arm,
                "calibrator": runs[0].calibrator,
                "against": others[0].arm,
                "corpus": corpus,
                "snr_db": snr,
                "wer": wer,
                "loses_snr": snr["high"] < 0,
                "loses_wer": wer["low"] > 0,
                "tensors": blamed(*walks) if len(walks) == 2 else [],
            }
        )
    return found


def sentence(loss: Row) -> str:
    """One loss in words."""
    snr, wer = loss["snr_db"], loss["wer"]
    verdict = "loses" if loss["loses_snr"] else "gains" if snr["low"] > 0 else "is level"
    lean = "loses" if loss["loses_wer"] else "gains" if wer["high"] < 0 else "no difference shown"
    return (
        f"{loss['calibrator']}, {loss['corpus']}: {loss['arm']} {verdict} in SNR against {loss['against']}, "
        f"{snr['difference']:+.2f} dB ({snr['low']:+.2f} to {snr['high']:+.2f}); WER "
        f"{100 * wer['difference']:+.2f} points ({100 * wer['low']:+.2f} to {100 * wer['high']:+.2f}), {lean}"
    )


def where_it_loses(losses: Sequence[Row]) -> list[str]:
    """A line for whoever synthetic was held against: under which calibrator it loses to them, and where."""
    found = []
    for against in dict.fromkeys(one["against"] for one in losses):
        some = [one for one in losses if one["against"] == against]
        lost = [
            f"{one['calibrator']}, {one['corpus']} ({_what(one)})"
            for one in some
            if one["loses_snr"] or one["loses_wer"]
        ]
        places = "; ".join(lost) or f"nowhere ({len(some)} comparisons)"
        found.append(f"{some[0]['arm']} loses to {against}: {places}")
    return found


def _what(loss: Row) -> str:
    snr = f"{loss['snr_db']['difference']:+.2f} dB" if loss["loses_snr"] else ""
    wer = f"{100 * loss['wer']['difference']:+.2f} points" if loss["loses_wer"] else ""
    return ", ".join(one for one in (snr, wer) if one)
