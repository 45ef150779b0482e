"""A slimming study of an encoder-decoder: judged by what its decoder says, recovered with it."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.models.random_weights import randomise
from tests.tone_bundle import whistle
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import FrontEnd
from tflite_asr.models import build
from tflite_asr.models.transformer_config import TINY
from tflite_asr.slim import Reference, slim
from tflite_asr.slim.outputs import drawn_tokens, log_probabilities
from tflite_asr.studies.slim import _heard
from tflite_asr.studies.slim_recovery import Recovery
from tflite_asr.studies.slim_speech import transcripts
from tflite_asr.synthesis import prior
from tflite_asr.tokens import CHARACTERS
from tflite_asr.training.data import collate
from tflite_asr.training.transcripts import AttentionTranscriber

CONFIG = replace(TINY, positions="sinusoidal", blocks=1, dropout=0.0)
FACTS = ModelFacts(
    "t",
    "transformer",
    asdict(CONFIG),
    FrontEnd(normalise="fixed", mean=(-9.0,) * 80, std=(4.0,) * 80),
    CHARACTERS,
    4,
    windows_seconds=(1, 2),
)


@pytest.fixture(scope="module")
def model() -> Any:
    return randomise(build("transformer", CONFIG), seed=3)


def clips() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((frames, 80)).astype(np.float32) for frames in (64, 40, 64)]


def test_the_output_is_the_decoders_at_every_token_that_the_full_model_drew(model: Any) -> None:
    heard = clips()
    tokens = drawn_tokens(model, FACTS, heard, seed=0)
    assert tokens == drawn_tokens(model, FACTS, heard, seed=0) != drawn_tokens(model, FACTS, heard, seed=1)
    reference = Reference(model, FACTS, heard)
    assert reference.spelled == tokens
    given = Reference(model, FACTS, heard, tokens)
    np.testing.assert_array_equal(given.said, reference.said)
    assert reference.said.shape == (sum(len(one) + 1 for one in tokens), len(CHARACTERS.pieces))
    # Row by row the decoder's own, clip after clip of a length.
    before = np.array([[0, *tokens[1]]], np.int32)
    logits = np.asarray(model([heard[1][None], np.ones((1, 10), np.float32), before])[1])[0].astype(float)
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(reference.said[-len(logits) :], expected, atol=1e-4)
    assert reference.divergence(model) == 0
    moved = {
        path: reference.divergence(slim(model, FACTS, path)[0])
        for path in ("decoder.block1.cross", "encoder.block0.ff", "decoder.positions", "ctc.dense.bias")
    }
    assert moved.pop("ctc.dense.bias") == 0  # CTC is not what is decoded
    assert all(value > 1e-4 for value in moved.values())


def test_the_clips_are_moved_until_the_full_model_hears_what_it_drew(model: Any) -> None:
    rng = np.random.default_rng(0)
    heard = [*clips(), rng.standard_normal((902, 80)).astype(np.float32)]
    moved, spelled = _heard(model, FACTS, heard, seed=0)
    assert [len(clip) for clip in moved] == [64, 40, 64, 400]
    assert spelled == drawn_tokens(model, FACTS, [*heard[:3], heard[3][:400]], seed=0)

    def nats(clip: np.ndarray, text: list[int]) -> float:
        rows = log_probabilities(model, FACTS, [clip], [text])
        return -float(np.mean([row[piece] for row, piece in zip(rows, [*text, 0], strict=True)]))

    for clip, first, text in zip(moved, heard, spelled, strict=True):
        assert nats(clip, text) < 0.9 * nats(first[:400], text)
    again, _ = _heard(model, FACTS, heard, seed=0)
    for one, other in zip(moved, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_slimmed_model_is_read_as_training_reads_it(model: Any) -> None:
    smaller, facts, _ = slim(model, FACTS, "decoder.block0.mhsa,decoder.context1,encoder.positions")
    heard = clips()
    texts = transcripts(smaller, facts, heard)
    assert all(texts)
    config = replace(CONFIG, dropped=tuple(facts.config["dropped"]))
    reader = AttentionTranscriber(smaller, config, CHARACTERS)
    for clip, text in zip(heard, texts, strict=True):
        batch = collate([clip], [np.zeros(1, np.int32)], 64, 4, 0)
        # The limit on a text's length follows the padded batch; what is spelled before it does not.
        assert reader.texts(batch)["attention"][0][:6] == text[:6]


@pytest.mark.usefixtures("no_graph")
@pytest.mark.parametrize("kind", ["distil", "finetune"])
def test_recovery_trains_the_decoder_too(
    kind: str, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior, "BATCHES", ((2, 1.0),))
    monkeypatch.setattr(prior, "EDGES", ())
    manifests = []
    if kind == "finetune":
        soundfile.write(tmp_path / "one.wav", whistle("abc"), 16000)
        manifests = [tmp_path / "one.jsonl"]
        manifests[0].write_text('{"audio_filepath": "one.wav", "duration": 1.0, "text": "abc"}\n')
    smaller = slim(model, FACTS, "decoder.block1.ff")[0]
    held = {w.path: np.array(w) for w in smaller.weights}
    losses = Recovery(kind, 4, model, FACTS, manifests=manifests, cache=tmp_path / "cache").run(smaller, 1)
    assert len(losses) == 4
    assert all(math.isfinite(loss) for loss in losses)
    moved = {w.path for w in smaller.trainable_weights if not np.array_equal(held[w.path], w)}
    for part in ("decoder.dense", "decoder.embedding", "decoder.block1.cross.query", "ctc.dense"):
        assert any(part in path for path in moved), part
