"""Sound in: every format, rate and channel count becomes the same mono float32, and bad files give one line."""

from __future__ import annotations

import io
import os
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tflite_asr.audio import read_audio
from tflite_asr.errors import TfliteAsrError

RATE = 16000
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "opus": ("OGG", "OPUS"),
    "ogg": ("OGG", "VORBIS"),
}


def sine(hertz: float, rate: int = RATE, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noisy_file(folder: Path, kind: str, rate: int = RATE) -> Path:
    """Two seconds that no codec can shrink to nothing."""
    noise = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    path = folder / f"sound.{kind}"
    container, coding = FORMATS[kind]
    soundfile.write(path, 0.1 * noise, rate, format=container, subtype=coding)
    return path


def complaint(source, **settings) -> str:
    with pytest.raises(TfliteAsrError) as caught:
        read_audio(source, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def strongest_hertz(samples: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * rate / len(samples)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_lossless_files_give_the_samples_that_were_written(tmp_path: Path, kind: str) -> None:
    written = np.random.default_rng(1).integers(-(2**15), 2**15, 5000).astype(np.int16)
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, written, RATE, subtype="PCM_16")
    samples = read_audio(path)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, written.astype(np.float32) / 2**15)


def test_a_wav_of_the_standard_library_reads_alike(tmp_path: Path) -> None:
    values = np.array([0, 1, -1, 2**15 - 1, -(2**15)], np.int16)
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        out.writeframes(values.tobytes())
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), values / np.float32(2**15))


@pytest.mark.parametrize("kind", ["opus", "ogg"])
def test_lossy_files_keep_length_frequency_and_level(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    container, coding = FORMATS[kind]
    soundfile.write(path, sine(440), RATE, format=container, subtype=coding)
    samples = read_audio(path)
    assert len(samples) == RATE
    assert strongest_hertz(samples) == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = sine(300), sine(500)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "two.wav"), (left + right) / 2, atol=1e-7)
    soundfile.write(tmp_path / "against.wav", np.stack([left, -left], 1), RATE, subtype="FLOAT")
    assert not read_audio(tmp_path / "against.wav").any()


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_a_resampled_sine_stays_that_sine(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", sine(1000, rate), rate, subtype="FLOAT")
    samples = read_audio(tmp_path / "a.wav")
    assert abs(len(samples) - RATE) <= 1
    inside = slice(800, 15000)  # the ends carry the filter's edge
    np.testing.assert_allclose(samples[inside], sine(1000)[inside], atol=1e-3)


def test_resampling_leaves_no_alias(tmp_path: Path) -> None:
    """10 kHz at 44.1 kHz lies above half of 16 kHz: it must vanish, not turn into 6 kHz."""
    soundfile.write(tmp_path / "a.wav", sine(10000, 44100), 44100, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav")[500:-500]).max() < 1e-4


def test_another_rate_can_be_asked_for(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sine(440), RATE)
    assert strongest_hertz(read_audio(tmp_path / "a.wav", 8000), 8000) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_stream_gives_what_the_file_gives(tmp_path: Path, kind: str) -> None:
    path = noisy_file(tmp_path, kind)
    np.testing.assert_array_equal(read_audio(io.BytesIO(path.read_bytes())), read_audio(path))
    np.testing.assert_array_equal(read_audio(str(path)), read_audio(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    path, pipe = noisy_file(tmp_path, "wav"), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    np.testing.assert_array_equal(read_audio(pipe), read_audio(path))
    writer.join()


@pytest.mark.parametrize("promise", [0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_written_to_a_pipe_promises_no_length(tmp_path: Path, promise: int) -> None:
    data = bytearray(noisy_file(tmp_path, "wav").read_bytes())
    data[40:44] = promise.to_bytes(4, "little")
    assert len(read_audio(io.BytesIO(bytes(data)))) == 2 * RATE


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert complaint(tmp_path / "gone.wav") == f"{tmp_path}/gone.wav: no such audio file; check the path"


@pytest.mark.parametrize("name", ["x" * 300 + ".wav", "a\0b.wav", "file.wav/inside.wav"])
def test_an_impossible_name_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.wav").write_bytes(b"x")
    assert "check the path" in complaint(tmp_path / name)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in complaint(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert "is empty (0 bytes)" in complaint(tmp_path / "a.wav")
    assert complaint(io.BytesIO()).startswith("<stream>: is empty")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    """libsndfile gives what is left of a wav or ogg without a word: a transcript would miss the end."""
    data = noisy_file(tmp_path, kind).read_bytes()
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(data[: int(share * len(data))])
    assert complaint(cut).startswith(f"{cut}: ")
    assert complaint(io.BytesIO(cut.read_bytes())).startswith("<stream>: ")


def test_a_wav_cut_short_says_how_much_is_there(tmp_path: Path) -> None:
    data = noisy_file(tmp_path, "wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: 44 + 2 * RATE])
    assert f"{RATE} of {2 * RATE} samples" in complaint(tmp_path / "cut.wav")


def test_what_follows_the_samples_of_a_wav_is_no_fault(tmp_path: Path) -> None:
    path = noisy_file(tmp_path, "wav")
    path.write_bytes(path.read_bytes() + b"LIST\x04\x00\x00\x00INFO")
    assert len(read_audio(path)) == 2 * RATE


@pytest.mark.parametrize(
    "content", [b"this is no sound\n" * 20, b"RIFF", b"fLaC" + bytes(50), b"OggS" + bytes(500)]
)
def test_what_is_no_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    message = complaint(tmp_path / "a.wav")
    assert message.startswith(f"{tmp_path}/a.wav: ")
    assert "object at 0x" not in complaint(io.BytesIO(content))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_named_by_its_place(tmp_path: Path, value: float) -> None:
    samples = np.stack([sine(440), sine(440)], 1)
    samples[1234, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    assert "sample 1234 is NaN or infinite" in complaint(tmp_path / "a.wav")


def test_a_clip_of_no_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), RATE)
    assert "holds no samples" in complaint(tmp_path / "a.wav")


def test_a_clip_that_resampling_makes_empty_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1, np.float32), 96000)
    assert "holds no samples" in complaint(tmp_path / "a.wav")
