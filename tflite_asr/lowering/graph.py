"""The walk over a Functional model that puts each rule's replacement in the place of the operation it matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras

from tflite_asr.errors import TfliteAsrError
from tflite_asr.lowering import (
    attention_heads,
    layer_normalization,
    masked_softmax,
    multi_head_attention,
    relative_attention,
    relu,
    truth,
)
from tflite_asr.lowering.affine import AffineFold
from tflite_asr.lowering.centring import ResidualCentring
from tflite_asr.lowering.depthwise import DepthwiseSplit, SamePadding
from tflite_asr.lowering.equalisation import Equalisation, Feed, channel_scales
from tflite_asr.lowering.replacement import Replacement, Rule
from tflite_asr.lowering.subsampling import Patches
from tflite_asr.models.registry import FUNCTIONAL

# The first rule that answers is taken.
RULES: tuple[Rule, ...] = (
    layer_normalization.rule,
    multi_head_attention.rule,
    relative_attention.rule,
    attention_heads.rule,
    masked_softmax.rule,
    relu.rule,
    truth.rule,
)


def lower(model: Any, feeds: Iterable[Feed] = ()) -> keras.Model:
    """`model` with every operation that a rule matches rewritten; the largest difference of its outputs is below 1e-4.

    model: Functional (or built Sequential); nested models are laid flat, their layers named `<model>.<layer>`.
    It is left as it is, and the result shares no variable with it. Layers keep their names and so do their
    weights; inputs and outputs keep names, shapes, types and structure. Open batch and time axes stay open.

    feeds: inputs by which the channels of residual streams are equalised (equalisation.py), one array an input of the
    model, batch axis included; without any they stay as they are.

    Raises TfliteAsrError for a subclassed model.
    """
    if not _is_graph(model):
        raise TfliteAsrError(
            f"model {model.name!r} is a subclassed model ({type(model).__name__}); rebuild it as a Functional one"
        )
    centred = _rewritten(model, lambda outputs: (ResidualCentring(outputs).rule,))
    if centred is not None:
        scales = channel_scales(centred, feeds)
        if scales:
            rule = Equalisation(scales).rule
            centred = _rewritten(centred, lambda _: (rule,))
    lowered = _rewritten(centred or model, _rules, whatever=True)
    assert lowered is not None
    return lowered


def _rules(outputs: set[int]) -> tuple[Rule, ...]:
    """Those of the last walk. outputs: ids of the operations whose result is handed out."""
    made = (kind(outputs).rule for kind in (AffineFold, DepthwiseSplit, SamePadding, Patches))
    return (*made, *RULES)


def _rewritten(
    model: Any, rules: Callable[[set[int]], tuple[Rule, ...]], whatever: bool = False
) -> keras.Model | None:
    """`model` after one walk; None where no rule answered, unless `whatever`.

    rules: made for the set of ids of the operations whose result is handed out.
    """
    walk = _Walk(rules)
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    inputs = keras.tree.map_structure(
        lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name), structure
    )
    outputs = walk.run(model, inputs, prefix="")
    if not walk.matched and not whatever:
        return None
    lowered = keras.Model(inputs, outputs, name=model.name)
    for replacement in walk.replacements.values():
        if replacement.copy_weights is not None:
            replacement.copy_weights()
    return lowered


def _is_graph(operation: Any) -> bool:
    """Whether it is a model whose operations can be walked."""
    return isinstance(operation, (FUNCTIONAL, keras.Sequential))


class _Walk:
    """One run through a model and the models inside it; an operation called twice is replaced once."""

    def __init__(self, rules: Callable[[set[int]], tuple[Rule, ...]]) -> None:
        self.replacements: dict[int, Replacement] = {}
        self.outputs: set[int] = set()
        self.rules = rules(self.outputs)
        self.matched = False
        self._alive: list[keras.Operation] = []  # keeps ids from being given out again

    def run(self, model: Any, inputs: Any, prefix: str) -> Any:
        self.outputs.update(id(tensor._keras_history.operation) for tensor in model.outputs)
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                inputs = self.call(layer, prefix, inputs)
            return inputs
        # Keras' own walk over the nodes, as keras.models.clone_model does it, but without a model made of each part.
        return model._run_through_graph(
            inputs, call_fn=lambda operation, *args, **kwargs: self.call(operation, prefix, *args, **kwargs)
        )

    def call(self, operation: Any, prefix: str, *args: Any, **kwargs: Any) -> Any:
        if _is_graph(operation):
            inner = kwargs.get("inputs", args[0] if args else None)
            return self.run(operation, inner, f"{prefix}{operation.name}.")
        if id(operation) not in self.replacements:
            self._alive.append(operation)
            answers = (rule(operation) for rule in self.rules)
            found = next((answer for answer in answers if answer is not None), None)
            self.matched = self.matched or found is not None
            self.replacements[id(operation)] = _named(found or _copy(operation), prefix)
        return self.replacements[id(operation)](*args, **kwargs)


def _copy(operation: keras.Operation) -> Replacement:
    """The operation as it is, with variables of its own."""
    copy = operation.__class__.from_config(operation.get_config())
    if not isinstance(operation, keras.layers.Layer):
        return Replacement((copy,))
    return Replacement((copy,), lambda: copy.set_weights(operation.get_weights()))


def _named(replacement: Replacement, prefix: str) -> Replacement:
    for layer in replacement.layers:
        layer.name = prefix + layer.name
    return replacement
