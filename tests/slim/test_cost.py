"""Multiply-adds, against arithmetic written out by hand."""

from __future__ import annotations

import keras
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.models.conformer import ConformerConfig, build_conformer
from tflite_asr.slim import cost, count_macs, count_parameters


@pytest.mark.parametrize("positions", ["none", "relative"])
def test_a_tiny_conformer_by_hand(positions: str) -> None:
    dim, kernel, channels, pieces, mels = 16, 5, 8, 29, 80
    config = ConformerConfig(
        blocks=2, dim=dim, heads=2, kernel=kernel, subsampling_channels=channels, positions=positions
    )
    half, steps = 32, 16  # of 64 frames, after one and after two strides of 2
    stem = half * 40 * channels * 9 * 1 + steps * 20 * channels * 9 * channels + steps * 20 * channels * dim
    feed_forward = steps * (3 * dim + 2 * dim * 4 * dim)
    attention = steps * 3 * dim + 4 * steps * dim * dim + 2 * steps * steps * dim
    if positions == "relative":
        distances = 2 * steps - 1
        attention += distances * dim * dim + steps * distances * dim
    convolution = steps * (3 * dim + dim * 2 * dim + kernel * dim + dim + dim * dim)
    block = 2 * feed_forward + attention + convolution + steps * 3 * dim
    assert count_macs(build_conformer(config), 64) == stem + 2 * block + steps * dim * pieces
    assert mels == config.mels


def test_the_shipped_size_is_what_it_is_said_to_be() -> None:
    model = build_conformer(ConformerConfig(kernel=15, subsampling_channels=32))
    assert 2.3e6 < count_parameters(model) < 2.5e6
    assert not cost(model, 400).uncounted


def test_stock_layers_by_hand() -> None:
    inputs = keras.Input((50, 12))
    x = keras.layers.Conv1D(8, 3, strides=2, padding="same", groups=2)(inputs)  # 25 x 8, each of 3 x 6
    x = keras.layers.SeparableConv1D(6, 5, padding="same", depth_multiplier=2)(x)  # 25 x (16 x 5 + 16 x 6)
    x = keras.layers.LayerNormalization()(x)  # 3 x 25 x 6
    attended = keras.layers.MultiHeadAttention(3, 4, value_dim=5)(x, x)
    x = keras.layers.Add()([x, attended])
    x = keras.layers.BatchNormalization()(keras.ops.gelu(x))  # 25 x 6
    x = keras.layers.GRU(7, return_sequences=True)(x)  # 25 x 3 x 7 x (6 + 7)
    x = keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))  # 25 x 25 x 7
    outputs = keras.layers.Dense(4)(x)  # 25 x 25 x 4
    attention = 25 * 6 * 12 * 2 + 25 * 6 * 15 + 25 * 15 * 6 + 25 * 25 * 3 * 9
    expected = 25 * 8 * 3 * 6 + 25 * 16 * 11 + 3 * 25 * 6 + attention + 25 * 6 + 25 * 21 * 13 + 625 * 7 + 2500
    counted = cost(keras.Model(inputs, outputs))
    assert counted.macs == expected
    assert not counted.uncounted


def test_images_nested_models_and_shared_layers() -> None:
    image = keras.Input((20, 10, 3))
    x = keras.layers.Conv2D(4, (3, 5), dilation_rate=(2, 1), padding="same")(image)  # 200 x 4 x 45
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(x)  # 50 x 4 x 9
    inner = keras.Model(image, x)
    shared = keras.layers.Dense(5)
    outer = keras.Input((20, 10, 3))
    state = inner(outer)
    both = keras.layers.Add()([shared(state), shared(state)])  # 2 x 50 x 4 x 5
    assert count_macs(keras.Model(outer, both)) == 36000 + 1800 + 2000
    assert count_macs(keras.Sequential([keras.Input((20, 8)), keras.layers.Dense(3)])) == 20 * 8 * 3


def test_an_unknown_layer_is_named_and_counts_nothing() -> None:
    @keras.saving.register_keras_serializable(package="test")
    class Strange(keras.layers.Layer):
        def call(self, inputs):
            return inputs * 2

    inputs = keras.Input((None, 8))
    model = keras.Model(inputs, keras.layers.Dense(2)(Strange(name="odd")(inputs)))
    counted = cost(model, 10)
    assert counted.macs == 160
    assert counted.uncounted == ("odd (Strange)",)


def test_counting_leaves_the_model_alone() -> None:
    model = build_conformer(ConformerConfig(blocks=1, dim=8, heads=2, kernel=3, subsampling_channels=4))
    before = model.to_json()
    count_macs(model, 64)
    assert model.to_json() == before
    assert all(len(layer._inbound_nodes) == 1 for layer in model.layers)


def test_an_open_axis_wants_frames() -> None:
    inputs = keras.Input((None, 8))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(TfliteAsrError, match="give frames"):
        count_macs(model)
