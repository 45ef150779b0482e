"""A file for TFLite 2.14: ops that it knows, the same logits, and rounding that does not depend on the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.quantize.conftest import random_feed, run
from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import read_flatbuffer
from tflite_asr.quantize.finish import finish, set_versions
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.older import fit_runtime, logarithms_by_table
from tflite_asr.quantize.quantizer import quantize
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model, schema, write_model
from tflite_asr.releases import age, first_release

NAME = "ctc_80"


def versions(data: bytes) -> set[tuple[str, int]]:
    return {(one.name, one.version) for graph in read_flatbuffer(data).subgraphs for one in graph.operators}


@pytest.fixture(scope="module")
def fitted(room) -> bytes:
    return fit_runtime(room.finished[NAME], "2.14")


def test_every_op_is_at_a_version_that_2_14_knows(room, fitted):
    assert ("LOG", 2) in versions(room.finished[NAME])  # else there is nothing to prove
    assert all(age(first_release(op, version) or "99") <= (2, 14) for op, version in versions(fitted))
    assert {tensor.type for tensor in read_flatbuffer(fitted).subgraphs[0].tensors} <= {"INT8", "INT32"}


@pytest.mark.parametrize("kernels", ["BUILTIN", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"])
def test_a_logarithm_from_its_table_is_the_kernels_bit_by_bit(room, kernels):
    data = room.finished[NAME]
    model = read_model(data)
    logarithms_by_table(model, model.subgraphs[0])
    set_versions(model)
    tabled = write_model(model)
    assert "LOG" not in {op for op, _ in versions(tabled)}
    for seed in range(3):
        feed = random_feed(data, NAME, seed)
        before, after = (run(one, NAME, feed, kernels)["logits"] for one in (data, tabled))
        np.testing.assert_array_equal(before, after)


def tensors_of(data: bytes, seed: int = 0) -> dict[int, np.ndarray]:
    """Every tensor that LiteRT's builtin kernels compute on random inputs."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.get_signature_runner(NAME)(**random_feed(data, NAME, seed))
    held = {}
    for detail in interpreter.get_tensor_details():
        try:
            held[detail["index"]] = interpreter.get_tensor(detail["index"])
        except ValueError:  # an op's own scratch
            continue
    return held


def portable_depthwise(model: Any, graph: Any, operator: Any, values: np.ndarray) -> np.ndarray:
    """TFLite's portable kernel, as 2.14 runs it on x86: along time, batch 1, stride 1, one multiplier a channel.

    The multiplier is 31 bits and a shift; the product is rounded to 31 bits fewer, then by the shift, halves away from
    zero both times.
    """
    source, weights, bias = (graph.tensors[index] for index in operator.inputs)
    result = graph.tensors[operator.outputs[0]]
    taps = model.buffers[weights.buffer].data.view(np.int8).reshape(weights.shape).astype(np.int64)[0, 0]
    x = values.astype(np.int64)[0, 0] - int(source.quantization.zeroPoint[0])
    frames = int(result.shape[2])
    around = len(taps) - 1 if operator.builtinOptions.padding == schema.Padding.SAME else 0
    x = np.pad(x, ((around // 2, around - around // 2), (0, 0)))
    sums = sum(x[k : k + frames] * taps[k] for k in range(len(taps)))
    sums = sums + model.buffers[bias.buffer].data.view(np.int32)
    real = source.quantization.scale.astype(np.float64) * weights.quantization.scale.astype(np.float64)
    mantissa, exponent = np.frexp(real / float(result.quantization.scale[0]))
    product = sums * np.round(mantissa * 2**31).astype(np.int64)
    first = np.sign(product) * ((np.abs(product) + (1 << 30)) >> 31)
    half = (1 << -exponent) >> 1
    second = np.sign(first) * ((np.abs(first) + half) >> -exponent)
    return np.clip(second + int(result.quantization.zeroPoint[0]), -128, 127)


def test_depthwise_sums_round_as_the_portable_kernel_does_and_are_moved_back_exactly(room, fitted):
    model = read_model(fitted)
    (graph,) = model.subgraphs
    depthwise = [one for one in graph.operators if op_name(model, one) == "DEPTHWISE_CONV_2D"]
    assert depthwise
    for seed in range(3):
        held = tensors_of(fitted, seed)
        for operator in depthwise:
            above = int(operator.outputs[0])
            (reader,) = (one for one in graph.operators if above in one.inputs)
            assert op_name(model, reader) == "SUB"
            assert graph.tensors[above].quantization.zeroPoint[0] == -128
            expected = portable_depthwise(model, graph, operator, held[int(operator.inputs[0])])
            np.testing.assert_array_equal(held[above][0, 0], expected)
            down = graph.tensors[reader.outputs[0]].quantization.zeroPoint[0]
            np.testing.assert_array_equal(held[int(reader.outputs[0])], held[above])
            assert down != -128


def test_the_logits_stay_near_those_of_the_file_for_today(room, fitted):
    """Depthwise sums round at another place in few values; a random tiny Conformer stays within a step or two."""
    feed = random_feed(fitted, NAME)
    before, after = (
        run(one, NAME, feed)["logits"].astype(np.float64) for one in (room.finished[NAME], fitted)
    )
    noise = ((before - after) ** 2).sum()
    assert 10 * np.log10(((before - before.mean()) ** 2).sum() / max(noise, 1e-9)) > 20


def test_a_dynamic_product_by_channel_is_named_and_refused(room):
    """2.14 would load it as version 5 and take the first channel's scale for all."""
    data = finish(quantize(room.floats[NAME].data, None, (), scheme("dynamic_wi8_afp32")))
    assert ("FULLY_CONNECTED", 12) in versions(data)
    with pytest.raises(TfliteAsrError, match=r"FULLY_CONNECTED version 12.*2\.17; export with --scheme int8"):
        fit_runtime(data, "2.14")


def test_a_float_file_needs_nothing(room):
    data = finish(room.floats[NAME].data)
    assert versions(fit_runtime(data, "2.14")) == versions(data)


def test_fitting_twice_changes_nothing(fitted):
    assert fit_runtime(fitted, "2.14") == fitted
