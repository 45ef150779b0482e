"""One op of an integer model cut out into a flatbuffer of its own, and run on integers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from tflite_asr.quantize.finish import set_versions
from tflite_asr.quantize.serialize import schema, text, write_model

RESOLVERS = {"xnnpack": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES"}


def differences(twin: Any, values: dict[str, np.ndarray], op: Any, kernels: str) -> np.ndarray:
    """How many quanta each value that the runtime gives lies from what the network computed.

    twin: a `ModelT` whose tensors are named. values: the network's, by name, of one example, on their grids. op: of the
    twin's only subgraph.
    """
    from ai_edge_litert import interpreter as litert

    graph = twin.subgraphs[0]
    interpreter = litert.Interpreter(
        model_content=cut_out(twin, op),
        num_threads=1,
        experimental_op_resolver_type=getattr(litert.OpResolverType, RESOLVERS[kernels]),
    )
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        tensor = next(t for t in graph.tensors if text(t.name) == detail["name"])
        interpreter.set_tensor(detail["index"], stored(tensor, values[source_name(detail["name"])]))
    interpreter.invoke()
    found = []
    for index in op.outputs:
        tensor = graph.tensors[index]
        name = text(tensor.name)
        place = next(d["index"] for d in interpreter.get_output_details() if d["name"] == name)
        wanted = stored(tensor, values[source_name(name)]).astype(np.int32)
        found.append(np.abs(interpreter.get_tensor(place).astype(np.int32) - wanted).reshape(-1))
    return np.concatenate(found)


def source_name(name: str) -> str:
    """The float tensor that an integer one stands for."""
    return name.removesuffix("_quantized").removesuffix("_requantized")


def stored(tensor: Any, values: np.ndarray) -> np.ndarray:
    """Real values as a tensor stores them."""
    values = np.reshape(values, tuple(tensor.shape))
    if tensor.type == schema.TensorType.BOOL:
        return values.astype(np.bool_)
    if tensor.type == schema.TensorType.INT32:
        return values.astype(np.int32)
    scale, zero_point = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
    return np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8)


def cut_out(twin: Any, op: Any) -> bytes:
    graph = twin.subgraphs[0]
    used = list(dict.fromkeys(int(i) for i in [*op.inputs, *op.outputs] if i >= 0))
    place = {old: new for new, old in enumerate(used)} | {-1: -1}
    buffers, tensors, inputs = [schema.BufferT()], [], []
    for old in used:
        tensor = copy.copy(graph.tensors[old])
        data = twin.buffers[tensor.buffer].data
        tensor.buffer = 0
        if data is not None:
            tensor.buffer = len(buffers)
            buffers.append(schema.BufferT(data=data))
        elif old not in set(map(int, op.outputs)):
            inputs.append(place[old])
        tensors.append(tensor)
    one = copy.copy(op)
    one.inputs, one.outputs = (
        np.array([place[int(i)] for i in some], np.int32) for some in (op.inputs, op.outputs)
    )
    one.opcodeIndex = 0
    subgraph = schema.SubGraphT(tensors, np.array(inputs, np.int32), one.outputs, [one], b"op")
    model = schema.ModelT(3, [twin.operatorCodes[op.opcodeIndex]], [subgraph], None, buffers, None, None, [])
    set_versions(model)
    return write_model(model)
