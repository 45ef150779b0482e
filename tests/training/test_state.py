"""What a training needs to go on: weights exactly, moments nearly, in little room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.models.random_weights import randomise
from tflite_asr.errors import TfliteAsrError
from tflite_asr.models import build
from tflite_asr.models.conformer import TINY
from tflite_asr.training.state import load_state, save_state

CONFIG = replace(TINY, dim=64, heads=4, dropout=0.0)
PROGRESS = {"epoch": 3, "step": 77, "best_dev_wer": 0.25, "best_epoch": 2}


def trained() -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """A model and an optimizer that has taken three steps with gradients of very different sizes."""
    model = randomise(build("conformer", CONFIG))
    optimizer = keras.optimizers.AdamW(1e-3, beta_2=0.98)
    rng = np.random.default_rng(0)
    for _ in range(3):
        gradients = [
            keras.ops.convert_to_tensor(
                10.0 ** rng.uniform(-6, 0) * rng.standard_normal(v.shape).astype(np.float32)
            )
            for v in model.trainable_variables
        ]
        optimizer.apply(gradients, model.trainable_variables)
    return model, optimizer


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory):
    model, optimizer = trained()
    path = tmp_path_factory.mktemp("state") / "m.state.npz"
    save_state(path, model, optimizer, PROGRESS)
    fresh, empty = build("conformer", CONFIG), keras.optimizers.AdamW(1e-3, beta_2=0.98)
    progress = load_state(path, fresh, empty)
    return path, model, optimizer, fresh, empty, progress


def test_weights_and_progress_come_back_exactly(state) -> None:
    _, model, optimizer, fresh, empty, progress = state
    assert progress == PROGRESS
    for one, two in zip(model.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert int(empty.iterations) == int(optimizer.iterations) == 3


def test_moments_come_back_nearly(state) -> None:
    """3 mantissa bits for the first moment, 2 for the root of the second; nothing grows from zero to much."""
    _, _, optimizer, _, empty, _ = state
    names = [[v.path.partition("/")[2] for v in one.variables] for one in (optimizer, empty)]
    assert names[0] == names[1]
    for old, new in zip(optimizer.variables, empty.variables, strict=True):
        one, two = (np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in (old, new))
        if old.path.endswith("momentum"):
            top = np.abs(one).max()
            assert (np.abs(one - two) <= np.abs(one) / 16 + top * 2**-14).all()
        elif old.path.endswith("velocity"):
            top = np.sqrt(one).max()
            assert (np.abs(np.sqrt(one) - np.sqrt(two)) <= np.sqrt(one) / 8 + top * 2**-14).all()
            assert (two > 0).all()


def test_the_file_takes_six_bytes_a_parameter(state) -> None:
    """Scales and names apart, of which a model of this size has the more."""
    path, model, *_ = state
    overhead = 600 * (len(model.weights) * 5)
    assert path.stat().st_size <= 6.2 * model.count_params() + overhead
    with np.load(path) as stored:
        assert sum(stored[name].nbytes for name in stored.files) <= 6.2 * model.count_params()


def test_a_kill_while_writing_leaves_the_old_state(state, monkeypatch: pytest.MonkeyPatch) -> None:
    path, model, optimizer, *_ = state
    before = path.read_bytes()

    def die(out, **arrays) -> None:
        out.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", die)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, model, optimizer, {})
    assert path.read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_damaged_state_is_one_line(state, tmp_path: Path, share: float) -> None:
    data = state[0].read_bytes()
    (tmp_path / "m.state.npz").write_bytes(data[: int(share * len(data))])
    with pytest.raises(TfliteAsrError) as caught:
        load_state(tmp_path / "m.state.npz", build("conformer", CONFIG), keras.optimizers.AdamW(1e-3))
    assert "is damaged or belongs to another model" in str(caught.value)
    assert "remove it to train from the start" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_is_found(state, tmp_path: Path) -> None:
    data = bytearray(state[0].read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "m.state.npz").write_bytes(bytes(data))
    with pytest.raises(TfliteAsrError, match="is damaged"):
        load_state(tmp_path / "m.state.npz", build("conformer", CONFIG), keras.optimizers.AdamW(1e-3))


def test_the_state_of_another_model_is_refused(state) -> None:
    with pytest.raises(TfliteAsrError, match="belongs to another model"):
        load_state(state[0], build("conformer", replace(CONFIG, dim=32)), keras.optimizers.AdamW(1e-3))
    with pytest.raises(TfliteAsrError, match="belongs to another model"):
        load_state(state[0], build("conformer", replace(CONFIG, blocks=1)), keras.optimizers.AdamW(1e-3))
