from __future__ import annotations

import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.calibrators import CALIBRATORS, check_calibrator
from tflite_asr.quantize.observed import Observed

LAPLACE = np.random.default_rng(0).laplace(0, 1, (200, 160)).astype(np.float32)
SKEWED = np.random.default_rng(1).lognormal(0, 1, (200, 160)).astype(np.float32) - 0.5
RECTIFIED = np.maximum(LAPLACE, 0)
EVEN = np.random.default_rng(2).uniform(-1, 1, (200, 160)).astype(np.float32)
SHAPES = {"laplace": LAPLACE, "skewed": SKEWED, "rectified": RECTIFIED, "even": EVEN}


def found(name: str, values: np.ndarray) -> tuple[float, float]:
    seen = Observed()
    seen.add(values)
    return CALIBRATORS[name].range_of(seen)


def error(values: np.ndarray, low: float, high: float) -> float:
    """Mean squared error of rounding to 256 levels with a whole zero point, in float64, by doing it."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    integers = np.clip(np.rint(values.astype(np.float64) / scale) + zero, 0, 255)
    return float(np.square((integers - zero) * scale - values).mean())


def best_error(values: np.ndarray) -> float:
    """The least of a search over shares of both ends."""
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    shares = np.linspace(0.02, 1, 50)
    return min(error(values, low * a, high * b) for a in shares[:: 1 if low else 50] for b in shares)


@pytest.mark.parametrize("shape", SHAPES)
def test_mse_finds_the_range_of_least_error(shape: str):
    values = SHAPES[shape]
    assert error(values, *found("mse", values)) <= 1.03 * best_error(values)


def test_octav_finds_it_too_where_zeros_are_no_exception():
    for values in (LAPLACE, SKEWED, EVEN):
        assert error(values, *found("octav", values)) <= 1.05 * best_error(values)


def test_octav_is_the_papers_iteration_where_a_tensor_is_symmetric():
    """Equation 6 on |x| with 4^-b / 3, b = 8, as published."""
    values = np.concatenate([LAPLACE[:100], -LAPLACE[:100]])
    size = np.abs(values.astype(np.float64))
    clip = size.mean()
    for _ in range(100):
        beyond = size > clip
        clip = size[beyond].sum() / (4.0**-8 / 3 * (~beyond).sum() + beyond.sum())
    low, high = found("octav", values)
    assert high == pytest.approx(clip, rel=5e-3)
    assert low == pytest.approx(-clip, rel=5e-3)


def test_a_percentile_leaves_one_in_twenty_thousand_at_either_end():
    values = np.random.default_rng(3).normal(0, 2, (200, 160)).astype(np.float32)
    low, high = found("percentile", values)
    expected = np.quantile(values, [0.5e-4, 1 - 0.5e-4])
    np.testing.assert_allclose([low, high], expected, rtol=0.02)


def test_what_has_no_outliers_is_not_clipped():
    for name in ("percentile", "mse", "octav"):
        np.testing.assert_allclose(found(name, EVEN), [EVEN.min(), EVEN.max()], rtol=0.02)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_range_lies_within_the_extremes(name: str):
    for values in SHAPES.values():
        low, high = found(name, values)
        assert min(values.min(), 0) - 1e-6 <= low <= high <= values.max() + 1e-6


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e-30])
def test_a_tensor_of_one_value_keeps_it(name: str, value: float):
    low, high = found(name, np.full((4, 4), value, np.float32))
    assert min(low, 0.0) == pytest.approx(min(value, 0.0), rel=0.02)
    assert max(high, 0.0) == pytest.approx(max(value, 0.0), rel=0.02)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(
        TfliteAsrError, match=r"'median'.*min_max, moving_average, percentile, mse, octav, auto"
    ):
        check_calibrator("median")
    check_calibrator("auto")
