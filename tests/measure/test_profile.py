"""Time by op names the flatbuffer's own ops, and a disturbed run does not count for work."""

from __future__ import annotations

from collections import Counter
from importlib import metadata

import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import Operator, Subgraph, Tensor, read_flatbuffer
from tflite_asr.measure import profiler
from tflite_asr.measure.op_names import NamedOp, name_ops
from tflite_asr.measure.profile import SLOWEST, profile_window, summarise


def graph(*ops: tuple[str, str, str], names: bool = False) -> Subgraph:
    """`(type, inputs, outputs)` of each op; a letter is a tensor."""
    letters = sorted({letter for _, inputs, outputs in ops for letter in inputs + outputs})
    nothing = np.zeros(0)
    tensors = [
        Tensor(f"t/{letter}" if names else "", (1, place + 1), "FLOAT32", 0, nothing, nothing, False)
        for place, letter in enumerate(letters)
    ]
    operators = [
        Operator(kind, 1, False, *(tuple(letters.index(letter) for letter in side) for side in sides))
        for kind, *sides in ops
    ]
    return Subgraph(tuple(tensors), tuple(operators))


def test_delegated_ops_are_found_in_the_order_of_their_partitions():
    # EXP is the runtime's own. MUL needs nothing of it, so it belongs to the first partition, before it.
    ops = graph(("FULLY_CONNECTED", "x", "a"), ("EXP", "a", "b"), ("MUL", "xx", "c"), ("ADD", "bc", "d"))
    seen = [("Fully Connected (NC, F32) GEMM", None), ("Multiply (ND)", None), ("EXP", 1), ("Add (ND)", None)]
    assert [op.index for op in name_ops(ops, seen)] == [0, 2, 1, 3]


def test_fused_ops_have_no_operator_and_extra_operators_no_op():
    ops = graph(
        ("PAD", "x", "a"),
        ("CONV_2D", "a", "b"),
        ("SPLIT", "b", "cd"),
        ("LOGISTIC", "c", "e"),
        ("MUL", "ce", "f"),
        ("MUL", "df", "g"),
        ("FULLY_CONNECTED", "g", "h"),
    )
    seen = [
        "Convert (NC, F32, QDU8)",
        "Convolution (NHWC, QC8) IGEMM",
        "Copy (NC, X8)",
        "Invalid Unary Op",
        "Multiply (ND)",
        "Square (NC)",
        "Fully Connected (NC, QS8, QC8W) GEMM",
        "Something New (NC)",
    ]
    assert name_ops(ops, [(name, None) for name in seen]) == [
        NamedOp("QUANTIZE", None),
        NamedOp("CONV_2D", 1),
        NamedOp("SPLIT", 2),
        NamedOp("LOGISTIC", 3),
        NamedOp("MUL", 4),
        NamedOp("MUL", 5),
        NamedOp("FULLY_CONNECTED", 6),
        NamedOp("Something New", None),
    ]


def test_where_the_partitions_are_not_what_was_seen_no_op_is_guessed():
    ops = graph(("EXP", "x", "a"), ("ADD", "xx", "c"), ("EXP", "c", "b"))
    seen = [("EXP", 2), ("Add (ND)", None), ("EXP", 0)]  # the last EXP before the sum that it needs
    assert name_ops(ops, seen) == [NamedOp("EXP", 2), NamedOp("ADD", None), NamedOp("EXP", 0)]


def test_times_add_up_and_a_disturbed_run_does_not_count():
    ops = graph(("FULLY_CONNECTED", "xw", "a"), ("EXP", "a", "b"), ("EXP", "b", "c"))
    profile = summarise(
        ops,
        [1000, 1010, 5000, 1002],
        [
            ("Fully Connected (NC, F32) GEMM", None, [600, 610, 600, 602]),
            ("EXP", 1, [200, 100, 4200, 100]),
            ("EXP", 2, [100, 200, 100, 200]),
        ],
    )
    assert [(row.type, row.ms, row.count, row.runs_on) for row in profile.by_type] == [
        ("FULLY_CONNECTED", pytest.approx(0.6), 1, "xnnpack"),
        ("EXP", pytest.approx(0.2), 2, "builtin"),
    ]
    assert [op.name for op in profile.slowest] == ["FULLY_CONNECTED 0", "EXP 1", "EXP 2"]
    assert profile.slowest[0].shapes == "1x5 1x4 -> 1x1"
    assert profile.slowest[0].share == pytest.approx(0.75)
    assert profile.sum_ms == pytest.approx(0.8)
    # What the ops leave of each run's whole: 100, 100, 100 and 100 us.
    assert profile.outside_ops_ms == pytest.approx(0.1)
    assert profile.whole_ms == pytest.approx(0.9)


def test_an_op_goes_by_the_tensor_that_it_writes_where_names_were_kept():
    profile = summarise(graph(("EXP", "x", "a"), names=True), [10], [("EXP", 0, [10])])
    assert profile.slowest[0].name == "t/a"


@pytest.mark.parametrize("fixture", ["float_bundle", "int8_bundle"])
def test_the_profiler_sees_inside_the_delegate(fixture, request):
    bundle = request.getfixturevalue(fixture)
    model = read_flatbuffer(bundle.model_path.read_bytes())
    (signature,) = (s for s in model.signatures if s.name == "ctc_200")
    ops = Counter(op.name for op in model.subgraphs[signature.subgraph].operators)
    profile = profile_window(bundle, 200, "xnnpack", 1, 4)
    found = {row.type: row for row in profile.by_type}
    assert "DELEGATE" not in found
    assert found["FULLY_CONNECTED"].count == ops["FULLY_CONNECTED"] > 0
    assert found["FULLY_CONNECTED"].runs_on == "xnnpack"
    assert set(found) <= set(ops) | {"RESHAPE", "SPLIT", "QUANTIZE"}  # what XNNPACK may add of its own
    assert sum(row.ms for row in profile.by_type) == pytest.approx(profile.sum_ms)
    assert profile.whole_ms == pytest.approx(profile.sum_ms + profile.outside_ops_ms)
    assert 0 < len(profile.slowest) <= SLOWEST
    times = [op.ms for op in profile.slowest]
    assert times == sorted(times, reverse=True)


def test_builtin_kernels_are_the_flatbuffers_ops_one_to_one(int8_bundle):
    model = read_flatbuffer(int8_bundle.model_path.read_bytes())
    (signature,) = (s for s in model.signatures if s.name == "ctc_100")
    ops = Counter(op.name for op in model.subgraphs[signature.subgraph].operators)
    profile = profile_window(int8_bundle, 100, "builtin", 1, 2)
    assert {row.type: row.count for row in profile.by_type} == ops
    assert {row.runs_on for row in profile.by_type} == {"builtin"}


def test_kernels_that_the_profiler_would_not_run_are_refused(int8_bundle):
    with pytest.raises(TfliteAsrError, match="delegate reference cannot be profiled; profile xnnpack or"):
        profile_window(int8_bundle, 100, "reference", 1, 2)


def test_a_version_whose_interface_is_not_known_is_refused(int8_bundle, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "9.1.0")
    with pytest.raises(TfliteAsrError, match=r"ai-edge-litert 9\.1\.0: its profiler is not known here"):
        profiler.Profiler(str(int8_bundle.model_path), "xnnpack", 1)
