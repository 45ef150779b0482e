"""TensorFlow Model Optimization's quantizers as the fake-quantisers of a Keras 3 network.

They are written for tf-keras layers, of which they want nothing but `add_weight`; here they are handed variables of a
Keras 3 layer's, on TensorFlow's backend. Importing the package turns `tf.keras` into tf-keras: say `keras`, never that.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_model_optimization.python.core.quantization.keras import quant_ops
from tensorflow_model_optimization.quantization.keras import quantizers

BITS = 8


class ActivationQuantizer(quantizers.MovingAverageQuantizer):
    """Rounds activations to the grids that it is given, and follows the extremes of many tensors at once.

    decay: of the moving average (TFMOT's own .999 would hardly move in a few hundred steps). None follows as TFMOT's
    AllValuesQuantizer does: what was reached once stays within.
    """

    def __init__(self, decay: float | None) -> None:
        super().__init__(num_bits=BITS, per_axis=False, symmetric=False, narrow_range=False)
        self.decay = decay

    def on_grid(self, x: Any, low: Any, high: Any) -> Any:
        """x rounded to 256 values from low to high; the gradient goes through, save where it was clipped."""
        return self(x, training=False, weights={"min_var": low, "max_var": high})

    def follow(self, extremes: Any, lows: Any, highs: Any) -> None:
        """Move the variables lows and highs, float32 [tensors], toward the extremes, float32 [2, tensors]: each tensor
        is a channel."""
        if self.decay is None:  # TFMOT's takes no channels
            lows.assign(tf.minimum(lows, tf.reduce_min(extremes, axis=0)))
            highs.assign(tf.maximum(highs, tf.reduce_max(extremes, axis=0)))
            return
        quant_ops.MovingAvgQuantize(
            extremes, lows, highs, per_channel=True, ema_decay=self.decay, is_training=True, num_bits=BITS
        )


class WeightQuantizer:
    """LastValue: symmetric, one scale an output channel (the last axis), -127 to 127; or, for gains and offsets, one
    asymmetric scale.

    layer: a Keras 3 layer that owns the variables. values: the weights at the start.
    """

    def __init__(self, layer: keras.layers.Layer, name: str, values: np.ndarray, by_channel: bool) -> None:
        self._quantizer = quantizers.LastValueQuantizer(
            num_bits=BITS, per_axis=by_channel, symmetric=by_channel, narrow_range=by_channel
        )
        self._by_channel = by_channel
        self._range = self._quantizer.build(values.shape, name, _Owner(layer))

    def __call__(self, weights: Any) -> Any:
        """The weights as int8 holds them."""
        shape = weights.shape
        # TFMOT takes channels of two and of four axes.
        flat = tf.reshape(weights, (-1, shape[-1])) if self._by_channel else weights
        return tf.reshape(self._quantizer(flat, training=True, weights=self._range), shape)


def channel_scales(weights: Any) -> Any:
    """The scales of symmetric weights, float32 [channels]."""
    return tf.reduce_max(tf.abs(tf.reshape(weights, (-1, weights.shape[-1]))), axis=0) / 127.0


def rounded_bias(bias: Any, scales: Any) -> Any:
    """A bias as int32 at these scales; the gradient goes through."""
    steps = tf.maximum(scales, 1e-30)
    return bias + tf.stop_gradient(tf.round(bias / steps) * steps - bias)


class _Owner:
    """What a TFMOT quantizer calls a layer."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        self._layer = layer

    def add_weight(self, name: str, initializer: Any, trainable: bool, shape: Any = None) -> tf.Variable:
        shape = () if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        start = np.asarray(initializer(shape or (1,)))
        variable = self._layer.add_weight(
            name=name.replace("/", "."),
            shape=shape,
            initializer=keras.initializers.Constant(float(start.reshape(-1)[0])),
            trainable=trainable,
        )
        return variable.value
