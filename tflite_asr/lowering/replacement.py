"""What a rule answers with: the layers that stand in for one operation of a model, and how they get its weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Replacement:
    """Layers called one after the other in the place of one operation; none means that its input goes through.

    layers: the first takes the operation's own arguments, each other the result of the one before.
    copy_weights: run once all layers are built, to carry the operation's weights over; None where there are none.
    """

    layers: tuple[keras.Operation, ...]
    copy_weights: Callable[[], None] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.layers:
            return args[0]
        result = _called(self.layers[0], args, kwargs)
        for layer in self.layers[1:]:
            result = layer(result)
        return result


def _called(layer: keras.Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """layer(*args, **kwargs); a layer's numbers by name, since Keras gives layers nothing but tensors by position."""
    if not isinstance(layer, keras.layers.Layer):
        return layer(*args, **kwargs)
    names = list(inspect.signature(layer.call).parameters)
    numbers = {
        name: value for name, value in zip(names, args, strict=False) if isinstance(value, (bool, int, float))
    }
    return layer(*args[: len(args) - len(numbers)], **numbers, **kwargs)


Rule = Callable[[keras.Operation], "Replacement | None"]


def same_weights(new: keras.layers.Layer, old: keras.layers.Layer) -> Replacement:
    """`new` in the place of `old`, which has the same variables in the same order."""
    return Replacement((new,), lambda: new.set_weights(old.get_weights()))


def consumers(operation: keras.Operation) -> list[keras.Operation]:
    """The operations that read what `operation` gives, in whichever models it stands."""
    return [node.operation for node in operation._outbound_nodes]


def producer(operation: keras.Operation) -> keras.Operation | None:
    """The operation that writes the first input of `operation`, the same in all its calls; else None."""
    writers = {
        id(node.input_tensors[0]._keras_history.operation): node.input_tensors[0]._keras_history.operation
        for node in operation._inbound_nodes
        if node.input_tensors
    }
    if len(writers) != 1:
        return None
    (writer,) = writers.values()
    return None if isinstance(writer, keras.layers.InputLayer) else writer


def padding_before(
    operation: keras.Operation, kind: type[keras.layers.Layer], outputs: Set[int]
) -> keras.layers.Layer | None:
    """The layer of padding, of that kind, in front of an operation that alone reads it, both called once; else None.

    outputs: ids of the operations whose result some model hands out; theirs must stay as it is.
    """
    before = producer(operation)
    if before is None or type(before) is not kind or id(before) in outputs:
        return None
    called_once = len(before._inbound_nodes) == len(operation._inbound_nodes) == 1
    return before if called_once and len(consumers(before)) == 1 else None
