"""Times that can be compared on a machine that does other things too: rounds, in turn, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tflite_asr.bundle import Bundle
from tflite_asr.measure.stations import Runner
from tflite_asr.measure.worker import Worker

RESAMPLES = 10_000
WARM_UP = 3
Reading = TypeVar("Reading")
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Case:
    """What is timed: one window of one bundle on a number of threads."""

    bundle: Bundle
    frames: int
    window_seconds: float
    threads: int


@dataclass(frozen=True)
class Ratio:
    """How many times the first bundle's something else is.

    Attributes:
        value: of medians, or of counts.
        low, high: 95 % interval; None where what is compared does not vary.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Times:
    """Readings of one case, in the order of the rounds.

    Attributes:
        model: float64 [rounds], ms of the acoustic model: inputs copied in, outputs out.
        frontend: float64 [rounds], ms of the front end, features quantised; None in a feature-only bundle.
        decode_step: float64 [rounds], ms of one token of an encoder-decoder; None in a CTC bundle.
    """

    model: np.ndarray
    frontend: np.ndarray | None
    decode_step: np.ndarray | None = None

    def latency_ms(self) -> dict[str, float]:
        """`{"min", "median", "p95"}` of the model."""
        median, p95 = np.percentile(self.model, [50, 95])
        return {"min": float(self.model.min()), "median": float(median), "p95": float(p95)}


def time_cases(
    cases: Sequence[Case], runs: int, runtime: str, delegate: str | None, tell: Tell | None = None
) -> list[Times]:
    """Time every case once a round, for `runs` rounds after `WARM_UP` that do not count.

    Each bundle stays open in a process of its own for each number of threads, so that one that aborts names itself,
    and a case finds the caches as another case left them, as on a phone that did something else since.

    Raises:
        TfliteAsrError, Finding: what opening or running a bundle raises, or one line about a runtime that aborts.
    """
    with ExitStack() as stack:
        open_workers: dict[tuple[int, int], Worker] = {}
        steps: list[Callable[[], list[float | None]]] = []
        for case in cases:
            key = (id(case.bundle), case.threads)
            if key not in open_workers:
                path = str(case.bundle.path)
                worker = Worker(path, Runner, path, runtime, delegate, case.threads)
                open_workers[key] = stack.enter_context(worker)
            steps.append(lambda worker=open_workers[key], frames=case.frames: worker.ask("run", frames))  # type: ignore[misc]
        rounds = in_turn(steps, WARM_UP + runs, tell)
    times = []
    for readings in rounds:
        model, *others = zip(*readings[WARM_UP:], strict=True)
        times.append(Times(np.array(model), *(None if None in some else np.array(some) for some in others)))
    return times


def in_turn(
    steps: Sequence[Callable[[], Reading]], rounds: int, tell: Tell | None = None
) -> list[list[Reading]]:
    """Take every step once a round; each round begins one step later than the one before.

    Returns:
        the readings of each step, in the order of the rounds.
    """
    readings: list[list[Reading]] = [[] for _ in steps]
    for number in range(rounds):
        for place in range(len(steps)):
            index = (number + place) % len(steps)
            readings[index].append(steps[index]())
        if tell:
            tell(f"{rounds} rounds", (number + 1) / rounds)
    return readings


def ratio(these: np.ndarray, those: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Ratio:
    """The median of these over the median of those, with a 95 % percentile interval by bootstrap over paired rounds.

    Args:
        these, those: float64 [rounds]; place for place from the same round. Each resample draws the same rounds for
            both, so that what slowed a whole round slows both sides.
    """
    drawn = np.random.default_rng(seed).integers(len(these), size=(resamples, len(these)))
    ratios = np.median(these[drawn], axis=1) / np.median(those[drawn], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Ratio(float(np.median(these) / np.median(those)), float(low), float(high))


def real_time_factor(window_seconds: float, *parts_ms: Any) -> float | None:
    """Milliseconds of work over the seconds of audio in the window; None where a part was not measured."""
    if any(part is None for part in parts_ms):
        return None
    return float(sum(parts_ms)) / 1000 / window_seconds
