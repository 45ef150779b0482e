"""A tiny Conformer-CTC with batch norms that remember something, its facts, and somebody's own model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import FrontEnd
from tflite_asr.models.conformer import ConformerConfig, build_conformer
from tflite_asr.tokens import CHARACTERS

CONFIG = ConformerConfig(blocks=2, dim=16, heads=2, kernel=5, subsampling_channels=8)
FIXED = FrontEnd(normalise="fixed", mean=(-11.0,) * 80, std=(4.0,) * 80)


def tiny_conformer() -> Any:
    """The same weights in every process."""
    model = build_conformer(CONFIG)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = rng.normal(0, 0.2, weight.shape)
        if weight.name in ("gamma", "moving_variance"):
            value = np.abs(value) + 0.5
        weight.assign(value)
    return model


@pytest.fixture(scope="session")
def facts() -> ModelFacts:
    return ModelFacts("tiny", "conformer", asdict(CONFIG), FIXED, CHARACTERS, 4)


@pytest.fixture(scope="session")
def tiny() -> Any:
    return tiny_conformer()


@pytest.fixture(scope="session")
def own() -> Any:
    """Somebody's own model: stock layers, a fixed window, no mask, a batch norm."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((60, 20), name="spectrum")
    x = keras.layers.Conv1D(12, 3, padding="same")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("relu")(x)
    return keras.Model(inputs, keras.layers.Dense(5)(x))
