from __future__ import annotations

import numpy as np
import pytest

from tflite_asr.quantize.observed import BINS, SAMPLES, Observed


def observed(*steps: np.ndarray) -> Observed:
    one = Observed()
    for step in steps:
        one.add(step.astype(np.float32))
    return one


def test_the_histogram_counts_what_numpy_counts():
    values = np.random.default_rng(0).normal(0, 3, (100, 7)).astype(np.float32)
    one = observed(values)
    expected, _ = np.histogram(values, one.edges)
    np.testing.assert_array_equal(one.counts, expected)
    assert one.counts.sum() == values.size


def test_a_wider_step_changes_nothing_but_the_bins():
    """Whatever came first, the same histogram is left."""
    rng = np.random.default_rng(1)
    steps = [rng.normal(0, size, (50, 8)) for size in (0.01, 40.0, 1.0)]
    one, other = observed(*steps), observed(*reversed(steps))
    assert one.width == other.width
    np.testing.assert_array_equal(one.counts, other.counts)
    expected, _ = np.histogram(np.concatenate(steps).astype(np.float32), one.edges)
    np.testing.assert_array_equal(one.counts, expected)


def test_bins_are_a_power_of_two_wide_and_fine_enough_for_int8():
    one = observed(np.array([[-3.0, 5.0]]))
    assert one.width == 8 / (BINS / 2)
    assert observed(np.array([[1e-42, 0.0]])).width > 0


def test_zeros_are_counted_apart():
    one = observed(np.array([[0.0, -0.0, 1.0, 0.0]]))
    assert (one.zeros, one.counts.sum()) == (3, 1)
    assert observed(np.zeros((2, 2))).zeros == 4


def test_padding_enters_the_extremes_alone():
    values = np.full((1, 10, 4), 0.5, np.float32)
    values[:, 6:] = -900
    one = Observed()
    one.add(values, (slice(None), slice(6), slice(None)))
    assert (one.minimum, one.real_minimum, one.average_minimum) == (-900, 0.5, 0.5)
    assert one.counts.sum() == 24


def test_the_average_of_extremes_moves_by_a_twentieth():
    one = observed(np.array([[-1.0, 2.0]]), np.array([[-3.0, 4.0]]), np.array([[0.0, 1.0]]))
    assert one.average_minimum == pytest.approx(0.95 * (0.95 * -1 + 0.05 * -3) + 0.05 * 0)
    assert one.average_maximum == pytest.approx(0.95 * (0.95 * 2 + 0.05 * 4) + 0.05 * 1)


def test_a_large_step_is_sampled_in_every_channel_and_its_extremes_are_kept():
    values = np.tile(np.arange(1, 65, dtype=np.float32), (4000, 1))
    values[1, 1] = 1000.0
    one = observed(values)
    assert one.maximum == 1000.0
    assert one.counts.sum() <= SAMPLES
    met = np.bincount(np.repeat(np.arange(BINS) - BINS // 2, one.counts)[:-1])
    assert np.count_nonzero(met) >= 64  # bins are half a unit wide: one for each channel


def test_without_a_histogram_there_are_extremes():
    one = Observed(histogram=False)
    one.add(np.array([1.0, -2.0], np.float32))
    assert (one.minimum, one.maximum, one.counts.size) == (-2, 1, 0)
