"""The audit against files that are sound, that are not integer-only, and that are damaged."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
from tflite_asr.audit import audit, require_integer_only
from tflite_asr.errors import Finding, TfliteAsrError
from tflite_asr.flatbuffer import BUILTIN_OPS, TENSOR_TYPES, read_flatbuffer
from tflite_asr.quantize.serialize import read_model, schema, write_model


def tensor(shape, kind="INT8", buffer=0, name=b"", channels=1):
    quantisation = None
    if kind == "INT8":
        scale, zero = np.linspace(0.01, 0.02, channels, dtype=np.float32), np.zeros(channels, np.int64)
        quantisation = schema.QuantizationParametersT(scale=scale, zeroPoint=zero)
    return schema.TensorT(shape, getattr(schema.TensorType, kind), buffer, name, quantisation)


def test_the_newest_op_says_which_release_the_file_wants():
    model = small_model()
    report = audit(write_model(model), load=False)
    assert report.to_dict()["first_release"] == "1.14"
    code = next(one for one in model.operatorCodes if one.builtinCode == schema.BuiltinOperator.LOGISTIC)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.LOG
    report = audit(write_model(model), load=False)
    assert report.first_release == "2.15"
    assert ("oldest TFLite", "2.15 (LOG version 2); LiteRT 2.x follows on TFLite 2.20") in report.rows()


def small_model():
    """y = LOGISTIC(x W + b): x int8 [1, 7, 5], W int8 [4, 5], b int32 [4]."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.integers(-127, 128, (4, 5), np.int8), rng.integers(-9, 9, 4, np.int32)
    buffers = [
        schema.BufferT(),
        schema.BufferT(data=kernel.view(np.uint8).ravel()),
        schema.BufferT(data=bias.view(np.uint8)),
    ]
    tensors = [
        tensor([1, 7, 5], name=b"x"),
        tensor([4, 5], buffer=1, name=b"kernel", channels=4),
        tensor([4], "INT32", 2, b"bias"),
        tensor([1, 7, 4], name=b"product"),
        tensor([1, 7, 4], name=b"y"),
    ]
    options = schema.FullyConnectedOptionsT(keepNumDims=True)
    operators = [
        schema.OperatorT(0, [0, 1, 2], [3], schema.BuiltinOptions.FullyConnectedOptions, options),
        schema.OperatorT(1, [3], [4]),
    ]
    codes = [
        schema.OperatorCodeT(kind, None, version, kind)
        for kind, version in (
            (schema.BuiltinOperator.FULLY_CONNECTED, 4),
            (schema.BuiltinOperator.LOGISTIC, 2),
        )
    ]
    tensors[4].quantization = schema.QuantizationParametersT(
        scale=np.array([1 / 256], np.float32), zeroPoint=np.array([-128], np.int64)
    )
    signature = schema.SignatureDefT([schema.TensorMapT("x", 0)], [schema.TensorMapT("y", 4)], "main", 0)
    graph = schema.SubGraphT(tensors, [0], [4], operators, "main")
    return schema.ModelT(3, codes, [graph], "a test", buffers, None, None, [signature])


@pytest.fixture
def model():
    return small_model()


def test_a_sound_file(model):
    data = write_model(model)
    report = audit(data)
    assert report.integer_only
    assert not report.offending
    assert report.ops == {"FULLY_CONNECTED": 1, "LOGISTIC": 1}
    assert report.versions == {
        "FULLY_CONNECTED": 4,
        "LOGISTIC": 2,
    }
    assert report.macs == {"main": 7 * 4 * 5}
    assert report.weight_bits == {8: 20}
    kinds = report.bytes_by_kind
    assert kinds["weights"] == 20
    assert kinds["biases"] == 16
    assert kinds["scales"] == 4 * 4 + 4 + 4
    assert kinds["zero_points"] == 4 * 8 + 8 + 8
    assert sum(kinds.values()) == report.size_bytes == len(data)
    assert report.signatures["main"]["outputs"]["y"] == {
        "shape": [1, 7, 4],
        "dtype": "int8",
        "scale": 1 / 256,
        "zero_point": -128,
    }
    assert report.oldest_runtime
    assert report.runtimes[report.oldest_runtime] == "loads"
    require_integer_only(report)


def test_the_report_is_a_table_and_json(model, tmp_path):
    import json

    path = tmp_path / "model.tflite"
    path.write_bytes(write_model(model))
    report = audit(path, load=False)
    assert json.loads(json.dumps(report.to_dict()))["integer_only"] is True
    assert dict(report.rows())["integer-only"] == "yes"
    assert all(len(row) == 2 for row in report.rows())


def test_a_float_island_is_laid_to_the_op_that_writes_it(model):
    model.subgraphs[0].tensors[3] = tensor([1, 7, 4], "FLOAT32", name=b"product")
    report = audit(write_model(model), load=False)
    assert [str(one) for one in report.offending] == [
        "main: FULLY_CONNECTED #0 writes: tensor 3 (product) of type float32"
    ]
    with pytest.raises(Finding, match="not integer-only: main: FULLY_CONNECTED #0") as error:
        require_integer_only(report)
    assert error.value.exit_code == 1


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "STRING", "RESOURCE", "UINT8"])
def test_only_signed_integers_and_bools_pass(model, kind):
    model.subgraphs[0].tensors[3].type = getattr(schema.TensorType, kind)
    assert not audit(write_model(model), load=False).integer_only


@pytest.mark.parametrize("kind", ["INT2", "INT4", "INT16", "INT32", "INT64", "BOOL"])
def test_integers_of_every_width_pass(model, kind):
    model.subgraphs[0].tensors[3].type = getattr(schema.TensorType, kind)
    assert audit(write_model(model), load=False).integer_only


@pytest.mark.parametrize(("name", "reason"), [("FlexErf", "Flex"), ("MyOp", "custom op")])
def test_ops_that_are_no_builtins(model, name, reason):
    custom = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[1] = schema.OperatorCodeT(custom, name, 1, custom)
    report = audit(write_model(model))
    assert [one.op for one in report.offending] == [f"{name} #1"]
    assert reason in report.offending[0].reason
    assert report.oldest_runtime is None
    assert "refuses" in next(iter(report.runtimes.values()))


def test_dynamic_shapes(model):
    model.subgraphs[0].tensors[0].shapeSignature = [1, -1, 5]
    (offence,) = audit(write_model(model), load=False).offending
    assert "dynamic shape [1, -1, 5]" in offence.reason


def test_signatures_must_be_there_and_named(model):
    model.signatureDefs = []
    assert "no signature" in str(audit(write_model(model), load=False).offending[0])
    model = small_model()
    model.signatureDefs[0].signatureKey = None
    assert "without a name" in str(audit(write_model(model), load=False).offending[0])
    model = small_model()
    model.signatureDefs *= 2
    assert "2 signatures of this name" in str(audit(write_model(model), load=False).offending[0])


def test_what_is_no_flatbuffer(tmp_path):
    for data in (b"", b"TFL3", b"not a model at all", b"\0\0\0\0TFL3"):
        with pytest.raises(TfliteAsrError) as error:
            audit(data)
        assert "\n" not in str(error.value)
        # What bears the mark is a flatbuffer, and a damaged one a finding; anything else is wrong input.
        assert error.value.exit_code == (1 if data[4:] == b"TFL3" else 2)
    with pytest.raises(TfliteAsrError, match=r"absent\.tflite: cannot be read"):
        audit(tmp_path / "absent.tflite")


def test_every_truncation_is_one_line(model):
    data = write_model(model)
    for size in range(len(data) - 1):
        _look(data[:size])


def test_flipped_bytes_never_crash(model):
    data = bytearray(write_model(model))
    rng = np.random.default_rng(0)
    began = time.monotonic()
    findings = 0
    for _ in range(3000):
        damaged = data.copy()
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            damaged[place] = rng.integers(0, 256)
        findings += not _look(bytes(damaged))
    assert findings > 100
    assert time.monotonic() - began < 60


def _look(data: bytes) -> bool:
    """Whether a possibly damaged file could be read; anything but a report or an error of one line fails
    the test."""
    try:
        report = audit(data, load=False)
        report.rows()
        report.to_dict()
        return True
    except TfliteAsrError as error:
        if "\n" in str(error):
            pytest.fail(f"more than one line: {error}")
        return False


def test_the_reader_agrees_with_the_generated_schema(model):
    for names, kind in ((BUILTIN_OPS, schema.BuiltinOperator), (TENSOR_TYPES, schema.TensorType)):
        known = {value: name for name, value in vars(kind).items() if isinstance(value, int)}
        assert dict(enumerate(names)) == known
    data = write_model(model)
    ours, theirs = read_flatbuffer(data), read_model(data)
    assert [one.name for one in ours.subgraphs[0].operators] == ["FULLY_CONNECTED", "LOGISTIC"]
    for mine, other in zip(ours.subgraphs[0].tensors, theirs.subgraphs[0].tensors, strict=True):
        assert mine.name.encode() == other.name
        assert mine.shape == tuple(other.shape)
        assert TENSOR_TYPES.index(mine.type) == other.type
        assert mine.buffer == other.buffer
        if other.quantization is not None:
            np.testing.assert_array_equal(mine.scale, other.quantization.scale)
            np.testing.assert_array_equal(mine.zero_point, other.quantization.zeroPoint)
    for mine, other in zip(ours.subgraphs[0].operators, theirs.subgraphs[0].operators, strict=True):
        assert mine.inputs == tuple(other.inputs)
        assert mine.outputs == tuple(other.outputs)


def test_constants_behind_the_root_are_found(model):
    """As AI Edge Quantizer stores those of large models."""
    kernel = model.buffers[1].data
    model.buffers[1] = schema.BufferT(offset=1, size=1)
    import flatbuffers

    def pack(offset):
        model.buffers[1].offset, model.buffers[1].size = offset, len(kernel)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    data = pack(len(pack(1 << 20))) + kernel.tobytes()
    assert audit(data, load=False).bytes_by_kind["weights"] == 20
    np.testing.assert_array_equal(read_model(data).buffers[1].data, kernel)
    with pytest.raises(Finding, match="damaged"):
        audit(data[:-1])


def test_a_bundle_s_folder_stands_for_its_model(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"no flatbuffer")
    with pytest.raises(Finding, match="damaged bundle"):
        audit(tmp_path)
    with pytest.raises(TfliteAsrError, match="bundle"):
        audit(tmp_path / "absent")
