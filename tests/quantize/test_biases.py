from __future__ import annotations

import numpy as np

from tests.quantize.conftest import SUBSAMPLING
from tflite_asr.quantize.biases import correct, corrected_products, mean_errors
from tflite_asr.quantize.calibrate import lay_into_windows
from tflite_asr.quantize.running import outputs_of

PUSHED = "encoder.block0.ff2.dense2/fully_connected"


def laid(room):
    data = {name: window.data for name, window in room.floats.items()}
    sequences = lay_into_windows(room.inputs[:3], data, SUBSAMPLING)["ctc_80"]
    return data, [step for sequence in sequences for step in sequence]


def test_a_bias_that_was_pushed_away_is_found_and_brought_back(room):
    data, feeds = laid(room)
    good = room.quantised["ctc_80"]
    assert PUSHED in corrected_products(good)
    push = np.zeros(int(np.shape(mean_of(good, room))[-1]))
    push[3] = 0.5
    bad = correct(good, {PUSHED: push})  # half too low in one channel
    found = mean_errors(data, "ctc_80", feeds, bad)
    assert PUSHED in found
    assert np.abs(found[PUSHED] + push).max() < 0.05
    mended = correct(bad, {PUSHED: found[PUSHED]})
    exact, broken, whole = (
        np.stack([one["logits"] for one in outputs_of(each, "ctc_80", feeds)])
        for each in (data["ctc_80"], bad, mended)
    )
    assert np.square(whole - exact).sum() < 0.5 * np.square(broken - exact).sum()


def mean_of(data: bytes, room) -> np.ndarray:
    from tflite_asr.quantize.serialize import read_model, text

    (graph,) = read_model(data).subgraphs
    shape = next(tuple(tensor.shape) for tensor in graph.tensors if text(tensor.name) == PUSHED)
    return np.zeros(shape)


def test_errors_that_are_no_means_are_left_alone(room):
    data, feeds = laid(room)
    found = mean_errors(data, "ctc_80", feeds, room.quantised["ctc_80"])
    assert len(found) < len(corrected_products(room.quantised["ctc_80"])) / 2


def test_no_corrections_change_no_byte(room):
    assert correct(room.quantised["ctc_80"], {}) == room.quantised["ctc_80"]
