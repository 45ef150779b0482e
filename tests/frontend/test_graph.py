"""The graph of builtin ops against the NumPy face, on sound from silence to full scale."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tflite_asr.audio import read_audio
from tflite_asr.frontend import FrontEnd, log_mel
from tflite_asr.frontend.graph import build_frontend, frontend_flatbuffers
from tflite_asr.manifest import read_manifest
from tflite_asr.quantize.serialize import read_model, schema
from tflite_asr.quantize.windows import merge
from tflite_asr.runtime import open_interpreter
from tflite_asr.runtime.transcriber import frontend_inputs

SHIPPED = FrontEnd(normalise="fixed", mean=tuple(np.linspace(-9, -6, 80)), std=tuple(np.linspace(3, 4, 80)))
# One for every branch: pre-emphasis, HTK, centring, other rates and radices (32, 16, 8, 4, 2, 1), window and hop apart,
# bands that leave bins and mels empty, means that float32 cannot hold as exponentials.
CONFIGS = {
    "plain": FrontEnd(),
    "fixed": SHIPPED,
    "nemo": FrontEnd(
        window="hann_symmetric",
        centre=True,
        drop_last=True,
        preemphasis=0.97,
        normalise="per_feature",
        log_guard=2**-24,
    ),
    "centred": FrontEnd(centre=True),
    "htk": FrontEnd(mel_scale="htk", mels=40, low_hz=20, high_hz=7600),
    "8 kHz": FrontEnd(sample_rate=8000, fft_size=256, mels=40),
    "22 kHz": FrontEnd(sample_rate=22050, fft_size=1024),
    "odd hop": FrontEnd(hop_seconds=101 / 16000, window_seconds=401 / 16000),
    "long window": FrontEnd(window_seconds=0.032, hop_seconds=0.01),
    "hop of 8 x 21": FrontEnd(hop_seconds=168 / 16000),
    "hop of 2 x 81": FrontEnd(hop_seconds=162 / 16000),
    "hop longer than window": FrontEnd(window_seconds=0.01, hop_seconds=0.02),
    "narrow": FrontEnd(low_hz=300, high_hz=3400, mels=30),
    "empty mels": FrontEnd(mels=128, fft_size=256, window_seconds=0.016),
    "far means": FrontEnd(normalise="fixed", mean=(-90.0,) * 80, std=(3.0,) * 80),
}


def noise(samples: int, level: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * level).astype(np.float32)


def chirp(samples: int) -> np.ndarray:
    """A full-scale tone that rises through the bands."""
    time = np.arange(samples) / 16000
    return np.sin(2 * np.pi * (100 * time + 1500 * time**2)).astype(np.float32)


def sounds(samples: int) -> dict[str, np.ndarray]:
    """Silence, whispers, full scale, and silence that breaks into full scale."""
    burst = np.zeros(samples, np.float32)
    burst[samples // 2 :] = np.sign(noise(samples - samples // 2, 1.0))
    quiet = np.round(noise(samples, 2e-4) * 32768).astype(np.float32) / 32768
    return {
        "digital silence": np.zeros(samples, np.float32),
        "quiet 16-bit noise": quiet,
        "full-scale noise": np.clip(noise(samples, 0.7), -1, 1),
        "full-scale chirp in noise": 0.9 * chirp(samples) + noise(samples, 0.01),
        "silence, then full scale": burst,
    }


def run(
    data: bytes, frontend: FrontEnd, frames: int, audio: np.ndarray, valid: int | None = None
) -> np.ndarray:
    signature, (inputs,) = frontend_inputs(frontend, [frames], audio, valid or frames, frames)
    return open_interpreter(data).run(signature, inputs)["features"][0]


def assert_faces_agree(graph: np.ndarray, numpy: np.ndarray) -> None:
    """The design's bound: 99.99 % of values within 1e-4 and all within 1e-3."""
    apart = np.abs(graph - numpy)
    assert apart.max() <= 1e-3
    assert (apart > 1e-4).mean() <= 1e-4


@pytest.mark.parametrize("name", CONFIGS)
def test_both_faces_agree_for_every_setting(name):
    frontend = CONFIGS[name]
    (data,) = frontend_flatbuffers(frontend, [50])
    audio = noise(frontend.samples(51) - 1, 0.1)  # as long as 50 frames can be: centred ones see the rest
    graph = run(data, frontend, 50, audio)
    assert graph.shape == (50, frontend.mels)
    assert_faces_agree(graph, log_mel(audio, frontend))


@pytest.mark.parametrize("name", sounds(1600))
def test_both_faces_agree_from_silence_to_full_scale(name, shipped_flatbuffer):
    audio = sounds(SHIPPED.samples(200))[name]
    assert_faces_agree(run(shipped_flatbuffer, SHIPPED, 200, audio), log_mel(audio, SHIPPED))


def test_the_worst_sound_is_a_full_scale_tone_in_silence(shipped_flatbuffer):
    """Bands 80 dB below a pure tone are what is left when hundreds of large terms cancel in float32."""
    samples = SHIPPED.samples(200)
    audio = chirp(samples)
    apart = np.abs(run(shipped_flatbuffer, SHIPPED, 200, audio) - log_mel(audio, SHIPPED))
    assert apart.max() < 5e-3
    assert np.median(apart) < 1e-4


@pytest.fixture(scope="session")
def shipped_flatbuffer() -> bytes:
    return merge(frontend_flatbuffers(SHIPPED, [200, 800]))


def test_windows_in_one_file_compute_what_each_computes_alone(shipped_flatbuffer):
    alone = frontend_flatbuffers(SHIPPED, [200, 800])
    for data, frames in zip(alone, (200, 800), strict=True):
        audio = noise(SHIPPED.samples(frames), 0.1, frames)
        together = run(shipped_flatbuffer, SHIPPED, frames, audio)
        np.testing.assert_array_equal(together, run(data, SHIPPED, frames, audio))
    # The constants lie there once.
    assert large_constants(shipped_flatbuffer) == large_constants(alone[0])
    assert len(set(large_constants(shipped_flatbuffer))) == len(large_constants(shipped_flatbuffer))


def large_constants(data: bytes) -> list[bytes]:
    """Constants of a flatbuffer that are longer than 512 bytes, sorted."""
    buffers = [b.data for b in read_model(data).buffers if b.data is not None]
    return sorted(bytes(b) for b in buffers if len(b) > 512)


def test_signatures_are_named_static_and_float(shipped_flatbuffer):
    signatures = open_interpreter(shipped_flatbuffer).signatures
    assert set(signatures) == {"frontend_200", "frontend_800"}
    samples = signatures["frontend_800"].inputs["samples"]
    features = signatures["frontend_800"].outputs["features"]
    assert (samples.shape, samples.dtype) == ((1, SHIPPED.samples(800)), "float32")
    assert (features.shape, features.dtype) == ((1, 800, 80), "float32")


def test_every_op_is_one_that_xnnpack_takes(shipped_flatbuffer):
    """It leaves STRIDED_SLICE that drops an axis, and joins of more than five tensors, to kernels 50 times as slow."""
    kinds = schema.BuiltinOperator
    taken = {
        kinds.ADD,
        kinds.BATCH_MATMUL,
        kinds.CONCATENATION,
        kinds.LOG,
        kinds.MUL,
        kinds.RESHAPE,
        kinds.SLICE,
    }
    taken |= {kinds.SQUARE, kinds.SQUARED_DIFFERENCE, kinds.SUB, kinds.TRANSPOSE}
    model = read_model(shipped_flatbuffer)
    for op in (op for graph in model.subgraphs for op in graph.operators):
        kind = model.operatorCodes[op.opcodeIndex].builtinCode
        assert kind in taken
        assert kind != kinds.CONCATENATION or len(op.inputs) <= 5


@pytest.mark.parametrize("delegate", ["builtin", "reference"])
def test_other_kernels_agree_too(shipped_flatbuffer, delegate):
    audio = noise(SHIPPED.samples(200), 0.1)
    other = open_interpreter(shipped_flatbuffer, delegate=delegate)
    assert_faces_agree(
        other.run("frontend_200", {"samples": audio[None]})["features"][0], log_mel(audio, SHIPPED)
    )


@pytest.mark.parametrize("name", ["fixed", "nemo", "odd hop"])
def test_windows_of_no_whole_number_of_chunks(name):
    """Frames go through the graph 200 at a time: 430 end in a short chunk, and padding falls into two of three."""
    frontend = CONFIGS[name]
    (data,) = frontend_flatbuffers(frontend, [430])
    audio = noise(frontend.samples(430), 0.1)
    assert_faces_agree(run(data, frontend, 430, audio), log_mel(audio, frontend))


@pytest.mark.parametrize(
    "frontend", [FrontEnd(normalise="per_feature"), CONFIGS["nemo"]], ids=["plain", "nemo"]
)
def test_per_feature_statistics_are_of_valid_frames_only(frontend):
    """The recording ends loudly: with pre-emphasis, zeros behind it would be a click that the last frame sees."""
    (data,) = frontend_flatbuffers(frontend, [50])
    audio = noise(frontend.samples(31) - 1, 0.1)
    audio[-1] = 1.0
    graph = run(data, frontend, 50, audio, valid=30)
    assert_faces_agree(graph[:30], log_mel(audio, frontend))


def test_the_keras_model_gives_the_same_and_survives_saving(tmp_path: Path):
    model = build_frontend(SHIPPED, 20)
    audio = noise(SHIPPED.samples(20), 0.1)
    features = np.asarray(model(audio[None]))
    assert_faces_agree(features[0], log_mel(audio, SHIPPED))
    model.save(tmp_path / "frontend.keras")
    again = keras.models.load_model(tmp_path / "frontend.keras")
    np.testing.assert_array_equal(np.asarray(again(audio[None])), features)


@pytest.mark.slow
def test_the_same_config_gives_the_same_bytes_in_another_process():
    code = (
        f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n"
        "import hashlib\n"
        "from tflite_asr.frontend import FrontEnd\n"
        "from tflite_asr.frontend.graph import frontend_flatbuffers\n"
        "from tflite_asr.quantize.windows import merge\n"
        "print(hashlib.sha256(merge(frontend_flatbuffers(FrontEnd(), [20, 30]))).hexdigest())\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    here = merge(frontend_flatbuffers(FrontEnd(), [20, 30]))
    assert child.stdout.split()[-1] == hashlib.sha256(here).hexdigest(), child.stderr


@pytest.mark.parametrize("scale", ["as recorded", "full"])
def test_both_faces_agree_on_the_shipped_clips(shipped_flatbuffer, demo_manifest, scale):
    model = open_interpreter(shipped_flatbuffer)
    assert_faces_agree(*both_faces(model, [demo_manifest], full_scale=scale == "full"))


def both_faces(model, manifests, full_scale: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features of the first 8 s of up to 60 clips a manifest, by the graph and by NumPy, end to end."""
    graphs, arrays = [], []
    for utterance in (u for manifest in manifests for u in read_manifest(manifest)[:60]):
        audio = read_audio(utterance.audio_filepath)[: SHIPPED.samples(800)]
        if full_scale:
            audio = audio / np.abs(audio).max()
        samples = np.zeros((1, SHIPPED.samples(800)), np.float32)
        samples[0, : len(audio)] = audio
        arrays.append(log_mel(audio, SHIPPED))
        graphs.append(model.run("frontend_800", {"samples": samples})["features"][0, : len(arrays[-1])])
    return np.concatenate(graphs), np.concatenate(arrays)


@pytest.mark.slow
@pytest.mark.parametrize("full_scale", [False, True])
def test_both_faces_agree_on_real_speech(shipped_flatbuffer, speech_data: Path, full_scale):
    corpora = ("an4/dev.jsonl", "speechocean762/dev.jsonl", "ljspeech_part/train.jsonl")
    manifests = [speech_data / name for name in corpora]
    assert_faces_agree(*both_faces(open_interpreter(shipped_flatbuffer), manifests, full_scale))
