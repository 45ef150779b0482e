from __future__ import annotations

import numpy as np

from tests.quantize.conftest import SUBSAMPLING
from tflite_asr.quantize.calibrate import calibrate, lay_into_windows, observe, ranges_of, time_axes
from tflite_asr.quantize.calibrators import CALIBRATORS, Calibrator
from tflite_asr.quantize.kept_whole import kept_whole

HALF = Calibrator("half", lambda seen: (seen.real_minimum / 2, seen.real_maximum / 2))


def test_what_goes_into_an_exponential_a_mean_or_the_world_keeps_its_extremes(room):
    data = {name: window.data for name, window in room.floats.items()}
    sequences = lay_into_windows(room.inputs, data, SUBSAMPLING)
    exact, clipped = calibrate(data, sequences), calibrate(data, sequences, calibrator=HALF)
    whole = kept_whole(data.values())
    logits = room.floats["ctc_80"].tensors["ctc.dense"][-1]
    assert {"features", logits} <= whole
    assert {name for name in exact if name.endswith("/log")} <= whole
    for name in whole & set(exact):
        assert (clipped[name].minimum, clipped[name].maximum) == (exact[name].minimum, exact[name].maximum)
        assert clipped[name].source == "calibration:min_max"
    other = next(name for name in exact if name.endswith("ff1.dense1/fully_connected"))
    assert clipped[other].maximum < exact[other].maximum
    assert clipped[other].source == "calibration:half"


def test_one_pass_serves_every_calibrator(room):
    data = {"ctc_80": room.floats["ctc_80"].data}
    sequences = lay_into_windows(room.inputs[:2], data, SUBSAMPLING)
    seen = observe(data, sequences)
    for one in CALIBRATORS.values():
        whole = kept_whole(data.values()) if one.clips else ()
        assert ranges_of(seen, one, whole) == calibrate(data, sequences, calibrator=one)


def test_time_is_the_axis_that_grows_with_the_window(room):
    axes = time_axes(window.data for window in room.floats.values())
    assert axes["features"] == (1,)
    scores = next(name for name in axes if name.endswith("/reduce_max"))
    assert axes[scores.replace("reduce_max", "sub")][-2:]  # queries and keys
    assert set(time_axes([room.floats["ctc_80"].data]).values()) == {()}


def test_padding_does_not_move_a_range_that_clips(room):
    """The same clip, alone in its window and followed by emptiness."""
    data = {name: window.data for name, window in room.floats.items()}
    clip = room.inputs[2][:40]
    mse = CALIBRATORS["mse"]
    ((step,),) = lay_into_windows([clip], data, SUBSAMPLING)["ctc_80"]
    seen = observe(data, {"ctc_80": [[step]]})
    hidden = next(name for name in seen if name.endswith("ff1.dense1/fully_connected"))
    total = seen[hidden].counts.sum() + seen[hidden].zeros
    whole_window = np.prod(room_shape(room, hidden))
    assert total == whole_window / 2
    assert ranges_of(seen, mse)[hidden].maximum <= seen[hidden].maximum


def room_shape(room, name: str) -> tuple[int, ...]:
    from tflite_asr.quantize.serialize import read_model, text

    (graph,) = read_model(room.floats["ctc_80"].data).subgraphs
    return next(tuple(tensor.shape) for tensor in graph.tensors if text(tensor.name) == name)


def test_what_padding_holds_beyond_real_frames_is_kept():
    from tflite_asr.quantize.observed import Observed

    one = Observed("ctc")
    values = np.linspace(-1, 1, 80, dtype=np.float32).reshape(1, 20, 4)
    values[:, 15:] = -500.0
    one.add(values, (slice(None), slice(15), slice(None)))
    found = ranges_of({"scores": one}, CALIBRATORS["percentile"])["scores"]
    assert found.minimum == -500.0
    assert found.maximum < 0.6
