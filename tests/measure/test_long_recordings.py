"""Real speech longer than the longest window: what a minute or two costs against its clips one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tflite_asr.audio import read_audio
from tflite_asr.manifest import Utterance, read_manifest
from tflite_asr.measure.wer import word_errors
from tflite_asr.runtime import Transcriber

RECORDINGS = 10
SECONDS = (60.0, 120.0)


def recordings(manifests: list[Path], seed: int = 0) -> list[list[Utterance]]:
    """Test clips, drawn without replacement and joined with nothing between them, until each is long enough."""
    random = np.random.default_rng(seed)
    clips = [u for manifest in manifests for u in read_manifest(manifest)]
    order = iter(random.permutation(len(clips)))
    drawn: list[list[Utterance]] = []
    for _ in range(RECORDINGS):
        wanted, row = random.uniform(SECONDS[0], SECONDS[1] - 20), []
        while sum(u.duration for u in row) < wanted:
            row.append(clips[next(order)])
        drawn.append(row)
    return drawn


@pytest.mark.slow
def test_ten_recordings_of_a_minute_or_two_cost_half_a_point_at_most(speech_data: Path, tmp_path: Path):
    from tflite_asr.pipeline import export

    transcriber = Transcriber(export("conformer-ctc", tmp_path / "float", scheme="float32"))
    texts, whole, one_by_one = [], [], []
    for clips in recordings([speech_data / "an4/test.jsonl", speech_data / "speechocean762/test.jsonl"]):
        audio = [read_audio(clip.audio_filepath) for clip in clips]
        joined = np.concatenate(audio)
        assert SECONDS[0] <= len(joined) / 16000 <= SECONDS[1]
        texts.append(" ".join(clip.text for clip in clips))
        whole.append(transcriber.transcribe(joined).text)
        one_by_one.append(" ".join(transcriber.transcribe(clip).text for clip in audio))
    joined_wer, alone_wer = word_errors(texts, whole).rate, word_errors(texts, one_by_one).rate
    assert joined_wer - alone_wer <= 0.005, f"joined {joined_wer:.4f}, one by one {alone_wer:.4f}"
