"""Weights set to zero while the others learn to do without them, on TensorFlow Model Optimization's schedule.

A network is made smaller by leaving modules out (`slim`) or by zeros: these compress, and what follows decides whether
they save time (no int8 kernel of LiteRT 2.3.0 skips them).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_utils
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PolynomialDecay

from tflite_asr.qat.settings import TWO_OF_FOUR, Settings


class Pruning:
    """Which weights are kept after a number of steps.

    Magnitude: the smallest share of each weight, growing by a cubic from nothing until ranges and zeros stand still.
    2:4: from the first step, the two smallest of every four that follow one another along the input channels, as sparse
    kernels want them.
    """

    def __init__(self, settings: Settings) -> None:
        end = settings.still_from()
        self._pattern = settings.sparsity == TWO_OF_FOUR
        self._schedule = (
            ConstantSparsity(0.5, begin_step=0, end_step=0, frequency=1)
            if self._pattern
            else PolynomialDecay(
                initial_sparsity=0.0,
                final_sparsity=float(settings.sparsity or 0.0),
                begin_step=0,
                end_step=end,
                frequency=1,
            )
        )

    def kept(self, weights: np.ndarray, step: int) -> np.ndarray:
        """1.0 where a weight stays and 0.0 elsewhere. weights: float32, output channels last, two or four axes."""
        if self._pattern:
            values = tf.constant(weights)
            rows = pruning_utils.generate_m_by_n_mask(pruning_utils.weights_rearrange(values), (2, 4))
            return np.array(pruning_utils.m_by_n_sparsity_mask_prepare(rows, values.shape))
        gone = round(float(self._schedule(tf.constant(step))[1]) * weights.size)
        mask = np.ones(weights.size, np.float32)
        mask[np.argsort(np.abs(weights).reshape(-1), kind="stable")[:gone]] = 0.0
        return mask.reshape(weights.shape)
