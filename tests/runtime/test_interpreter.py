"""Every runtime and delegate runs the same signatures, and says in one line why it cannot."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tone_bundle import TOKENS
from tflite_asr.errors import TfliteAsrError
from tflite_asr.runtime import DELEGATES, TensorFacts, open_interpreter


def test_signatures_tell_shapes_types_and_scales(int8_bundle):
    signatures = open_interpreter(int8_bundle.model_path).signatures
    assert sorted(signatures) == ["ctc_100", "ctc_200", "ctc_400"]
    features = signatures["ctc_200"].inputs["features"]
    assert (features.shape, features.dtype) == ((1, 200, 80), "int8")
    assert features.scale == pytest.approx(5 / 255, rel=1e-3)
    assert signatures["ctc_200"].outputs["logits"].shape == (1, 50, len(TOKENS.pieces))
    assert signatures["ctc_200"].to_dict()["inputs"]["mask"] == {
        "shape": [1, 50],
        "dtype": "int8",
        "scale": pytest.approx(1 / 255, rel=1e-3),
        "zero_point": -128,
    }


@pytest.mark.parametrize("delegate", DELEGATES)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_delegate_gives_the_floats_of_numpy(float_bundle, delegate, threads):
    model = open_interpreter(float_bundle.model_path, delegate=delegate, threads=threads)
    features = np.random.default_rng(0).standard_normal((1, 100, 80)).astype(np.float32)
    logits = model.run("ctc_100", {"features": features, "mask": np.ones((1, 25), np.float32)})["logits"]
    letter_a = features.reshape(25, 4, 80).mean(axis=1)[:, 17:20].mean(axis=1)
    np.testing.assert_allclose(logits[0, :, 2], letter_a, atol=1e-5)
    assert logits.dtype == np.float32


def test_integers_go_in_and_come_out_as_they_are(int8_bundle):
    model = open_interpreter(int8_bundle.model_path)
    features = np.full((1, 100, 80), 50, np.int8)
    logits = model.run("ctc_100", {"features": features, "mask": np.full((1, 25), 127, np.int8)})["logits"]
    assert logits.dtype == np.int8
    assert logits.shape == (1, 25, 8)


def test_bytes_open_like_the_file(int8_bundle):
    data = int8_bundle.model_path.read_bytes()
    assert open_interpreter(data).signatures == open_interpreter(int8_bundle.model_path).signatures


@pytest.mark.parametrize(("dtype", "low"), [("int8", -128), ("int16", -32768)])
def test_quantising_rounds_to_nearest_and_saturates(dtype, low):
    facts = TensorFacts((5,), dtype, 0.5, 3)
    stored = facts.quantise(np.array([0.0, 0.74, -0.76, 1e9, -1e9], np.float32))
    assert stored.dtype == dtype
    assert stored.tolist() == [3, 4, 1, -low - 1, low]


def test_floats_are_not_quantised():
    real = np.array([0.25, -3.0], np.float32)
    assert TensorFacts((2,), "float32").quantise(real) is real


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"features": np.zeros((1, 100, 80), np.int8)}, r"takes features, mask, not features"),
        (
            {"features": np.zeros((1, 100, 80), np.float32), "mask": np.zeros((1, 25), np.int8)},
            r"takes features as int8 \[1, 100, 80\], not float32",
        ),
        (
            {"features": np.zeros((1, 99, 80), np.int8), "mask": np.zeros((1, 25), np.int8)},
            r"not int8 \[1, 99, 80\]",
        ),
    ],
)
def test_an_array_that_does_not_fit_is_named(int8_bundle, inputs, message):
    with pytest.raises(TfliteAsrError, match=message):
        open_interpreter(int8_bundle.model_path).run("ctc_100", inputs)


def test_an_unknown_signature_lists_the_known_ones(int8_bundle):
    with pytest.raises(TfliteAsrError, match="no signature 'main'; it has ctc_100, ctc_200, ctc_400"):
        open_interpreter(int8_bundle.model_path).run("main", {})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"runtime": "onnx"}, "runtime 'onnx' is unknown; give one of litert, tflite-runtime"),
        ({"delegate": "gpu"}, "delegate 'gpu' is unknown; give one of xnnpack, builtin, reference"),
        ({"threads": 0}, "0 threads cannot run"),
    ],
)
def test_an_unknown_choice_lists_the_known_ones(int8_bundle, choice, message):
    with pytest.raises(TfliteAsrError, match=message):
        open_interpreter(int8_bundle.model_path, **choice)


@pytest.mark.parametrize(("runtime", "other"), [("litert", "tflite-runtime"), ("tflite-runtime", "litert")])
def test_without_a_runtime_one_line_names_its_extra_first(int8_bundle, monkeypatch, runtime, other):
    for module in (
        "ai_edge_litert",
        "ai_edge_litert.interpreter",
        "tflite_runtime",
        "tflite_runtime.interpreter",
    ):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TfliteAsrError) as error:
        open_interpreter(int8_bundle.model_path, runtime=runtime)
    assert str(error.value) == (
        f'runtime {runtime} is not installed; pip install "tflite-asr[{runtime}]", '
        f'or "tflite-asr[{other}]" and give --runtime {other}'
    )
    assert error.value.exit_code == 2


def test_a_runtime_that_does_not_import_says_why(int8_bundle, monkeypatch):
    def broken(name: str):
        raise ImportError("numpy.core.multiarray failed to import\nmore lines")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(
        TfliteAsrError, match=r"cannot be imported \(numpy.core.multiarray failed to import\); pip"
    ):
        open_interpreter(int8_bundle.model_path)


@pytest.mark.parametrize("content", [b"", b"not a flatbuffer at all", b"\0" * 4096])
def test_a_file_that_is_no_flatbuffer_is_one_line(tmp_path: Path, content: bytes, capfd):
    path = tmp_path / "broken.tflite"
    path.write_bytes(content)
    with pytest.raises(TfliteAsrError, match=r"broken.tflite: litert cannot load it") as error:
        open_interpreter(path)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_one_line(tmp_path: Path):
    with pytest.raises(TfliteAsrError, match=r"nowhere.tflite: no such .tflite file"):
        open_interpreter(tmp_path / "nowhere.tflite")
