"""One checkpoint the whole way: bundles in every scheme, the same bytes twice, and nothing half done left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_checkpoint import WINDOWS_SECONDS, write_tiny_checkpoint
from tflite_asr import pipeline
from tflite_asr.audio import read_audio
from tflite_asr.audit import audit
from tflite_asr.bundle import Bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.frontend import log_mel
from tflite_asr.quantize.schemes import scheme
from tflite_asr.runtime.transcriber import Transcriber

SCHEMES = ("float32", "dynamic_wi8_afp32", "static_wi8_ai8")
BUDGET = 2e9


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def prepared(checkpoint: Path) -> Iterator[tuple[pipeline.Prepared, dict]]:
    """The model with its calibration inputs, and one flatbuffer a scheme."""
    with pipeline.prepared(checkpoint, pipeline.facts_of(checkpoint), budget_macs=BUDGET) as ready:
        results = pipeline.convert(ready, [scheme(name) for name in SCHEMES])
        yield ready, dict(zip(SCHEMES, results, strict=True))


@pytest.fixture(scope="module")
def bundles(prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    ready, results = prepared
    return {name: pipeline.bundle_up(ready, result, folder / name) for name, result in results.items()}


def clip() -> np.ndarray:
    """1.5 s of one of the package's clips."""
    return read_audio(pipeline.demo_clips()[0])[:24000]


@pytest.mark.parametrize("name", SCHEMES)
def test_a_bundle_says_what_it_is(bundles: dict[str, Bundle], name: str) -> None:
    bundle = Bundle.load(bundles[name].path)
    info = bundle.info
    assert (info.name, info.scheme, info.drop) == ("tiny", name, ())
    assert info.lowered == (name == "static_wi8_ai8")
    assert list(bundle.windows) == [round(100 * seconds) for seconds in WINDOWS_SECONDS]
    assert set(info.made_with) >= {"tflite_asr", "tensorflow", "keras", "ai_edge_quantizer"}
    assert (info.calibration is not None) == (name == "static_wi8_ai8")
    if info.calibration:
        assert (info.calibration["method"], info.calibration["seed"]) == ("synthetic", 0)
        assert info.calibration["budget_macs"] == BUDGET
    expected = json.loads((bundle.path / "samples" / "expected.json").read_text())
    assert len(expected["transcripts"]) == 2
    assert name in (bundle.path / "README.md").read_text()


def test_int8_is_integers_only_and_the_others_are_not(bundles: dict[str, Bundle]) -> None:
    found = {name: audit(bundle.model_path, load=False).integer_only for name, bundle in bundles.items()}
    assert found == {"float32": False, "dynamic_wi8_afp32": False, "static_wi8_ai8": True}


def test_int8_takes_and_gives_int8(bundles: dict[str, Bundle]) -> None:
    for signature in bundles["static_wi8_ai8"].info.signatures.values():
        tensors = {**signature["inputs"], **signature["outputs"]}
        assert {tensor["dtype"] for tensor in tensors.values()} == {"int8"}
        assert all(tensor["scale"] for tensor in tensors.values())


def test_float32_computes_what_keras_computes(bundles: dict[str, Bundle], checkpoint: Path) -> None:
    from tflite_asr.models import load_model

    bundle = bundles["float32"]
    assert bundle.info.frontend is not None
    audio = clip()
    features = log_mel(audio, bundle.info.frontend)
    frames = -(-len(features) // 4)
    padded = np.zeros((1, 4 * frames, 80), np.float32)
    padded[0, : len(features)] = features
    expected = np.asarray(load_model(checkpoint)([padded, np.ones((1, frames), np.float32)], training=False))[
        0
    ]
    found = Transcriber(bundle, "litert", "xnnpack", 1).logits(audio)
    np.testing.assert_allclose(
        found, expected, atol=5e-3
    )  # the front ends' float32 and float64 are within 1e-3


@pytest.mark.parametrize("name", SCHEMES[1:])
def test_the_other_schemes_stay_near(bundles: dict[str, Bundle], name: str) -> None:
    exact = Transcriber(bundles["float32"], "litert", "xnnpack", 1).logits(clip())
    recogniser = Transcriber(bundles[name], "litert", "xnnpack", 1)
    found = np.asarray(recogniser.logits(clip()), np.float64)
    if name == "static_wi8_ai8":
        facts = recogniser.logits_facts
        found = (found - (facts.zero_point or 0)) * (facts.scale or 1.0)
    noise = np.square(found - exact).sum()
    assert 10 * np.log10(np.square(exact).sum() / noise) > 10


def test_the_samples_transcripts_are_those_of_the_bundle(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["static_wi8_ai8"]
    recogniser = Transcriber(bundle, "litert", "xnnpack", 1)
    for line in json.loads((bundle.path / "samples" / "expected.json").read_text())["transcripts"]:
        text = recogniser.transcribe(bundle.path / "samples" / line["audio_filepath"]).text
        assert text == line["pred_text"]


def test_a_full_disk_leaves_nothing(prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real, small file system where one can be mounted; else the error that one gives."""
    ready, results = prepared
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    mounted = os.name == "posix" and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if not mounted:

        def full(path: Path, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(Path, "write_bytes", full)
    try:
        with pytest.raises(TfliteAsrError) as caught:
            pipeline.bundle_up(ready, results["float32"], disk / "bundle")
        assert str(caught.value).startswith(f"{disk}/bundle: no space is left on the device")
        assert list(disk.iterdir()) == []
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)


def test_an_export_that_cannot_be_written_is_refused_before_any_work(
    checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(TfliteAsrError, match="exists; choose another folder"):
        pipeline.export(checkpoint, tmp_path / "there", progress=lambda stage, fraction: pytest.fail(stage))
    with pytest.raises(TfliteAsrError, match="int5"):
        pipeline.export(
            checkpoint, tmp_path / "new", scheme="int5", progress=lambda stage, _: pytest.fail(stage)
        )


@pytest.fixture(scope="module")
def somebody_s_own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of stock Keras layers from nowhere in this package, with nothing beside it."""
    import keras

    keras.utils.set_random_seed(7)
    x = inputs = keras.Input((64, 24), name="sound")
    x = keras.layers.Conv1D(32, 5, strides=2, padding="same", activation="gelu")(x)
    x = keras.layers.BatchNormalization()(x)
    for _ in range(2):
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.MultiHeadAttention(4, 8)(y, y)
        y = keras.layers.Dense(64, activation="gelu")(keras.layers.LayerNormalization()(x))
        x = x + keras.layers.Dense(32)(y)
    model = keras.Model(inputs, keras.layers.Dense(12)(x))
    path = tmp_path_factory.mktemp("own") / "own.keras"
    model.save(path)
    return path


def test_somebody_s_own_model_becomes_an_integer_only_feature_only_bundle(
    somebody_s_own: Path, tmp_path: Path
) -> None:
    bundle = pipeline.export(somebody_s_own, tmp_path / "own", budget_macs=BUDGET)
    report = audit(Bundle.load(bundle.path).model_path, load=False)
    assert report.integer_only, report.offending
    assert list(bundle.info.signatures) == ["main"]
    assert bundle.info.frontend is None
    assert bundle.tokens is None
    with pytest.raises(TfliteAsrError, match="a feature-only bundle, without the front end"):
        Transcriber(bundle, "litert", "xnnpack", 1)


def test_a_lowered_model_that_was_saved_opens_again(checkpoint: Path, tmp_path: Path) -> None:
    from tflite_asr.lowering import lower
    from tflite_asr.models import load_model

    lower(load_model(checkpoint)).save(tmp_path / "lowered.keras")
    shutil.copy(checkpoint.with_suffix(".toml"), tmp_path / "lowered.toml")
    bundle = pipeline.export(tmp_path / "lowered.keras", tmp_path / "bundle", scheme="float32")
    assert "SOFTMAX" not in audit(bundle.model_path, load=False).ops


EXPORT = """
import os, signal, sys
from tflite_asr import pipeline
from tflite_asr.pipeline import bundling

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def tell(stage, fraction):
    if stage.startswith(sys.argv[3]):
        die()

if sys.argv[3] == "samples":
    bundling.sample_files = die
pipeline.export(sys.argv[1], sys.argv[2], scheme="float32", progress=tell)
"""


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(p or os.getcwd() for p in sys.path)
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("moment", ["quantise", "samples"])
def test_a_killed_export_leaves_no_bundle_and_the_next_one_works(
    checkpoint: Path, tmp_path: Path, moment: str
) -> None:
    """Killed while the flatbuffer is made, and while the bundle is written."""
    out = tmp_path / "bundles" / "tiny"
    killed = run_python("-c", EXPORT, str(checkpoint), str(out), moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not out.exists()
    bundle = pipeline.export(checkpoint, out, scheme="float32")
    assert Bundle.load(out).info == bundle.info
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the child in /proc")
def test_a_killed_export_takes_its_child_along(checkpoint: Path, tmp_path: Path) -> None:
    run_python("-c", EXPORT, str(checkpoint), str(tmp_path / "tiny"), "convert", TMPDIR=str(tmp_path))
    patience = time.monotonic() + 20
    while (left := [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path) in _text(p)]) and (
        time.monotonic() < patience
    ):
        time.sleep(0.2)
    assert not left


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float32", "int8"])
def test_the_same_inputs_give_the_same_bytes_whatever_the_threads(
    checkpoint: Path, tmp_path: Path, name: str
) -> None:
    for threads in ("1", "2"):
        counts = dict.fromkeys(
            ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), threads
        )
        out = str(tmp_path / threads)
        command = ("export", str(checkpoint), "--out", out, "--scheme", name, "--budget-macs", str(BUDGET))
        done = run_python("-m", "tflite_asr.cli", *command, **counts, PYTHONHASHSEED=threads)
        assert done.returncode == 0, done.stderr[-2000:]
    names = sorted(p.relative_to(tmp_path / "1") for p in (tmp_path / "1").rglob("*") if p.is_file())
    assert len(names) >= 6
    for path in names:
        assert (tmp_path / "1" / path).read_bytes() == (tmp_path / "2" / path).read_bytes(), path
