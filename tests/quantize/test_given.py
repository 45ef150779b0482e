"""A float `.tflite` from elsewhere: what it says of itself, what is refused, and the same function in integers."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np
import pytest

from tests.quantize.conftest import run
from tests.tone_bundle import SUBSAMPLING, WINDOWS, flatbuffers
from tflite_asr.audit import audit
from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import read_flatbuffer
from tflite_asr.quantize.build import _build_given, _Order
from tflite_asr.quantize.given import look, name_signatures, parts
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model, schema, write_model
from tflite_asr.quantize.windows import merge

INPUTS = [np.random.default_rng(seed).standard_normal((64, 24)).astype(np.float32) for seed in range(4)]


def converted(model: Any, **settings: Any) -> bytes:
    """By TensorFlow's own converter, as anybody would."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for name, value in settings.items():
        setattr(converter, name, value)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        return converter.convert()


def stock_model(frames: int | None = 64) -> Any:
    """Of stock Keras layers, batch left open."""
    import keras

    keras.utils.set_random_seed(3)
    inputs = keras.Input((frames, 24), name="sound")
    x = keras.layers.Conv1D(16, 5, strides=2, padding="same", activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = x + keras.layers.Dense(16, activation="silu")(keras.layers.LayerNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(12)(x))


@pytest.fixture(scope="module")
def stock() -> bytes:
    return converted(stock_model())


@pytest.fixture(scope="module")
def built(stock: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("given") / "stock.tflite"
    path.write_bytes(stock)
    schemes = ("float32", "dynamic_wi8_afp32", "static_wi8_ai8")
    order = _Order((), tuple(map(scheme, schemes)), INPUTS, 1, (), None)
    return dict(zip(schemes, (one.data for one in _build_given(str(path), order, False)), strict=True))


def renamed(signature: str | None) -> bytes:
    """The whistled recogniser's shortest window under names of somebody else's, or without a signature."""
    model = read_model(flatbuffers(False)[0])
    definition = next(one for one in model.signatureDefs if one.signatureKey == f"ctc_{WINDOWS[0]}".encode())
    model.subgraphs = [model.subgraphs[definition.subgraphIndex]]
    definition.subgraphIndex = 0
    for item in (*definition.inputs, *definition.outputs):
        item.name = {"features": "sound", "mask": "real", "logits": "scores"}[item.name.decode()]
    definition.signatureKey = signature
    model.signatureDefs = [definition] if signature else []
    return write_model(model)


def test_what_it_says_of_itself(stock: bytes) -> None:
    (entry,) = look(stock, "stock.tflite")
    assert entry.signature == "serving_default"
    assert entry.inputs == {"features": "sound"}
    assert (entry.frames, entry.tail, entry.subsampling, entry.pieces) == (64, (24,), 2, 12)


def test_its_shapes_are_fixed_and_no_longer_computed(stock: bytes) -> None:
    assert "SHAPE" in audit(stock, load=False).ops
    (part,) = parts(stock, look(stock, "stock.tflite")).values()
    assert "SHAPE" not in audit(part, load=False).ops
    assert not [one for one in audit(part, load=False).offending if "dynamic" in one.reason]


@pytest.mark.parametrize(
    ("name", "decibel"), [("float32", 100), ("dynamic_wi8_afp32", 25), ("static_wi8_ai8", 15)]
)
def test_every_scheme_computes_what_the_file_computes(
    stock: bytes, built: dict[str, bytes], name: str, decibel: float
) -> None:
    exact = run(stock, "serving_default", {"sound": INPUTS[0][None]})["output_0"]
    facts = audit(built[name], load=False).signatures["serving_default"]
    sound, scores = INPUTS[0][None], facts["outputs"]["output_0"]
    if name == "static_wi8_ai8":
        asked = facts["inputs"]["sound"]
        sound = np.clip(np.rint(sound / asked["scale"]) + asked["zero_point"], -128, 127).astype(np.int8)
    found = run(built[name], "serving_default", {"sound": sound})["output_0"].astype(np.float64)
    if name == "static_wi8_ai8":
        found = (found - scores["zero_point"]) * scores["scale"]
    noise = max(np.square(found - exact).sum(), 1e-30)
    assert 10 * np.log10(np.square(exact).sum() / noise) > decibel


def test_int8_is_integers_only(built: dict[str, bytes]) -> None:
    report = audit(built["static_wi8_ai8"], load=False)
    assert report.integer_only, report.offending[0]
    assert len(built["static_wi8_ai8"]) < len(built["float32"])


def test_windows_share_names_and_so_ranges() -> None:
    data = flatbuffers(False)[0]
    made = parts(data, look(data, "tones.tflite"))
    assert list(made) == [f"ctc_{frames}" for frames in WINDOWS]
    names = [{tensor.name for tensor in read_flatbuffer(part).subgraphs[0].tensors} for part in made.values()]
    assert names[0] == names[1] == names[2]


@pytest.mark.parametrize("signature", ["serve", None])
@pytest.mark.parametrize("speech", [True, False])
def test_signatures_are_kept_and_the_runtime_finds_its_own(signature: str | None, speech: bool) -> None:
    data = renamed(signature)
    entries = look(data, "tones.tflite")
    assert (entries[0].frames, entries[0].subsampling, entries[0].pieces) == (WINDOWS[0], SUBSAMPLING, 8)
    named = name_signatures(merge(list(parts(data, entries).values())), entries, speech)
    ctc = f"ctc_{WINDOWS[0]}"
    assert {one.name for one in read_flatbuffer(named).signatures} == (
        ({signature} if signature else set() if speech else {"main"}) | ({ctc} if speech else set())
    )
    features = np.random.default_rng(0).standard_normal((1, WINDOWS[0], 80)).astype(np.float32)
    mask = np.ones((1, WINDOWS[0] // SUBSAMPLING), np.float32)
    exact = run(flatbuffers(False)[0], ctc, {"features": features, "mask": mask})["logits"]
    if speech:
        np.testing.assert_array_equal(run(named, ctc, {"features": features, "mask": mask})["logits"], exact)
    if signature:
        kept = run(named, signature, {"sound": features, "real": mask})
        np.testing.assert_array_equal(kept["scores"], exact)


def _quantised() -> bytes:
    import tensorflow as tf

    return converted(stock_model(), optimizations=[tf.lite.Optimize.DEFAULT])


def _half() -> bytes:
    import tensorflow as tf

    return converted(
        stock_model(),
        optimizations=[tf.lite.Optimize.DEFAULT],
        target_spec=tf.lite.TargetSpec(supported_types=[tf.float16]),
    )


def _stray_subgraph() -> bytes:
    model = read_model(flatbuffers(False)[0])
    del model.signatureDefs[1]
    return write_model(model)


def _custom_op() -> bytes:
    model = read_model(renamed("serve"))
    code = model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "FlexErf"
    return write_model(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"no model", "not a TFLite flatbuffer"),
        (lambda: renamed("serve")[:900], "damaged flatbuffer"),
        (_quantised, "is quantised already (tensor"),
        (_half, "is quantised already (tensor"),
        (
            lambda: converted(stock_model(None)),
            "input 'sound' of shape [-1, -1, 24]: must be float32 of batch 1",
        ),
        (_stray_subgraph, "subgraph 1 belongs to no signature"),
        (_custom_op, "op FlexErf is no builtin one"),
    ],
)
def test_what_cannot_be_taken_is_one_line(make: Any, message: str) -> None:
    with pytest.raises(TfliteAsrError) as error:
        look(make(), "m.tflite")
    assert str(error.value).startswith(f"m.tflite: {message}")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_file_without_signatures_gets_the_names_of_its_tensors(stock: bytes) -> None:
    model = read_model(stock)
    model.signatureDefs = []
    (entry,) = look(write_model(model), "bare.tflite")
    assert entry.signature == ""
    assert entry.inputs == {"features": "sound"}
