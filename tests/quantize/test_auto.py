from __future__ import annotations

import numpy as np
import pytest

from tests.quantize.conftest import SUBSAMPLING
from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.auto import (
    HEARD,
    OutputError,
    choose,
    clear_winner,
    heard_otherwise,
    hold_back,
    trial,
)
from tflite_asr.quantize.calibrators import CALIBRATORS, Calibrator
from tflite_asr.quantize.schemes import scheme

TOO_NARROW = Calibrator("tenth", lambda seen: (seen.real_minimum / 10, seen.real_maximum / 10))


def test_every_fourth_input_is_held_back():
    inputs = [np.full((1, 1), number) for number in range(9)]
    rest, held = hold_back(inputs)
    assert [int(one[0, 0]) for one in held] == [3, 7]
    assert len(rest) == 7
    assert [int(one[0, 0]) for one in hold_back(inputs[:2])[1]] == [1]
    with pytest.raises(TfliteAsrError, match="one must be held back"):
        hold_back(inputs[:1])


def test_the_trial_takes_one_window_and_all_that_is_held_back(room):
    data = {name: window.data for name, window in room.floats.items()}
    signature, feeds = trial([room.inputs[number] for number in (0, 1, 3)], data, SUBSAMPLING)
    assert signature == "ctc_80"  # 50 and 80 frames fall into it, 120 are cut
    assert [feed["mask"].sum() * SUBSAMPLING for feed in feeds] == [52, 80, 80, 40]


def test_the_calibrator_of_least_output_error_is_chosen(room):
    data = {name: window.data for name, window in room.floats.items()}
    table = {"tenth": TOO_NARROW, "min_max": CALIBRATORS["min_max"]}
    found = choose(data, room.inputs, scheme("int8"), subsampling=SUBSAMPLING, calibrators=table)
    assert found.calibrator.name == "min_max"
    assert set(found.scores) == set(HEARD)
    assert all(scores["min_max"] > scores["tenth"] + 3 for scores in found.scores.values())
    assert found == choose(data, room.inputs, scheme("int8"), subsampling=SUBSAMPLING, calibrators=table)
    told = found.provenance()
    assert told["window"] == found.signature
    means = [scores["tenth"] for scores in found.scores.values()]
    assert told["scores_db"]["tenth"] == pytest.approx(np.mean(means), abs=0.005)


def test_clips_are_heard_unlike_what_calibrates():
    held = [np.array([[1.0, 3.0]], np.float32), np.array([[5.0, 7.0]], np.float32)]
    found = heard_otherwise(held)
    np.testing.assert_array_equal(found["as they are"], held)
    step = np.float32(np.sqrt(5.0) / 2)  # half of their deviation
    np.testing.assert_allclose(found["louder"], np.stack(held) + step, rtol=1e-6)
    np.testing.assert_allclose(found["quieter"], np.stack(held) - step, rtol=1e-6)
    np.testing.assert_allclose(found["more contrast"], 4 + 1.25 * (np.stack(held) - 4), rtol=1e-6)
    by_name = [{"features": held[0], "pitch": held[1]}]
    assert heard_otherwise(by_name) == {"as they are": by_name}


def test_a_model_against_itself_is_at_the_ceiling_and_its_int8_is_not(room):
    data = {name: window.data for name, window in room.floats.items()}
    signature, feeds = trial(room.inputs[:2], data, SUBSAMPLING)
    error = OutputError(data, signature, feeds)
    np.testing.assert_array_equal(error.snr_db(data[signature]), 120.0)
    assert 5 < error.snr_db(room.finished[signature]).mean() < 60


def test_few_clips_do_not_unseat_the_first():
    first = np.array([20.0, 20.0, 20.0])
    assert clear_winner({"a": first, "b": first + np.array([3.0, -2.0, -0.5])}) == "a"
    assert clear_winner({"a": first, "b": first + np.array([1.0, 1.2, 0.8])}) == "b"
    assert clear_winner({"a": first, "b": first}) == "a"


def test_another_must_win_clearly_in_every_way_of_hearing():
    first, clips = np.full(4, 20.0), np.array([0.9, 1.1, 1.0, 1.0])
    near = {"a": first, "b": first + clips, "c": first + 2 * clips}
    far = {"a": first, "b": first + 0.7 * clips, "c": first - clips}
    assert clear_winner(near) == "c"
    assert clear_winner(near, far) == "b"  # c loses in one
    assert clear_winner(near, far, margin=0.5) == "b"
    assert clear_winner(near, far, margin=0.8) == "a"
