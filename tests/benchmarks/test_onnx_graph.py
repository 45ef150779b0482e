"""What tf2onnx takes apart is put together again, and computes what it computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.side_by_side.onnx_graph import OPSET, fuse_layer_norms, join_dense

onnx = pytest.importorskip("onnx", reason="onnx is not installed: make peers")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: make peers")

FRAMES, WIDTH, UNITS, EPSILON = 5, 8, 6, 1e-3
GAMMA = np.linspace(0.5, 1.5, WIDTH, dtype=np.float32)
BETA = np.linspace(-1.0, 1.0, WIDTH, dtype=np.float32)
KERNEL = np.random.default_rng(1).standard_normal((WIDTH, UNITS)).astype(np.float32)
X = np.random.default_rng(2).normal(3.0, 2.0, (1, FRAMES, WIDTH)).astype(np.float32)


def graph_of(nodes: list[tuple[str, str, list[str], str]], constants: dict[str, np.ndarray], out: str) -> Any:
    """A model of (op, name, inputs, output) nodes from `x` to `out`."""
    from onnx import TensorProto, helper, numpy_helper

    last = UNITS if out == "dense" else WIDTH
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [output], name=name) for op, name, inputs, output in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, (1, FRAMES, last))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def norm_graph(scale: bool = True) -> Any:
    """A layer norm as Keras on TensorFlow writes it: x * inv + (beta - mean * inv)."""
    scope = "model_1/norm_1"
    nodes = [
        ("ReduceMean", f"{scope}/mean", ["x"], "mean"),
        ("Neg", f"{scope}/Neg", ["mean"], "minus"),
        ("Sub", f"{scope}/difference", ["x", "mean"], "difference"),
        ("Mul", f"{scope}/square", ["difference", "difference"], "square"),
        ("ReduceMean", f"{scope}/variance", ["square"], "variance"),
        ("Add", f"{scope}/add", ["variance", "epsilon"], "guarded"),
        ("Sqrt", f"{scope}/sqrt", ["guarded"], "root"),
        ("Reciprocal", f"{scope}/rsqrt", ["root"], "rsqrt"),
        ("Mul", f"{scope}/mul", ["rsqrt", "gamma" if scale else "epsilon"], "inv"),
        ("Mul", f"{scope}/mul_2", ["x", "inv"], "scaled"),
        ("Mul", f"{scope}/mul_1", ["minus", "inv"], "shift"),
        ("Add", f"{scope}/add_1", ["shift", "beta"], "offset"),
        ("Add", f"{scope}/add_2", ["scaled", "offset"], "normed"),
        ("Relu", "model_1/relu_1/relu", ["normed"], "out"),
    ]
    constants = {"gamma": GAMMA, "beta": BETA, "epsilon": np.float32([EPSILON])}
    model = graph_of(nodes, constants, "out")
    for node in model.graph.node:
        if node.op_type == "ReduceMean":
            node.attribute.append(onnx.helper.make_attribute("axes", [-1]))
    return model


def dense_graph(columns: int = WIDTH) -> Any:
    """A dense layer on frames as tf2onnx writes it; `columns` of the flattened input."""
    nodes = [
        ("Reshape", "a", ["x", "flat"], "rows"),
        ("MatMul", "b", ["rows", "kernel"], "product"),
        ("Reshape", "c", ["product", "full"], "dense"),
    ]
    constants = {
        "flat": np.array([-1, columns]),
        "full": np.array([1, FRAMES, UNITS]),
        "kernel": KERNEL if columns == WIDTH else np.resize(KERNEL, (columns, UNITS)),
    }
    return graph_of(nodes, constants, "dense")


def run(model: Any) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    return runtime.InferenceSession(model.SerializeToString()).run(None, {"x": X})[0]


def test_a_layer_norm_is_one_op_and_computes_the_layer_norm() -> None:
    model = norm_graph()
    assert fuse_layer_norms(model, {"norm": EPSILON}) == 1
    assert [node.op_type for node in model.graph.node] == ["LayerNormalization", "Relu"]
    assert {one.name for one in model.graph.initializer} == {"gamma", "beta"}
    centred = X.astype(np.float64) - X.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + EPSILON) * GAMMA + BETA
    np.testing.assert_allclose(run(model), np.maximum(normed, 0), atol=1e-5)


def test_a_layer_of_another_name_or_shape_is_left_alone() -> None:
    for model, name in ((norm_graph(), "other"), (norm_graph(), "nor"), (norm_graph(scale=False), "norm")):
        before = len(model.graph.node)
        assert fuse_layer_norms(model, {name: EPSILON}) == 0
        assert len(model.graph.node) == before


def test_a_dense_layer_loses_its_reshapes_and_keeps_its_product() -> None:
    model = dense_graph()
    assert join_dense(model) == 1
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    np.testing.assert_allclose(run(model), X @ KERNEL, rtol=1e-5, atol=1e-5)


def test_a_reshape_that_joins_axes_stays() -> None:
    from onnx import TensorProto, helper

    model = dense_graph()
    wide = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, FRAMES, 2, WIDTH // 2))
    del model.graph.input[:]
    model.graph.input.append(wide)
    assert join_dense(model) == 0
    assert [node.op_type for node in model.graph.node] == ["Reshape", "MatMul", "Reshape"]
