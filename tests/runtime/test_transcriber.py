"""Whistled letters in, letters out: on every kernel, at every length, and with clear words for what cannot be heard."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.tone_bundle import FRONTEND, SUBSAMPLING, TOKENS, WINDOWS, whistle, write_tone_bundle
from tflite_asr.bundle import Bundle
from tflite_asr.errors import Finding, TfliteAsrError
from tflite_asr.frontend import log_mel
from tflite_asr.runtime import DELEGATES, Transcriber

LONGEST_SECONDS = WINDOWS[-1] * FRONTEND.hop_seconds


@pytest.fixture(scope="session", params=["float", "int8"])
def transcriber(request, float_bundle, int8_bundle) -> Transcriber:
    return Transcriber(float_bundle if request.param == "float" else int8_bundle)


@pytest.mark.parametrize("text", ["a", "abc fed", "dead beef cafe"])
def test_what_was_whistled_is_read(transcriber, text):
    assert transcriber.transcribe(whistle(text)).text == text


@pytest.mark.parametrize("delegate", DELEGATES)
def test_every_delegate_reads_it(int8_bundle, delegate):
    assert (
        Transcriber(int8_bundle, delegate=delegate, threads=2).transcribe(whistle("face bad")).text
        == "face bad"
    )


def test_a_bundle_names_the_kernels_it_runs_on_unless_others_are_asked_for(int8_bundle):
    assert Transcriber(int8_bundle).delegate == "xnnpack"
    for_old_devices = replace(int8_bundle, info=replace(int8_bundle.info, delegate="builtin"))
    assert Transcriber(for_old_devices).delegate == "builtin"
    assert Transcriber(for_old_devices, delegate="xnnpack").delegate == "xnnpack"
    builtin = Transcriber(int8_bundle, delegate="builtin").logits(whistle("face"))
    np.testing.assert_array_equal(Transcriber(for_old_devices).logits(whistle("face")), builtin)


def test_words_are_where_they_were_whistled(transcriber):
    audio = whistle("ab cd", lead=0.5)
    first, second = transcriber.transcribe(audio).words
    # Two tones and the pause between: .24 s from .5 s on; the space's tone and two pauses; the next word.
    assert first.start == pytest.approx(0.5, abs=0.05)
    assert first.end == pytest.approx(0.74, abs=0.05)
    assert second.start == pytest.approx(0.98, abs=0.05)


def test_logits_are_of_the_valid_frames_in_the_models_own_type(float_bundle, int8_bundle):
    audio = whistle("abc")
    frames = FRONTEND.frames(len(audio))
    for bundle, dtype in ((float_bundle, np.float32), (int8_bundle, np.int8)):
        logits = Transcriber(bundle).logits(audio)
        assert logits.dtype == dtype
        assert logits.shape == (-(-frames // SUBSAMPLING), len(TOKENS.pieces))


def test_float_logits_are_those_of_the_numpy_front_end(float_bundle):
    audio = whistle("fade")
    features = log_mel(audio, FRONTEND)
    frames = len(features) // SUBSAMPLING * SUBSAMPLING
    expected = features[:frames].reshape(-1, SUBSAMPLING, 80).mean(axis=1)[:, 17:20].mean(axis=1)
    logits = Transcriber(float_bundle).logits(audio)
    np.testing.assert_allclose(logits[: len(expected), 2], expected, atol=1e-4)


def test_frames_that_padding_fills_are_zero_for_the_model(float_bundle):
    audio = whistle("b", lead=0, tail=0)
    frames = FRONTEND.frames(len(audio))
    assert frames % SUBSAMPLING != 0
    features = log_mel(audio, FRONTEND)
    last = np.zeros((SUBSAMPLING, 80), np.float32)
    last[: frames % SUBSAMPLING] = features[-(frames % SUBSAMPLING) :]
    logits = Transcriber(float_bundle).logits(audio)
    np.testing.assert_allclose(logits[-1, 2], last.mean(axis=0)[17:20].mean(), atol=1e-4)


def test_a_clip_takes_the_shortest_window_that_holds_it(int8_bundle, monkeypatch):
    transcriber = Transcriber(int8_bundle)
    used = []
    run = transcriber._model.run
    monkeypatch.setattr(transcriber._model, "run", lambda name, x: used.append(name) or run(name, x))
    for frames in (1, 100, 101, 200, 201, 400):
        transcriber.logits(np.zeros(FRONTEND.samples(frames), np.float32))
    assert used == ["ctc_100", "ctc_100", "ctc_200", "ctc_200", "ctc_400", "ctc_400"]


def random_text(seed: int, letters: int) -> str:
    random = np.random.default_rng(seed)
    text = ""
    while len(text) < letters:
        text += "".join(random.choice(list("abcdef"), random.integers(1, 6))) + " "
    return text.strip()


@pytest.mark.parametrize("seed", range(4))
def test_audio_longer_than_every_window_loses_and_doubles_nothing(transcriber, seed):
    text = random_text(seed, 150)
    audio = whistle(text, lead=0.1 + 0.013 * seed)
    assert len(audio) / FRONTEND.sample_rate > 5 * LONGEST_SECONDS
    transcript = transcriber.transcribe(audio)
    assert transcript.text == text
    starts = [word.start for word in transcript.words]
    assert starts == sorted(starts)
    # The whistle's clock: a letter every .16 s.
    for word, place in zip(transcript.words, word_places(text), strict=True):
        assert word.start == pytest.approx(0.1 + 0.013 * seed + 0.16 * place, abs=0.06)


def word_places(text: str) -> list[int]:
    return [i for i, letter in enumerate(text) if letter != " " and (i == 0 or text[i - 1] == " ")]


@pytest.mark.parametrize("extra", [0, 1, 2, 3, 5, 37, 99, 100, 101, 299, 300, 301])
def test_every_length_around_a_window_has_all_its_frames(transcriber, extra):
    frames = WINDOWS[-1] + extra
    logits = transcriber.logits(np.zeros(FRONTEND.samples(frames) + 7, np.float32))
    assert len(logits) == -(-frames // SUBSAMPLING)


def test_each_stage_is_timed(transcriber):
    recognition = transcriber.recognise(whistle("abc"))
    seconds = recognition.seconds
    assert min(seconds.frontend, seconds.model, seconds.decode) > 0
    assert seconds.total == seconds.frontend + seconds.model + seconds.decode
    assert recognition.audio_seconds == pytest.approx(len(whistle("abc")) / 16000)


def test_audio_shorter_than_an_analysis_window_is_an_empty_text(transcriber):
    recognition = transcriber.recognise(np.ones(FRONTEND.window_samples - 1, np.float32))
    assert recognition.transcript.text == ""
    assert recognition.logits.shape == (0, len(TOKENS.pieces))
    assert transcriber.logits(np.zeros(FRONTEND.window_samples, np.float32)).shape[0] == 1


def test_a_wav_of_another_rate_and_two_channels_is_read(transcriber, tmp_path: Path):
    audio = whistle("cab", lead=0.3)
    stereo = np.stack([audio, audio], axis=1)
    soundfile.write(tmp_path / "cab.wav", stereo, FRONTEND.sample_rate)
    assert transcriber.transcribe(tmp_path / "cab.wav").text == "cab"


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0, np.float32), "audio holds no samples"),
        (np.array([0.0, np.nan, 0.0], np.float32), "sample 1 is NaN or infinite"),
        (np.zeros((2, 100), np.float32), r"audio has shape \[2, 100\]; give one channel"),
        (np.zeros(16000, np.int16), "audio is int16; give float32"),
    ],
)
def test_audio_that_cannot_be_heard_is_refused(transcriber, audio, message):
    with pytest.raises(TfliteAsrError, match=message) as error:
        transcriber.transcribe(audio)
    assert error.value.exit_code == 2


def test_bad_files_are_refused_by_name(transcriber, tmp_path: Path):
    for name, samples in (("zero.wav", np.zeros(0)), ("nan.wav", np.array([0.0, np.nan] * 800))):
        soundfile.write(tmp_path / name, samples, 16000, subtype="FLOAT")
        with pytest.raises(TfliteAsrError, match=name):
            transcriber.transcribe(tmp_path / name)
    with pytest.raises(TfliteAsrError, match=r"gone.wav: no such audio file"):
        transcriber.transcribe(tmp_path / "gone.wav")


def test_a_feature_only_bundle_names_what_it_lacks(tmp_path: Path):
    bundle = write_tone_bundle(tmp_path / "bare", integer=False, feature_only=True)
    with pytest.raises(TfliteAsrError, match=r"the front end \(frontend.tflite\) and the tokens") as error:
        Transcriber(bundle)
    assert error.value.exit_code == 2


def test_windows_of_which_the_front_end_knows_nothing_are_a_finding(float_bundle):
    signatures = {**float_bundle.info.signatures, "ctc_800": {}}
    bundle = Bundle(float_bundle.path, replace(float_bundle.info, signatures=signatures), float_bundle.tokens)
    with pytest.raises(Finding, match="no signature frontend_800 and ctc_800"):
        Transcriber(bundle)


def test_neither_keras_nor_tensorflow_is_imported(int8_bundle):
    code = (
        "import sys\n"
        "for name in ('keras', 'tensorflow', 'librosa'): sys.modules[name] = None\n"
        f"sys.path[:0] = {[p for p in sys.path if p]!r}\n"
        "import numpy as np\n"
        "from tflite_asr.runtime import Transcriber\n"
        "import tflite_asr.measure.evaluate\n"
        f"print(repr(Transcriber({str(int8_bundle.path)!r}).transcribe(np.zeros(16000, np.float32)).text))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("''", 0), done.stderr
