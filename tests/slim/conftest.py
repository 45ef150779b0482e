"""A tiny Conformer-CTC whose weights are all non-zero, and its facts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import FrontEnd
from tflite_asr.models.conformer import ConformerConfig, build_conformer
from tflite_asr.tokens import CHARACTERS

CONFIG = ConformerConfig(blocks=2, dim=16, heads=2, kernel=5, subsampling_channels=8, positions="relative")


@pytest.fixture(scope="session")
def tiny() -> tuple[Any, ModelFacts]:
    model = build_conformer(CONFIG)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = np.asarray(weight) + rng.normal(0, 0.1, weight.shape)
        weight.assign(np.abs(value) + 0.5 if weight.name == "moving_variance" else value)
    return model, ModelFacts("tiny", "conformer", asdict(CONFIG), FrontEnd(), CHARACTERS, 4)


@pytest.fixture(scope="session")
def batch() -> list[np.ndarray]:
    """Two clips, the second half padding: features [2, 64, 80], mask [2, 16]."""
    features = np.random.default_rng(1).standard_normal((2, 64, 80)).astype(np.float32)
    mask = np.ones((2, 16), np.float32)
    features[1, 32:], mask[1, 8:] = 0, 0
    return [features, mask]
