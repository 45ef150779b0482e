"""Log-mels of NumPy against librosa, the independent reference, whatever the config."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest

from tflite_asr.audio import read_audio
from tflite_asr.frontend import FrontEnd, hann_window, log_mel, mel_filters

PLAIN = FrontEnd()
CONFIGS = {
    "shipped": PLAIN,
    "centred": replace(PLAIN, centre=True),
    "centred, last frame left out": replace(PLAIN, centre=True, drop_last=True),
    "symmetric window": replace(PLAIN, window="hann_symmetric"),
    "htk": replace(PLAIN, mel_scale="htk"),
    "centred htk, 40 mels in a band": replace(
        PLAIN, centre=True, mel_scale="htk", mels=40, low_hz=60, high_hz=7600
    ),
    "preemphasis": replace(PLAIN, preemphasis=0.97),
    "whole FFT": replace(PLAIN, window_seconds=0.032, hop_seconds=0.016),
    "8 kHz": replace(PLAIN, sample_rate=8000, fft_size=256, mels=40),
    "quieter guard": replace(PLAIN, log_guard=2.0**-24),
}


def noise(seconds: float = 1.2, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * 16000))).astype(np.float32)


def reference(audio: np.ndarray, frontend: FrontEnd) -> np.ndarray:
    """The same features from librosa, float32 [frames, mels].

    librosa lays a short window into the middle of the FFT; ours begins at its frame. For power spectra that is a
    shift of the audio.
    """
    audio = audio.astype(np.float64)
    if frontend.preemphasis:
        audio = librosa.effects.preemphasis(audio, coef=frontend.preemphasis, zi=[0.0])
    if not frontend.centre:
        short = frontend.fft_size - frontend.window_samples
        audio = np.pad(audio, (short // 2, short - short // 2))
    power = librosa.feature.melspectrogram(
        y=audio,
        sr=frontend.sample_rate,
        n_fft=frontend.fft_size,
        win_length=frontend.window_samples,
        hop_length=frontend.hop_samples,
        window=librosa.filters.get_window("hann", frontend.window_samples, fftbins=frontend.window == "hann"),
        center=frontend.centre,
        pad_mode="constant",
        n_mels=frontend.mels,
        fmin=frontend.low_hz,
        fmax=frontend.top_hz,
        htk=frontend.mel_scale == "htk",
        norm="slaney" if frontend.mel_scale == "slaney" else None,
        power=2.0,
        dtype=np.float64,
    )
    return np.log(power + frontend.log_guard).T[: -1 if frontend.drop_last else None]


@pytest.mark.parametrize("name", CONFIGS)
def test_noise_gives_what_librosa_gives(name: str) -> None:
    features = log_mel(noise(), CONFIGS[name])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, reference(noise(), CONFIGS[name]), atol=2e-4)


@pytest.mark.parametrize("name", ["shipped", "centred", "htk"])
def test_speech_gives_what_librosa_gives(demo_manifest: Path, name: str) -> None:
    audio = read_audio(sorted(demo_manifest.parent.glob("*.ogg"))[0])
    expected = reference(audio, CONFIGS[name])
    difference = np.abs(log_mel(audio, CONFIGS[name]) - expected)
    assert (difference < 1e-4).mean() > 0.999
    assert difference.max() < 1e-3


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_filters_are_those_of_librosa(scale: str) -> None:
    expected = librosa.filters.mel(
        sr=16000,
        n_fft=512,
        n_mels=80,
        htk=scale == "htk",
        norm="slaney" if scale == "slaney" else None,
        dtype=np.float64,
    )
    np.testing.assert_allclose(mel_filters(replace(PLAIN, mel_scale=scale)), expected.T, atol=1e-9)


def test_the_window_is_periodic() -> None:
    np.testing.assert_allclose(
        hann_window(400), librosa.filters.get_window("hann", 400, fftbins=True), atol=1e-12
    )


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("samples", [1, 399, 400, 401, 559, 560, 8001])
def test_frames_are_counted_as_they_are_made(name: str, samples: int) -> None:
    frontend = CONFIGS[name]
    features = log_mel(noise()[:samples], frontend)
    assert features.shape == (frontend.frames(samples), frontend.mels)
    frames = len(features)
    if frames:
        assert frontend.frames(frontend.samples(frames)) == frames
        assert frontend.samples(frames) <= samples
        if frontend.samples(frames):
            assert frontend.frames(frontend.samples(frames) - 1) == frames - 1


def test_a_stream_gives_the_frames_of_the_whole_file() -> None:
    """Without centring frame t needs the samples from 160 t to 160 t + 400 and no others."""
    whole = log_mel(noise(), PLAIN)
    for frame in (0, 1, 57):
        alone = log_mel(noise()[160 * frame : 160 * frame + 400], PLAIN)
        np.testing.assert_allclose(alone[0], whole[frame], atol=1e-5)


def test_digital_silence_is_the_guard() -> None:
    np.testing.assert_allclose(log_mel(np.zeros(800, np.float32), PLAIN), np.log(1e-8), rtol=1e-6)


def test_full_scale_stays_finite() -> None:
    square = np.sign(noise()).astype(np.float32)
    np.testing.assert_allclose(log_mel(square, PLAIN), reference(square, PLAIN), atol=2e-4)


def test_fixed_normalisation_is_a_constant_per_mel() -> None:
    mean, std = tuple(np.linspace(-9, -5, 80)), tuple(np.linspace(2, 4, 80))
    features = log_mel(noise(), replace(PLAIN, normalise="fixed", mean=mean, std=std))
    np.testing.assert_allclose(features * std + mean, log_mel(noise(), PLAIN), atol=1e-5)


def test_per_feature_normalisation_is_nemos() -> None:
    """(x - mean) / (unbiased deviation + 1e-5) over the utterance, as NeMo's `normalize_batch`."""
    features = log_mel(noise(), replace(PLAIN, normalise="per_feature"))
    plain = reference(noise(), PLAIN)
    count = len(plain)
    for mel in (0, 40, 79):
        mean = sum(plain[:, mel]) / count
        deviation = (sum((value - mean) ** 2 for value in plain[:, mel]) / (count - 1)) ** 0.5
        np.testing.assert_allclose(features[:, mel], (plain[:, mel] - mean) / (deviation + 1e-5), atol=1e-3)


@pytest.mark.parametrize("samples", [0, 300, 400])
def test_per_feature_normalisation_of_next_to_nothing_is_finite(samples: int) -> None:
    features = log_mel(noise()[:samples], replace(PLAIN, normalise="per_feature"))
    assert len(features) == (samples == 400)
    assert np.isfinite(features).all()
