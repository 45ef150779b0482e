from __future__ import annotations

import numpy as np
import pytest

from tests.quantize.conftest import SUBSAMPLING, smooth_inputs
from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.calibrate import calibrate, lay_into_windows
from tflite_asr.quantize.calibrators import Calibrator


def test_inputs_lie_in_the_smallest_window_that_fits(room):
    data = {name: window.data for name, window in room.floats.items()}
    sequences = lay_into_windows(smooth_inputs((80, 81, 7, 150)), data, SUBSAMPLING)
    assert [len(sequences[name]) for name in ("ctc_80", "ctc_120")] == [3, 2]  # 150 frames are 120 and 30
    ((step,),) = sequences["ctc_80"][1:2]
    assert step["features"].shape == (1, 80, 80)
    assert step["features"][0, 7:].max() == 0
    assert step["mask"].shape == (1, 20)
    assert step["mask"].sum() == 2


def test_a_window_that_nothing_falls_into_gets_the_inputs_joined(room):
    data = {name: window.data for name, window in room.floats.items()}
    sequences = lay_into_windows(smooth_inputs((30, 40)), data, SUBSAMPLING)
    ((step,),) = sequences["ctc_120"]
    assert step["mask"].all()
    assert step["features"][0, 119].any()


def test_ranges_are_the_extremes_that_keras_computes():
    import keras

    from tflite_asr.quantize.convert import convert

    keras.utils.set_random_seed(3)
    source = keras.Input((20, 6), name="features")
    hidden = keras.layers.Dense(9, activation="tanh", name="hidden")(source)
    model = keras.Model(source, keras.layers.Dense(4, name="last")(hidden))
    window = convert(model, None)
    inputs = smooth_inputs((20, 13), 6)
    padded = [np.pad(one, ((0, 20 - len(one)), (0, 0)))[None] for one in inputs]
    ranges = calibrate({"main": window.data}, lay_into_windows(inputs, {"main": window.data}))
    last = np.concatenate([np.asarray(model(one)) for one in padded])
    found = ranges[window.tensors["last"][-1]]
    np.testing.assert_allclose([found.minimum, found.maximum], [last.min(), last.max()], rtol=1e-4)
    assert ranges["features"].maximum == pytest.approx(max(one.max() for one in inputs), rel=1e-5)
    assert found.source == "calibration:min_max"
    assert found.signature == "main"


def test_every_activation_of_every_window_has_a_range(room):
    for window in room.floats.values():
        assert {name for some in window.tensors.values() for name in some} <= set(room.ranges)
    assert room.ranges["features"].signature == "ctc"


def test_state_is_carried_from_step_to_step():
    import keras

    from tflite_asr.quantize.convert import convert

    step, state = keras.Input((1, 4), name="step"), keras.Input((1, 4), name="state")
    total = keras.layers.Add(name="total")([step, state])
    window = convert(keras.Model({"step": step, "state": state}, {"next": total}), None)
    one = np.ones((1, 1, 4), np.float32)
    first = {"step": one, "state": np.zeros_like(one)}
    ranges = calibrate(
        {"main": window.data}, {"main": [[first, {"step": one}, {"step": one}]]}, {"next": "state"}
    )
    assert ranges["state"].maximum == 2
    assert max(one.maximum for name, one in ranges.items() if name.startswith("total/")) == 3


def test_a_calibrator_is_a_small_function(room):
    data = {"ctc_80": room.floats["ctc_80"].data}
    half = Calibrator("half", lambda seen: (seen.real_minimum / 2, seen.real_maximum / 2))
    inputs = lay_into_windows(room.inputs[:2], data, SUBSAMPLING)
    narrow, wide = calibrate(data, inputs, calibrator=half), calibrate(data, inputs)
    hidden = next(name for name in wide if name.endswith("ff1.dense1/fully_connected"))
    assert narrow[hidden].maximum == pytest.approx(wide[hidden].maximum / 2, rel=1e-5)
    assert narrow[hidden].source == "calibration:half"


def test_a_value_that_is_not_finite_names_its_tensor(room):
    data = {"ctc_80": room.floats["ctc_80"].data}
    with pytest.raises(TfliteAsrError, match="tensor 'features'"):
        calibrate(data, lay_into_windows([np.full((40, 80), np.inf, np.float32)], data, SUBSAMPLING))


def test_an_input_that_is_missing_is_named():
    import keras

    from tflite_asr.quantize.convert import convert

    left, right = keras.Input((5, 3), name="left"), keras.Input((5, 3), name="right")
    window = convert(keras.Model([left, right], keras.layers.Add()([left, right])), None)
    with pytest.raises(TfliteAsrError, match="takes 'right'"):
        lay_into_windows([np.zeros((5, 3), np.float32)], {"main": window.data})
    with pytest.raises(TfliteAsrError, match="'left' has shape"):
        lay_into_windows([{"left": np.zeros((9, 3)), "right": np.zeros((5, 3))}], {"main": window.data})
