"""A tiny Conformer with random weights and its facts: a checkpoint that exports in seconds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

FEATURE_MEAN, FEATURE_STD = -9.0, 4.0
WINDOWS_SECONDS = (1, 2)


def write_tiny_checkpoint(folder: Path, name: str = "tiny") -> Path:
    """NAME.keras and NAME.toml in `folder`."""
    from tests.models.random_weights import randomise
    from tflite_asr.facts import ModelFacts
    from tflite_asr.frontend import FrontEnd
    from tflite_asr.models import build
    from tflite_asr.models.conformer import TINY
    from tflite_asr.tokens import CHARACTERS

    path = folder / f"{name}.keras"
    randomise(build("conformer", TINY)).save(path)
    frontend = FrontEnd(normalise="fixed", mean=(FEATURE_MEAN,) * 80, std=(FEATURE_STD,) * 80)
    facts = ModelFacts(
        name, "conformer", asdict(TINY), frontend, CHARACTERS, TINY.subsampling, WINDOWS_SECONDS
    )
    facts.write(path)
    return path
