"""Augmentation of log-mels does to features what the same change of the audio would do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tflite_asr.frontend import FrontEnd, log_mel
from tflite_asr.training.augment import add_gain, augment, spec_augment, warp
from tflite_asr.training.recipe import Augmentation

FRONTEND = FrontEnd()


def noise(seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(round(seconds * 16000))).astype(np.float32)


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * 16000)) / 16000)).astype(np.float32)


@pytest.mark.parametrize("gain_db", [-30.0, -6.0, 0.0, 12.0])
def test_gain_is_what_the_front_end_gives_for_scaled_audio(gain_db: float) -> None:
    """The guard stays where it is, so quiet mels do not simply move."""
    audio = noise(level=1e-3)
    scaled = log_mel((audio * 10 ** (gain_db / 20)).astype(np.float32), FRONTEND)
    np.testing.assert_allclose(
        add_gain(log_mel(audio, FRONTEND), gain_db, FRONTEND.log_guard), scaled, atol=2e-3
    )


def test_gain_leaves_digital_silence_at_the_guard() -> None:
    silence = log_mel(np.zeros(1600, np.float32), FRONTEND)
    np.testing.assert_allclose(add_gain(silence, 12.0, FRONTEND.log_guard), silence, atol=1e-3)


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.0, 1.1, 1.25])
def test_speed_divides_the_frames(speed: float) -> None:
    features = log_mel(noise(2.0), FRONTEND)
    assert len(warp(features, speed, 1.0, FRONTEND)) == int(len(features) / speed)


def test_no_warp_changes_nothing() -> None:
    features = log_mel(noise(), FRONTEND)
    np.testing.assert_allclose(warp(features, 1.0, 1.0, FRONTEND), features, atol=1e-4)


@pytest.mark.parametrize(("speed", "vocal_tract"), [(1.25, 1.0), (1.0, 1.25), (0.8, 1.0)])
def test_a_partial_moves_to_its_new_frequency(speed: float, vocal_tract: float) -> None:
    """A tone of f Hz ends in the mel where the front end puts f * speed * vocal_tract Hz."""
    moved = warp(log_mel(tone(2000), FRONTEND), speed, vocal_tract, FRONTEND).mean(axis=0)
    played = log_mel(tone(2000 * speed * vocal_tract), FRONTEND).mean(axis=0)
    assert abs(int(moved.argmax()) - int(played.argmax())) <= 1


def test_a_sound_in_time_moves_with_the_speed() -> None:
    audio = np.concatenate([np.zeros(8000), noise(0.25), np.zeros(8000)]).astype(np.float32)
    features = warp(log_mel(audio, FRONTEND), 1.25, 1.0, FRONTEND)
    loud = np.flatnonzero(features.mean(axis=1) > -12)
    assert loud[0] * 1.25 == pytest.approx(49, abs=2)
    assert loud[-1] * 1.25 == pytest.approx(74, abs=2)


def test_spec_augment_zeroes_bands_and_stretches_in_place() -> None:
    settings = Augmentation(frequency_masks=1, frequency_width=10, time_masks=1, time_fraction=0.2)
    rng = np.random.default_rng(3)
    features = np.ones((100, 80), np.float32)
    assert spec_augment(features, settings, rng) is features
    bands, stretches = (features == 0).all(axis=0), (features == 0).all(axis=1)
    assert 0 < bands.sum() <= 10
    assert 0 < stretches.sum() <= 20
    assert np.ptp(np.flatnonzero(bands)) == bands.sum() - 1
    assert (features[~stretches][:, ~bands] == 1).all()


def test_spec_augment_can_take_the_shortest_clip() -> None:
    for seed in range(20):
        spec_augment(
            np.ones((1, 80), np.float32), Augmentation(time_fraction=1.0), np.random.default_rng(seed)
        )


def test_the_same_seed_gives_the_same_features_and_another_one_others() -> None:
    features, settings = log_mel(noise(), FRONTEND), Augmentation()
    one, two, other = (
        augment(features, settings, FRONTEND, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert one.dtype == np.float32
    assert one.shape != other.shape or np.abs(one - other).max() > 0.1


def test_without_ranges_only_noise_is_added() -> None:
    still = replace(Augmentation(), gain_db=(0, 0), speed=(1, 1), vocal_tract=(1, 1), noise_db=(-300, -300))
    features = log_mel(noise(), FRONTEND)
    for seed in range(4):
        found = augment(features, still, FRONTEND, np.random.default_rng(seed))
        np.testing.assert_allclose(found, features, atol=1e-3)
