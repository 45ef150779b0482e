"""Each row of the policy table: an op built alone, quantised, finished, loaded and run on the row's kernels."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from keras.layers import Conv2D, Dense, DepthwiseConv1D

from tests.lowering.integers import noise, to_integers
from tflite_asr.lowering.policy import POLICY

SHAPE = (6, 8)


def _mixed(x):
    """Two branches of different scale, of which one is moved only: the joint must requantise it."""
    return ops.concatenate([x, ops.tanh(x)], axis=-1)


def _both(x):
    return ops.logical_and(ops.not_equal(ops.relu(x), 0.0), ops.not_equal(ops.tanh(x), 0.0))


BUILD = {
    "FULLY_CONNECTED": lambda x: Dense(4)(x),
    "CONV_2D": lambda x: Conv2D(4, 3, padding="same")(ops.expand_dims(x, -1)),
    "DEPTHWISE_CONV_2D": lambda x: DepthwiseConv1D(3)(x),
    "BATCH_MATMUL": lambda x: ops.matmul(
        ops.reshape(x, (-1, 2, 3, 8)), ops.reshape(ops.sigmoid(x), (-1, 2, 8, 3))
    ),
    "ADD": lambda x: x + np.linspace(-1, 1, 8, dtype=np.float32),
    "SUB": lambda x: x - ops.tanh(x),
    "MUL": lambda x: x * ops.tanh(x),
    "LOGISTIC": ops.sigmoid,
    "TANH": ops.tanh,
    "GELU": ops.gelu,
    "RSQRT": lambda x: ops.rsqrt(x * x + 1.0),
    "ELU": ops.elu,
    "EXP": lambda x: ops.exp(x),
    "LOG": lambda x: ops.log(x * x + 1.0),
    "ABS": ops.absolute,
    "LEAKY_RELU": lambda x: ops.leaky_relu(x, 0.1),
    "MINIMUM": lambda x: ops.minimum(x, 0.5),
    "RELU": ops.relu,
    "RELU6": ops.relu6,
    "SQUARED_DIFFERENCE": lambda x: keras.layers.LayerNormalization()(x),
    "DIV": lambda x: x / (ops.sigmoid(x) + 1.0),
    "SQRT": lambda x: ops.sqrt(ops.sigmoid(x)),
    "HARD_SWISH": ops.hard_silu,
    "MEAN": lambda x: ops.mean(x, axis=-1, keepdims=True),
    "SUM": lambda x: ops.sum(x, axis=-1, keepdims=True),
    "REDUCE_MIN": lambda x: ops.min(x, axis=-1, keepdims=True),
    "REDUCE_MAX": lambda x: ops.max(x, axis=-1, keepdims=True),
    "SOFTMAX": ops.softmax,
    "AVERAGE_POOL_2D": lambda x: keras.layers.AveragePooling1D(2)(x),
    "MAX_POOL_2D": lambda x: keras.layers.MaxPooling1D(2)(x),
    "RESHAPE": lambda x: ops.reshape(x, (-1, 48)),
    "TRANSPOSE": lambda x: ops.transpose(x, (0, 2, 1)),
    "PAD": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0))),
    "SPLIT": lambda x: ops.multiply(*ops.split(x, 2, axis=-1)),
    "SLICE": lambda x: ops.slice(x, (0, 1, 2), (1, 3, 4)),
    "STRIDED_SLICE": lambda x: x[:, ::2],
    "CONCATENATION": _mixed,
    "QUANTIZE": _mixed,
    "PACK": lambda x: ops.stack([x, ops.tanh(x)]),
    "SELECT_V2": lambda x: ops.where(ops.not_equal(ops.relu(x), 0.0), 1.0, 0.0),
    "NOT_EQUAL": lambda x: ops.where(ops.not_equal(ops.relu(x), 0.0), 1.0, 0.0),
    "EQUAL": lambda x: ops.where(ops.equal(ops.relu(x), 0.0), 1.0, 0.0),
    "LOGICAL_AND": lambda x: ops.where(_both(x), 1.0, 0.0),
}


@pytest.mark.parametrize("op", sorted(POLICY))
def test_a_row_of_the_table_runs_in_integers(op):
    row = POLICY[op]
    x = keras.Input(SHAPE, batch_size=1, name="x")
    feeds = [
        {"x": np.rint(2 * feed["x"]) / 2} for feed in noise(SHAPE, count=2)
    ]  # so that 0 is 0 in int8 too
    model = to_integers(keras.Model(x, BUILD[op](x)), feeds)
    if op != "QUANTIZE":
        assert op in model.float_ops(), dict(model.float_ops())
    assert op in model.ops(), dict(model.ops())
    assert model.offending() == []
    for kernels in row.kernels:
        assert model.snr(feeds, kernels) > 20, f"{op} on {kernels}"


def test_rows_that_the_finishing_pass_makes_are_those_that_the_quantiser_leaves_in_float():
    from tflite_asr.quantize.ops import FOLDABLE

    assert {op for op, row in POLICY.items() if row.made_by == "finish"} <= FOLDABLE


def test_the_filter_of_a_fully_connected_may_be_an_activation():
    x = keras.Input(SHAPE, batch_size=1, name="x")
    feeds = noise(SHAPE)
    product = keras.layers.Lambda(lambda y: ops.expand_dims(ops.matmul(y[0], ops.transpose(y[0])), 0))(x)
    model = to_integers(keras.Model(x, product), feeds)
    assert "FULLY_CONNECTED" in model.ops()
    assert "BATCH_MATMUL" not in model.ops()
    assert model.offending() == []
    assert min(model.snr(feeds, kernels) for kernels in ("xnnpack", "builtin")) > 30
