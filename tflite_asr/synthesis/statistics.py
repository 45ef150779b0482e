"""How far a model's activations are from what its batch norms remember."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

GUARD = 1e-6  # added to variances, as published


def batch_norms(model: Any) -> list[Any]:
    """Every BatchNormalization of a model, nested models' ones included, in its order."""
    found: list[Any] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            found.append(layer)
        elif hasattr(layer, "layers"):
            found += batch_norms(layer)
    return list({id(layer): layer for layer in found}.values())


@contextmanager
def recorded_inputs(layers: list[Any]) -> Iterator[list[tuple[Any, Any]]]:
    """While open, every call of these layers leaves (layer, its input) in the list that is given."""
    seen: list[tuple[Any, Any]] = []

    def spy(layer: Any, call: Any) -> Any:
        def recording(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append((layer, inputs))
            return call(inputs, *args, **kwargs)

        return recording

    for layer in layers:
        layer.call = spy(layer, layer.call)
    try:
        yield seen
    finally:
        for layer in layers:
            del layer.call  # the class's own again


def divergence(recorded: list[tuple[Any, Any]]) -> Any:
    """Sum over layers of the mean over channels of KL(N(mu_bn, s_bn) || N(mu, s)); a scalar tensor.

    KL = log(s / s_bn) - 1/2 (1 - (s_bn^2 + (mu_bn - mu)^2) / s^2), mu and s over every axis but the channels
    (Q-ASR, arXiv 2103.16827).
    """
    total: Any = 0.0
    for layer, inputs in recorded:
        inputs = ops.cast(inputs, "float32")
        rank = len(inputs.shape)
        axes = [axis for axis in range(rank) if axis != layer.axis % rank]
        mean = ops.mean(inputs, axis=axes)
        centred = ops.mean(inputs, axis=axes, keepdims=True)
        variance = ops.mean(ops.square(inputs - centred), axis=axes) + GUARD
        stored_variance = ops.cast(layer.moving_variance, "float32") + GUARD
        stored_mean = ops.cast(layer.moving_mean, "float32")
        ratio = (stored_variance + ops.square(stored_mean - mean)) / variance
        total = total + ops.mean(0.5 * ops.log(variance / stored_variance) - 0.5 * (1.0 - ratio))
    return total
