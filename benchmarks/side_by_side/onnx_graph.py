"""A Keras model as the ONNX graph that its runtime is best at: what tf2onnx takes apart is put together again.

Keras on TensorFlow writes a layer norm as nine small ops and a dense layer on frames as a product between two
reshapes; an export from PyTorch has LayerNormalization and MatMul there, and ONNX Runtime fuses on from those. A peer
that was measured without them would be beaten by its exporter.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tflite_asr.quantize.convert import static_shapes

if TYPE_CHECKING:
    import keras

OPSET = 17  # the first with LayerNormalization; tf2onnx 1.17 goes up to 18


def export_onnx(model: keras.Model, frames: int, subsampling: int, path: Path) -> dict[str, int]:
    """Write `model` at one static length, batch 1, as an ONNX file.

    Returns:
        How many layer norms and dense layers were put together.
    """
    import keras
    import onnx

    shapes = static_shapes(model, frames, subsampling)
    signature = [keras.InputSpec(shape=shape, dtype="float32", name=name) for name, shape in shapes.items()]
    model.export(str(path), format="onnx", input_signature=[signature], opset_version=OPSET, verbose=False)
    graph = onnx.load(path)
    norms = {
        layer.name: layer.epsilon
        for layer in model.layers
        if isinstance(layer, keras.layers.LayerNormalization)
    }
    counts = {"layer_norms": fuse_layer_norms(graph, norms), "dense": join_dense(graph)}
    onnx.checker.check_model(graph)
    onnx.save(graph, path)
    return counts


def fuse_layer_norms(model: Any, epsilons: dict[str, float]) -> int:
    """Replace the ops of each layer norm over the last axis by one LayerNormalization.

    Args:
        model: an onnx.ModelProto, changed in place; nodes bear Keras' layer names as scopes.
        epsilons: layer name to epsilon.

    Returns:
        How many. A layer whose ops have another shape than `x * inv + (beta - mean * inv)` is left as it is.
    """
    from onnx import helper

    graph = model.graph
    constants = {one.name: tuple(one.dims) for one in graph.initializer}
    found = 0
    for name, epsilon in epsilons.items():
        scope = re.compile(rf"(^|/){re.escape(name)}(_\d+)?/")
        group = [node for node in graph.node if scope.search(node.name)]
        inside = {output for node in group for output in node.output}
        read = {given for node in group for given in node.input} - inside - set(constants)
        elsewhere = {given for node in graph.node if not scope.search(node.name) for given in node.input}
        written = inside & (elsewhere | {output.name for output in graph.output})
        vectors = {
            node.op_type: given
            for node in group
            for given in node.input
            if max(constants.get(given, ()), default=0) > 1
        }
        if len(read) != 1 or len(written) != 1 or set(vectors) != {"Mul", "Add"}:
            continue
        inputs = [*read, vectors["Mul"], vectors["Add"]]
        fused = helper.make_node(
            "LayerNormalization", inputs, [*written], name=f"{name}/fused", axis=-1, epsilon=epsilon
        )
        graph.node.insert(list(graph.node).index(group[-1]), fused)
        for node in group:
            graph.node.remove(node)
        found += 1
    _prune(graph)
    return found


def join_dense(model: Any) -> int:
    """Take away the reshapes around a product with constant weights: [1, n, a] -> [n, a] -> [n, b] -> [1, n, b].

    model: an onnx.ModelProto, changed in place. Returns how many.
    """
    import onnx

    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        one.name: [axis.dim_value for axis in one.type.tensor_type.shape.dim]
        for one in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    weights = {one.name: tuple(one.dims) for one in graph.initializer}
    writer = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for given in node.input:
            readers.setdefault(given, []).append(node)
    found = 0
    products = [node for node in graph.node if node.op_type == "MatMul"]
    for node in (node for node in products if len(weights.get(node.input[1], ())) == 2):
        before, after = writer.get(node.input[0]), readers.get(node.output[0], [])
        if before is None or before.op_type != "Reshape" or len(after) != 1 or after[0].op_type != "Reshape":
            continue
        came, left = shapes.get(before.input[0]), shapes.get(after[0].output[0])
        rows, columns = weights[node.input[1]]
        if not came or not left or came[-1] != rows or left != [*came[:-1], columns]:
            continue
        node.input[0], node.output[0] = before.input[0], after[0].output[0]
        graph.node.remove(after[0])
        found += 1
    _prune(graph)
    return found


def _prune(graph: Any) -> None:
    """Take away nodes and constants that nothing reads."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    constants = [one for one in graph.initializer if one.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
