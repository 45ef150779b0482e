"""Every op of the policy table, computed for several examples at once, is what the runtime computes of its integers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.lowering.integers import noise
from tests.lowering.test_policy import BUILD, SHAPE
from tests.qat.single_op import differences
from tflite_asr.errors import TfliteAsrError
from tflite_asr.lowering.policy import POLICY
from tflite_asr.qat.graph import Op, read_graph
from tflite_asr.qat.kernels import KERNELS, file_layout, last_channels, run
from tflite_asr.qat.twin import integer_twin
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import text


@pytest.fixture(scope="module")
def table():
    """One model with an output for each row of the table, its graph, twin and values for two examples."""
    from tflite_asr.qat.network import QuantisedNetwork
    from tflite_asr.quantize.calibrate import calibrate
    from tflite_asr.quantize.convert import convert
    from tflite_asr.quantize.kept_whole import kept_whole

    x = keras.Input(SHAPE, batch_size=1, name="x")
    model = keras.Model(x, {op.lower(): build(x) for op, build in BUILD.items()})
    # Halves, so that what is compared with 0 is 0 in int8 too.
    feeds = [{"x": np.rint(2 * feed["x"]) / 2} for feed in noise(SHAPE, count=2)]
    window = convert(model, None)
    ranges = calibrate({window.signature: window.data}, {window.signature: [[feed] for feed in feeds]})
    graph = read_graph(window.data, window.signature)
    twin = integer_twin(window.data, graph, ranges, scheme("int8"))
    network = QuantisedNetwork(graph, twin, ranges, {}, kept_whole([window.data]))
    together = network.activations([np.concatenate([feed["x"] for feed in feeds])])
    return graph, twin.model, {name: np.asarray(values) for name, values in together.items()}


def test_the_table_is_all_there(table):
    graph, _, _ = table
    assert set(POLICY) - {op.kind for op in graph.ops} <= {"QUANTIZE"}
    assert set(POLICY) - set(KERNELS) <= {"QUANTIZE"}


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
def test_an_op_is_what_runs_for_each_of_two_examples(table, kernels):
    _, twin, together = table
    for row in (0, 1):
        values = {name: one[row] for name, one in together.items() if not name.startswith("unrounded:")}
        for op in twin.subgraphs[0].operators:
            if op_name(twin, op) in ("QUANTIZE", "DEQUANTIZE"):
                continue
            found = differences(twin, values, op, kernels)
            name = text(twin.subgraphs[0].tensors[op.outputs[0]].name)
            assert (found > 1).mean() <= 0.001, f"{op_name(twin, op)} {name}: {found.max()} quanta"


def test_an_op_that_is_not_known_is_named():
    with pytest.raises(TfliteAsrError, match="some/op: low-bit training does not know HASHTABLE"):
        run(Op("HASHTABLE", (), ("some/op",), ((1,),), None), [])


def test_weights_with_their_channels_last_come_back():
    for kind, shape in {
        "FULLY_CONNECTED": (3, 5),
        "CONV_2D": (4, 3, 2, 5),
        "DEPTHWISE_CONV_2D": (1, 3, 2, 4),
    }.items():
        weights = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        assert np.array_equal(file_layout(kind, last_channels(kind, weights)), weights)
