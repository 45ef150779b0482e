"""A tiny Conformer converted, calibrated and quantised once for all tests of this room."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tflite_asr.quantize.calibrate import calibrate, lay_into_windows
from tflite_asr.quantize.convert import FloatWindow, convert
from tflite_asr.quantize.finish import finish
from tflite_asr.quantize.quantizer import quantize
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.schemes import scheme

SUBSAMPLING = 4


@dataclass(frozen=True)
class Room:
    """A lowered tiny Conformer on its way through the room; `quantised` is AI Edge Quantizer's, `finished`
    ours."""

    floats: dict[str, FloatWindow]
    inputs: list[np.ndarray]
    ranges: Ranges
    quantised: dict[str, bytes]
    finished: dict[str, bytes]


def smooth_inputs(lengths: tuple[int, ...], mels: int = 80) -> list[np.ndarray]:
    """float32 [frames, mels] each, noise averaged over five frames."""
    rng = np.random.default_rng(7)
    return [
        np.stack([rng.standard_normal((n, mels)) for _ in range(3)]).mean(0).astype(np.float32) * 1.7
        for n in lengths
    ]


@pytest.fixture(scope="session")
def tiny_keras(tmp_path_factory) -> Path:
    """A saved tiny Conformer with biases and batch statistics that are not zero."""
    import keras

    from tflite_asr.models.conformer import TINY, build_conformer

    keras.utils.set_random_seed(0)
    model = build_conformer(replace(TINY, blocks=1))
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("bias", "beta", "moving_mean")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    path = tmp_path_factory.mktemp("models") / "tiny.keras"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def room(tiny_keras) -> Room:
    from tflite_asr.lowering import lower
    from tflite_asr.models import load_model

    model = lower(load_model(tiny_keras))
    floats = {
        window.signature: window for window in (convert(model, frames, SUBSAMPLING) for frames in (80, 120))
    }
    data = {signature: window.data for signature, window in floats.items()}
    inputs = smooth_inputs((50, 80, 75, 120, 101))
    ranges = calibrate(data, lay_into_windows(inputs, data, SUBSAMPLING))
    quantised = {name: quantize(one, ranges, (), scheme("int8")) for name, one in data.items()}
    return Room(
        floats, inputs, ranges, quantised, {name: finish(one, ranges) for name, one in quantised.items()}
    )


def run(
    data: bytes, signature: str, feed: dict[str, np.ndarray], kernels: str = "BUILTIN"
) -> dict[str, np.ndarray]:
    """One run on LiteRT. kernels: a member of OpResolverType."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = getattr(OpResolverType, kernels)
    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=resolver, num_threads=1)
    return dict(interpreter.get_signature_runner(signature)(**feed))


def random_feed(data: bytes, signature: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Values for every input of a signature: over the whole range for integers, normal for floats, `mask`
    all real."""
    from ai_edge_litert.interpreter import Interpreter

    rng = np.random.default_rng(seed)
    feed = {}
    for name, detail in (
        Interpreter(model_content=data).get_signature_runner(signature).get_input_details().items()
    ):
        shape, dtype = detail["shape"], detail["dtype"]
        whole = np.issubdtype(dtype, np.integer)
        values = rng.integers(-128, 128, shape) if whole else rng.standard_normal(shape)
        feed[name] = (np.full(shape, 127 if whole else 1) if name == "mask" else values).astype(dtype)
    return feed
