"""A tiny lowered Conformer on its way into low-bit training, made once for all tests of this room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tflite_asr.quantize.ranges import Ranges

SUBSAMPLING = 4
WINDOWS = (100, 200)
TRAINED = "ctc_100"


@dataclass(frozen=True)
class Room:
    """keras: the checkpoint. parts: signature to lowered float flatbuffer. clips: float32 [frames, 80] each. ranges:
    calibrated on them."""

    keras: Path
    parts: dict[str, bytes]
    clips: list[np.ndarray]
    ranges: Ranges


def smooth_clips(lengths: tuple[int, ...], seed: int = 7) -> list[np.ndarray]:
    """float32 [frames, 80] each, noise averaged over five frames."""
    rng = np.random.default_rng(seed)
    kernel = np.ones(5) / 5**0.5
    return [
        np.apply_along_axis(np.convolve, 0, rng.standard_normal((n, 80)), kernel, "same").astype(np.float32)
        for n in lengths
    ]


@pytest.fixture(scope="session")
def room(tmp_path_factory) -> Room:
    from tests.tiny_checkpoint import write_tiny_checkpoint
    from tflite_asr.facts import ModelFacts
    from tflite_asr.models import load_model
    from tflite_asr.quantize.calibrate import calibrate, lay_into_windows
    from tflite_asr.quantize.convert import convert
    from tflite_asr.quantize.lowered import lowered

    path = write_tiny_checkpoint(tmp_path_factory.mktemp("qat"))
    model = lowered(load_model(path), SUBSAMPLING, ModelFacts.read(path))
    parts = {one.signature: one.data for one in (convert(model, n, SUBSAMPLING) for n in WINDOWS)}
    clips = smooth_clips((100, 80, 60, 100, 200, 150))
    ranges = calibrate(parts, lay_into_windows(clips, parts, SUBSAMPLING))
    return Room(path, parts, clips, ranges)
