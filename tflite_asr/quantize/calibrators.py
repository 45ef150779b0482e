"""How a tensor's range comes out of what was observed of it.

- `min_max`: the extremes.
- `moving_average`: the extremes of each step, averaged with momentum .95 (Q-ASR, arXiv 2103.16827).
- `percentile`: all but one value in 20,000 at either end.
- `mse`: the range with the least squared error of rounding and clipping, over a grid of ranges; zeros round exactly.
- `octav`: the same error without that exception, by Newton's iteration (Sakr et al., arXiv 2206.06501, equation 6).
  The paper's clipping constant is symmetric; a tensor here has a zero point, so both ends are iterated at once,
  rounding noise being (high - low)^2 4^-8 / 12.

AI Edge Quantizer 0.10 has MSE and OCTAV for weights alone (both hand activations to its min-max), and its calibration
offers min-max and a moving average of factor .95, of one signature's padded windows. Our ranges serve all windows at
once and leave padding out, so the activations' calibrators are here.

All of them look at real frames alone; `kept_whole` says where padding counts, and what is not clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.observed import Observed

AUTO = "auto"
_TAIL = 0.5e-4  # of all values, clipped at either end by `percentile`
_ROUNDING = 4.0**-8 / 12  # mean squared error of rounding to int8, over the squared width of the range
_SHARES = np.linspace(0.0, 1.0, 65)[1:]  # of an end, tried by `mse`
_FINER = np.linspace(-1.0, 1.0, 17) / 64  # then around the best
_NEWTON_STEPS = 50


@dataclass(frozen=True)
class Calibrator:
    """name: as in a range's source. range_of: what was observed of a tensor -> (minimum, maximum). clips: whether
    values may lie outside, so that a histogram is wanted and some tensors are spared (`kept_whole`)."""

    name: str
    range_of: Callable[[Observed], tuple[float, float]]
    clips: bool = True


class _End:
    """One side of zero: how many values lie beyond a limit, and their first two moments, values uniform in a bin.

    counts: from zero outwards. largest: the extreme on this side, 0 or more.
    """

    def __init__(self, counts: np.ndarray, width: float, largest: float) -> None:
        centres = (np.arange(len(counts)) + 0.5) * width
        self.largest = max(0.0, largest)
        self.total = float(counts.sum())
        self._edges = np.arange(len(counts) + 1) * width
        self._count = _from_the_end(counts)
        self._first = _from_the_end(counts * centres)
        self._second = _from_the_end(counts * (centres**2 + width**2 / 12))

    @property
    def mean(self) -> float:
        return float(self._first[0]) / max(self.total, 1.0)

    def count(self, limit: np.ndarray | float) -> np.ndarray:
        """Values beyond."""
        return np.interp(limit, self._edges, self._count)

    def sum(self, limit: np.ndarray | float) -> np.ndarray:
        """Of the values beyond."""
        return np.interp(limit, self._edges, self._first)

    def clipping(self, limit: np.ndarray) -> np.ndarray:
        """Summed squared error where all beyond becomes `limit`."""
        second = np.interp(limit, self._edges, self._second)
        return np.maximum(second - 2 * limit * self.sum(limit) + limit**2 * self.count(limit), 0.0)

    def limit_of(self, count: float) -> float:
        """Where `count` values lie beyond."""
        return min(float(np.interp(count, self._count[::-1], self._edges[::-1])), self.largest)


def _from_the_end(values: np.ndarray) -> np.ndarray:
    """Sums over all bins from each edge outwards; one more than bins."""
    return np.append(np.cumsum(values[::-1], dtype=np.float64)[::-1], 0.0)


def _ends(seen: Observed) -> tuple[_End, _End]:
    """Below and above zero."""
    below, above = np.split(seen.counts, 2)
    return _End(below[::-1], seen.width, -seen.real_minimum), _End(above, seen.width, seen.real_maximum)


def _min_max(seen: Observed) -> tuple[float, float]:
    return seen.real_minimum, seen.real_maximum


def _moving_average(seen: Observed) -> tuple[float, float]:
    return seen.average_minimum, seen.average_maximum


def _percentile(seen: Observed) -> tuple[float, float]:
    below, above = _ends(seen)
    tail = _TAIL * (below.total + seen.zeros + above.total)
    return -below.limit_of(tail), above.limit_of(tail)


def _mse(seen: Observed) -> tuple[float, float]:
    below, above = _ends(seen)

    def best(lows: np.ndarray, highs: np.ndarray) -> tuple[float, float]:
        inside = below.total + above.total - below.count(lows)[:, None] - above.count(highs)
        rounding = _ROUNDING * (lows[:, None] + highs) ** 2 * inside
        error = rounding + below.clipping(lows)[:, None] + above.clipping(highs)
        row, column = np.unravel_index(int(np.argmin(error)), error.shape)
        return float(lows[row]), float(highs[column])

    low, high = best(below.largest * _SHARES, above.largest * _SHARES)
    low, high = best(
        np.clip(low + below.largest * _FINER, 0.0, below.largest),
        np.clip(high + above.largest * _FINER, 0.0, above.largest),
    )
    return -low, high


def _octav(seen: Observed) -> tuple[float, float]:
    below, above = _ends(seen)
    total = below.total + seen.zeros + above.total
    low, high = below.mean, above.mean
    for _ in range(_NEWTON_STEPS):
        noise = _ROUNDING * float(total - below.count(low) - above.count(high))
        before = low, high
        low = _newton(below, before[0], before[1], noise)
        high = _newton(above, before[1], before[0], noise)
        if np.allclose(before, (low, high), rtol=1e-6, atol=0.0):
            break
    return -low, high


def _newton(end: _End, limit: float, other: float, noise: float) -> float:
    """The next guess of one end; the other is held. Where the derivative of the summed error,
    noise (limit + other) - (sum beyond - limit * count beyond), would be zero with the counts of this guess."""
    weight = noise + float(end.count(limit))
    if weight <= 0:
        return end.largest
    return float(np.clip((float(end.sum(limit)) - noise * other) / weight, 0.0, end.largest))


CALIBRATORS: dict[str, Calibrator] = {
    one.name: one
    for one in (
        Calibrator("min_max", _min_max, clips=False),
        Calibrator("moving_average", _moving_average),
        Calibrator("percentile", _percentile),
        Calibrator("mse", _mse),
        Calibrator("octav", _octav),
    )
}
MIN_MAX = CALIBRATORS["min_max"]
CALIBRATOR_NAMES = (*CALIBRATORS, AUTO)


def check_calibrator(name: str) -> None:
    """Raises TfliteAsrError, naming the known ones, where `name` is neither a calibrator nor `auto`."""
    if name not in CALIBRATOR_NAMES:
        raise TfliteAsrError(
            f"calibrator {name!r}: unknown; the known ones are {', '.join(CALIBRATOR_NAMES)}"
        )
