"""What one tensor was seen to hold, in memory that does not grow: extremes, their moving average, a histogram.

The histogram's bins are a power of two wide and begin at zero, so that it widens by merging neighbours and the order
of what comes does not matter. Zeros are counted apart: they are exact on every grid.
"""

from __future__ import annotations

import math

import numpy as np

BINS = 4096  # half of them below zero; a range that fills half of the rest still has 4 bins a level of int8
SAMPLES = 1 << 15  # values of one step that enter the histogram; extremes are of all
MOMENTUM = 0.95  # of the moving average: PAPERS.md, section 1

_HALF = BINS // 2


class Observed:
    """Statistics of one tensor over the steps of a calibration.

    Attributes:
        signature: of which function of the model, as in a `Range`.
        minimum, maximum: over all values, padded frames included; inf and -inf before the first.
        real_minimum, real_maximum: over real frames.
        average_minimum, average_maximum: moving average of each step's extremes, in the order of steps.
        counts: int64 [BINS], of real frames; bin i holds [i - BINS / 2, i + 1 - BINS / 2) times `width`.
        width: of a bin, a power of two; 0.0 while all values were zero.
        zeros: of real frames, not in `counts`.
    """

    def __init__(self, signature: str = "", histogram: bool = True) -> None:
        self.signature = signature
        self.minimum = self.real_minimum = math.inf
        self.maximum = self.real_maximum = -math.inf
        self.average_minimum = self.average_maximum = 0.0
        self.counts = np.zeros(BINS if histogram else 0, np.int64)
        self.width = 0.0
        self.zeros = 0
        self._first = True

    def add(self, values: np.ndarray, real: tuple[slice, ...] = ()) -> None:
        """One step. values: float32, any shape. real: the part that is no padding, by axis; () for all of it.

        Values that are not finite show in the extremes and enter no histogram.
        """
        low, high = float(values.min()), float(values.max())
        self.minimum, self.maximum = _widest((self.minimum, self.maximum), (low, high))
        if real:
            values = values[real]
            low, high = float(values.min()), float(values.max())
        self.real_minimum, self.real_maximum = _widest((self.real_minimum, self.real_maximum), (low, high))
        share = 1.0 if self._first else 1.0 - MOMENTUM
        self._first = False
        if math.isfinite(low) and math.isfinite(high):
            self.average_minimum += share * (low - self.average_minimum)
            self.average_maximum += share * (high - self.average_maximum)
            if len(self.counts):
                self._count(_sample(values), max(-low, high))

    def _count(self, values: np.ndarray, largest: float) -> None:
        if largest > 0:
            self._widen(2.0 ** (math.floor(math.log2(largest)) + 1) / _HALF)
        if not self.width:
            self.zeros += values.size
            return
        bins = np.floor(values / np.float32(self.width)).astype(np.int32) + _HALF
        found = np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)
        zeros = int(values.size - np.count_nonzero(values))
        found[_HALF] -= zeros
        self.zeros += zeros
        self.counts += found

    def _widen(self, width: float) -> None:
        """At least so wide. float32 cannot say less than its smallest normal number, so bins stay above it."""
        width = max(width, 2.0**-120)
        while self.width and self.width < width:
            middle = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[_HALF // 2 : _HALF // 2 + _HALF] = middle
            self.width *= 2
        self.width = max(self.width, width)

    @property
    def edges(self) -> np.ndarray:
        """float64 [BINS + 1], where bins begin and end."""
        return (np.arange(BINS + 1) - _HALF) * self.width


def _widest(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """NaN in either stays."""
    return float(np.minimum(one[0], other[0])), float(np.maximum(one[1], other[1]))


def _sample(values: np.ndarray) -> np.ndarray:
    """At most about `SAMPLES` of the values, evenly spread: the stride shares no factor with the last axis, so every
    channel is met."""
    flat = values.reshape(-1)
    stride = -(-flat.size // SAMPLES)
    while stride > 1 and math.gcd(stride, values.shape[-1]) > 1:
        stride += 1
    return flat[::stride]
