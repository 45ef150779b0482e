"""Outcomes of a study that never was: four utterances, two corpora, two tensors."""

from __future__ import annotations

import numpy as np

from tflite_asr.measure.walk import TensorFidelity
from tflite_asr.measure.wer import ErrorCounts
from tflite_asr.studies.outcome import Heard, Outcome

NAMES = ("a/fully_connected", "b/mul")


def heard(errors: list[int], snr_db: list[float]) -> Heard:
    """Ten words and a hundred frames an utterance, of which 99 agree."""
    counts = np.array(errors)
    zeros = np.zeros_like(counts)
    units = np.full(len(counts), 10)
    frames = np.full(len(counts), 100)
    return Heard(ErrorCounts(counts, zeros, zeros, units), np.array(snr_db), frames - 1, frames)


def tensor(name: str, snr_db: float, grid_snr_db: float, op: str = "FULLY_CONNECTED") -> TensorFidelity:
    return TensorFidelity(name, op, name.rpartition("/")[0], snr_db, grid_snr_db, 0.01, -1.0, 1.0, -0.5, 0.5)


def outcome(
    arm: str,
    seed: int = 0,
    errors: tuple[list[int], list[int]] = ([1, 1], [2, 2]),
    snr_db: tuple[list[float], list[float]] = ([25.0, 27.0], [20.0, 22.0]),
    grids: dict[str, tuple[float, float]] | None = None,
    walked: dict[str, list[TensorFidelity]] | None = None,
    calibrator: str = "min_max",
) -> Outcome:
    """One model of the made-up study; corpora are `near/dev` and `far/dev`."""
    corpora = {name: heard(errors[i], snr_db[i]) for i, name in enumerate(("near/dev", "far/dev"))}
    given = grids if grids is not None else dict.fromkeys(NAMES, (-1.0, 1.0))
    return Outcome(arm, calibrator, seed, 1000, "0" * 64, True, corpora, {}, given, walked or {})


def base() -> Outcome:
    """The float model: no SNR of itself."""
    nothing = [float("nan")] * 2
    return outcome("float32", errors=([1, 0], [2, 2]), snr_db=(nothing, nothing), grids={}, calibrator="")
