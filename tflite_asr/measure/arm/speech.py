"""Speech to count on when none is given: the clips that the package ships, one after the other."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from tflite_asr.audio import read_audio
from tflite_asr.errors import TfliteAsrError


def shipped_speech(sample_rate: int, samples: int) -> np.ndarray:
    """float32 [samples] at `sample_rate`, from the beginning again where the clips are too few.

    Raises:
        TfliteAsrError: an installation without its clips.
    """
    folder = Path(str(resources.files("tflite_asr") / "pretrained" / "demo"))
    clips: list[np.ndarray] = []
    for path in sorted(folder.glob("*.ogg")):
        clips.append(read_audio(path, sample_rate))
        if sum(map(len, clips)) >= samples:
            break
    if not clips:
        raise TfliteAsrError(f"{folder}: holds no clips; install tflite-asr again, or give speech")
    return np.resize(np.concatenate(clips), samples)
