"""Which weights become zeros, and when."""

from __future__ import annotations

import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.qat.settings import Settings

WEIGHTS = np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)


def test_the_smallest_go_and_more_of_them_the_later():
    from tflite_asr.qat.pruning import Pruning

    pruning = Pruning(Settings(steps=100, sparsity="0.5"))
    gone = [int((pruning.kept(WEIGHTS, step) == 0).sum()) for step in (0, 10, 25, 50, 80)]
    # PolynomialDecay's cubic: .5 - .5 (1 - step / 50)^3 of 48 weights.
    assert gone == [0, 12, 21, 24, 24]
    kept = pruning.kept(WEIGHTS, 50)
    assert np.abs(WEIGHTS[kept == 0]).max() < np.abs(WEIGHTS[kept == 1]).min()


def test_two_of_every_four_along_the_inputs_stay():
    from tflite_asr.qat.pruning import Pruning

    pruning = Pruning(Settings(steps=100, sparsity="2:4"))
    for weights in (WEIGHTS, np.random.default_rng(1).standard_normal((3, 3, 8, 5)).astype(np.float32)):
        kept = pruning.kept(weights, 0)
        fours = np.moveaxis(kept, -1, 0).reshape(-1, 4)
        assert (fours.sum(axis=1) == 2).all()


def test_zeros_are_chosen_before_the_first_step_and_stay_in_the_last():
    steps = Settings(steps=100, sparsity="0.3").prune_steps()
    assert steps[0] == 0
    assert steps[-1] == 50
    assert Settings(steps=100).prune_steps() == ()


@pytest.mark.parametrize("sparsity", ["half", "0", "1", "1:4", ""])
def test_what_is_no_share_is_refused(sparsity):
    with pytest.raises(TfliteAsrError, match="give a share between 0 and 1, or 2:4"):
        Settings(sparsity=sparsity)
