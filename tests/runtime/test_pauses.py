"""Pauses are found where speech stops, at any level, and long audio is cut in their middles."""

from __future__ import annotations

import numpy as np
import pytest

from tflite_asr.runtime.pauses import LONG_SECONDS, SHORTEST_SECONDS, pauses, places_to_cut

RATE = 16000


def talk(seconds: list[float], level: float = 0.1, floor: float = 1e-4, seed: int = 0) -> np.ndarray:
    """Noise bursts as long as the even entries, with pauses as long as the odd ones, on a floor of noise."""
    random = np.random.default_rng(seed)
    parts = []
    for number, duration in enumerate(seconds):
        samples = round(duration * RATE)
        parts.append(random.normal(0, level if number % 2 == 0 else floor, samples))
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_pauses_are_found_whatever_the_level(gain):
    found = pauses(gain * talk([2.0, 0.5, 2.0, 0.3, 1.0]), RATE)
    np.testing.assert_allclose(found, [(2.0, 2.5), (4.5, 4.8)], atol=0.04)


def test_a_closed_stop_is_no_pause():
    assert pauses(talk([2.0, 0.08, 2.0]), RATE) == []


def test_where_nothing_rises_above_the_rest_there_is_no_pause():
    assert pauses(talk([8.0]), RATE) == []
    assert pauses(np.zeros(8 * RATE, np.float32), RATE) == []


def test_the_longest_pause_is_cut_first_and_short_stretches_stay_whole():
    speech = talk([3.0, 0.3, 1.5, 0.8, 3.0])
    np.testing.assert_allclose(places_to_cut(speech, RATE), [3.15, 5.2], atol=0.04)
    assert places_to_cut(talk([1.2, 0.4, 1.2]), RATE) == [], "shorter than what is long"


def test_what_is_cut_off_is_long_enough_to_be_heard():
    speech = talk([0.3, 0.5, 6.0, 0.5, 0.3])
    places = [0.0, *places_to_cut(speech, RATE), len(speech) / RATE]
    assert min(np.diff(places)) >= SHORTEST_SECONDS
    assert len(speech) / RATE > LONG_SECONDS


def test_speech_without_a_pause_is_not_cut():
    assert places_to_cut(talk([30.0]), RATE) == []
