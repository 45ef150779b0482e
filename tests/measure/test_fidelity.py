"""SNR and argmax agreement against noise of known size."""

from __future__ import annotations

import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.fidelity import CEILING_DB, argmax_agreement, dequantise, snr_db


def test_noise_of_a_tenth_is_twenty_decibels():
    reference = np.random.default_rng(0).standard_normal((50, 29))
    assert snr_db(reference, reference * 1.1) == pytest.approx(20.0)
    assert snr_db(reference, reference * 1.01) == pytest.approx(40.0)


def test_equal_logits_stop_at_the_ceiling():
    reference = np.ones((5, 3), np.float32)
    assert snr_db(reference, reference) == CEILING_DB


def test_rounding_to_a_step_costs_its_square_over_twelve():
    reference = np.random.default_rng(1).standard_normal((4000, 29))
    step = 0.05
    rounded = dequantise(np.clip(np.round(reference / step) + 3, -128, 127).astype(np.int8), step, 3)
    expected = 10 * np.log10(np.mean(reference**2) / (step**2 / 12))
    assert snr_db(reference, rounded) == pytest.approx(expected, abs=0.3)


def test_agreement_counts_frames_with_the_same_best_piece():
    reference = np.eye(4)[[0, 1, 2, 3]]
    assert argmax_agreement(reference, np.eye(4)[[0, 1, 2, 0]]) == (3, 4)


def test_other_shapes_are_refused():
    with pytest.raises(TfliteAsrError, match="float export of the same model"):
        snr_db(np.zeros((4, 3)), np.zeros((5, 3)))
