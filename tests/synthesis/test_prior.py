"""Smooth fields and babble: what they promise about level, smoothness, length and silence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import FrontEnd
from tflite_asr.synthesis.babble import LEVEL_DBFS, babble
from tflite_asr.synthesis.prior import noise_clips, prior_clips
from tflite_asr.synthesis.shapes import ModelInputs, model_inputs
from tflite_asr.synthesis.smooth import smooth_field

SHAPE = ModelInputs(("features", "mask"), (80,), None, 4)


def test_smooth_fields_have_unit_variance_and_are_smooth() -> None:
    fields = [smooth_field(np.random.default_rng(i), (300, 80)) for i in range(30)]
    everything = np.concatenate(fields)
    assert everything.dtype == np.float32
    assert abs(everything.mean()) < 0.1
    assert everything.std() == pytest.approx(1.0, abs=0.06)
    # Blurred by at least two frames and mels, neighbours correlate by exp(-1/(4 x 4)) = .94 or more.
    for axis in (0, 1):
        steps = np.diff(everything.reshape(30, 300, 80), axis=axis + 1)
        assert 1 - 0.5 * np.mean(steps**2) / everything.var() > 0.93
    assert smooth_field(np.random.default_rng(0), (7, 5, 3)).shape == (7, 5, 3)
    assert smooth_field(np.random.default_rng(0), (7,)).shape == (7,)


def test_babble_is_sound_at_the_stated_levels() -> None:
    levels, edges = [], 0
    for seed in range(24):
        clip = babble(np.random.default_rng(seed), 2.0)
        assert clip.dtype == np.float32
        assert len(clip) == 32000
        assert np.abs(clip).max() <= 1.0
        sounding = clip[np.abs(clip) > 0.05 * np.abs(clip).max()]
        levels.append(10 * np.log10(np.mean(sounding.astype(np.float64) ** 2)))
        edges += clip[:160].any() == 0 or clip[-160:].any() == 0
    assert min(levels) > LEVEL_DBFS[0] - 6
    assert max(levels) < LEVEL_DBFS[1] + 6
    assert max(levels) - min(levels) > 15
    assert 4 < edges < 24  # digital silence is there, and not everywhere


def test_babble_moves_like_speech() -> None:
    """Loudness rises and falls several times a second, and voiced stretches have a pitch."""
    clip = babble(np.random.default_rng(3), 8.0)
    blocks = np.sqrt(np.mean(clip[: len(clip) // 800 * 800].reshape(-1, 800) ** 2, axis=1))
    assert blocks.max() > 20 * np.percentile(blocks, 10)
    voiced = 0
    for start in range(0, len(clip) - 1600, 1600):
        part = clip[start : start + 1600] - clip[start : start + 1600].mean()
        correlation = np.correlate(part, part, "full")[1599:]
        lags = correlation[48:220] / max(correlation[0], 1e-12)
        voiced += lags.max() > 0.5
    assert voiced > 10


def test_clips_have_the_lengths_that_a_runtime_meets(facts: ModelFacts) -> None:
    clips = [clip for batch in prior_clips(SHAPE, facts, 0) for clip in batch]
    lengths = sorted({len(clip) for clip in clips})
    assert lengths[0] == 100
    assert lengths[-1] == 1600
    assert all(clip.shape[1] == 80 and len(clip) % 4 == 0 and clip.dtype == np.float32 for clip in clips)
    assert all(np.isfinite(clip).all() for clip in clips)
    silence = (np.log(1e-8) + 11.0) / 4.0
    assert any(np.isclose(clip, silence, atol=1e-3).all(axis=1).any() for clip in clips)


def test_seeds_decide_and_methods_differ(facts: ModelFacts) -> None:
    def joined(batches: list[list[np.ndarray]]) -> np.ndarray:
        return np.concatenate([clip for batch in batches for clip in batch])

    assert np.array_equal(joined(prior_clips(SHAPE, facts, 1)), joined(prior_clips(SHAPE, facts, 1)))
    assert not np.allclose(joined(prior_clips(SHAPE, facts, 1)), joined(prior_clips(SHAPE, facts, 2)))
    white = joined(noise_clips(SHAPE, facts, 1))
    assert white.std() == pytest.approx(1.0, abs=0.01)
    assert abs(np.mean(white[1:] * white[:-1])) < 0.01


def test_an_unnormalised_front_end_gives_fields_of_its_own_scale() -> None:
    facts = ModelFacts("plain", frontend=FrontEnd(), subsampling=4)
    batches = prior_clips(SHAPE, facts, 0)
    fields = np.concatenate([row for rows in batches for row in rows[::2]])
    spoken = np.concatenate([row for rows in batches for row in rows[1::2]])
    assert fields.mean() == pytest.approx(spoken.mean(), abs=1.0)
    assert fields.std() == pytest.approx(spoken.std(), rel=0.25)


def test_shapes_are_read_off_a_model(tiny: Any, own: Any, facts: ModelFacts) -> None:
    assert model_inputs(tiny, facts) == SHAPE
    assert model_inputs(tiny) == SHAPE  # the subsampling is found by trying
    assert model_inputs(own) == ModelInputs(("features",), (20,), 60, 1)
    with pytest.raises(TfliteAsrError, match=r"takes frames of \(20,\), its front end gives 80"):
        prior_clips(model_inputs(own), ModelFacts("own", frontend=FrontEnd()), 0)


def test_batches_cut_pad_and_mask() -> None:
    features, mask = SHAPE.batch([np.ones((6, 80), np.float32), np.ones((20, 80), np.float32)], 16)
    assert features.shape == (2, 16, 80)
    assert features[0, 6:].sum() == 0
    assert features[0, :6].all()
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
