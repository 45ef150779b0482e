from __future__ import annotations

import numpy as np
import pytest

from tests.quantize.conftest import random_feed, run
from tflite_asr.flatbuffer import read_flatbuffer
from tflite_asr.quantize.calibrate import calibrate, lay_into_windows
from tflite_asr.quantize.convert import convert
from tflite_asr.quantize.finish import finish
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.ops import INT8_VERSIONS
from tflite_asr.quantize.quantizer import quantize
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model, schema


@pytest.fixture(scope="module")
def islands() -> tuple[bytes, bytes, list[np.ndarray]]:
    """The start of a softmax written out: AI Edge Quantizer's file with REDUCE_MAX and EXP in float, the finished one,
    its inputs."""
    import keras

    keras.utils.set_random_seed(0)
    source = keras.Input((10, 6), name="source")
    scores = keras.layers.Dense(8)(source)
    scores = keras.ops.exp(scores - keras.ops.max(scores, axis=-1, keepdims=True))
    model = keras.Model(source, keras.layers.Dense(3)(scores))
    data = convert(model, None).data
    inputs = [np.random.default_rng(seed).standard_normal((10, 6)).astype(np.float32) for seed in range(8)]
    ranges = calibrate({"main": data}, lay_into_windows(inputs, {"main": data}))
    quantised = quantize(data, ranges, (), scheme("int8"))
    return quantised, finish(quantised, ranges), inputs


def types(data: bytes) -> set[str]:
    return {tensor.type for graph in read_flatbuffer(data).subgraphs for tensor in graph.tensors}


def ops(data: bytes) -> list[str]:
    return [operator.name for graph in read_flatbuffer(data).subgraphs for operator in graph.operators]


def test_float_islands_become_integers(islands):
    before, after, _ = islands
    assert "FLOAT32" in types(before)
    assert {"DEQUANTIZE", "EXP", "REDUCE_MAX"} <= set(ops(before))
    assert "FLOAT32" not in types(after)
    assert not {"DEQUANTIZE", "QUANTIZE"} & set(ops(after))
    assert {"EXP", "REDUCE_MAX"} <= set(ops(after))


@pytest.mark.parametrize("kernels", ["BUILTIN", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF"])
def test_folding_keeps_the_values(islands, kernels):
    """EXP between DEQUANTIZE and QUANTIZE and EXP in int8 round once each: at most one step apart, then
    what the product makes of it."""
    before, after, _ = islands
    feed = random_feed(before, "main")
    ((one,), (other,)) = (run(data, "main", feed, kernels).values() for data in (before, after))
    assert one.dtype == other.dtype == np.int8
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 2


@pytest.mark.parametrize("kernels", ["BUILTIN", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"])
@pytest.mark.parametrize("name", ["ctc_80", "ctc_120"])
def test_stripping_and_sharing_change_no_bit(room, name, kernels):
    without_islands = finish(room.floats[name].data)
    feed = random_feed(room.floats[name].data, name)
    before, after = (
        run(data, name, feed, kernels)["logits"] for data in (room.floats[name].data, without_islands)
    )
    np.testing.assert_array_equal(before, after)
    feed = random_feed(room.finished[name], name)
    again = finish(room.finished[name])
    before, after = (run(data, name, feed, kernels)["logits"] for data in (room.finished[name], again))
    np.testing.assert_array_equal(before, after)


def test_finishing_twice_changes_nothing(room):
    assert finish(room.finished["ctc_80"]) == room.finished["ctc_80"]


def test_a_lowered_conformer_is_integers_only(room):
    for data in room.finished.values():
        assert types(data) <= {"INT8", "INT32"}


def test_the_integer_file_is_near_the_float_one(room):
    """Logits' SNR on calibration input; a random tiny Conformer comes to 20 dB and more."""
    name, values = "ctc_80", room.inputs[1]
    mask = np.ones((1, 20), np.float32)
    expected = run(room.floats[name].data, name, {"features": values[None], "mask": mask})["logits"]
    described = read_flatbuffer(room.finished[name])
    (signature,), (graph,) = described.signatures, described.subgraphs

    def integers(one: str, array: np.ndarray) -> np.ndarray:
        tensor = graph.tensors[signature.inputs[one]]
        return np.clip(np.rint(array / tensor.scale[0]) + tensor.zero_point[0], -128, 127).astype(np.int8)

    feed = {"features": integers("features", values[None]), "mask": integers("mask", mask)}
    tensor = graph.tensors[signature.outputs["logits"]]
    found = (run(room.finished[name], name, feed)["logits"] - float(tensor.zero_point[0])) * tensor.scale[0]
    assert 10 * np.log10((expected**2).sum() / ((expected - found) ** 2).sum()) > 18


def test_versions_are_tensorflow_s(room):
    (graph,) = read_flatbuffer(room.finished["ctc_80"]).subgraphs
    for operator in graph.operators:
        types_in = [graph.tensors[index].type for index in operator.inputs if index >= 0]
        if "INT8" not in types_in or operator.name not in INT8_VERSIONS:
            continue
        assert operator.version >= INT8_VERSIONS[operator.name]
    found = {operator.name: operator.version for operator in graph.operators}
    newest = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "ELU": 1, "LOG": 2, "LOGISTIC": 2, "MEAN": 2}
    assert {name: found[name] for name in newest} == newest


def test_names_go_and_equal_parts_are_stored_once(room):
    model = read_flatbuffer(room.finished["ctc_80"])
    assert {tensor.name for tensor in model.subgraphs[0].tensors} == {""}
    constants = [size for kind, size in model.spans.values() if kind == "constants"]
    assert len(constants) == len([size for _, size in model.buffers if size])
    lengths = [size for kind, size in model.spans.values() if kind == "zero_points"]
    per_channel = [size for size in lengths if size > 8]
    assert len(per_channel) == len(set(per_channel)), "one vector of zeros for each length"
    assert len(room.finished["ctc_80"]) < 0.75 * len(room.quantised["ctc_80"])


def test_a_relu_that_saturation_does_already_is_left_out():
    """The sum's result has zero point -128: int8 ends where the ReLU would cut."""
    import keras

    source = keras.Input((10, 6), name="source")
    model = keras.Model(source, keras.ops.relu(source + keras.ops.tanh(source)))
    data = convert(model, None).data
    inputs = [np.random.default_rng(seed).standard_normal((10, 6)).astype(np.float32) for seed in range(4)]
    ranges = calibrate({"main": data}, lay_into_windows(inputs, {"main": data}))
    before = quantize(data, ranges, (), scheme("int8"))
    after = finish(before, ranges)
    assert [fused(one) for one in (before, after)] == [["RELU"], ["NONE"]]
    feed = random_feed(before, "main")
    for kernels in ("BUILTIN", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF"):
        (one,), (other,) = (run(data, "main", feed, kernels).values() for data in (before, after))
        np.testing.assert_array_equal(one, other)
    assert one.min() == -128


def test_a_bias_of_zeros_needs_no_scales_of_its_own():
    import keras

    source = keras.Input((20, 16), name="source")
    x = keras.layers.DepthwiseConv1D(5, use_bias=False, padding="same")(source)
    model = keras.Model(source, keras.layers.Conv1D(16, 3, padding="same", bias_initializer="ones")(x))
    data = convert(model, None).data
    inputs = [np.random.default_rng(seed).standard_normal((20, 16)).astype(np.float32) for seed in range(4)]
    ranges = calibrate({"main": data}, lay_into_windows(inputs, {"main": data}))
    before = quantize(data, ranges, (), scheme("int8"))
    after = finish(before, ranges)
    shared = {}
    for operator in (graph := read_model(after).subgraphs[0]).operators:
        if (kind := op_name(read_model(after), operator)) in ("DEPTHWISE_CONV_2D", "CONV_2D"):
            weights, bias = (graph.tensors[index].quantization.scale for index in operator.inputs[1:])
            shared[kind] = np.array_equal(weights, bias)
    assert shared == {"DEPTHWISE_CONV_2D": True, "CONV_2D": False}
    feed = random_feed(before, "main")
    for kernels in ("BUILTIN", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF"):
        (one,), (other,) = (run(some, "main", feed, kernels).values() for some in (before, after))
        np.testing.assert_array_equal(one, other)


def fused(data: bytes) -> list[str]:
    """The fused activation of every sum."""
    names = {code: name for name, code in vars(schema.ActivationFunctionType).items()}
    model = read_model(data)
    return [
        names[operator.builtinOptions.fusedActivationFunction if operator.builtinOptions else 0]
        for graph in model.subgraphs
        for operator in graph.operators
        if op_name(model, operator) == "ADD"
    ]
