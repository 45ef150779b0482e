"""Calibration inputs from real speech: the yardstick that the data-free arms are held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tflite_asr.audio import read_audio
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import log_mel
from tflite_asr.manifest import read_manifest
from tflite_asr.synthesis.inputs import SyntheticInputs, on_grid


def real_inputs(manifest: str | Path, facts: ModelFacts, limit: int = 48, seed: int = 0) -> SyntheticInputs:
    """Features of a manifest's utterances, cut at the model's longest window.

    Args:
        manifest: NeMo's JSON lines; never an evaluation set.
        facts: must hold a front end.
        limit: at most so many utterances.
        seed: of the draw, where the manifest has more.

    Returns:
        The same type as `synthesize`, its method the manifest's file name.

    Raises:
        TfliteAsrError: no front end; a manifest or an audio file that cannot be read; no utterance as long as one
            window of the front end.
    """
    if facts.frontend is None:
        raise TfliteAsrError(
            f"{facts.name}: has no front end in its facts; calibration on a manifest needs one"
        )
    if limit < 1:
        raise TfliteAsrError(f"calibration: limit is {limit}; give 1 or more utterances")
    rows = read_manifest(manifest)
    drawn = np.random.default_rng(seed).permutation(len(rows))[:limit]
    chosen = sorted(int(index) for index in drawn)
    clips = [
        log_mel(read_audio(rows[index].audio_filepath, facts.frontend.sample_rate), facts.frontend)
        for index in chosen
    ]
    clips = [clip[: max(facts.windows)] for clip in clips if len(clip)]
    if not clips:
        raise TfliteAsrError(
            f"{manifest}: every utterance is shorter than one analysis window; add longer ones"
        )
    return SyntheticInputs(on_grid(clips), method=Path(manifest).name, seed=seed)
