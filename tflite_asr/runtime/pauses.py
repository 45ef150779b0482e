"""Where long audio may be cut without touching a word: at its pauses, the longest first.

A recogniser that was trained on utterances reads a window of several sentences, or speakers, worse than each by itself.
What fits one window is left whole; what is longer is cut at pauses into stretches of a few seconds, and what has no
pause is cut with overlap (windows.py). The settings were chosen on recordings joined from an4 and speechocean762 dev.
"""

from __future__ import annotations

import numpy as np

STEP_SECONDS = 0.01
SMOOTH = 5  # steps over which the energy is averaged: a closed stop is no pause
AROUND_SECONDS = 1.5  # on each side, where the levels of speech and of silence are looked for
PART = 0.3  # of the way from silence to speech, in dB: quieter is silent
RANGE_DB = 12.0  # where the levels lie closer together there is no pause
SHORTEST_PAUSE_SECONDS = 0.2
SHORTEST_SECONDS = 1.0  # of what is cut off
LONG_SECONDS = 4.0  # what is shorter stays whole


def pauses(samples: np.ndarray, sample_rate: int) -> list[tuple[float, float]]:
    """Start and end of each pause in seconds, in their order; samples: float32 [samples]."""
    hop = round(sample_rate * STEP_SECONDS)
    count = len(samples) // hop
    if count < 2 * SMOOTH:
        return []
    power = np.square(samples[: count * hop].reshape(count, hop).astype(np.float64)).mean(axis=1)
    smooth = np.convolve(np.pad(power, SMOOTH // 2, mode="edge"), np.ones(SMOOTH) / SMOOTH, "valid")
    level = 10 * np.log10(smooth + 1e-10)
    reach = round(AROUND_SECONDS / STEP_SECONDS)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(level, reach, mode="edge"), 2 * reach + 1)
    silence, speech = np.percentile(around, 5, axis=1), around.max(axis=1)
    silent = (level < silence + PART * (speech - silence)) & (speech - silence > RANGE_DB)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silent, [0]])))
    shortest = round(SHORTEST_PAUSE_SECONDS / STEP_SECONDS)
    return [
        (float(a * STEP_SECONDS), float(b * STEP_SECONDS))
        for a, b in edges.reshape(-1, 2)
        if b - a >= shortest
    ]


def places_to_cut(samples: np.ndarray, sample_rate: int) -> list[float]:
    """Seconds at which to cut, in their order: the middle of the longest pause, then of each side's longest, until what
    is left is short or has no pause."""
    found = pauses(samples, sample_rate)
    places: list[float] = []
    stretches = [(0.0, len(samples) / sample_rate)]
    while stretches:
        start, end = stretches.pop()
        inside = [
            (a, b) for a, b in found if start + SHORTEST_SECONDS <= (a + b) / 2 <= end - SHORTEST_SECONDS
        ]
        if end - start <= LONG_SECONDS or not inside:
            continue
        a, b = max(inside, key=lambda pause: pause[1] - pause[0])
        places.append((a + b) / 2)
        stretches += [(start, places[-1]), (places[-1], end)]
    return sorted(places)
