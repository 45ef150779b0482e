"""What sums of squares lose by rounding is found, and taken off."""

from __future__ import annotations

import numpy as np
import pytest

from tests.measure.test_walk import float_model
from tests.quantize.conftest import SUBSAMPLING
from tflite_asr.quantize.biases import correct
from tflite_asr.quantize.calibrate import lay_into_windows
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model, text
from tflite_asr.quantize.squares import corrections_of, rounding_errors

NORM = "encoder.block0.ff2.norm/fully_connected"


@pytest.fixture(scope="module")
def laid(room):
    data = {name: window.data for name, window in room.floats.items()}
    return data, lay_into_windows(room.inputs, data, SUBSAMPLING)


def errors(laid, quantised: bytes) -> dict[str, np.ndarray]:
    data, sequences = laid
    feeds = [step for sequence in sequences["ctc_80"] for step in sequence]
    return rounding_errors(data, "ctc_80", feeds, quantised)


def quantum(data: bytes, name: str) -> float:
    (graph,) = read_model(data).subgraphs
    return next(float(one.quantization.scale[0]) for one in graph.tensors if text(one.name) == name)


def test_every_norm_is_asked_and_no_other_product(room, laid):
    found = errors(laid, room.quantised["ctc_80"])
    norms = {name for name in room.ranges if name.endswith("norm/fully_connected")}
    assert set(found) == norms
    assert all(one.shape == (1,) for one in found.values())


def test_a_sum_that_was_pushed_is_found_to_be_off_by_as_much(room, laid):
    good = room.quantised["ctc_80"]
    step = quantum(good, NORM)
    before, after = (errors(laid, one)[NORM] for one in (good, correct(good, {NORM: np.array([4 * step])})))
    np.testing.assert_allclose(before - after, 4 * step, atol=step / 2)


def test_corrected_sums_err_to_neither_side(room, laid):
    data, sequences = laid
    found = corrections_of(data, sequences, room.ranges, (), scheme("int8"))
    good = room.quantised["ctc_80"]
    left = errors(laid, correct(good, found))
    shares = {name: abs(left[name][0]) / quantum(good, name) for name in found}
    assert max(shares.values()) < 0.3
    assert np.mean(list(shares.values())) < np.mean(
        [abs(one[0]) / quantum(good, name) for name, one in found.items()]
    )


def test_where_nothing_is_squared_nothing_is_quantised_or_corrected(monkeypatch):
    monkeypatch.setattr("tflite_asr.quantize.squares.quantize", lambda *_: pytest.fail("quantised"))
    sequences = {"ctc_4": [[{"features": np.ones((1, 4), np.float32)}]]}
    assert corrections_of({"ctc_4": float_model()}, sequences, Ranges({}), (), scheme("int8")) == {}
