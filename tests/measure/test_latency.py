"""Cases are timed in turn, and what is said of their times is what the paired rounds say."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from tflite_asr.measure import latency
from tflite_asr.measure.latency import (
    WARM_UP,
    Case,
    Times,
    in_turn,
    ratio,
    real_time_factor,
    time_cases,
)


def test_every_round_takes_every_step_and_begins_one_later_than_the_last():
    taken = []
    steps = [lambda name=name: taken.append(name) or len(taken) for name in "abc"]
    readings = in_turn(steps, 4)
    assert "".join(taken) == "abcbcacababc"
    assert readings == [[1, 6, 8, 10], [2, 4, 9, 11], [3, 5, 7, 12]]


def test_progress_counts_rounds_of_one_stage():
    told = []
    in_turn([lambda: None], 3, lambda stage, done: told.append((stage, round(done, 3))))
    assert told == [("3 rounds", 0.333), ("3 rounds", 0.667), ("3 rounds", 1.0)]


class RecordingWorker:
    """Answers with the place of the call among all calls, in place of a process."""

    opened: list[tuple[str, int]]
    asked: list[tuple[str, int, int]]
    closed: int

    def __init__(self, subject, kind, path, runtime, delegate, threads):
        self.path, self.threads = path, threads
        type(self).opened.append((path, threads))

    def ask(self, method, frames):
        assert method == "run"
        type(self).asked.append((self.path, frames, self.threads))
        return [float(len(self.asked)), 0.5 if self.path == "whole" else None]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        type(self).closed += 1


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> type[RecordingWorker]:
    RecordingWorker.opened, RecordingWorker.asked, RecordingWorker.closed = [], [], 0
    monkeypatch.setattr(latency, "Worker", RecordingWorker)
    return RecordingWorker


def test_bundles_windows_and_threads_are_interleaved_and_the_warm_up_is_left_out(worker):
    whole, bare = SimpleNamespace(path="whole"), SimpleNamespace(path="bare")
    cases = [
        Case(bundle, frames, frames / 100, threads)
        for bundle in (whole, bare)
        for frames in (400, 1600)
        for threads in (1, 2)
    ]
    times = time_cases(cases, 20, "litert", "xnnpack")
    assert worker.opened == [("whole", 1), ("whole", 2), ("bare", 1), ("bare", 2)]
    assert worker.closed == 4
    plain = [(case.bundle.path, case.frames, case.threads) for case in cases]
    for number in range(WARM_UP + 20):
        turn = number % 8
        assert worker.asked[8 * number : 8 * number + 8] == plain[turn:] + plain[:turn]
    first_call = 1 + 8 * WARM_UP + (8 - WARM_UP)  # of the first case, in the first round that counts
    assert times[0].model[0] == first_call
    assert [len(one.model) for one in times] == [20] * 8
    assert [one.frontend is None for one in times] == [False] * 4 + [True] * 4


def test_min_median_and_95th_percentile():
    times = Times(np.arange(20.0, 0.0, -1.0), None)
    assert times.latency_ms() == pytest.approx({"min": 1.0, "median": 10.5, "p95": 19.05})


def test_a_ratio_is_of_medians():
    assert ratio(np.array([3.0, 10.0, 5.0]), np.array([2.0, 8.0, 4.0])).value == 5.0 / 4.0
    assert ratio(np.array([3.0, 10.0, 5.0, 6.0]), np.array([2.0, 8.0, 4.0, 1.0])).value == 5.5 / 3.0


def test_rounds_are_paired_so_what_slows_a_round_slows_both_sides():
    slow = np.random.default_rng(1).lognormal(0, 2, 20)  # the machine, from round to round
    paired = ratio(2.5 * slow, slow)
    assert (paired.value, paired.low, paired.high) == pytest.approx((2.5, 2.5, 2.5))
    shuffled = ratio(2.5 * slow, slow[::-1])
    assert shuffled.high - shuffled.low > 0.5


def test_the_interval_is_that_of_all_resamples():
    these, those = np.array([1.0, 2.0, 4.0, 9.0, 5.0]), np.array([2.0, 3.0, 1.0, 7.0, 6.0])
    every = [list(draw) for draw in itertools.product(range(5), repeat=5)]
    exact = [np.median(these[draw]) / np.median(those[draw]) for draw in every]
    found = ratio(these, those)
    assert (found.low, found.high) == pytest.approx(np.percentile(exact, [2.5, 97.5]), rel=0.02)


def test_the_real_time_factor_adds_the_front_end_and_divides_by_the_window():
    assert real_time_factor(16.0, 30.0, 2.0) == pytest.approx(0.002)
    assert real_time_factor(16.0, 32.0) == pytest.approx(0.002)
    assert real_time_factor(16.0, 30.0, None) is None
