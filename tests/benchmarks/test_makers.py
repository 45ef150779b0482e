"""A mask of -40 in the place of -1e9 changes nothing else in a float flatbuffer."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.side_by_side.makers import soften_mask
from tflite_asr.quantize.serialize import read_model, schema, write_model
from tflite_asr.runtime import open_interpreter

FRAMES = 6
SCALE = np.array([-1e9], np.float32)  # of the mask
OFFSET = np.array([0.5, -1.0, 2.0, -1e8, 0.0, -40.0], np.float32)  # added to the scores


def masked_softmax(scale: np.ndarray = SCALE, offset: np.ndarray = OFFSET) -> bytes:
    """softmax(scores + offset + hidden * scale), two constants, by hand."""
    model = schema.ModelT(version=3)
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT(tensors=[], operators=[], inputs=np.array([0, 1], np.int32))
    model.operatorCodes = []

    def tensor(name: str, constant: np.ndarray | None = None) -> int:
        place = 0
        if constant is not None:
            model.buffers.append(schema.BufferT(data=constant.view(np.uint8)))
            place = len(model.buffers) - 1
        shape = np.array([1, FRAMES] if constant is None else constant.shape, np.int32)
        graph.tensors.append(schema.TensorT(shape, schema.TensorType.FLOAT32, place, name.encode()))
        return len(graph.tensors) - 1

    def operator(kind: str, inputs: list[int], options: Any, options_type: int) -> int:
        code = getattr(schema.BuiltinOperator, kind)
        model.operatorCodes.append(
            schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=1)
        )
        out = tensor(kind.lower() + str(len(graph.operators)))
        made = schema.OperatorT(
            len(model.operatorCodes) - 1, np.array(inputs, np.int32), np.array([out], np.int32)
        )
        made.builtinOptions, made.builtinOptionsType = options, options_type
        graph.operators.append(made)
        return out

    kinds = schema.BuiltinOptions
    scores, hidden = tensor("scores"), tensor("hidden")
    product = operator("MUL", [hidden, tensor("scale", scale)], schema.MulOptionsT(), kinds.MulOptions)
    moved = operator("ADD", [scores, tensor("offset", offset)], schema.AddOptionsT(), kinds.AddOptions)
    masked = operator("ADD", [moved, product], schema.AddOptionsT(), kinds.AddOptions)
    weights = operator("SOFTMAX", [masked], schema.SoftmaxOptionsT(beta=1.0), kinds.SoftmaxOptions)
    graph.outputs = np.array([weights], np.int32)
    model.subgraphs = [graph]
    maps = [schema.TensorMapT("scores", scores), schema.TensorMapT("hidden", hidden)]
    model.signatureDefs = [schema.SignatureDefT(maps, [schema.TensorMapT("weights", weights)], "main", 0)]
    return write_model(model)


def constants(data: bytes) -> dict[str, list[float]]:
    model = read_model(data)
    return {
        tensor.name.decode(): model.buffers[tensor.buffer].data.view(np.float32).tolist()
        for tensor in model.subgraphs[0].tensors
        if model.buffers[tensor.buffer].data is not None
    }


def test_only_constants_of_minus_a_billion_become_minus_forty():
    softened, replaced = soften_mask(masked_softmax())
    assert replaced == 1
    assert constants(softened) == {"scale": [-40.0], "offset": OFFSET.tolist()}


def test_one_among_others_and_one_that_two_tensors_share_are_found():
    offset = np.where(np.arange(FRAMES) == 2, np.float32(-1e9), np.float32(1.5))
    softened, replaced = soften_mask(masked_softmax(offset=offset))
    assert replaced == 2
    assert constants(softened)["offset"] == [1.5, 1.5, -40.0, 1.5, 1.5, 1.5]
    assert soften_mask(softened) == (softened, 0)


def test_attention_is_the_same_in_float():
    scores = np.linspace(-3, 3, FRAMES, dtype=np.float32)[None]
    hidden = np.array([[0, 0, 1, 0, 1, 0]], np.float32)
    plain = masked_softmax(offset=np.zeros(FRAMES, np.float32))
    softened, _ = soften_mask(plain)
    before, after = (
        open_interpreter(data).run("main", {"scores": scores, "hidden": hidden})["weights"]
        for data in (plain, softened)
    )
    expected = np.exp(scores) * (1 - hidden)
    np.testing.assert_allclose(before, expected / expected.sum(), atol=1e-6)
    np.testing.assert_allclose(after, before, atol=1e-6)
