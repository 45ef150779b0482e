"""`export` of a float `.tflite`: quantised and no more, audited, and heard where front end and tokens are given."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.cli.command_line import fault, run
from tests.tone_bundle import FRONTEND, TOKENS, WINDOWS, flatbuffers
from tflite_asr.bundle import Bundle
from tflite_asr.pipeline import preparation


@pytest.fixture
def tones_tflite(tmp_path: Path) -> Path:
    """The whistled recogniser in float, three windows."""
    path = tmp_path / "tones.tflite"
    path.write_bytes(flatbuffers(False)[0])
    return path


@pytest.fixture
def speech(tmp_path: Path) -> tuple[object, ...]:
    """The options that say what the recogniser hears and says."""
    (tmp_path / "frontend.toml").write_text(tomli_w.dumps({"frontend": FRONTEND.to_dict()}))
    (tmp_path / "tokens.txt").write_text(TOKENS.to_text())
    files = ("--frontend", tmp_path / "frontend.toml", "--tokens", tmp_path / "tokens.txt")
    return (*files, "--blank-id", TOKENS.blank_id)


def stock(path: Path, last: Any) -> Path:
    """A small model of stock Keras layers, converted by TensorFlow; `last`: what comes after its only layer."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(5)
    inputs = keras.Input((32, 8), name="sound")
    model = keras.Model(inputs, last(keras.layers.Conv1D(8, 3, padding="same", activation="relu")(inputs)))
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return path


def test_a_float_tflite_becomes_an_int8_bundle_that_hears(
    tones_tflite: Path, speech: tuple[object, ...], wav: Path, tmp_path: Path
) -> None:
    result = run("export", tones_tflite, "--out", tmp_path / "b", *speech, "--scheme", "int8", "--json", "-")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["integer_only"] is True
    assert facts["lowered"] is False
    assert list(facts["signatures"]) == [f"ctc_{frames}" for frames in WINDOWS]
    assert facts["calibration"]["method"] == "synthetic"
    assert facts["calibration"]["refined"] == 0
    assert run("audit", tmp_path / "b").exit_code == 0
    assert run("transcribe", tmp_path / "b", wav).stdout == "abc\n"


def test_a_stock_model_keeps_its_signature(tmp_path: Path) -> None:
    import keras

    model = stock(tmp_path / "stock.tflite", keras.layers.Dense(4))
    result = run("export", model, "--out", tmp_path / "b", "--calibration", "noise", "--json", "-")
    assert result.exit_code == 0, result.output
    assert list(Bundle.load(tmp_path / "b").info.signatures) == ["serving_default"]


def test_an_op_without_an_integer_kernel_is_a_finding_that_names_it(tmp_path: Path) -> None:
    import keras

    model = stock(tmp_path / "sine.tflite", keras.ops.sin)
    message = fault("export", model, "--out", tmp_path / "b", "--calibration", "noise", code=1)
    assert "not integer-only: serving_default: " in message
    assert "SIN" in message or "DEQUANTIZE" in message
    assert Bundle.load(tmp_path / "b").info.scheme == "static_wi8_ai8"
    assert fault("audit", tmp_path / "b", code=1)


def test_what_cannot_be_asked_of_a_tflite(
    tones_tflite: Path,
    tones: Path,
    speech: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of it is said before TensorFlow starts."""
    monkeypatch.setattr(preparation, "run_in_child", lambda *_, **__: pytest.fail("TensorFlow was started"))
    out = ("--out", tmp_path / "b")
    assert "a .tflite can only be quantised" in fault(
        "export", tones_tflite, *out, "--drop", "encoder.block1"
    )
    slim = ("slim", tones_tflite, "--drop", "encoder.block1", "--out", tmp_path / "s.keras")
    assert "a .tflite can only be quantised" in fault(*slim)
    assert "is quantised already" in fault("export", tones / "model.tflite", *out)
    assert "needs the Keras model" in fault(
        "export", tones_tflite, *out, "--calibration", "synthetic:published"
    )
    (tmp_path / "frontend.toml").write_text("mels = 40\nnormalise = 'none'\n")
    assert "takes frames of [80] values, its front end gives 40 mels" in fault(
        "export", tones_tflite, *out, *speech[:2]
    )
    (tmp_path / "tokens.txt").write_text("<blank> 0\na 1\n")
    assert "gives 8 values a frame, its tokens are 2" in fault("export", tones_tflite, *out, *speech[2:])
    (tmp_path / "no.tflite").write_bytes(b"no model")
    assert "not a TFLite flatbuffer" in fault("export", tmp_path / "no.tflite", *out)
    assert not (tmp_path / "b").exists()
