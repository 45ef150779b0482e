"""Convolutions of stride 2 over an image of one channel, against Keras in float and against themselves in int8."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.layers import Conv2D, Reshape, ZeroPadding2D

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.lowering import lower
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.serialize import read_model

FRAMES, MELS = 24, 20


def image(kernel=(3, 3), around=((1, 0), (1, 0)), frames=FRAMES, mels=MELS, channels=1, **settings):
    x = keras.Input((frames, mels * channels), name="x")
    y = Reshape((-1, mels, channels))(x)
    y = ZeroPadding2D(around, name="pad")(y) if around else y
    return randomised(keras.Model(x, Conv2D(8, kernel, strides=2, name="conv", **settings)(y)))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"around": None},
        {"around": ((2, 1), (0, 3))},
        {"mels": 19, "around": ((1, 0), (1, 1))},
        {"kernel": (2, 5), "use_bias": False},
        {"kernel": (4, 3), "activation": "relu"},
        {"kernel": (3, 5), "mels": 21},
    ],
)
def test_a_convolution_over_patches_keeps_its_function(settings):
    model = image(**settings)
    lowered = lower(model)
    assert type(lowered.get_layer("conv")).__name__ == "PatchesConv2D"
    assert largest_difference(model, lowered, noise((FRAMES, settings.get("mels", MELS)))) < 1e-5


@pytest.mark.parametrize("frames", [23, 24])
def test_at_any_length(frames):
    model = image(frames=None)
    lowered = lower(model)
    assert lowered.output.shape == (None, None, MELS // 2, 8)
    assert largest_difference(model, lowered, noise((frames, MELS))) < 1e-5


def test_the_padding_before_it_goes_along():
    assert "pad" not in [layer.name for layer in lower(image()).layers]


def test_padding_that_others_read_too_stays():
    x = keras.Input((FRAMES, MELS), name="x")
    padded = ZeroPadding2D(((1, 0), (1, 0)), name="pad")(Reshape((-1, MELS, 1))(x))
    model = randomised(keras.Model(x, [Conv2D(8, 3, strides=2)(padded), Conv2D(4, 3, name="plain")(padded)]))
    lowered = lower(model)
    assert type(lowered.get_layer("pad")) is ZeroPadding2D
    assert largest_difference(model, lowered, noise((FRAMES, MELS))) < 1e-5


@pytest.mark.parametrize(
    "settings", [{"channels": 3}, {"dilation_rate": 1, "padding": "same"}, {"kernel": (1, 3)}]
)
def test_what_would_gain_nothing_is_left_alone(settings):
    assert type(lower(image(**settings)).get_layer("conv")) is Conv2D


def test_the_lowered_layer_is_saved_with_its_padding(tmp_path):
    lowered = lower(image(around=((2, 1), (0, 3))))
    lowered.save(tmp_path / "lowered.keras")
    again = keras.models.load_model(tmp_path / "lowered.keras")
    assert largest_difference(lowered, again, noise((FRAMES, MELS), count=1)) == 0


def test_one_product_over_patches_in_integers():
    model, feeds = image(activation="relu"), noise((FRAMES, MELS))
    lowered = to_integers(lower(model), feeds)
    assert lowered.offending() == []
    assert not lowered.outside_policy()
    assert not {"CONV_2D", "STRIDED_SLICE", "RELU"} & set(lowered.ops())
    made = read_model(lowered.data)
    graph = made.subgraphs[0]
    (kernel,) = (
        graph.tensors[op.inputs[1]] for op in graph.operators if op_name(made, op) == "FULLY_CONNECTED"
    )
    assert list(kernel.shape) == [8, 12]
    assert lowered.snr(feeds) > to_integers(model, feeds).snr(feeds) - 0.5
    # Four bytes are moved at a time.
    (moved,) = (graph.tensors[op.inputs[0]] for op in graph.operators if op_name(made, op) == "TRANSPOSE")
    assert moved.shape[-1] == 4
    # One row of mels is padded at a time, not one value.
    pads = [graph.tensors[op.inputs[0]].shape for op in graph.operators if op_name(made, op) == "PAD"]
    assert all(shape[-1] >= MELS for shape in pads)
    assert np.prod(pads[0]) == FRAMES * MELS
