"""What every architecture must do, each at its tiny size: build, keep its function under padding, save, load."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.models.random_weights import randomise
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.models import ARCHITECTURES, FUNCTIONAL, build, config_class, load_model

VARIANTS = {
    "plain": {},
    "relative": {"positions": "relative"},
    "sinusoidal": {"positions": "sinusoidal"},
    "causal": {"padding": "causal", "left_context": 3, "lookahead": 1},
    "causal, relative": {"padding": "causal", "left_context": 3, "lookahead": 0, "positions": "relative"},
}
CASES = [(architecture, variant) for architecture in ARCHITECTURES for variant in VARIANTS]


def tiny(architecture: str, variant: str = "plain") -> Any:
    """The tiny config; a variant that an architecture has no setting for is skipped."""
    kind, _, sizes = ARCHITECTURES[architecture]
    known = {"conformer": ("none", "relative"), "transformer": ("none", "sinusoidal")}.get(architecture, ())
    if (kind_of := VARIANTS[variant].get("positions")) is not None and kind_of not in known:
        pytest.skip(f"{architecture} has no {kind_of} positions")
    if missing := set(VARIANTS[variant]) - {f.name for f in fields(kind)}:
        pytest.skip(f"{architecture} has no {', '.join(sorted(missing))}")
    return replace(sizes["tiny"], **VARIANTS[variant])


def features(frames: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, frames, 80)).astype(np.float32)


def logits(model: keras.Model, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """CTC's logits; an encoder-decoder is told the same five tokens always."""
    if len(model.inputs) == 2:
        return np.asarray(model([x, mask], training=False))
    tokens = np.tile(np.arange(5, dtype=np.int32), (len(x), 1))
    return np.asarray(model([x, mask, tokens], training=False)[0])


def run(model: keras.Model, x: np.ndarray, valid: int, window: int, subsampling: int) -> np.ndarray:
    """Logits of the valid frames of x [frames, mels], laid into a window."""
    padded = np.zeros((1, window, x.shape[1]), np.float32)
    padded[0, :valid] = x[:valid]
    mask = np.zeros((1, window // subsampling), np.float32)
    mask[0, : -(-valid // subsampling)] = 1
    return logits(model, padded, mask)[0, : -(-valid // subsampling)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_config_is_frozen_and_comes_back_from_plain_values(architecture: str) -> None:
    config = tiny(architecture)
    assert is_dataclass(config)
    assert isinstance(config, config_class(architecture))
    with pytest.raises(AttributeError):
        config.mels = 1
    model = build(
        architecture, {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
    )
    assert isinstance(model, FUNCTIONAL)
    assert model.count_params() < 100_000


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_inputs_and_outputs_have_the_agreed_names_and_shapes(architecture: str) -> None:
    config = tiny(architecture)
    model = build(architecture, config)
    assert [tensor.name for tensor in model.inputs][:2] == ["features", "mask"]
    x, mask = features(24, batch=3), np.ones((3, 24 // config.subsampling), np.float32)
    assert logits(model, x, mask).shape == (3, 24 // config.subsampling, config.pieces)


@pytest.mark.parametrize(("architecture", "variant"), CASES)
def test_valid_frames_do_not_depend_on_the_window(architecture: str, variant: str) -> None:
    config = tiny(architecture, variant)
    model = randomise(build(architecture, config))
    x = features(37)[0]
    exact = -(-37 // config.subsampling) * config.subsampling
    alone = run(model, x, 37, exact, config.subsampling)
    assert np.abs(alone).max() > 0.1
    for window in (64, 120):
        np.testing.assert_allclose(run(model, x, 37, window, config.subsampling), alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_of_a_batch_do_not_touch(architecture: str) -> None:
    config = tiny(architecture)
    model = randomise(build(architecture, config))
    x, mask = features(32, batch=2), np.ones((2, 32 // config.subsampling), np.float32)
    mask[1, 4:] = 0
    both = logits(model, x, mask)
    np.testing.assert_allclose(both[:1], logits(model, x[:1], mask[:1]), atol=1e-5)


@pytest.mark.parametrize(("architecture", "variant"), CASES)
def test_a_file_loads_in_safe_mode_with_the_same_function(
    tmp_path: Path, architecture: str, variant: str
) -> None:
    config = tiny(architecture, variant)
    model = randomise(build(architecture, config))
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    x, mask = features(24), np.ones((1, 24 // config.subsampling), np.float32)
    np.testing.assert_array_equal(logits(loaded, x, mask), logits(model, x, mask))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_facts_rebuild_the_model(tmp_path: Path, architecture: str) -> None:
    config = tiny(architecture)
    ModelFacts("m", architecture, asdict(config)).write(tmp_path / "m.keras")
    facts = ModelFacts.read(tmp_path / "m.keras")
    assert facts is not None
    rebuilt = build(facts.architecture or "", facts.config)
    assert rebuilt.count_params() == build(architecture, config).count_params()


def test_an_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(TfliteAsrError, match="architecture 'rnn' is unknown; known are conformer"):
        build("rnn", {})
