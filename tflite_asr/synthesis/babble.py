"""Speech-like sound from no data: a source (pulses, noise) through gliding formants, with stops and pauses.

No word, no voice, no recording is in it. The numbers below are textbook ranges of adult and child speech (Fant 1960;
Peterson and Barney 1952), drawn uniformly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK, STEP = 512, 128  # analysis window and step of the time-varying filter, samples at 16 kHz (8 ms)
PITCH_HZ = (75.0, 330.0)
# Three that the tongue moves, then those of a 17 cm tube, one a kilohertz: without them speech would end at 4 kHz.
FORMANTS_HZ = (
    (250.0, 900.0),
    (700.0, 2600.0),
    (1900.0, 3400.0),
    (3200.0, 3900.0),
    (4200.0, 4900.0),
    (5200.0, 5900.0),
    (6200.0, 6900.0),
    (7200.0, 7900.0),
)
BANDWIDTHS_HZ = (80.0, 110.0, 160.0, 220.0, 280.0, 340.0, 400.0, 460.0)
GLOTTAL_POLE = (0.80, 0.97)  # a soft voice has a high one: less treble
NOISE_CENTRE_HZ = (1200.0, 7000.0)
NOISE_WIDTH_HZ = (400.0, 2500.0)
LEVEL_DBFS = (-45.0, -12.0)  # root mean square over the whole clip, pauses and silent edges left out
ROOM_DB = (-60.0, -15.0)  # background noise against speech
SILENT_ROOM = 0.25  # share of clips whose pauses are digital silence
SILENT_EDGE = 0.4  # share of clips that start or end in up to a quarter of digital silence
SEGMENT_SECONDS = {
    "voiced": (0.05, 0.28),
    "fricative": (0.05, 0.18),
    "voiced_fricative": (0.04, 0.12),
    "nasal": (0.04, 0.12),
    "stop": (0.03, 0.09),
    "pause": (0.12, 0.70),
}
SEGMENT_SHARE = {
    "voiced": 0.42,
    "fricative": 0.14,
    "voiced_fricative": 0.08,
    "nasal": 0.11,
    "stop": 0.17,
    "pause": 0.08,
}


@dataclass
class _Tracks:
    """What the mouth does, one value a step: loudness of pulses and noise, resonances, noise band."""

    voice: np.ndarray
    noise: np.ndarray
    formants: np.ndarray  # [8, steps], Hz
    centre: np.ndarray
    width: np.ndarray


def babble(rng: np.random.Generator, seconds: float, sample_rate: int = 16000) -> np.ndarray:
    """One clip.

    Args:
        rng: the source of randomness.
        seconds: its length; silent edges are inside.
        sample_rate: Hz.

    Returns:
        float32 [samples], clipped at +-1 as a recording is.
    """
    samples = round(seconds * sample_rate)
    edges = [rng.uniform(0, 0.25) if rng.random() < SILENT_EDGE else 0.0 for _ in range(2)]
    lead, tail = (round(edge * samples) for edge in edges)
    sounding = samples - lead - tail
    speech = _speech(rng, sounding, sample_rate)
    loud = np.abs(speech) > 0.05 * np.abs(speech).max()
    speech = speech / max(float(np.sqrt(np.mean(speech[loud] ** 2))) if loud.any() else 1.0, 1e-9)
    if rng.random() >= SILENT_ROOM:
        speech = speech + _room(rng, sounding) * 10 ** (rng.uniform(*ROOM_DB) / 20)
    level = 10 ** (rng.uniform(*LEVEL_DBFS) / 20)
    clip = np.concatenate([np.zeros(lead), speech * level, np.zeros(tail)])
    return np.clip(clip, -1.0, 1.0).astype(np.float32)


def _speech(rng: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    steps = samples // STEP + 1
    tracks = _tracks(rng, steps, STEP / sample_rate)
    at = np.arange(samples) / STEP
    index = np.arange(steps)
    pulses = _pulses(rng, samples, sample_rate) * np.interp(at, index, tracks.voice)
    hiss = rng.standard_normal(samples) * np.interp(at, index, tracks.noise)
    hertz = np.arange(BLOCK // 2 + 1) * sample_rate / BLOCK
    resonances = _resonances(hertz, tracks.formants)
    band = np.exp(-0.5 * ((hertz - tracks.centre[:, None]) / tracks.width[:, None]) ** 2)
    return _filtered(pulses, resonances) + _filtered(hiss, 0.15 * resonances + band)


def _tracks(rng: np.random.Generator, steps: int, step_seconds: float) -> _Tracks:
    """Draw segment after segment, then let everything glide from one to the next."""
    kinds, shares = list(SEGMENT_SHARE), list(SEGMENT_SHARE.values())
    voice, noise, centre, width = (np.zeros(steps) for _ in range(4))
    formants = np.zeros((len(FORMANTS_HZ), steps))
    bursts = np.zeros(steps)
    size = rng.uniform(0.9, 1.25)  # a child's vocal tract is shorter: formants go up
    at = 0
    while at < steps:
        kind = kinds[rng.choice(len(kinds), p=shares)]
        end = at + max(2, round(rng.uniform(*SEGMENT_SECONDS[kind]) / step_seconds))
        here = slice(at, min(end, steps))
        loudness = 10 ** (rng.uniform(-15, 0) / 20)
        voice[here] = {"voiced": 1.0, "nasal": 0.4, "voiced_fricative": 0.4}.get(kind, 0.0) * loudness
        noise[here] = {"fricative": 0.5, "voiced_fricative": 0.25, "voiced": 0.02}.get(kind, 0.0) * loudness
        formants[:, here] = np.array([[size * rng.uniform(low, high)] for low, high in FORMANTS_HZ])
        if kind == "nasal":
            formants[0, here] = size * rng.uniform(200, 350)
        centre[here], width[here] = rng.uniform(*NOISE_CENTRE_HZ), rng.uniform(*NOISE_WIDTH_HZ)
        if kind == "stop" and end < steps:
            bursts[end - 1] = loudness  # the closure opens
        at = end
    glide, attack = max(3, round(0.05 / step_seconds)), max(2, round(0.016 / step_seconds))
    formants = np.stack([_moving_average(row, glide) for row in formants])
    noise = _moving_average(noise, attack) + bursts
    return _Tracks(_moving_average(voice, attack), noise, formants, centre, width)


def _pulses(rng: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    """One pulse a period of a pitch that falls, wavers and jitters; unit power about 100 Hz."""
    seconds = np.arange(samples) / sample_rate
    base = np.exp(rng.uniform(*np.log(PITCH_HZ)))
    knots = max(2, int(samples / sample_rate / 0.25) + 2)
    melody = np.interp(seconds, np.arange(knots) * 0.25, rng.normal(0, 0.12, knots))
    falling = 0.1 * (seconds % 3.0)
    pitch = base * np.exp(melody - falling)
    phase = np.cumsum(pitch / sample_rate) + rng.random()
    pulses = np.diff(np.floor(phase), prepend=np.floor(phase[:1])) * np.sqrt(sample_rate / pitch)
    # A glottal pulse falls by 12 dB an octave, lips give 6 back: one pole is left.
    return _one_pole(pulses, rng.uniform(*GLOTTAL_POLE))


def _one_pole(signal: np.ndarray, pole: float) -> np.ndarray:
    """y[t] = x[t] + pole y[t-1], as a convolution with the response until it is below 1e-4."""
    response = pole ** np.arange(int(np.ceil(np.log(1e-4) / np.log(pole))))
    return np.convolve(signal, response)[: len(signal)]


def _resonances(hertz: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Magnitude of a cascade of two-pole resonators, float64 [steps, bins], 1 at 0 Hz."""
    gain = np.ones((formants.shape[1], len(hertz)))
    for centre, bandwidth in zip(formants, BANDWIDTHS_HZ, strict=True):
        square = (centre**2 + (bandwidth / 2) ** 2)[:, None]
        below = (hertz - centre[:, None]) ** 2 + (bandwidth / 2) ** 2
        above = (hertz + centre[:, None]) ** 2 + (bandwidth / 2) ** 2
        gain *= square / np.sqrt(below * above)
    return gain


def _filtered(signal: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Overlap-add with a magnitude a step: signal [samples], gain [steps, bins]; gives [samples]."""
    steps, padded = len(gain), np.zeros((len(gain) - 1) * STEP + BLOCK)
    padded[BLOCK // 2 : BLOCK // 2 + len(signal)] = signal[: len(padded) - BLOCK // 2]
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(BLOCK) / BLOCK))
    framed = np.lib.stride_tricks.sliding_window_view(padded, BLOCK)[::STEP][:steps]
    blocks = np.fft.irfft(np.fft.rfft(framed * window) * gain, BLOCK) * window
    out = np.zeros(len(padded))
    for part in range(BLOCK // STEP):  # blocks of one part do not overlap
        chosen = blocks[part :: BLOCK // STEP]
        region = out[part * STEP : part * STEP + chosen.size]
        region += chosen.reshape(-1)[: len(region)]
    return out[BLOCK // 2 : BLOCK // 2 + len(signal)] / 2


def _room(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Noise that falls by 0 to 12 dB an octave above 100 Hz, unit power, float64 [samples]."""
    slope = rng.uniform(0.0, 2.0)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / 16000)
    noise = np.fft.irfft(spectrum / np.maximum(hertz / 100, 1.0) ** slope, samples)
    return noise / max(float(noise.std()), 1e-9)


def _moving_average(values: np.ndarray, length: int) -> np.ndarray:
    padded = np.pad(values, (length // 2, length - 1 - length // 2), mode="edge")
    return np.convolve(padded, np.ones(length) / length, mode="valid")
