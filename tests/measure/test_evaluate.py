"""An evaluation of a recogniser whose answers are known: rates, fidelity, cost, records and comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.tone_bundle import FRONTEND, whistle, write_tone_bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.manifest import Utterance, read_manifest, write_manifest
from tflite_asr.measure.evaluate import evaluate, reference_logits
from tflite_asr.measure.evaluation import compare, report, with_against
from tflite_asr.measure.footprint import footprint
from tflite_asr.measure.kernels import evaluate_kernels

# What is whistled, and what the manifest says was: three words wrong of ten.
SPOKEN = ["abc fed", "dead beef", "cafe", "face bad", "ace bed fee"]
WRITTEN = ["abc fed", "dead beef add", "cafe", "face", "ace bed bee"]

VARIANT_KEYS = {
    "scheme",
    "drop",
    "bundle",
    "model_bytes",
    "integer_only",
    "lowered",
    "utterances",
    "audio_seconds",
    "wer",
    "wer_ci95",
    "cer",
    "snr_db",
    "argmax_agreement",
    "rtf",
    "latency_ms",
    "threads",
    "delegate",
    "calibration",
    "seed",
}


def make_corpus(folder: Path, spoken: list[str], written: list[str]) -> Path:
    folder.mkdir()
    rows = []
    for number, (sound, text) in enumerate(zip(spoken, written, strict=True)):
        path = folder / f"{number}.wav"
        audio = whistle(sound)
        soundfile.write(path, audio, FRONTEND.sample_rate, subtype="FLOAT")
        rows.append(Utterance(path, len(audio) / FRONTEND.sample_rate, text, {"speaker": f"s{number}"}))
    write_manifest(folder / "test.jsonl", rows)
    return folder / "test.jsonl"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("evaluate") / "tones", SPOKEN, WRITTEN)


@pytest.fixture(scope="session")
def other_corpus(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("evaluate") / "more", ["bee", "add"], ["bee", "add"])


@pytest.fixture(scope="session")
def evaluation(int8_bundle, float_bundle, corpus, other_corpus):
    return evaluate(int8_bundle, [corpus, other_corpus], reference=float_bundle, seed=1)


def test_error_rates_are_the_known_ones(evaluation):
    tones, more = evaluation.corpora["tones/test"], evaluation.corpora["more/test"]
    assert tones.words == {"substitutions": 1, "deletions": 1, "insertions": 1, "units": 10}
    assert tones.wer == pytest.approx(3 / 10)
    assert more.wer == 0
    assert evaluation.pooled.wer == pytest.approx(3 / 12)
    # "bee" for "fee" is one character; " add" is missing; " bad" is too many.
    assert (
        tones.characters["substitutions"] + tones.characters["deletions"] + tones.characters["insertions"]
        == 9
    )
    low, high = evaluation.pooled.wer_ci95
    assert 0 <= low < evaluation.pooled.wer < high


def test_fidelity_is_of_valid_frames_against_float(evaluation, int8_bundle, float_bundle, corpus):
    from tflite_asr.runtime import Transcriber

    expected = []
    for result in evaluation.results:
        audio = result.utterance.audio_filepath
        exact = Transcriber(float_bundle).logits(audio)
        transcriber = Transcriber(int8_bundle)
        facts = transcriber.logits_facts
        real = (transcriber.logits(audio).astype(float) - facts.zero_point) * facts.scale
        expected.append(10 * np.log10((exact**2).sum() / ((exact - real) ** 2).sum()))
    assert evaluation.pooled.snr_db == pytest.approx(np.mean(expected), abs=0.01)
    assert evaluation.pooled.snr_db > 25
    assert evaluation.pooled.argmax_agreement > 0.95


def test_precomputed_float_logits_serve_as_the_float_bundle(
    evaluation, int8_bundle, float_bundle, corpus, other_corpus
):
    logits = reference_logits(float_bundle, [corpus, other_corpus])
    again = evaluate(int8_bundle, [corpus, other_corpus], reference=logits, measure_footprint=False)
    assert again.pooled.snr_db == evaluation.pooled.snr_db
    with pytest.raises(TfliteAsrError, match="no float logits of it"):
        evaluate(int8_bundle, corpus, reference={}, measure_footprint=False)


def test_cost_is_over_real_audio_and_its_parts_add_up(evaluation):
    pooled = evaluation.pooled
    assert pooled.audio_seconds == pytest.approx(
        sum(len(whistle(s)) for s in [*SPOKEN, "bee", "add"]) / 16000
    )
    total = sum(r.seconds.total for r in evaluation.results)
    assert pooled.rtf == pytest.approx(total / pooled.audio_seconds)
    assert set(pooled.rtf_parts) == {"frontend", "model", "decode"}
    assert sum(pooled.rtf_parts.values()) == pytest.approx(pooled.rtf)
    assert 0 < pooled.latency_ms["p50"] <= pooled.latency_ms["p95"]


def test_load_time_and_memory_are_those_of_a_fresh_process(evaluation):
    assert evaluation.footprint is not None
    assert 0 < evaluation.footprint.load_seconds < 60
    assert 0 < evaluation.footprint.resident_bytes <= evaluation.footprint.peak_bytes < 500e6


def test_a_footprint_of_no_bundle_is_one_line(tmp_path: Path):
    with pytest.raises(TfliteAsrError, match="no such bundle") as error:
        footprint(tmp_path / "nowhere")
    assert "\n" not in str(error.value)


def test_the_json_holds_every_key_that_readers_count_on(evaluation):
    run = json.loads(evaluation.to_json())
    assert "lower case" in run["normalisation"]
    (variant,) = run["variants"]
    assert set(variant) > VARIANT_KEYS
    assert variant["scheme"] == "static_wi8_ai8"
    assert variant["integer_only"] is True
    assert variant["lowered"] is True
    assert variant["drop"] == []
    assert variant["wer"] == pytest.approx(0.25)
    assert variant["words"]["units"] == 12
    assert set(variant["latency_ms"]) == {"p50", "p95"}
    assert (variant["threads"], variant["delegate"], variant["runtime"]) == (1, "xnnpack", "litert")
    assert (variant["calibration"], variant["seed"]) == ("synthetic", 0)
    assert set(variant["corpora"]) == {"tones/test", "more/test"}
    assert len(variant["hypotheses"]) == variant["utterances"] == 7


def test_a_float_bundle_without_reference_has_no_fidelity(float_bundle, corpus):
    evaluation = evaluate(float_bundle, corpus, measure_footprint=False)
    (variant,) = json.loads(report([evaluation]))["variants"]
    assert variant["integer_only"] is False
    for key in ("snr_db", "argmax_agreement", "calibration", "seed", "peak_memory_bytes"):
        assert variant[key] is None


def test_hypotheses_are_a_manifest_with_pred_text(evaluation, tmp_path: Path):
    out = tmp_path / "hypotheses.jsonl"
    evaluation.write_hypotheses(out)
    rows = read_manifest(out)
    assert [row.text for row in rows[:5]] == WRITTEN
    assert [row.extra["pred_text"] for row in rows[:5]] == SPOKEN
    assert rows[0].extra["speaker"] == "s0"


def test_progress_counts_every_utterance(int8_bundle, corpus):
    seen: list[tuple[int, int]] = []
    evaluate(int8_bundle, corpus, limit=3, measure_footprint=False, progress=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_two_runs_are_paired_utterance_by_utterance(
    evaluation, float_bundle, corpus, other_corpus, tmp_path: Path
):
    exact = evaluate(float_bundle, [corpus, other_corpus], measure_footprint=False)
    assert compare(evaluation, exact).difference == 0
    run = tmp_path / "run.json"
    run.write_text(exact.to_json())
    against = with_against(evaluation, run).to_variant()["against"]
    assert against["run"] == str(run)
    assert against["scheme"] == "float32"
    assert against["wer"]["difference"] == 0
    assert against["wer"]["utterances"] == 7


def test_a_worse_run_shows_in_the_difference(evaluation, tmp_path: Path):
    run = json.loads(evaluation.to_json())
    for row in run["variants"][0]["hypotheses"]:
        row["pred_text"] = row["text"]
    path = tmp_path / "perfect.json"
    path.write_text(json.dumps(run))
    difference = with_against(evaluation, path).against["wer"]
    assert difference["difference"] == pytest.approx(0.25)
    assert difference["low"] <= 0.25 <= difference["high"]


@pytest.mark.parametrize("content", ["", "{}", '{"variants": []}', '{"variants": [{"scheme": "x"}]}', "[1]"])
def test_a_file_that_is_no_run_is_refused_by_name(evaluation, tmp_path: Path, content: str):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(TfliteAsrError, match=r"run.json: is no run") as error:
        with_against(evaluation, path)
    assert "\n" not in str(error.value)
    with pytest.raises(TfliteAsrError, match="no such run"):
        with_against(evaluation, tmp_path / "nowhere.json")


def test_a_run_over_other_utterances_is_refused(evaluation, int8_bundle, corpus, tmp_path: Path):
    part = evaluate(int8_bundle, corpus, limit=2, measure_footprint=False)
    path = tmp_path / "part.json"
    path.write_text(part.to_json())
    with pytest.raises(TfliteAsrError, match=r"over other utterances \(2 against 7; 2.wav is not in both\)"):
        with_against(evaluation, path)


def test_several_kernels_show_their_spread(int8_bundle, float_bundle, corpus):
    kernels = [("litert", "xnnpack", 1), ("litert", "builtin", 1), ("litert", "reference", 2)]
    logits = reference_logits(float_bundle, corpus)
    steps: list[tuple[int, int]] = []
    spread = evaluate_kernels(
        int8_bundle,
        corpus,
        kernels,
        reference=logits,
        measure_footprint=False,
        progress=lambda *step: steps.append(step),
    )
    assert [(e.delegate, e.threads) for e in spread.evaluations] == [
        ("xnnpack", 1),
        ("builtin", 1),
        ("reference", 2),
    ]
    assert spread.wer_range == (pytest.approx(0.3), pytest.approx(0.3))
    assert spread.snr_range is not None
    assert spread.snr_range[0] > 25
    assert spread.differing == 0
    assert spread.to_dict()["kernels"][1] == ["litert", "builtin", 1]
    assert steps[-1] == (15, 15)


def test_a_feature_only_bundle_cannot_be_evaluated(tmp_path: Path, corpus):
    bundle = write_tone_bundle(tmp_path / "bare", integer=False, feature_only=True)
    with pytest.raises(TfliteAsrError, match="without the front end") as error:
        evaluate(bundle, corpus)
    assert error.value.exit_code == 2


def test_a_bad_clip_in_a_manifest_is_named(int8_bundle, tmp_path: Path):
    soundfile.write(tmp_path / "zero.wav", np.zeros(0), 16000)
    write_manifest(tmp_path / "m.jsonl", [Utterance(tmp_path / "zero.wav", 1.0, "abc")])
    with pytest.raises(TfliteAsrError, match=r"zero.wav: holds no samples"):
        evaluate(int8_bundle, tmp_path / "m.jsonl", measure_footprint=False)


def test_texts_outside_the_alphabet_are_named_by_line(int8_bundle, corpus, tmp_path: Path):
    audio = corpus.parent / "0.wav"
    write_manifest(tmp_path / "m.jsonl", [Utterance(audio, 1.0, "abc"), Utterance(audio, 1.0, "zoo")])
    with pytest.raises(TfliteAsrError, match=r"m.jsonl:2: character 'z'"):
        evaluate(int8_bundle, tmp_path / "m.jsonl")


def test_a_quantised_bundle_is_no_float_reference(int8_bundle, corpus) -> None:
    with pytest.raises(TfliteAsrError, match="no float reference"):
        evaluate(int8_bundle, corpus, reference=int8_bundle, measure_footprint=False)
    with pytest.raises(TfliteAsrError, match=r"is static_wi8_ai8, no float reference; give the float32"):
        reference_logits(int8_bundle, corpus)
