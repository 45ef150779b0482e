"""The walk over a Functional model that puts each rule's replacement in the place of the operation it matches."""

from __future__ import annotations

from typing import Any

import keras

from tflite_asr.errors import TfliteAsrError
from tflite_asr.lowering import (
    depthwise,
    layer_normalization,
    masked_softmax,
    multi_head_attention,
    relative_attention,
    relu,
    truth,
)
from tflite_asr.lowering.replacement import Replacement, Rule
from tflite_asr.models.registry import FUNCTIONAL

# The first rule that answers is taken.
RULES: tuple[Rule, ...] = (
    layer_normalization.rule,
    multi_head_attention.rule,
    relative_attention.rule,
    depthwise.rule,
    depthwise.folded_norm_rule,
    masked_softmax.rule,
    relu.rule,
    truth.rule,
)


def lower(model: keras.Model) -> keras.Model:
    """`model` with every operation that a rule matches rewritten; the largest difference of its outputs is below 1e-4.

    model: Functional (or Sequential); nested models are laid flat, their layers named `<model>.<layer>`. It is left as
    it is, and the result shares no variable with it. Layers keep their names and so do their weights; inputs and outputs
    keep names, shapes, types and structure. Open batch and time axes stay open.

    Raises TfliteAsrError for a subclassed model.
    """
    if not isinstance(model, (FUNCTIONAL, keras.Sequential)):
        raise TfliteAsrError(
            f"model {model.name!r} is a subclassed model ({type(model).__name__}); rebuild it as a Functional one"
        )
    walk = _Walk()
    inputs = keras.tree.map_structure(
        lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name),
        model.input,
    )
    outputs = walk.run(model, inputs, prefix="")
    lowered = keras.Model(inputs, outputs, name=model.name)
    for replacement in walk.replacements.values():
        if replacement.copy_weights is not None:
            replacement.copy_weights()
    return lowered


class _Walk:
    """One run through a model and the models inside it; an operation called twice is replaced once."""

    def __init__(self) -> None:
        self.replacements: dict[int, Replacement] = {}
        self._alive: list[keras.Operation] = []  # keeps ids from being given out again

    def run(self, model: keras.Model, inputs: Any, prefix: str) -> Any:
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                inputs = self.call(layer, prefix, inputs)
            return inputs
        return keras.models.clone_model(
            model,
            input_tensors=inputs,
            clone_function=lambda operation: operation,
            call_function=lambda operation, *args, **kwargs: self.call(operation, prefix, *args, **kwargs),
        ).output

    def call(self, operation: keras.Operation, prefix: str, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, (FUNCTIONAL, keras.Sequential)):
            inner = kwargs.get("inputs", args[0] if args else None)
            return self.run(operation, inner, f"{prefix}{operation.name}.")
        if id(operation) not in self.replacements:
            self._alive.append(operation)
            self.replacements[id(operation)] = _replacement(operation, prefix)
        return self.replacements[id(operation)](*args, **kwargs)


def _replacement(operation: keras.Operation, prefix: str) -> Replacement:
    found = next((answer for rule in RULES if (answer := rule(operation)) is not None), None)
    if found is None:
        copy = operation.__class__.from_config(operation.get_config())
        weights = None
        if isinstance(operation, keras.layers.Layer):
            weights = lambda: copy.set_weights(operation.get_weights())  # noqa: E731
        found = Replacement((copy,), weights)
    for layer in found.layers:
        layer._name = prefix + layer.name
    return found
