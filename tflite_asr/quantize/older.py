"""A finished flatbuffer rewritten for TFLite 2.14, the last release before LiteRT: in ops that it knows, and so that
its kernels round as LiteRT's builtin ones do.

- LOG has no int8 kernel before 2.15. An int8 LOG is a table of 256 bytes, and so is what stands for it: GATHER from
  that table by the stored byte + 128. On every kernel of LiteRT the file's logits stay the same, bit by bit (RSQRT
  would stand for LOG and EXP, at 78 ns a value, and round otherwise).
- DEPTHWISE_CONV_2D rounds ties of negative sums another way in LiteRT's x86 kernel than in 2.14's. A bias that makes
  every sum that counts positive, and a SUB that takes it back, leave no negative one to round.

The shipped Conformer so exported, on the 130 clips of an4 test (x86, `benchmarks/old_runtime.py`): LiteRT's builtin
kernels and tflite-runtime 2.14 give the same logits throughout. LiteRT's XNNPACK differs from both in 76 % of the
logits, by 26 dB, and in 8.5 % of the transcripts: op by op, on one utterance, it is at most 1 LSB from them, in .1 %
(FULLY_CONNECTED), .5 % (MUL) and 10 % (MEAN) of values, and what follows multiplies that. So an integer file made for
2.14 runs on builtin kernels everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tflite_asr.flatbuffer import read_flatbuffer
from tflite_asr.quantize.finish import set_versions, share_buffers
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.serialize import read_model, schema, write_model
from tflite_asr.releases import require_release

_INT8, _INT32 = schema.TensorType.INT8, schema.TensorType.INT32


def fit_runtime(data: bytes, runtime: str, where: str = "model.tflite") -> bytes:
    """The same computation in ops of TFLite `runtime`.

    data: finished. runtime: one of `releases.OLD_RUNTIMES`. where: begins the message. Raises TfliteAsrError, naming
    the op, its version and the mend, where an op is left that the runtime does not know.
    """
    model = read_model(data)
    for graph in model.subgraphs:
        logarithms_by_table(model, graph)
        depthwise_above_zero(model, graph)
    set_versions(model)
    share_buffers(model)
    fitted = write_model(model)
    require_runtime(fitted, runtime, where)
    return fitted


def require_runtime(data: bytes, runtime: str, where: str) -> None:
    """Raises TfliteAsrError where TFLite `runtime` lacks an op of the file at its version."""
    graphs = read_flatbuffer(data, where).subgraphs
    require_release(where, ((one.name, one.version) for graph in graphs for one in graph.operators), runtime)


def logarithms_by_table(model: Any, graph: Any) -> None:
    """Each int8 LOG, in place, as GATHER from the 256 bytes that its kernel looks up."""
    operators: list[Any] = []
    for operator in graph.operators:
        source, result = (graph.tensors[some[0]] for some in (operator.inputs, operator.outputs))
        if op_name(model, operator) != "LOG" or source.type != _INT8:
            operators.append(operator)
            continue
        table = _logarithms(source.quantization, result.quantization)
        place = _constant(model, graph, table, _INT8, (256,), result.quantization)
        half = _constant(model, graph, np.array([128], np.int32), _INT32, ())
        stored, index = (_tensor(graph, source.shape, _INT32) for _ in range(2))
        operators += [
            _operator(model, "CAST", "Cast", (operator.inputs[0],), stored, (_INT8, _INT32)),
            _operator(model, "ADD", "Add", (stored, half), index),
            _operator(model, "GATHER", "Gather", (place, index), operator.outputs[0]),
        ]
    graph.operators = operators


def depthwise_above_zero(model: Any, graph: Any) -> None:
    """Each int8 DEPTHWISE_CONV_2D with a bias and negative results, in place, moved up by its range and down again."""
    operators: list[Any] = []
    for operator in graph.operators:
        operators.append(operator)
        if op_name(model, operator) != "DEPTHWISE_CONV_2D" or len(operator.inputs) < 3:
            continue
        source, weights, bias = (graph.tensors[index] for index in operator.inputs)
        result = graph.tensors[operator.outputs[0]]
        options = operator.builtinOptions
        clamped = (
            options is not None and options.fusedActivationFunction != schema.ActivationFunctionType.NONE
        )
        if result.type != _INT8 or clamped or (steps := int(result.quantization.zeroPoint[0]) + 128) == 0:
            continue
        scale = float(result.quantization.scale[0])
        ratio = source.quantization.scale.astype(np.float64) * weights.quantization.scale / scale
        moved = model.buffers[bias.buffer].data.view(np.int32) + np.rint(steps / ratio).astype(np.int32)
        lifted = _quantised(scale, -128)
        place = _constant(model, graph, moved, _INT32, bias.shape, bias.quantization)
        above = _tensor(graph, result.shape, _INT8, lifted)
        back = _constant(
            model, graph, np.array([127], np.int8), _INT8, (), _quantised(scale * steps / 255, -128)
        )
        operators.append(_operator(model, "SUB", "Sub", (above, back), operator.outputs[0]))
        operator.inputs = np.array([operator.inputs[0], operator.inputs[1], place], np.int32)
        operator.outputs = np.array([above], np.int32)
    graph.operators = operators


def _logarithms(source: Any, result: Any) -> np.ndarray:
    """The logarithm of each stored byte from -128 on, as stored: int8 [256]. What is not above 0 gives the least."""
    real = np.float32(source.scale[0]) * (np.arange(-128, 128) - int(source.zeroPoint[0])).astype(np.float32)
    steps = np.full(256, -np.inf)
    above = real > 0
    steps[above] = np.log(real[above]) * (np.float32(1) / np.float32(result.scale[0]))
    rounded = np.copysign(np.floor(np.abs(steps) + 0.5), steps)  # halves away from zero
    return np.clip(rounded + int(result.zeroPoint[0]), -128, 127).astype(np.int8)


def _quantised(scale: float, zero_point: int) -> Any:
    return schema.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64)
    )


def _constant(
    model: Any, graph: Any, values: np.ndarray, kind: int, shape: Sequence[int], quantisation: Any = None
) -> int:
    """A new constant. Returns its tensor index."""
    model.buffers.append(schema.BufferT(data=values.view(np.uint8)))
    return _tensor(graph, shape, kind, quantisation, len(model.buffers) - 1)


def _tensor(graph: Any, shape: Sequence[int], kind: int, quantisation: Any = None, buffer: int = 0) -> int:
    graph.tensors.append(
        schema.TensorT(np.array(shape, np.int32), kind, buffer, None, quantization=quantisation)
    )
    return len(graph.tensors) - 1


def _operator(
    model: Any, op: str, options: str, inputs: Sequence[int], output: int, settings: Sequence[int] = ()
) -> Any:
    """A new operator; its code is made where the model has none. options: of the schema's classes, less `OptionsT`."""
    builtin = getattr(schema.BuiltinOperator, op)
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    if builtin not in codes:
        model.operatorCodes.append(schema.OperatorCodeT(builtin, None, 1, builtin))
        codes.append(builtin)
    return schema.OperatorT(
        codes.index(builtin),
        np.array(inputs, np.int32),
        np.array([output], np.int32),
        getattr(schema.BuiltinOptions, f"{options}Options"),
        getattr(schema, f"{options}OptionsT")(*settings),
    )
