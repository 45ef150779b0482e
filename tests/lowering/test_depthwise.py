from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.layers import BatchNormalization, DepthwiseConv1D, ZeroPadding1D

from tests.lowering.integers import largest_difference, noise, randomised, to_integers
from tflite_asr.lowering import lower


def convolved(taps: int = 31, norm: bool = True, **settings) -> keras.Model:
    x = keras.Input((60, 4), name="x")
    y = DepthwiseConv1D(taps, name="depthwise", **settings)(x)
    return randomised(keras.Model(x, BatchNormalization(name="norm")(y) if norm else y))


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": "same"},
        {"padding": "valid"},
        {"padding": "same", "taps": 60},
        {"padding": "same", "taps": 30, "use_bias": False},
        {"padding": "valid", "strides": 2},
        {"padding": "same", "strides": 2, "taps": 30},
        {"padding": "same", "taps": 27, "dilation_rate": 2},
        {"padding": "valid", "depth_multiplier": 2},
        {"padding": "same", "activation": "relu"},
        {"padding": "same", "norm": False},
        {"padding": "same", "norm": False, "use_bias": False},
    ],
    ids=str,
)
def test_a_long_convolution_keeps_its_function(settings):
    model = convolved(**settings)
    lowered = lower(model)
    assert type(lowered.get_layer("depthwise")).__name__ == "SplitDepthwiseConv1D"
    assert largest_difference(model, lowered, noise((60, 4))) < 1e-4


def test_it_is_a_sum_over_taps():
    lowered = lower(convolved(taps=29, norm=False, padding="valid"))
    x = noise((60, 4), count=1)[0]["x"]
    kernel, bias = lowered.get_layer("depthwise").get_weights()
    expected = sum(kernel[tap, :, 0] * x[:, tap : tap + 32] for tap in range(29)) + bias
    np.testing.assert_allclose(lowered(x), expected, atol=1e-5)


def test_a_batch_norm_that_alone_reads_it_is_folded_in():
    names = [layer.name for layer in lower(convolved()).layers]
    assert "norm" not in names


def test_a_batch_norm_stays_where_something_else_reads_the_convolution_too():
    x = keras.Input((60, 4), name="x")
    y = DepthwiseConv1D(31, padding="same", name="depthwise")(x)
    model = randomised(keras.Model(x, y + BatchNormalization(name="norm")(y)))
    lowered = lower(model)
    assert lowered.get_layer("norm") is not None
    assert largest_difference(model, lowered, noise((60, 4))) < 1e-4


def test_a_convolution_that_is_an_output_itself_stays_as_it_is():
    x = keras.Input((60, 4), name="x")
    y = DepthwiseConv1D(31, padding="same")(x)
    model = randomised(keras.Model(x, [y, BatchNormalization()(y)]))
    assert largest_difference(model, lower(model), noise((60, 4))) < 1e-4


def test_a_short_convolution_is_left_alone():
    assert type(lower(convolved(taps=25)).get_layer("depthwise")) is DepthwiseConv1D


def test_in_int8_it_is_two_convolutions_of_at_most_25_taps():
    model, feeds = convolved(padding="same"), noise((60, 4))
    lowered = to_integers(lower(model), feeds)
    assert lowered.ops()["DEPTHWISE_CONV_2D"] == 2
    assert lowered.ops()["RESHAPE"] <= 2  # to an image one pixel high and back, not so for each piece
    assert lowered.offending() == []
    assert not lowered.outside_policy()
    assert lowered.snr(feeds) > 30


def padded(before: int, after: int, taps: int = 15, **settings) -> keras.Model:
    x = keras.Input((60, 4), name="x")
    y = ZeroPadding1D((before, after), name="pad")(x)
    return randomised(keras.Model(x, DepthwiseConv1D(taps, name="depthwise", **settings)(y)))


@pytest.mark.parametrize(
    "settings",
    [
        {"before": 7, "after": 7},
        {"before": 4, "after": 5, "taps": 10},
        {"before": 7, "after": 7, "taps": 8, "dilation_rate": 2, "use_bias": False},
    ],
    ids=str,
)
def test_padding_as_same_would_pad_goes_into_the_convolution(settings):
    model = padded(**settings)
    lowered = lower(model)
    assert "pad" not in [layer.name for layer in lowered.layers]
    assert largest_difference(model, lowered, noise((60, 4))) < 1e-5


@pytest.mark.parametrize(
    "settings",
    [
        {"before": 14, "after": 0},
        {"before": 7, "after": 7, "strides": 2},
        {"before": 7, "after": 7, "padding": "same"},
        {"before": 15, "after": 15, "taps": 31},
    ],
    ids=str,
)
def test_other_padding_stays(settings):
    model = padded(**settings)
    lowered = lower(model)
    assert lowered.get_layer("pad") is not None
    assert largest_difference(model, lowered, noise((60, 4))) < 1e-4


def test_padding_that_others_read_too_stays():
    x = keras.Input((60, 4), name="x")
    y = ZeroPadding1D(7, name="pad")(x)
    model = randomised(keras.Model(x, [DepthwiseConv1D(15)(y), DepthwiseConv1D(5)(y)]))
    lowered = lower(model)
    assert lowered.get_layer("pad") is not None
    assert largest_difference(model, lowered, noise((60, 4))) < 1e-5


def test_in_int8_nothing_is_padded_by_an_op_of_its_own():
    model, feeds = padded(7, 7), noise((60, 4))
    lowered = to_integers(lower(model), feeds)
    assert "PAD" not in lowered.ops()
    assert lowered.offending() == []
    assert not lowered.outside_policy()
    assert lowered.snr(feeds) > to_integers(model, feeds).snr(feeds) - 0.1
