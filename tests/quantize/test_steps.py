"""A decoder that runs token by token: signatures, one scale for what is carried, integers that decode like floats."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.random_weights import randomise
from tflite_asr.audio import read_audio
from tflite_asr.audit import audit
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import log_mel
from tflite_asr.manifest import read_manifest
from tflite_asr.models import build, load_model
from tflite_asr.models.transformer import ctc_part
from tflite_asr.models.transformer_config import TINY
from tflite_asr.pipeline import model_path
from tflite_asr.quantize.build import FlatbufferResult, build_flatbuffers
from tflite_asr.quantize.entries import entries
from tflite_asr.runtime import open_interpreter
from tflite_asr.runtime.spelling import log_softmax
from tflite_asr.synthesis.prior import prior_clips
from tflite_asr.synthesis.shapes import model_inputs

CONFIG = replace(TINY, positions="sinusoidal")
FACTS = ModelFacts("t", "transformer", asdict(CONFIG), subsampling=4, windows_seconds=(1, 2))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[FlatbufferResult, FlatbufferResult]:
    """float32 and int8 of a tiny model, windows of 100 and 200 frames."""
    path = tmp_path_factory.mktemp("t") / "t.keras"
    randomise(build("transformer", CONFIG)).save(path)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((frames, 80)).astype(np.float32) for frames in (60, 100, 150, 200)]
    one, other = build_flatbuffers(
        path, FACTS.windows, ["float32", "int8"], inputs, subsampling=4, facts=FACTS
    )
    return one, other


def spelled(
    data: bytes, tokens: list[int], frames: int = 100, clip: np.ndarray | None = None
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Real decoder logits [tokens, pieces], and what each step gave, as it is stored; clip: None for 80 of noise."""
    engine = open_interpreter(data)
    step = f"decode_step_{frames}"
    if clip is None:
        clip = np.random.default_rng(1).standard_normal((1, frames, 80)).astype(np.float32)[0, :80]
    encode = engine.signatures[f"encode_{frames}"].inputs
    mask = np.zeros((1, frames // 4), np.float32)
    mask[:, : -(-len(clip) // 4)] = 1
    features = np.zeros((1, frames, 80), np.float32)
    features[0, : len(clip)] = clip
    memory = engine.run(
        f"encode_{frames}",
        {"features": encode["features"].quantise(features), "mask": encode["mask"].quantise(mask)},
    )
    memory.pop("logits")
    wanted = engine.signatures[step].inputs
    state = {name: facts.quantise(np.zeros(facts.shape, np.float32)) for name, facts in wanted.items()}
    state |= memory | {"mask": wanted["mask"].quantise(mask)}
    history, found, given = np.zeros(wanted["history"].shape, np.float32), [], []
    for count, token in enumerate(tokens):
        history[:, -1 - count] = 1
        state |= {"token": np.array([[token]], np.int32), "position": np.array([[count]], np.int32)}
        outputs = engine.run(step, {**state, "history": wanted["history"].quantise(history)})
        given.append(dict(outputs))
        facts = engine.signatures[step].outputs["logits"]
        logits = outputs.pop("logits")[0].astype(np.float32)
        found.append(logits if facts.scale is None else (logits - facts.zero_point) * facts.scale)
        state |= outputs
    return np.stack(found), given


TOKENS = [0, 7, 3, 3, 12, 28, 1, 9]


def test_there_is_a_signature_for_what_runs_once_and_one_for_what_runs_for_each_token(built: Any) -> None:
    names = ["decode_step_100", "decode_step_200", "encode_100", "encode_200"]
    for one in built:
        assert sorted(one.signatures) == names
    assert audit(built[1].data, load=False).integer_only


def test_the_steps_in_float_are_the_models(built: Any) -> None:
    said, _ = spelled(built[0].data, TOKENS)
    longer, _ = spelled(built[0].data, TOKENS, 200)
    assert said.shape == longer.shape == (8, 29)
    assert np.abs(said).max() > 0.5


def test_what_is_carried_has_one_scale_on_both_sides(built: Any) -> None:
    signatures = built[1].signatures
    step, encode = signatures["decode_step_100"], signatures["encode_100"]
    carried = [name for name in step["outputs"] if name != "logits"]
    assert sorted(carried) == ["context0", "context1", "keys0", "keys1", "values0", "values1"]
    for name in carried:
        assert step["inputs"][name] == step["outputs"][name]
    for name, facts in encode["outputs"].items():
        if name != "logits":
            assert step["inputs"][name] == facts


def test_a_cache_is_moved_on_and_never_rounded_again(built: Any) -> None:
    _, given = spelled(built[1].data, TOKENS)
    for before, after in itertools.pairwise(given):
        for name in before:
            if name != "logits":
                np.testing.assert_array_equal(after[name][:, :-1], before[name][:, 1:])
    assert np.unique(given[-1]["keys0"][0, -8:]).size > 20


def test_integers_decode_like_floats(built: Any) -> None:
    exact, rounded = (spelled(one.data, TOKENS)[0] for one in built)
    error = np.square(exact - rounded).sum()
    assert 10 * np.log10(np.square(exact).sum() / error) > 20


def test_an_encoder_decoder_wants_its_facts() -> None:
    with pytest.raises(TfliteAsrError, match="takes tokens, and nothing says of what architecture"):
        entries(build("transformer", TINY), None)


def test_a_step_is_equalised_by_what_it_meets_while_tokens_are_drawn() -> None:
    from tflite_asr.lowering.centring import CentredPositions
    from tflite_asr.quantize.lowered import lowered

    _, step = entries(randomise(build("transformer", CONFIG)), FACTS)
    assert step.feeds is not None
    feeds = list(step.feeds())
    names = [tensor.name for tensor in step.model.inputs]
    assert len(feeds) > 1
    for feed in feeds:
        shapes = {name: values.shape[2:] for name, values in zip(names, feed, strict=True)}
        assert shapes["keys0"] == (16,)
        assert not np.isnan(np.concatenate([np.ravel(values) for values in feed])).any()
    positions = [feed[names.index("position")] for feed in feeds]
    assert sorted({int(one[0, 0]) for one in positions})[:2] == [0, 3]
    for one, other in zip(feeds, step.feeds(), strict=True):
        for first, second in zip(one, other, strict=True):
            np.testing.assert_array_equal(first, second)
    low = lowered(step.model, feeds=feeds)
    (scaled,) = [layer for layer in low.layers if isinstance(layer, CentredPositions)]
    assert np.ptp(np.asarray(scaled.scale)) > 0
    given = dict(zip(names, feeds[1], strict=True))
    for name, values in step.model(given).items():
        np.testing.assert_allclose(low(given)[name], values, atol=1e-4)


@pytest.mark.slow
def test_the_shipped_one_says_in_integers_what_it_says_in_float(demo_manifest: Path) -> None:
    """Measured .0081 nats a token; .0102 while its streams were neither centred nor equalised."""
    path = model_path("speech-transformer")
    facts = ModelFacts.read(path)
    assert facts is not None
    assert facts.frontend is not None
    assert facts.tokens is not None
    model = load_model(path)
    shape = model_inputs(ctc_part(model), facts)
    prior = [clip for some in prior_clips(shape, facts, seed=1) for clip in some if len(clip) <= 400]
    one, other = build_flatbuffers(path, [400], ["float32", "int8"], prior, subsampling=4, facts=facts)
    nats = []
    for said in read_manifest(demo_manifest, facts.tokens):
        clip = log_mel(read_audio(said.audio_filepath, facts.frontend.sample_rate), facts.frontend)
        if len(clip) <= 400:
            tokens = [0, *facts.tokens.encode(said.text)][:60]
            floats, integers = (log_softmax(spelled(m.data, tokens, 400, clip)[0]) for m in (one, other))
            nats += list((np.exp(floats) * (floats - integers)).sum(axis=-1))
    assert len(nats) > 100
    assert np.mean(nats) < 0.0092
