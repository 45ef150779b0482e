"""The batch-norm divergence, against a loop over channels in NumPy."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from tflite_asr.synthesis.statistics import batch_norms, divergence, recorded_inputs


def test_the_divergence_is_the_published_sum() -> None:
    rng = np.random.default_rng(0)
    layers, inputs, expected = [], [], 0.0
    for channels, axis, shape in ((3, -1, (2, 7, 3)), (4, 1, (2, 4, 5, 6))):
        layer = keras.layers.BatchNormalization(axis=axis)
        layer.build(shape)
        stored_mean, stored_variance = rng.normal(size=channels), rng.uniform(0.3, 2, channels)
        layer.moving_mean.assign(stored_mean)
        layer.moving_variance.assign(stored_variance)
        values = rng.normal(0.5, 1.7, shape).astype(np.float32)
        layers.append(layer)
        inputs.append(values)
        per_channel = []
        for channel in range(channels):
            seen = np.take(values, channel, axis=axis).astype(np.float64).ravel()
            mean = sum(seen) / len(seen)
            sigma = math.sqrt(sum((v - mean) ** 2 for v in seen) / len(seen) + 1e-6)
            sigma_bn, mu_bn = math.sqrt(stored_variance[channel] + 1e-6), stored_mean[channel]
            kl = math.log(sigma / sigma_bn) - 0.5 * (1 - (sigma_bn**2 + (mu_bn - mean) ** 2) / sigma**2)
            per_channel.append(kl)
        expected += sum(per_channel) / channels
    given = divergence(list(zip(layers, map(keras.ops.convert_to_tensor, inputs), strict=True)))
    assert float(given) == pytest.approx(expected, rel=1e-4)


def test_it_is_zero_where_the_statistics_match() -> None:
    values = np.random.default_rng(1).normal(3, 2, (1, 500, 2)).astype(np.float32)
    layer = keras.layers.BatchNormalization()
    layer.build(values.shape)
    layer.moving_mean.assign(values.mean(axis=(0, 1)))
    layer.moving_variance.assign(values.var(axis=(0, 1)))
    assert float(divergence([(layer, keras.ops.convert_to_tensor(values))])) == pytest.approx(0, abs=1e-5)


def test_inputs_of_every_batch_norm_are_seen_and_the_layers_left_as_they_were(tiny: Any) -> None:
    inner_input = keras.Input((10, 4))
    inner = keras.Model(inner_input, keras.layers.BatchNormalization(name="inside")(inner_input))
    outer_input = keras.Input((10, 4))
    outer = keras.Model(outer_input, keras.layers.BatchNormalization(name="outside")(inner(outer_input)))
    layers = batch_norms(outer)
    assert [layer.name for layer in layers] == ["inside", "outside"]
    batch = np.random.default_rng(0).normal(size=(1, 10, 4)).astype(np.float32)
    before = np.asarray(outer(batch))
    with recorded_inputs(layers) as seen:
        outer(batch)
    assert [layer.name for layer, _ in seen] == ["inside", "outside"]
    assert np.array_equal(np.asarray(seen[0][1]), batch)
    assert np.array_equal(np.asarray(outer(batch)), before)
    assert all("call" not in vars(layer) for layer in layers)
    assert [layer.name for layer in batch_norms(tiny)] == [
        f"encoder.block{i}.conv.batch_norm" for i in (0, 1)
    ]
