from __future__ import annotations

import numpy as np
import pytest

from tests.quantize.conftest import SUBSAMPLING
from tflite_asr.quantize.calibrate import calibrate, lay_into_windows, observe, ranges_of, time_axes
from tflite_asr.quantize.calibrators import CALIBRATORS, MIN_MAX, Calibrator
from tflite_asr.quantize.kept_whole import Kept, kept_whole
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.observed import Observed
from tflite_asr.quantize.serialize import read_model, text

HALF = Calibrator("half", lambda seen: (seen.real_minimum / 2, seen.real_maximum / 2))


def test_what_goes_into_an_exponential_or_the_world_keeps_its_extremes(room):
    data = {name: window.data for name, window in room.floats.items()}
    sequences = lay_into_windows(room.inputs, data, SUBSAMPLING)
    seen, kept = observe(data, sequences), kept_whole(data.values())
    exact, clipped = ranges_of(seen, MIN_MAX, kept), ranges_of(seen, HALF, kept)
    logits = room.floats["ctc_80"].tensors["ctc.dense"][-1]
    assert {"features", logits} <= kept.whole - kept.wider
    assert {name for name in exact if name.endswith("/reduce_max")} <= kept.whole - kept.wider
    for name in kept.whole & set(exact):
        assert clipped[name] == exact[name]
    for name in (kept.whole - kept.wider - kept.masked) & set(exact):
        assert (seen[name].real_minimum, seen[name].real_maximum) == pytest.approx(
            (exact[name].minimum, exact[name].maximum), rel=1e-5
        )
    other = next(name for name in exact if name.endswith("ff1.dense1/fully_connected"))
    assert clipped[other].maximum == pytest.approx(seen[other].real_maximum / 2, rel=1e-5)
    assert clipped[other].source == "calibration:half"


def test_what_is_only_moved_into_a_logarithm_keeps_its_extremes_too(room):
    data = room.floats["ctc_80"].data
    model, whole = read_model(data), kept_whole([data]).whole
    (graph,) = model.subgraphs
    moves = [one for one in graph.operators if op_name(model, one) in ("PACK", "CONCATENATION", "MINIMUM")]
    followed = [one for one in moves if text(graph.tensors[one.outputs[0]].name) in whole]
    assert followed
    for operator in followed:
        assert {text(graph.tensors[index].name) for index in operator.inputs} <= whole


def test_what_scales_a_frame_has_room_for_louder_ones(room):
    """The variance of a centred norm and all between it and the root; not the scores, nor the values that it scales."""
    data = {name: window.data for name, window in room.floats.items()}
    seen, kept = observe(data, lay_into_windows(room.inputs, data, SUBSAMPLING)), kept_whole(data.values())
    norm = [name for name in seen if name.startswith("encoder.block0.ff1.norm/")]
    scale = {
        name for name in norm if name.rpartition("/")[2] in ("fully_connected", "add", "log", "mul_1", "exp")
    }
    assert len(scale) == 4
    assert scale <= kept.wider
    assert not kept.wider & (set(norm) - scale)
    assert not {name for name in kept.wider if name.endswith(("/elu", "/sub", "/reduce_max"))}
    found = ranges_of(seen, MIN_MAX, kept)
    for name in scale:
        assert found[name].maximum == pytest.approx(
            max(1.25 * seen[name].maximum, seen[name].maximum), rel=1e-5
        )


def test_one_pass_serves_every_calibrator(room):
    data = {"ctc_80": room.floats["ctc_80"].data}
    sequences = lay_into_windows(room.inputs[:2], data, SUBSAMPLING)
    seen = observe(data, sequences)
    for one in CALIBRATORS.values():
        assert ranges_of(seen, one, kept_whole(data.values())) == calibrate(data, sequences, calibrator=one)


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
    (graph,) = read_model(room.floats["ctc_80"].data).subgraphs
    return next(tuple(tensor.shape) for tensor in graph.tensors if text(tensor.name) == name)


def test_what_padding_holds_counts_where_a_mask_is_put_to_use_and_nowhere_else():
    one = Observed("ctc")
    values = np.linspace(-1, 1, 80, dtype=np.float32).reshape(1, 20, 4)
    values[:, 15:] = -500.0
    one.add(values, (slice(None), slice(15), slice(None)))
    for name, calibrator in CALIBRATORS.items():
        found = ranges_of({"scores": one}, calibrator, Kept(masked=frozenset({"scores"})))["scores"]
        assert found.minimum == -500.0, name
        assert ranges_of({"scores": one}, calibrator)["scores"].minimum >= -1.0, name


def test_a_mask_is_followed_to_where_it_is_used(room):
    masked = kept_whole([room.floats["ctc_80"].data]).masked
    assert "mask" in masked
    assert any(name.endswith("conv.mask/mul") for name in masked)
    assert not {name for name in masked if name.endswith(("depthwise_conv_2d", "add/add"))}
