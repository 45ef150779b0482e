from __future__ import annotations

import numpy as np
import pytest

from tests.quantize.conftest import run
from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import Model, read_flatbuffer
from tflite_asr.quantize.calibrate import calibrate, lay_into_windows
from tflite_asr.quantize.convert import convert
from tflite_asr.quantize.quantizer import quantize, settle
from tflite_asr.quantize.ranges import Range, Ranges
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model


def scales(data: bytes) -> dict[str, tuple[float, int]]:
    model: Model = read_flatbuffer(data)
    return {
        tensor.name: (float(tensor.scale[0]), int(tensor.zero_point[0]))
        for graph in model.subgraphs
        for tensor in graph.tensors
        if len(tensor.scale) == 1
    }


def test_weights_are_symmetric_and_per_channel(room):
    window = room.floats["ctc_80"]
    before, after = read_model(window.data), read_flatbuffer(room.quantised["ctc_80"])
    name = "encoder.block0.ff1.dense1/fully_connected:1"
    kernel = next(tensor for tensor in before.subgraphs[0].tensors if tensor.name == name.encode())
    values = before.buffers[kernel.buffer].data.view(np.float32).reshape(kernel.shape)
    quantised = next(tensor for tensor in after.subgraphs[0].tensors if tensor.name == name)
    assert quantised.type == "INT8"
    assert not quantised.zero_point.any()
    np.testing.assert_allclose(quantised.scale, np.abs(values).max(1) / 127, rtol=1e-6)


def test_an_activation_s_scale_is_its_range_s(room):
    name = "encoder.block0.ff1.dense1/fully_connected"
    found = room.ranges[name]
    scale, zero_point = scales(room.quantised["ctc_80"])[name]
    assert scale == pytest.approx((found.maximum - found.minimum) / 255, rel=1e-6)
    assert zero_point == round(-128 - found.minimum / scale)


def test_windows_share_every_scale(room):
    """All but one: the constant that is the window's own number of frames."""
    short, long = (scales(room.quantised[name]) for name in ("ctc_80", "ctc_120"))
    assert set(short) == set(long)
    differing = {name: (short[name], long[name]) for name in short if short[name] != long[name]}
    expected = {
        "encoder.block0.mhsa.attention/mul_1:1": tuple((frames / 4 / 255, -128) for frames in (80, 120))
    }
    assert differing == {
        name: (pytest.approx(one), pytest.approx(two)) for name, (one, two) in expected.items()
    }


def test_the_mask_is_exact(room):
    scale, zero_point = scales(room.quantised["ctc_80"])["mask"]
    assert (127 - zero_point) * scale == pytest.approx(1, abs=1e-7)
    assert zero_point == -128


def test_ties_share_scale_and_zero_point(room):
    tied = ("encoder.block0.ff1.dense1/fully_connected", "encoder.block0.ff2.dense1/fully_connected")
    apart = scales(room.quantised["ctc_80"])
    assert apart[tied[0]] != apart[tied[1]]
    together = scales(quantize(room.floats["ctc_80"].data, room.ranges, [set(tied)], scheme("int8")))
    assert together[tied[0]] == together[tied[1]]
    assert together[tied[0]][0] >= max(apart[name][0] for name in tied) - 1e-9


def test_moved_values_keep_their_scale(room):
    settled = settle(read_model(room.floats["ctc_80"].data), room.ranges)
    for window in room.floats.values():
        graph = read_flatbuffer(window.data).subgraphs[0]
        for operator in graph.operators:
            if operator.name in ("RESHAPE", "TRANSPOSE", "PAD", "REDUCE_MAX"):
                before, after = (
                    settled[graph.tensors[i].name] for i in (operator.inputs[0], operator.outputs[0])
                )
                assert (before.minimum, before.maximum) == (after.minimum, after.maximum)


def test_no_scale_is_changed_on_the_way(room):
    """QUANTIZE from int8 to int8 costs time and accuracy: the settled ranges leave none but before
    CONCATENATION."""
    model = read_flatbuffer(room.quantised["ctc_80"])
    (graph,) = model.subgraphs
    joined = {i for operator in graph.operators if operator.name == "CONCATENATION" for i in operator.inputs}
    stray = [op for op in graph.operators if op.name == "QUANTIZE" and not set(op.outputs) & joined]
    floats = {i for i, tensor in enumerate(graph.tensors) if tensor.type == "FLOAT32"}
    assert not [op for op in stray if not set(op.inputs) & floats]


def test_sigmoids_have_their_kernel_s_scale(room):
    found = scales(room.quantised["ctc_80"])
    assert all(
        one == (1 / 256, -128)
        for name, one in found.items()
        if name.rpartition("/")[2].startswith("logistic")
    )


def test_a_missing_range_is_named(room):
    fewer = Ranges({name: one for name, one in room.ranges.items() if name != "ctc.dense/fully_connected"})
    with pytest.raises(TfliteAsrError, match=r"'ctc.dense/fully_connected'"):
        quantize(room.floats["ctc_80"].data, fewer, (), scheme("int8"))
    with pytest.raises(TfliteAsrError, match="calibrate first"):
        quantize(room.floats["ctc_80"].data, None, (), scheme("int8"))


def test_float32_is_left_alone(room):
    data = room.floats["ctc_80"].data
    assert quantize(data, None, (), scheme("float32")) is data


def test_negation_and_squares_become_products():
    import keras

    source = keras.Input((6, 8), name="source")
    model = keras.Model(source, keras.ops.subtract(keras.ops.square(source), keras.ops.negative(source)))
    data = convert(model, None).data
    inputs = [np.random.default_rng(0).uniform(-2, 2, (6, 8)).astype(np.float32) for _ in range(4)]
    ranges = calibrate({"main": data}, lay_into_windows(inputs, {"main": data}))
    quantised = quantize(data, ranges, (), scheme("int8"))
    assert {tensor.type for tensor in read_flatbuffer(quantised).subgraphs[0].tensors} == {"INT8"}
    found = scales(quantised)
    scale, zero_point = found["source"]
    integers = np.clip(np.rint(inputs[0] / scale) + zero_point, -128, 127).astype(np.int8)
    (output,) = run(quantised, "main", {"source": integers[None]}).values()
    out_scale, out_zero = found[_output_name(quantised)]
    np.testing.assert_allclose(
        (output[0] - float(out_zero)) * out_scale, inputs[0] ** 2 + inputs[0], atol=4 * out_scale
    )


def _output_name(data: bytes) -> str:
    model = read_flatbuffer(data)
    (signature,) = model.signatures
    return model.subgraphs[0].tensors[next(iter(signature.outputs.values()))].name


def test_a_kernel_s_own_scale_wins_over_a_tie():
    import keras

    source = keras.Input((4, 4), name="source")
    model = keras.Model(source, keras.ops.transpose(keras.ops.sigmoid(source), (0, 2, 1)))
    data = convert(model, None).data
    ranges = Ranges({name: Range(-3, 3) for name in ("source", *_written(data))})
    assert all(
        one == (1 / 256, -128)
        for name, one in scales(quantize(data, ranges, (), scheme("int8"))).items()
        if name != "source"
    )


def _written(data: bytes) -> list[str]:
    (graph,) = read_flatbuffer(data).subgraphs
    return [graph.tensors[index].name for operator in graph.operators for index in operator.outputs]
