"""The peers, and how each one's file is made from the same weights. Every `make_*` runs in a child process.

What a tool recommends for a model like this is what it gets: weights by channel wherever it can, its own calibration,
its own graph optimiser.

The model goes in as its author wrote it, and that can decide: an attention mask of -1e9 added to the scores gives them
a step of 3.9e6 in TensorFlow's int8 and 1.8e6 in AI Edge Quantizer's, so that every frame attends to all alike. With
-40 in its place (40 utterances of an4 dev, 4 s) they reach 27.6 and 22.7 dB, and float's word error rate. So that this
package's int8 is compared with one that no mask has spoiled, AI Edge Quantizer has a second row, with -40.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.calibrate import lay_into_windows
from tflite_asr.synthesis.inputs import SyntheticInputs

FLOAT = "litert_float32"
HARD_MASK, GENTLE_MASK = -1e9, -40.0  # added to the score of a frame that is not to be seen
LARGEST_DIFFERENCE = 1e-4  # of the ONNX graph's logits from Keras', absolute
Feed = dict[str, np.ndarray]
Made = tuple[bytes, dict[str, Any]]


@dataclass(frozen=True)
class Ingredients:
    """What a peer is made of.

    Attributes:
        keras_path: the checkpoint.
        clips: `SyntheticInputs` on disk.
        frames: the static window, feature frames.
        subsampling: feature frames that become one of the mask.
        taken: files of the peers that this one is made from, by their names.
    """

    keras_path: Path
    clips: Path
    frames: int
    subsampling: int
    taken: dict[str, Path] = field(default_factory=dict)

    def features(self) -> list[np.ndarray]:
        """The clips: float32 [frames, mels] each."""
        return SyntheticInputs.load(self.clips).features

    def feeds(self) -> list[Feed]:
        """The clips laid into the window as this package's own calibration lays them: one feed an inference."""
        return window_feeds(self.features(), self.taken[FLOAT].read_bytes(), self.frames, self.subsampling)


@dataclass(frozen=True)
class Peer:
    """One way from a checkpoint to a file that runs.

    Attributes:
        name: of files and in JSON. title: in tables.
        make: Ingredients to the file's bytes and what is to be noted.
        suffix: ".tflite" or ".onnx".
        packages: whose versions decide what comes out.
        takes: peers whose files it is made from.
        calibrated: whether it looks at the clips.
        own: whether this package's sources decide what comes out.
    """

    name: str
    title: str
    make: Callable[[Ingredients], Made]
    suffix: str
    packages: tuple[str, ...]
    takes: tuple[str, ...] = ()
    calibrated: bool = False
    own: bool = False


def window_feeds(features: list[np.ndarray], flatbuffer: bytes, frames: int, subsampling: int) -> list[Feed]:
    """float32 [frames, mels] each as the inputs of a model of one window: input name to [1, ...]."""
    from tflite_asr.flatbuffer import read_flatbuffer

    (signature,) = read_flatbuffer(flatbuffer).signatures
    laid = lay_into_windows(features, {signature.name: flatbuffer}, subsampling)
    return [step for sequence in laid[signature.name] for step in sequence]


def make_float32(given: Ingredients) -> Made:
    """The model as its author wrote it."""
    return _own(given, "float32", None)


def make_dynamic(given: Ingredients) -> Made:
    """The model as its author wrote it, weights in int8."""
    return _own(given, "dynamic_wi8_afp32", None)


def make_int8(given: Ingredients) -> Made:
    """This package: lowered, all of it in int8."""
    return _own(given, "static_wi8_ai8", given.features())


def _own(given: Ingredients, scheme: str, features: list[np.ndarray] | None) -> Made:
    from tflite_asr.quantize.build import build_flatbuffers

    (built,) = build_flatbuffers(
        given.keras_path, [given.frames], [scheme], features, subsampling=given.subsampling
    )
    return built.data, {"lowered": built.lowered}


def make_tensorflow_int8(given: Ingredients) -> Made:
    """TensorFlow's converter as its guide says for full integer quantisation, int8 in and out."""
    import keras
    import tensorflow as tf

    from tflite_asr.models import load_model
    from tflite_asr.quantize.convert import static_shapes

    model = load_model(given.keras_path)
    shapes = static_shapes(model, given.frames, given.subsampling)
    inputs = [keras.Input(batch_shape=shape, name=name) for name, shape in shapes.items()]
    static = keras.Model(inputs, model(inputs if len(inputs) > 1 else inputs[0], training=False))
    converter = tf.lite.TFLiteConverter.from_keras_model(static)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    feeds = given.feeds()

    def clips() -> Iterator[Feed]:
        yield from feeds

    converter.representative_dataset = clips
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert(), {"calibration_inferences": len(feeds)}


def make_ai_edge_int8(given: Ingredients) -> Made:
    """AI Edge Quantizer's own recipe and calibration on the plain float flatbuffer, its tensors' names still there."""
    signature, data = _plain_float(given)
    return _ai_edge(given, signature, data)


def make_ai_edge_gentle_mask(given: Ingredients) -> Made:
    """The same with a mask of -40: in float it hides as well (exp(-40) is 4e-18), in int8 it leaves steps to scores."""
    signature, data = _plain_float(given)
    gentle, replaced = soften_mask(data)
    if not replaced:
        raise TfliteAsrError(f"no constant is {HARD_MASK:g}: there is no mask to soften; see ai_edge_int8")
    made, notes = _ai_edge(given, signature, gentle)
    return made, {**notes, "constants_replaced": replaced}


def _plain_float(given: Ingredients) -> tuple[str, bytes]:
    """Signature and flatbuffer of the model as its author wrote it."""
    from tflite_asr.models import load_model
    from tflite_asr.quantize.convert import convert

    window = convert(load_model(given.keras_path), given.frames, given.subsampling)
    return window.signature, window.data


def _ai_edge(given: Ingredients, signature: str, data: bytes) -> Made:
    from ai_edge_quantizer import quantizer, recipe

    tool = quantizer.Quantizer(data, recipe.static_wi8_ai8())
    feeds = given.feeds()
    result = tool.quantize(tool.calibrate({signature: feeds}))
    return bytes(result.quantized_model), {"calibration_inferences": len(feeds)}


def soften_mask(data: bytes) -> tuple[bytes, int]:
    """A float flatbuffer whose constants of -1e9 are -40, and how many tensors had some."""
    from tflite_asr.quantize.serialize import read_model, schema, write_model

    model = read_model(data)
    softened: dict[int, bool] = {}
    replaced = 0
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        buffer = model.buffers[tensor.buffer]
        if tensor.type != schema.TensorType.FLOAT32 or buffer.data is None:
            continue
        if tensor.buffer not in softened:  # tensors may share one
            values = np.frombuffer(buffer.data.tobytes(), np.float32)
            hidden = np.isclose(values, HARD_MASK, rtol=1e-6)
            buffer.data = np.where(hidden, np.float32(GENTLE_MASK), values).view(np.uint8)
            softened[tensor.buffer] = bool(hidden.any())
        replaced += softened[tensor.buffer]
    return write_model(model), replaced


def make_onnx_float32(given: Ingredients) -> Made:
    """Keras' ONNX export through tf2onnx, layer norms and dense layers put together, proven equal to Keras."""
    import keras
    import onnxruntime

    from benchmarks.side_by_side.onnx_graph import export_onnx
    from tflite_asr.models import load_model

    model = load_model(given.keras_path)
    with tempfile.TemporaryDirectory(prefix="tflite_asr-") as folder:
        path = Path(folder) / "model.onnx"
        notes: dict[str, Any] = dict(export_onnx(model, given.frames, given.subsampling, path))
        session = onnxruntime.InferenceSession(path)
        names = [tensor.name for tensor in model.inputs]
        worst = 0.0
        for feed in given.feeds()[:3]:
            (got,) = session.run(None, feed)
            (wanted,) = keras.tree.flatten(model([feed[name] for name in names], training=False))
            worst = max(worst, float(np.abs(got - keras.ops.convert_to_numpy(wanted)).max()))
        if not worst < LARGEST_DIFFERENCE:
            raise TfliteAsrError(
                f"ONNX graph differs from Keras by {worst:.3g}, more than {LARGEST_DIFFERENCE:g}"
            )
        return path.read_bytes(), {**notes, "largest_difference": worst}


def make_onnx_dynamic(given: Ingredients) -> Made:
    """ONNX Runtime's dynamic int8, of the products: its guide's choice for transformers.

    With convolutions too (its default) the shipped model took three times as long: ConvInteger has no fast kernel.
    """
    from onnxruntime.quantization import quantize_dynamic

    def quantise(source: Path, target: Path) -> None:
        quantize_dynamic(source, target, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)

    return _onnx_quantised(given, quantise), {}


def make_onnx_static(given: Ingredients) -> Made:
    """ONNX Runtime's static int8: QDQ, int8 activations and weights (its default and first advice), weights by channel.

    Layer norms stay in float: quantised by channel they stop its quantiser with a ValueError, and by tensor they cost
    speed and 3 dB on the shipped model.
    """
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.registry import QDQRegistry

    class Reader(CalibrationDataReader):
        def __init__(self, feeds: list[Feed]) -> None:
            self._left = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._left, None)

    feeds = given.feeds()
    kinds = [kind for kind in QDQRegistry if kind != "LayerNormalization"]

    def quantise(source: Path, target: Path) -> None:
        quantize_static(source, target, Reader(feeds), op_types_to_quantize=kinds, per_channel=True)

    return _onnx_quantised(given, quantise), {"calibration_inferences": len(feeds)}


def _onnx_quantised(given: Ingredients, quantise: Callable[[Path, Path], None]) -> bytes:
    """The float graph through ONNX Runtime's preparation (shapes, batch norm and bias folded), then `quantise`."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="tflite_asr-") as folder:
        prepared, target = Path(folder) / "prepared.onnx", Path(folder) / "quantised.onnx"
        # Symbolic shapes are for open axes, and want sympy: every axis here is fixed.
        quant_pre_process(given.taken["onnx_float32"], prepared, skip_symbolic_shape=True)
        quantise(prepared, target)
        return target.read_bytes()


_OURS = ("tensorflow", "keras", "ai-edge-litert", "ai-edge-quantizer")
_ONNX = ("onnx", "onnxruntime")
PEERS = (
    Peer(FLOAT, "LiteRT float32", make_float32, ".tflite", _OURS, own=True),
    Peer("litert_dynamic", "LiteRT dynamic-range int8", make_dynamic, ".tflite", _OURS, own=True),
    Peer(
        "tensorflow_int8",
        "TensorFlow int8",
        make_tensorflow_int8,
        ".tflite",
        ("tensorflow", "keras"),
        takes=(FLOAT,),
        calibrated=True,
    ),
    Peer(
        "ai_edge_int8",
        "AI Edge Quantizer int8",
        make_ai_edge_int8,
        ".tflite",
        _OURS,
        takes=(FLOAT,),
        calibrated=True,
        own=True,
    ),
    Peer(
        "aeq_int8_gentle_mask",
        f"AI Edge Quantizer int8, mask {GENTLE_MASK:g}",
        make_ai_edge_gentle_mask,
        ".tflite",
        _OURS,
        takes=(FLOAT,),
        calibrated=True,
        own=True,
    ),
    Peer("tflite_asr_int8", "tflite_asr int8", make_int8, ".tflite", _OURS, calibrated=True, own=True),
    Peer(
        "onnx_float32",
        "ONNX Runtime float32",
        make_onnx_float32,
        ".onnx",
        ("keras", "tensorflow", "tf2onnx", *_ONNX),
        takes=(FLOAT,),
        calibrated=True,
    ),
    Peer(
        "onnx_dynamic",
        "ONNX Runtime dynamic int8",
        make_onnx_dynamic,
        ".onnx",
        _ONNX,
        takes=("onnx_float32",),
    ),
    Peer(
        "onnx_static",
        "ONNX Runtime static int8",
        make_onnx_static,
        ".onnx",
        _ONNX,
        takes=(FLOAT, "onnx_float32"),
        calibrated=True,
    ),
)
