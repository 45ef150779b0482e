"""The NumPy face of the front end: samples in, log-mel features out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tflite_asr.frontend.config import FrontEnd


def hann_window(length: int) -> np.ndarray:
    """Periodic Hann window, float64 [length]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def analysis_window(frontend: FrontEnd) -> np.ndarray:
    """The config's window, float64 [window_samples]."""
    if frontend.window == "hann_symmetric" and frontend.window_samples > 1:
        return np.append(hann_window(frontend.window_samples - 1), 0.0)
    return hann_window(frontend.window_samples)


def _hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    # Slaney's Auditory Toolbox: linear to 1 kHz, then 27 steps to a factor of 6.4.
    linear = hz / (200.0 / 3)
    return np.where(hz < 1000.0, linear, 15.0 + 27.0 * np.log(np.maximum(hz, 1e-9) / 1000.0) / np.log(6.4))


def _mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15.0, mel * (200.0 / 3), 1000.0 * np.exp(np.log(6.4) * (mel - 15.0) / 27.0))


def mel_edges(frontend: FrontEnd) -> np.ndarray:
    """Corners of the triangular filters in Hz, float64 [mels + 2]; band i peaks at corner i + 1."""
    ends = _hz_to_mel(np.array([frontend.low_hz, frontend.top_hz]), frontend.mel_scale)
    return _mel_to_hz(np.linspace(ends[0], ends[1], frontend.mels + 2), frontend.mel_scale)


@lru_cache(maxsize=16)
def mel_filters(frontend: FrontEnd) -> np.ndarray:
    """Triangular mel filters, float64 [fft_size // 2 + 1, mels]; area-normalised on the Slaney scale.

    The same matrix as `librosa.filters.mel` (Slaney, norm "slaney"; HTK with htk=True, norm None).
    """
    bins = np.arange(frontend.fft_size // 2 + 1) * frontend.sample_rate / frontend.fft_size
    edges = mel_edges(frontend)
    rising = (bins[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if frontend.mel_scale == "slaney":
        filters *= 2.0 / (edges[2:] - edges[:-2])
    return filters


def log_mel(audio: np.ndarray, frontend: FrontEnd) -> np.ndarray:
    """Features of one utterance.

    Args:
        audio: float32 [samples] at `frontend.sample_rate`.
        frontend: the config.

    Returns:
        float32 [frames, mels]: natural-log mel energies, normalised as the config says; [0, mels] for audio shorter
        than one window.
    """
    frames = frontend.frames(len(audio))
    if frontend.preemphasis:
        audio = np.append(audio[:1], audio[1:] - frontend.preemphasis * audio[:-1])
    offset = 0
    if frontend.centre:
        audio = np.pad(audio, frontend.fft_size // 2)
        offset = (frontend.fft_size - frontend.window_samples) // 2
        span = frontend.fft_size
    else:
        span = frontend.window_samples
    if not frames:
        return np.zeros((0, frontend.mels), np.float32)
    framed = np.lib.stride_tricks.sliding_window_view(audio, span)[:: frontend.hop_samples][:frames]
    framed = framed[:, offset : offset + frontend.window_samples]
    window = analysis_window(frontend).astype(np.float32)
    spectrum = np.fft.rfft(framed * window, n=frontend.fft_size)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    features = np.log(power @ mel_filters(frontend) + frontend.log_guard)
    return normalise(features, frontend).astype(np.float32)


def normalise(features: np.ndarray, frontend: FrontEnd) -> np.ndarray:
    """Apply the config's normalisation to log-mels [frames, mels]."""
    if frontend.normalise == "fixed":
        return (features - np.asarray(frontend.mean)) / np.asarray(frontend.std)
    if frontend.normalise == "per_feature" and len(features):
        # NeMo: unbiased deviation, 1e-5 added outside the root.
        deviation = features.std(axis=0, ddof=1) if len(features) > 1 else np.zeros(features.shape[1])
        return (features - features.mean(axis=0)) / (deviation + 1e-5)
    return features
