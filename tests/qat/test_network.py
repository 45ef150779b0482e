"""What was trained is what runs: op by op, end to end, on both kernels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.qat.conftest import TRAINED, smooth_clips
from tests.qat.single_op import differences
from tflite_asr.qat.batches import taught_examples
from tflite_asr.qat.graph import read_graph
from tflite_asr.qat.twin import integer_twin, ranges_of
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model, text

INT8 = scheme("int8")


@pytest.fixture(scope="session")
def made(room):
    """Graph, twin and network of the tiny Conformer's shorter window."""
    from tflite_asr.qat.network import QuantisedNetwork
    from tflite_asr.quantize.calibrate import time_axes
    from tflite_asr.quantize.kept_whole import kept_whole

    data = room.parts[TRAINED]
    graph = read_graph(data, TRAINED)
    twin = integer_twin(data, graph, room.ranges, INT8)
    kept = kept_whole(room.parts.values())
    return graph, twin, QuantisedNetwork(graph, twin, room.ranges, time_axes(room.parts.values()), kept)


def test_grids_as_ranges_give_the_same_grids_again(room, made):
    graph, twin, _ = made
    again = integer_twin(room.parts[TRAINED], graph, ranges_of(twin, TRAINED), INT8)
    for name, grid in twin.activations.items():
        assert again.activations[name].zero_point == grid.zero_point, name
        assert again.activations[name].scale == pytest.approx(grid.scale, rel=1e-5), name


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
def test_each_op_fed_the_networks_integers_is_within_one_quantum(room, made, kernels):
    graph, twin, network = made
    examples = taught_examples(room.parts[TRAINED], graph, smooth_clips((100, 70), seed=3), 4)
    tensors = network.activations(list(examples.x))
    beyond = total = 0
    for row in range(len(examples)):
        values = {
            name: np.asarray(one)[row] for name, one in tensors.items() if not name.startswith("unrounded:")
        }
        for op in twin.model.subgraphs[0].operators:
            found = differences(twin.model, values, op, kernels)
            beyond, total = beyond + int((found > 1).sum()), total + found.size
            worst = float((found > 1).mean())
            where = text(twin.model.subgraphs[0].tensors[op.outputs[0]].name)
            assert worst <= 0.02, (
                f"{op_name(twin.model, op)} {where}: {worst:.1%} of values beyond one quantum"
            )
    assert beyond / total < 0.001


def test_end_to_end_it_differs_no_more_than_two_kernels_do(room, made):
    from tflite_asr.quantize.finish import finish
    from tflite_asr.quantize.quantizer import quantize
    from tflite_asr.quantize.running import Observer, outputs_of

    graph, _, network = made
    data = room.parts[TRAINED]
    clips = smooth_clips((100, 90, 80, 100, 60, 100), seed=5)
    examples = taught_examples(data, graph, clips, 4)
    mine = np.asarray(network(list(examples.x)))
    file = finish(quantize(data, room.ranges, (), INT8), room.ranges)
    feeds = [
        dict(zip(graph.inputs, (x[row : row + 1] for x in examples.x), strict=True))
        for row in range(len(clips))
    ]
    xnnpack = np.concatenate([one["logits"] for one in outputs_of(file, TRAINED, feeds)])
    observer = Observer(file, TRAINED, [])
    tensor = read_model(file).subgraphs[0].tensors[read_model(file).subgraphs[0].outputs[0]]
    scale, zero_point = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
    builtin = np.concatenate(
        [(observer.run(one)["logits"].astype(np.float32) - zero_point) * scale for one in feeds]
    )
    real = examples.y[1][..., None]

    def apart(one, other):
        return float((np.square(one - other) * real).mean())

    assert min(apart(mine, xnnpack), apart(mine, builtin)) <= apart(xnnpack, builtin)


def test_what_is_no_weight_of_a_layer_stays(made):
    graph, _, _ = made
    trained = set(graph.trained())
    assert any(name.endswith("fully_connected:2") for name in trained)  # biases too
    for op in graph.ops:
        for name in op.inputs:
            if name in graph.constants and graph.constants[name].size == 1:
                assert name not in trained
