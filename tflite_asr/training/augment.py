"""Augmentation of cached log-mels: gain, speed, vocal tract, noise, SpecAugment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tflite_asr.frontend import FrontEnd
from tflite_asr.frontend.log_mel import mel_edges
from tflite_asr.training.recipe import Augmentation


def add_gain(log_mels: np.ndarray, gain_db: float, log_guard: float) -> np.ndarray:
    """What the front end would give for the audio at another level; un-normalised log-mels [frames, mels]."""
    energy = np.maximum(np.exp(log_mels) - log_guard, 0.0)
    return np.log(energy * 10.0 ** (gain_db / 10.0) + log_guard)


def warp(log_mels: np.ndarray, speed: float, vocal_tract: float, frontend: FrontEnd) -> np.ndarray:
    """Faster (speed > 1) and higher speech, by linear interpolation along time and frequency.

    A recording played `speed` times as fast has 1 / speed of the frames and every partial at `speed` times its
    frequency; `vocal_tract` moves the frequencies alone. [frames, mels] to [about frames / speed, mels].
    """
    frames = max(1, int(len(log_mels) / speed))
    place = np.minimum(np.arange(frames) * speed, len(log_mels) - 1)
    low = place.astype(int)
    high = np.minimum(low + 1, len(log_mels) - 1)
    part = (place - low)[:, None].astype(np.float32)
    slower = log_mels[low] * (1 - part) + log_mels[high] * part
    centres = mel_edges(frontend)[1:-1]
    band = np.interp(centres / (speed * vocal_tract), centres, np.arange(frontend.mels))
    low = band.astype(int)
    high = np.minimum(low + 1, frontend.mels - 1)
    part = (band - low).astype(np.float32)
    return slower[:, low] * (1 - part) + slower[:, high] * part


def augment(
    log_mels: np.ndarray, settings: Augmentation, frontend: FrontEnd, rng: np.random.Generator
) -> np.ndarray:
    """Perturb one utterance's un-normalised log-mels [frames, mels], as `settings` says (SpecAugment comes apart)."""
    features = warp(log_mels, rng.uniform(*settings.speed), rng.uniform(*settings.vocal_tract), frontend)
    features = add_gain(features, rng.uniform(*settings.gain_db), frontend.log_guard)
    if rng.random() < 0.5:
        # Stationary noise with a random smooth spectrum, chi-squared over time as a periodogram's is.
        tilt = np.cumsum(rng.normal(0, 0.35, frontend.mels))
        level = features.mean() + 2.0 + rng.uniform(*settings.noise_db) * np.log(10) / 10
        noise = np.exp(level + 3.0 + tilt - tilt.mean()) * rng.gamma(3.0, 1 / 3.0, features.shape)
        features = np.log(np.exp(features) + noise)
    return features.astype(np.float32)


def join(parts: Sequence[np.ndarray], silences: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Clips as one recording, with room silence around them; un-normalised log-mels [frames, mels].

    Args:
        parts: clips [frames, mels].
        silences: frames before the first, between, and after the last; the silence is as loud as the quietest tenth of
            the clip beside it, chi-squared over time.
        rng: of the silence.
    """
    pieces = []
    for number, frames in enumerate(silences):
        beside = parts[min(number, len(parts) - 1)]
        if frames:
            quietest = beside[np.argsort(beside.mean(axis=1))[: max(1, len(beside) // 10)]].mean(axis=0)
            pieces.append(quietest + np.log(rng.gamma(3.0, 1 / 3.0, (frames, beside.shape[1]))))
        if number < len(parts):
            pieces.append(parts[number])
    return np.concatenate(pieces).astype(np.float32)


def spec_augment(features: np.ndarray, settings: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Zero bands and stretches of normalised features [frames, mels], in place (Park et al. 2019)."""
    frames, mels = features.shape
    for _ in range(settings.frequency_masks):
        width = int(rng.integers(0, settings.frequency_width + 1))
        start = int(rng.integers(0, mels - width + 1))
        features[:, start : start + width] = 0.0
    for _ in range(settings.time_masks):
        width = int(rng.integers(0, max(1, int(frames * settings.time_fraction)) + 1))
        start = int(rng.integers(0, frames - width + 1))
        features[start : start + width] = 0.0
    return features
