"""The whole chain on a tiny Speech-Transformer: exported, it spells by CTC, by attention and by both."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import tflite_asr
from tests.models.random_weights import randomise
from tflite_asr.bundle import Bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import FrontEnd, log_mel
from tflite_asr.measure.arm import count_bundle
from tflite_asr.models import build, load_model
from tflite_asr.models.transformer_config import TINY
from tflite_asr.report.bench_table import bench_tables
from tflite_asr.tokens import CHARACTERS
from tflite_asr.training.data import collate
from tflite_asr.training.transcripts import AttentionTranscriber

pytestmark = pytest.mark.slow

CONFIG = replace(TINY, positions="sinusoidal", dropped=("decoder.block0.cross.head1", "decoder.context1"))
FRONTEND = FrontEnd(normalise="fixed", mean=(-9.0,) * 80, std=(4.0,) * 80)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "t.keras"
    randomise(build("transformer", CONFIG), seed=3).save(path)
    facts = ModelFacts("t", "transformer", asdict(CONFIG), FRONTEND, CHARACTERS, 4, windows_seconds=(1, 2))
    facts.write(path)
    return path


@pytest.fixture(scope="module")
def bundles(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    out = tmp_path_factory.mktemp("bundles")
    return {s: tflite_asr.export(checkpoint, out / s, scheme=s) for s in ("float32", "int8")}


def noises() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(samples)).astype(np.float32) for samples in (9000, 15000, 21000)]


def test_attention_in_the_bundle_spells_what_the_checkpoint_spells(
    checkpoint: Path, bundles: dict[str, Bundle]
) -> None:
    transcriber = AttentionTranscriber(load_model(checkpoint), CONFIG, CHARACTERS)
    bundled = tflite_asr.load(bundles["float32"])
    assert (bundled.spelling.decoder, bundled.spelling.beam) == ("attention", 1)
    for audio in noises():
        features = log_mel(audio, FRONTEND)
        batch = collate([features], [np.zeros(1, np.int32)], 100 if len(features) <= 100 else 200, 4, 0)
        expected = transcriber.texts(batch)
        assert tflite_asr.load(bundles["float32"], decoder="ctc").transcribe(audio).text == expected["ctc"][0]
        # A decoder of random weights goes on to the limit, which differs; what is spelled until then does not.
        heard = bundled.transcribe(audio).text
        assert heard[:8]
        assert expected["attention"][0].startswith(heard[:8])


def test_integers_spell_too(bundles: dict[str, Bundle]) -> None:
    info = bundles["int8"].info
    assert sorted(info.signatures) == ["decode_step_100", "decode_step_200", "encode_100", "encode_200"]
    assert info.calibration is not None
    for decoder, beam in (("ctc", 1), ("attention", 1), ("attention", 3), ("joint", 2)):
        found = tflite_asr.load(bundles["int8"], decoder=decoder, beam=beam).transcribe(noises()[1])
        assert found.text
        assert [word.text for word in found.words] == found.text.split()
        assert all(0 <= word.start < word.end <= 1.0 for word in found.words)


def test_a_token_is_timed_apart_from_the_encoder(bundles: dict[str, Bundle]) -> None:
    result = tflite_asr.bench(list(bundles.values()), windows=[1, 2])
    for cost in result.costs:
        assert cost.latency_ms is not None
        assert cost.decode_step_ms is not None
        assert cost.decode_step_ms > 0
        assert cost.rtf_model == pytest.approx(cost.latency_ms["median"] / 1000 / cost.window_seconds)
    table = next(iter(bench_tables(result.to_dict(), profile=False)))
    shown = dict(zip((str(c.header) for c in table.columns), table.columns, strict=True))
    assert list(shown["token\nms"].cells) == [f"{c.decode_step_ms:.2f}" for c in result.costs[::2]]


def test_a_token_is_counted_apart_on_an_emulated_core(
    bundles: dict[str, Bundle], prepared_cores: Path
) -> None:
    run = count_bundle(bundles["int8"], 1.0, "cortex-a76", prepared_cores, repeats=1)
    assert run.decode_step is not None
    assert run.to_json()["decode_step"]["total"] == run.decode_step.total > 0
    # Outputs of both are held against this machine's.
    sizes = [values.size for part in (run.model, run.decode_step) for values in part.outputs[0].values()]
    assert run.against_host.values == sum(sizes)
    assert run.frontend is not None
    assert run.per_audio_second["total"] == run.model.total + run.frontend.total


def test_a_long_recording_is_spelled_in_stretches(bundles: dict[str, Bundle]) -> None:
    audio = np.concatenate(noises() + noises())
    found = tflite_asr.load(bundles["float32"]).transcribe(audio)
    seconds = len(audio) / 16000
    assert found.words[-1].end > seconds - 1.0
    assert all(before.start < after.end for before, after in zip(found.words, found.words[1:], strict=False))


def test_what_cannot_be_done_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    for choice in ({"calibrator": "auto"}, {"repair": True}):
        with pytest.raises(TfliteAsrError, match="an encoder-decoder is calibrated by one of"):
            tflite_asr.export(checkpoint, tmp_path / "b", **choice)
    assert not (tmp_path / "b").exists()
