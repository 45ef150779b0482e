"""A Keras model to a float flatbuffer with one static shape: batch 1, a fixed number of frames, a named signature.

Weights go in as constants, so that the converter folds batch norm into the convolution before it, and half steps and scales
into the weights beside them. Everything here wants TensorFlow and may abort the process: `run_in_child` runs it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.naming import name_tensors
from tflite_asr.quantize.serialize import read_model, schema, write_model

if TYPE_CHECKING:
    import keras

CTC_INPUTS = ("features", "mask")
CTC_OUTPUT = "logits"


@dataclass(frozen=True)
class FloatWindow:
    """A model at one length.

    signature: its name in the file. frames: the length, None where the model's time axis is fixed.
    data: the flatbuffer; every tensor in it bears the stable name that `tflite_asr.quantize.naming` gives.
    tensors: module path (layer name) to the names of the tensors that its operators write.
    """

    signature: str
    frames: int | None
    data: bytes
    tensors: Mapping[str, tuple[str, ...]]


def has_open_time_axis(model: keras.Model) -> bool:
    """Whether the model takes sequences of any length."""
    return any(None in tensor.shape[1:] for tensor in model.inputs)


def static_shapes(model: keras.Model, frames: int | None, subsampling: int = 1) -> dict[str, tuple[int, ...]]:
    """Input name to static shape: batch 1; an open second axis becomes `frames`, or for `mask` the subsampled number of them.

    Raises TfliteAsrError where another axis is open, or where an axis is open and `frames` is None.
    """
    shapes = {}
    for tensor in model.inputs:
        shape = [1, *tensor.shape[1:]]
        if len(shape) > 1 and shape[1] is None:
            if frames is None:
                raise TfliteAsrError(f"input {tensor.name!r} has an open time axis: give a window length in frames")
            shape[1] = -(-frames // subsampling) if tensor.name == "mask" else frames
        if None in shape:
            raise TfliteAsrError(
                f"input {tensor.name!r} of shape {tuple(tensor.shape)}: only the batch and the second axis may be open; "
                "fix the others in keras.Input"
            )
        shapes[tensor.name] = tuple(int(size) for size in shape)
    return shapes


def signature_name(model: keras.Model, frames: int | None) -> str:
    """`ctc_<frames>` for a model of features and mask, else `main_<frames>`; without the number where the length is fixed."""
    kind = "ctc" if sorted(tensor.name for tensor in model.inputs) == sorted(CTC_INPUTS) else "main"
    return kind if frames is None else f"{kind}_{frames}"


def convert(model: keras.Model, frames: int | None, subsampling: int = 1) -> FloatWindow:
    """The float flatbuffer of `model` at `frames` frames (None: as its fixed inputs say).

    The same model gives the same bytes in every process. Raises TfliteAsrError where the model holds an op without a
    TFLite builtin, naming it.
    """
    import tensorflow as tf

    shapes = static_shapes(model, frames, subsampling)
    function = _frozen(model, shapes)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.experimental_lower_to_saved_model = False
    try:
        data = converter.convert()
    except Exception as error:
        raise TfliteAsrError(f"model {model.name!r} cannot be converted: {_why(error)}") from error
    outputs = output_names(model)
    packed = read_model(data)
    graph = packed.subgraphs[0]
    tensors = name_tensors(packed, dict(zip(graph.inputs, shapes, strict=True)), _layer_names(model))
    signature = signature_name(model, frames)
    packed.signatureDefs = [
        schema.SignatureDefT(
            inputs=[schema.TensorMapT(name, int(index)) for name, index in zip(shapes, graph.inputs, strict=True)],
            outputs=[schema.TensorMapT(name, int(index)) for name, index in zip(outputs, graph.outputs, strict=True)],
            signatureKey=signature,
            subgraphIndex=0,
        )
    ]
    packed.metadata, packed.metadataBuffer, packed.description, graph.name = None, None, "tflite_asr", "main"
    return FloatWindow(signature, frames, write_model(packed), tensors)


def output_names(model: keras.Model) -> list[str]:
    """A name for each output: the keys where the model returns a dict, `logits` for our own, the layers' names otherwise."""
    if isinstance(model.output, dict):
        import keras

        paths = keras.tree.map_structure_up_to(model.output, lambda tensor: tensor.name, model.output)
        by_name = {tensor_name: key for key, tensor_name in paths.items()}
        return [by_name[tensor.name] for tensor in model.outputs]
    if len(model.outputs) == 1:
        return [CTC_OUTPUT if signature_name(model, None) == "ctc" else "output"]
    names = [str(name) for name in model.output_names]
    return names if len(set(names)) == len(names) else [f"output_{index}" for index in range(len(names))]


def _layer_names(model: keras.Model) -> list[str]:
    """The names of a model's layers, those of nested models in their stead."""
    names = []
    for layer in model.layers:
        names += _layer_names(layer) if getattr(layer, "layers", None) else [layer.name]
    return names


def _frozen(model: keras.Model, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """`model` as a concrete function of static shapes whose weights are constants."""
    import keras
    import tensorflow as tf

    weights = [(variable, tf.constant(np.asarray(variable))) for variable in model.variables]
    specs = [
        tf.TensorSpec(shape, keras.backend.standardize_dtype(tensor.dtype), name=_scope(name))
        for tensor, (name, shape) in zip(model.inputs, shapes.items(), strict=True)
    ]

    @tf.function(input_signature=specs, autograph=False)
    def forward(*tensors: Any) -> list[Any]:
        with keras.StatelessScope(state_mapping=weights), contextlib.ExitStack():
            result = model(keras.tree.pack_sequence_as(model.input, list(tensors)), training=False)
        return [tf.identity(tensor) for tensor in keras.tree.flatten(result)]

    return forward.get_concrete_function()


def _scope(name: str) -> str:
    """`name` as TensorFlow's graphs allow it."""
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in name)


def _why(error: BaseException) -> str:
    """What of a converter's pages of output names the trouble: the ops without a builtin, or its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for start in ("TF Select ops:", "Flex ops:", "Custom ops:"):
        found: Sequence[str] = [line for line in lines if line.startswith(start)]
        if found:
            return f"no TFLite builtin for {found[0].removeprefix(start).strip()}; lower or replace the layer"
    return lines[0][:300] if lines else type(error).__name__
