"""Sound in: any file libsndfile reads becomes mono float32 at the rate the front end wants."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from tflite_asr.errors import TfliteAsrError

_OGG_PAGE = 27 + 255 + 255 * 255  # the longest page: header, segment table, segments
_OGG_LAST = 4  # the flag of a stream's last page


def read_audio(source: str | Path | BinaryIO, sample_rate: int = 16000) -> np.ndarray:
    """Read wav, flac, ogg/opus or anything libsndfile knows.

    Channels are averaged; another rate is resampled with soxr (quality HQ).

    Args:
        source: a path, or a binary file object (standard input, say).
        sample_rate: the rate wanted, in Hz.

    Returns:
        float32 [samples], full scale at +-1.

    Raises:
        TfliteAsrError: a file that is missing, empty, not audio, cut short (wav, flac, ogg), holds no samples, or holds
            NaN or infinite values.
    """
    name = str(source) if isinstance(source, (str, Path)) else getattr(source, "name", "<stream>")
    file = _open(source, name)
    with file:
        size = file.seek(0, io.SEEK_END)
        if size == 0:
            raise TfliteAsrError(f"{name}: is empty (0 bytes); record or copy it again")
        promised = _promised_wav_frames(file)
        ended = _ends_as_ogg(file, size)
        file.seek(0)
        try:
            # libsndfile reads a file by itself faster than through Python's.
            with soundfile.SoundFile(file if isinstance(file, io.BytesIO) else file.name) as sound:
                rate = sound.samplerate
                samples = sound.read(dtype="float32", always_2d=True)
        except (RuntimeError, TypeError, OSError) as error:
            reason = (
                getattr(error, "error_string", str(error))
                .splitlines()[0]
                .removeprefix("Error : ")
                .rstrip(".")
            )
            raise TfliteAsrError(
                f"{name}: cannot be read as audio ({reason}); wav, flac, ogg and opus files work"
            ) from error
    # libsndfile notices a flac that is cut short, but gives what is left of a wav or an ogg.
    if promised is not None and promised > len(samples):
        raise TfliteAsrError(
            f"{name}: is cut short ({len(samples)} of {promised} samples are there); copy it again"
        )
    if not ended:
        raise TfliteAsrError(
            f"{name}: is cut short (the last page of the ogg stream is missing); copy it again"
        )
    if not np.isfinite(samples).all():
        where = int(np.argmax(~np.isfinite(samples).all(axis=1)))
        raise TfliteAsrError(f"{name}: sample {where} is NaN or infinite; export the audio again")
    mono = samples.mean(axis=1, dtype=np.float32)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
    if len(mono) == 0:
        raise TfliteAsrError(f"{name}: holds no samples; record or copy it again")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _open(source: str | Path | BinaryIO, name: str) -> BinaryIO:
    """A file that can be searched; a stream is read to its end, because a pipe cannot be."""
    if not isinstance(source, (str, Path)):
        return io.BytesIO(source.read())
    try:
        file = Path(source).open("rb")  # noqa: SIM115  closed by whoever asked for it
        return file if file.seekable() else io.BytesIO(file.read())
    except FileNotFoundError as error:
        raise TfliteAsrError(f"{name}: no such audio file; check the path") from error
    except IsADirectoryError as error:
        raise TfliteAsrError(f"{name}: is a folder; name an audio file in it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TfliteAsrError(f"{name}: cannot be read ({reason}); check the path") from error


def _promised_wav_frames(file: BinaryIO) -> int | None:
    """Frames that a RIFF header promises, or None where the file is no plain RIFF wav."""
    file.seek(0)
    data = file.read(65536)
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    position, block = 12, 0
    while position + 8 <= len(data):
        kind, size = (
            data[position : position + 4],
            int.from_bytes(data[position + 4 : position + 8], "little"),
        )
        if kind == b"fmt ":
            block = int.from_bytes(data[position + 20 : position + 22], "little")
        elif kind == b"data":
            # What writes to a pipe cannot know the length: it leaves 0, or something near 2 or 4 GiB (sox, espeak-ng).
            return None if size == 0 or size >= 0x7FFFF000 or block == 0 else size // block
        position += 8 + size + (size & 1)
    return None


def _ends_as_ogg(file: BinaryIO, size: int) -> bool:
    """Whether an ogg file's last page is whole and says that it is the last (RFC 3533); True for any other file."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return True
    file.seek(max(0, size - _OGG_PAGE))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    whole = 27 + page[26] + sum(page[27 : 27 + page[26]])
    return bool(page[5] & _OGG_LAST) and len(page) >= whole
