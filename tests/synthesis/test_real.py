"""Calibration on a manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import log_mel
from tflite_asr.synthesis.real import real_inputs


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines = []
    for index, seconds in enumerate((1.0, 0.01, 20.0, 2.0)):
        samples = np.random.default_rng(index).normal(0, 0.05, int(seconds * 16000)).astype(np.float32)
        soundfile.write(tmp_path / f"{index}.wav", samples, 16000, subtype="FLOAT")
        lines.append(json.dumps({"audio_filepath": f"{index}.wav", "duration": seconds, "text": "a"}))
    path = tmp_path / "speech.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_features_are_the_front_ends(manifest: Path, facts: ModelFacts) -> None:
    made = real_inputs(manifest, facts)
    assert [len(clip) for clip in made.features] == [98, 1600, 198]  # the one of 10 ms has no frame
    audio, _ = soundfile.read(manifest.parent / "3.wav", dtype="float32")
    assert facts.frontend is not None
    assert np.abs(made.features[2] - log_mel(audio, facts.frontend)).max() < 1e-4
    assert (made.method, made.spent_macs, made.refined) == ("speech.jsonl", 0, 0)


def test_the_seed_draws(manifest: Path, facts: ModelFacts) -> None:
    lengths = {
        tuple(len(c) for c in real_inputs(manifest, facts, limit=2, seed=s).features) for s in range(8)
    }
    assert len(lengths) > 1
    assert max(map(len, lengths)) == 2


def test_what_it_needs(manifest: Path, facts: ModelFacts) -> None:
    with pytest.raises(TfliteAsrError, match="no front end"):
        real_inputs(manifest, replace(facts, frontend=None))
    with pytest.raises(TfliteAsrError, match="limit is 0"):
        real_inputs(manifest, facts, limit=0)
    rows = manifest.read_text().splitlines()
    manifest.write_text(rows[1])
    with pytest.raises(TfliteAsrError, match="shorter than one analysis window"):
        real_inputs(manifest, facts)
