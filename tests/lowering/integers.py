"""What the tests of this room share: a model on its way to int8, run there, and compared with itself in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tflite_asr.lowering.policy import POLICY
from tflite_asr.quantize.calibrate import calibrate
from tflite_asr.quantize.convert import convert
from tflite_asr.quantize.finish import finish
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.quantizer import quantize
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model, schema

Feed = Mapping[str, np.ndarray]
_RESOLVERS = {
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}
_INTEGERS = {"INT8", "INT16", "INT32", "INT64", "BOOL"}
_TYPE_NAMES = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}


@dataclass(frozen=True)
class Integers:
    """A model's float flatbuffer and its int8 one, calibrated on the very feeds that it is judged by."""

    signature: str
    float_data: bytes
    data: bytes

    def ops(self) -> Counter[str]:
        model = read_model(self.data)
        return Counter(op_name(model, operator) for operator in model.subgraphs[0].operators)

    def float_ops(self) -> Counter[str]:
        model = read_model(self.float_data)
        return Counter(op_name(model, operator) for operator in model.subgraphs[0].operators)

    def offending(self) -> list[str]:
        """The ops that read or write something else than integers and bools."""
        model = read_model(self.data)
        graph = model.subgraphs[0]
        return [
            op_name(model, operator)
            for operator in graph.operators
            for index in [*operator.inputs, *operator.outputs]
            if index >= 0 and _TYPE_NAMES[graph.tensors[index].type] not in _INTEGERS
        ]

    def outside_policy(self) -> set[str]:
        return set(self.ops()) - set(POLICY)

    def run(self, feed: Feed, kernels: str = "xnnpack", data: bytes | None = None) -> np.ndarray:
        """The first output as float32; integers are quantised on the way in and dequantised on the way out."""
        content = self.data if data is None else data
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=_RESOLVERS[kernels])
        runner = interpreter.get_signature_runner(self.signature)
        given = {}
        for name, details in runner.get_input_details().items():
            scale, zero_point = details["quantization"]
            values = feed[name]
            if details["dtype"] == np.int8:
                values = np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8)
            given[name] = values
        outputs = runner(**given)
        name, details = next(iter(runner.get_output_details().items()))
        scale, zero_point = details["quantization"]
        values = outputs[name]
        return (values.astype(np.float32) - zero_point) * scale if values.dtype == np.int8 else values

    def snr(
        self, feeds: Sequence[Feed], kernels: str = "xnnpack", valid: Sequence[int] | None = None
    ) -> float:
        """dB of the float output over what int8 adds to it; valid: frames that count in each."""
        signal = noise = 0.0
        for number, feed in enumerate(feeds):
            expected, got = self.run(feed, data=self.float_data), self.run(feed, kernels)
            frames = slice(None) if valid is None else slice(valid[number])
            signal += float(np.square(expected[:, frames]).sum())
            noise += float(np.square(expected[:, frames] - got[:, frames]).sum())
        return float(10 * np.log10(signal / max(noise, 1e-30)))


def to_integers(
    model: keras.Model, feeds: Sequence[Feed], frames: int | None = None, subsampling: int = 1
) -> Integers:
    """Convert, calibrate on `feeds`, quantise and finish."""
    window = convert(model, frames, subsampling)
    ranges = calibrate({window.signature: window.data}, {window.signature: [[feed] for feed in feeds]})
    data = finish(quantize(window.data, ranges, (), scheme("int8")), ranges)
    return Integers(window.signature, window.data, data)


def largest_difference(one: keras.Model, other: keras.Model, feeds: Sequence[Feed]) -> float:
    """Over all feeds, one by one (batch 1) and all in one batch."""
    together = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
    worst = 0.0
    for feed in [*feeds, together]:
        given = [feed[tensor.name] for tensor in one.inputs]
        results = [keras.tree.flatten(model(given if len(given) > 1 else given[0])) for model in (one, other)]
        for a, b in zip(*results, strict=True):
            worst = max(worst, float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()))
    return worst


def randomised(model: keras.Model, seed: int = 0) -> keras.Model:
    """Biases, norms and statistics moved off zero and one, so that forgetting one shows."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        values = np.asarray(variable)
        if not np.issubdtype(values.dtype, np.floating):
            continue
        name = variable.path.split("/")[-1]
        if "variance" in name:
            values = random.uniform(0.5, 2.0, values.shape)
        elif name == "gamma":
            values = 1 + 0.2 * random.normal(size=values.shape)
        elif values.ndim <= 1 or "bias" in name:
            values = 0.3 * random.normal(size=values.shape)
        variable.assign(values.astype(np.float32))
    return model


def noise(
    shape: Sequence[int], count: int = 3, seed: int = 0, name: str = "x"
) -> list[dict[str, np.ndarray]]:
    """Feeds of white noise, float32."""
    random = np.random.default_rng(seed)
    return [{name: random.normal(size=(1, *shape)).astype(np.float32)} for _ in range(count)]
