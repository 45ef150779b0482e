"""Weights for tests: random in every part, so that no bias of zero or scale of one hides a fault."""

from __future__ import annotations

import keras
import numpy as np


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    """The same model with every weight drawn anew: kernels at unit gain, norms and biases away from their defaults."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        shape, name = tuple(variable.shape), variable.path.rsplit("/", 1)[-1]
        if "seed" in variable.path:
            continue
        if name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) < 2:
            value = rng.normal(0, 0.2, shape)
        else:
            taken = np.prod(shape[:-1]) if "depthwise" not in variable.path else shape[0]
            value = rng.normal(0, 1 / np.sqrt(taken), shape)
        variable.assign(value.astype(np.float32))
    return model
