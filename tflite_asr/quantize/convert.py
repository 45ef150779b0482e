"""A Keras model to a float flatbuffer with one static shape: batch 1, a fixed number of frames, a named
signature.

Weights go in as constants, so that the converter folds batch norm into the convolution before it, and half
steps and scales into the weights beside them. Everything here wants TensorFlow and may abort the process:
`run_in_child` runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.naming import name_tensors
from tflite_asr.quantize.serialize import read_model, schema, text, write_model

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


def static_shapes(
    model: keras.Model,
    frames: int | None,
    subsampling: int = 1,
    lengths: Mapping[str, int] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Input name to static shape: batch 1; an open second axis becomes what `lengths` says of the input, else
    `frames`, or for `mask` the subsampled number of them.

    Raises TfliteAsrError where another axis is open, or where an axis is open and `frames` is None.
    """
    shapes = {}
    for tensor in model.inputs:
        shape = [1, *tensor.shape[1:]]
        if len(shape) > 1 and shape[1] is None:
            if frames is None:
                raise TfliteAsrError(
                    f"input {tensor.name!r} has an open time axis: give a window length in frames"
                )
            shape[1] = -(-frames // subsampling) if tensor.name == "mask" else frames
            shape[1] = (lengths or {}).get(tensor.name, shape[1])
        if None in shape:
            raise TfliteAsrError(
                f"input {tensor.name!r} of shape {tuple(tensor.shape)}: "
                "only the batch and the second axis may be open; fix the others in keras.Input"
            )
        shapes[tensor.name] = tuple(int(size) for size in shape)
    return shapes


def signature_name(model: keras.Model, frames: int | None) -> str:
    """`ctc_<frames>` for a model of features and mask, else `main_<frames>`; without the number where the
    length is fixed."""
    kind = "ctc" if sorted(tensor.name for tensor in model.inputs) == sorted(CTC_INPUTS) else "main"
    return kind if frames is None else f"{kind}_{frames}"


def convert(
    model: keras.Model,
    frames: int | None,
    subsampling: int = 1,
    kind: str | None = None,
    lengths: Mapping[str, int] | None = None,
) -> FloatWindow:
    """The float flatbuffer of `model` at `frames` frames (None: as its fixed inputs say).

    kind: the signature is `<kind>_<frames>`; None for `signature_name`'s. lengths: as `static_shapes` takes them.
    The same model gives the same bytes in every process. Raises TfliteAsrError where the model holds an op
    without a TFLite builtin, naming it.
    """
    import tensorflow as tf

    shapes = static_shapes(model, frames, subsampling, lengths)
    function = _frozen(model, shapes)
    # The graph-level converter: the function-level one freezes variables first, of which there are none
    # left here. Same ops out, 1.5 s of CPU against 3.5-4.2 for a lowered 6-block Conformer.
    graph = function.graph
    converter = tf.compat.v1.lite.TFLiteConverter(
        graph.as_graph_def(), list(function.inputs), list(function.outputs)
    )
    try:
        data = converter.convert()
    except Exception as error:
        raise TfliteAsrError(f"model {model.name!r} cannot be converted: {_why(error)}") from error
    packed = read_model(data)
    subgraph = packed.subgraphs[0]
    named = {text(subgraph.tensors[index].name): int(index) for index in subgraph.inputs}
    inputs = {name: named[_scope(name)] for name in shapes}
    outputs = dict(zip(output_names(model), map(int, subgraph.outputs), strict=True))
    makers = [tensor._keras_history.operation.name for tensor in model.outputs]
    tensors = name_tensors(
        packed,
        {index: name for name, index in inputs.items()},
        dict(zip(outputs.values(), makers, strict=True)),
        _operations(model),
    )
    signature = f"{kind}_{frames}" if kind else signature_name(model, frames)
    packed.signatureDefs = [schema.SignatureDefT(_items(inputs), _items(outputs), signature, 0)]
    packed.metadata = packed.metadataBuffer = None
    packed.description = "tflite_asr"
    return FloatWindow(signature, frames, write_model(packed), tensors)


def output_names(model: keras.Model) -> list[str]:
    """A name for each output: the keys where the model returns a dict, `logits` for our own, the layers'
    names otherwise."""
    if isinstance(model.output, dict):
        import keras

        paths = keras.tree.map_structure_up_to(model.output, lambda tensor: tensor.name, model.output)
        by_name = {tensor_name: key for key, tensor_name in paths.items()}
        return [by_name[tensor.name] for tensor in model.outputs]
    if len(model.outputs) == 1:
        return [CTC_OUTPUT if signature_name(model, None) == "ctc" else "output"]
    names = [str(name) for name in model.output_names]
    return names if len(set(names)) == len(names) else [f"output_{index}" for index in range(len(names))]


def _items(places: Mapping[str, int]) -> list[Any]:
    return [schema.TensorMapT(name, index) for name, index in places.items()]


def _operations(model: Any) -> list[str]:
    """The names of a model's layers and operations, those of nested models in their stead."""
    names: list[str] = []
    for one in getattr(model, "operations", model.layers):
        names += _operations(one) if getattr(one, "layers", None) else [one.name]
    return names


def _frozen(model: keras.Model, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """`model` as a concrete function of static shapes whose weights are constants."""
    import keras
    import tensorflow as tf

    values = [(variable, variable.numpy()) for variable in model.variables]
    specs = [
        tf.TensorSpec(shape, keras.backend.standardize_dtype(tensor.dtype), name=_scope(name))
        for tensor, (name, shape) in zip(model.inputs, shapes.items(), strict=True)
    ]

    @tf.function(input_signature=specs, autograph=False)
    def forward(*tensors: Any) -> list[Any]:
        weights = [(variable, tf.constant(array)) for variable, array in values]
        with keras.StatelessScope(state_mapping=weights):
            result = model(keras.tree.pack_sequence_as(model.input, list(tensors)), training=False)
        return [tf.identity(tensor) for tensor in keras.tree.flatten(result)]

    return forward.get_concrete_function()


def _scope(name: str) -> str:
    """`name` as TensorFlow's graphs allow it."""
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in name)


def _why(error: BaseException) -> str:
    """What of a converter's pages of output names the trouble: the ops without a builtin, or its first
    line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for start in ("TF Select ops:", "Flex ops:", "Custom ops:"):
        found: Sequence[str] = [line for line in lines if line.startswith(start)]
        if found:
            return f"no TFLite builtin for {found[0].removeprefix(start).strip()}; lower or replace the layer"
    return lines[0][:300] if lines else type(error).__name__
