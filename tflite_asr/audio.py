"""Sound in: any file libsndfile reads becomes mono float32 at the rate the front end wants."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from tflite_asr.errors import TfliteAsrError


def read_audio(source: str | Path | BinaryIO, sample_rate: int = 16000) -> np.ndarray:
    """Read wav, flac, ogg/opus or anything libsndfile knows.

    Channels are averaged; another rate is resampled with soxr (quality HQ).

    Args:
        source: a path, or a binary file object (standard input, say).
        sample_rate: the rate wanted, in Hz.

    Returns:
        float32 [samples], full scale at +-1.

    Raises:
        TfliteAsrError: a file that is missing, empty, not audio, cut short, holds no samples, or holds NaN or
            infinite values.
    """
    name = str(source) if isinstance(source, (str, Path)) else getattr(source, "name", "<stream>")
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.exists():
            raise TfliteAsrError(f"{name}: no such audio file; check the path")
        if path.is_dir():
            raise TfliteAsrError(f"{name}: is a folder; name an audio file in it")
        if path.stat().st_size == 0:
            raise TfliteAsrError(f"{name}: is empty (0 bytes); record or copy it again")
    try:
        with soundfile.SoundFile(source) as sound:
            rate, declared = sound.samplerate, sound.frames
            samples = sound.read(dtype="float32", always_2d=True)
            streamed = sound.format in ("OGG", "MP3")
    except (soundfile.LibsndfileError, RuntimeError, TypeError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise TfliteAsrError(
            f"{name}: cannot be read as audio ({reason}); wav, flac, ogg and opus files work"
        ) from error
    if len(samples) == 0:
        raise TfliteAsrError(f"{name}: holds no samples; record or copy it again")
    # libsndfile takes a wav whose data chunk promises more than the file holds, and gives what is there: ask the header.
    if not streamed and isinstance(source, (str, Path)):
        promised = _promised_wav_frames(Path(source))
        if promised is not None and promised > len(samples):
            raise TfliteAsrError(
                f"{name}: is cut short ({len(samples)} of {promised} samples are there); copy it again"
            )
    if len(samples) < declared and not streamed:
        raise TfliteAsrError(f"{name}: is cut short ({len(samples)} of {declared} samples); copy it again")
    if not np.isfinite(samples).all():
        where = int(np.argmax(~np.isfinite(samples).all(axis=1)))
        raise TfliteAsrError(f"{name}: sample {where} is NaN or infinite; export the audio again")
    mono = samples.mean(axis=1, dtype=np.float32)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _promised_wav_frames(path: Path) -> int | None:
    """Frames that a RIFF header promises, or None where the file is no plain RIFF wav."""
    data = path.read_bytes()[:65536]
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    position, block = 12, 0
    while position + 8 <= len(data):
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if kind == b"fmt ":
            block = int.from_bytes(data[position + 20 : position + 22], "little")
        elif kind == b"data":
            # 0xFFFFFFFF and 0 are what streaming writers leave there: they promise nothing.
            return None if size in (0, 0xFFFFFFFF) or block == 0 else size // block
        position += 8 + size + (size & 1)
    return None
