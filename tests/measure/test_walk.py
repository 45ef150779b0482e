"""A float and an integer model side by side: names, what a tensor loses, what its grid costs, what does not pair."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.walk import walk
from tflite_asr.quantize.serialize import write_model

FED = np.array([[1.0, 2.0, 3.0, 100.0]], np.float32)


@dataclass
class Cell:
    """A tensor of a flatbuffer made by hand; scale None: float32."""

    name: str
    scale: float | None = None
    values: np.ndarray | None = None
    shape: tuple[int, ...] = (1, 4)


def flatbuffer(cells: list[Cell], ops: list[tuple[str, list[int], list[int]]], output: int) -> bytes:
    """One signature `ctc_4` from tensor 0 to `output`; scales have zero point 0."""
    model = schema.ModelT(3, [], [], None, [schema.BufferT()], None, None, [])
    tensors = []
    for cell in cells:
        place = 0
        if cell.values is not None:
            place = len(model.buffers)
            model.buffers.append(schema.BufferT(data=np.frombuffer(cell.values.tobytes(), np.uint8)))
        quantised = None
        if cell.scale is not None:
            quantised = schema.QuantizationParametersT(
                scale=np.array([cell.scale], np.float32), zeroPoint=np.array([0], np.int64)
            )
        shape = np.array(cell.shape if cell.values is None else cell.values.shape, np.int32)
        kind = schema.TensorType.FLOAT32 if cell.scale is None else schema.TensorType.INT8
        tensors.append(schema.TensorT(shape, kind, place, cell.name.encode(), quantization=quantised))
    operators = []
    options = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT}
    for name, inputs, outputs in ops:
        builtin = getattr(schema.BuiltinOperator, name)
        model.operatorCodes.append(schema.OperatorCodeT(builtin, None, 2 if cells[0].scale else 1, builtin))
        operator = schema.OperatorT(
            len(model.operatorCodes) - 1, np.array(inputs, np.int32), np.array(outputs, np.int32)
        )
        if name in options:
            operator.builtinOptions = options[name]()
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name.capitalize() + "Options")
        operators.append(operator)
    model.subgraphs = [
        schema.SubGraphT(tensors, np.array([0], np.int32), np.array([output], np.int32), operators)
    ]
    sides = [schema.TensorMapT("features", 0)], [schema.TensorMapT("logits", output)]
    model.signatureDefs = [schema.SignatureDefT(*sides, "ctc_4", 0)]
    return write_model(model)


def float_model() -> bytes:
    """-(features + 0.5)."""
    cells = [
        Cell("features"),
        Cell("a/add:1", values=np.array([0.5], np.float32)),
        Cell("a/add"),
        Cell("b.c/neg"),
    ]
    return flatbuffer(cells, [("ADD", [0, 1], [2]), ("NEG", [2], [3])], 3)


def int_model(step: float = 0.5) -> bytes:
    """The same without names in steps of one half; a QUANTIZE to `step` in between, the NEG as a product with -1."""
    cells = [
        Cell("", 1.0),
        Cell("", 0.5, np.array([1], np.int8)),
        Cell("", 0.5),
        Cell("", step),
        Cell("", 1 / 64, np.array([-64], np.int8)),
        Cell("", 0.5),
    ]
    ops = [("ADD", [0, 1], [2]), ("QUANTIZE", [2], [3]), ("MUL", [3, 4], [5])]
    return flatbuffer(cells, ops, 5)


def test_tensors_are_named_after_the_float_model_in_the_order_of_execution():
    found = walk(float_model(), int_model(), [{"features": FED}], "ctc_4")
    assert [(one.name, one.op, one.module) for one in found] == [
        ("features", "INPUT", ""),
        ("a/add", "ADD", "a"),
        ("b.c/neg", "NEG", "b.c"),
    ]


def test_what_lies_beyond_the_grid_is_clipped_and_costs_what_arithmetic_says():
    _, added, _ = walk(float_model(), int_model(), [{"features": FED}], "ctc_4")
    # 1.5, 2.5, 3.5 and 100.5, of which the grid's -64 to 63.5 cannot hold the last.
    signal = 1.5**2 + 2.5**2 + 3.5**2 + 100.5**2
    assert added.snr_db == pytest.approx(10 * math.log10(signal / (100.5 - 63.5) ** 2))
    assert added.grid_snr_db == pytest.approx(added.snr_db)
    assert added.share_clipped == 0.25
    assert (added.low, added.high, added.seen_low, added.seen_high) == (-64, 63.5, 1.5, 100.5)
    assert added.width_ratio == pytest.approx(127.5 / 100.5)


def test_a_tensor_bears_the_loss_of_those_before_it_and_its_grid_alone_does_not():
    fed = np.array([[1.0, 2.0, 3.0, 10.0]], np.float32)
    _, added, negated = walk(float_model(), int_model(step=2.0), [{"features": fed}], "ctc_4")
    assert added.snr_db == 120.0
    assert negated.grid_snr_db == 120.0
    assert negated.snr_db < 25.0


def test_what_no_reader_tells_apart_is_no_loss():
    """100.5 stands where 63.5 is the most: of no consequence to one that saturates at 60, and half so to one at 80."""
    _, ended, _ = walk(
        float_model(), int_model(), [{"features": FED}], "ctc_4", told_apart={"a/add": (-math.inf, 60.0)}
    )
    assert (ended.snr_db, ended.grid_snr_db, ended.share_clipped) == (120.0, 120.0, 0.0)
    assert (ended.seen_low, ended.seen_high) == (1.5, 60.0)
    _, cut, _ = walk(
        float_model(), int_model(), [{"features": FED}], "ctc_4", told_apart={"a/add": (0.0, 80.0)}
    )
    signal = 1.5**2 + 2.5**2 + 3.5**2 + 80.0**2
    assert cut.snr_db == pytest.approx(10 * math.log10(signal / (80.0 - 63.5) ** 2))
    assert cut.share_clipped == 0.25


def test_all_inputs_count_together():
    feeds = [{"features": FED}, {"features": np.zeros_like(FED)}]
    _, added, _ = walk(float_model(), int_model(), feeds, "ctc_4")
    assert added.share_clipped == 0.125
    assert added.seen_low == 0.5


def test_what_stayed_float_has_no_grid_and_loses_nothing():
    _, added, _ = walk(float_model(), float_model(), [{"features": FED}], "ctc_4")
    assert (added.low, added.width_ratio, added.share_clipped, added.snr_db) == (None, None, 0.0, 120.0)


def test_files_of_different_models_do_not_pair():
    other = flatbuffer([Cell("", 1.0), Cell("", 1 / 256)], [("LOGISTIC", [0], [1])], 1)
    with pytest.raises(TfliteAsrError, match=r"op 0 is ADD in float and LOGISTIC in integers"):
        walk(float_model(), other, [{"features": FED}], "ctc_4")
    shorter = flatbuffer(
        [Cell("", 1.0), Cell("", 0.5, np.array([1], np.int8)), Cell("", 0.5)], [("ADD", [0, 1], [2])], 2
    )
    with pytest.raises(TfliteAsrError, match="2 ops in float and 1 in integers"):
        walk(float_model(), shorter, [{"features": FED}], "ctc_4")


def test_wrong_use_is_told_in_one_line():
    with pytest.raises(TfliteAsrError, match="no signature 'ctc_8'; it has ctc_4"):
        walk(float_model(), int_model(), [{"features": FED}], "ctc_8")
    with pytest.raises(TfliteAsrError, match="give at least one input"):
        walk(float_model(), int_model(), [], "ctc_4")
    with pytest.raises(TfliteAsrError, match=r"it takes \{'features': \(1, 4\)\}"):
        walk(float_model(), int_model(), [{"features": FED[:, :3]}], "ctc_4")
