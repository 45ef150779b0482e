"""How far quantised logits lie from the float model's: what WER alone would hide on a weak model."""

from __future__ import annotations

import numpy as np

from tflite_asr.errors import TfliteAsrError

# Equal logits would be infinitely far above their noise; float32 itself ends near 140 dB.
CEILING_DB = 120.0


def dequantise(values: np.ndarray, scale: float | None, zero_point: int | None) -> np.ndarray:
    """Real values of a quantised array, float64; float input (scale None) as it is."""
    values = values.astype(np.float64)
    return values if scale is None else (values - (zero_point or 0)) * scale


def snr_db(reference: np.ndarray, logits: np.ndarray) -> float:
    """Signal-to-noise ratio of one utterance's logits.

    Args:
        reference: float [frames, pieces], the float model's logits, valid frames only.
        logits: float [frames, pieces], dequantised.

    Returns:
        10 log10(sum reference^2 / sum (logits - reference)^2), at most `CEILING_DB`.

    Raises:
        TfliteAsrError: shapes that differ.
    """
    _check(reference, logits)
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(logits.astype(np.float64) - reference).sum())
    return decibels(signal, noise)


def decibels(signal: float, noise: float) -> float:
    """Ratio of two energies in dB, at most `CEILING_DB`."""
    if noise <= signal * 10 ** (-CEILING_DB / 10):
        return CEILING_DB
    return 10.0 * float(np.log10(max(signal, np.finfo(np.float64).tiny) / noise))


def argmax_agreement(reference: np.ndarray, logits: np.ndarray) -> tuple[int, int]:
    """Frames whose best piece is the same, and all frames, of one utterance; shapes as in `snr_db`."""
    _check(reference, logits)
    return int((reference.argmax(axis=1) == logits.argmax(axis=1)).sum()), len(reference)


def _check(reference: np.ndarray, logits: np.ndarray) -> None:
    if reference.shape != logits.shape:
        raise TfliteAsrError(
            f"logits of shape {list(logits.shape)} against {list(reference.shape)} of the float bundle; give the float "
            "export of the same model (same subsampling and pieces)"
        )
