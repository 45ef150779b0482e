from __future__ import annotations

import numpy as np
import pytest

from tests.quantize.conftest import random_feed, run
from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import read_flatbuffer
from tflite_asr.quantize.finish import finish
from tflite_asr.quantize.quantizer import quantize
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.windows import merge


@pytest.mark.parametrize("name", ["float32", "dynamic_wi8_afp32", "static_wi8_ai8"])
def test_each_window_computes_what_its_own_file_computes(room, name):
    parts = {
        signature: finish(quantize(window.data, room.ranges, (), scheme(name)), room.ranges)
        for signature, window in room.floats.items()
    }
    merged = merge(list(parts.values()))
    for kernels in ("BUILTIN", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"):
        for signature, data in parts.items():
            feed = random_feed(data, signature, seed=3)
            own, shared = (run(one, signature, feed, kernels)["logits"] for one in (data, merged))
            np.testing.assert_array_equal(own, shared)


def test_a_second_window_costs_little(room):
    parts = list(room.finished.values())
    assert len(merge(parts)) < len(parts[0]) + 0.35 * len(parts[1])
    weights = [
        size for kind, size in read_flatbuffer(parts[0]).spans.values() if kind == "constants" and size > 64
    ]
    both = [
        size
        for kind, size in read_flatbuffer(merge(parts)).spans.values()
        if kind == "constants" and size > 64
    ]
    assert sorted(weights) == sorted(both), "every weight is stored once"


def test_signatures_keep_their_order(room):
    parts = list(room.finished.values())[::-1]
    assert [one.name for one in read_flatbuffer(merge(parts)).signatures] == ["ctc_120", "ctc_80"]


def test_a_window_given_twice_is_named(room):
    with pytest.raises(TfliteAsrError, match="'ctc_80' is in two parts"):
        merge([room.finished["ctc_80"], room.finished["ctc_80"]])
    with pytest.raises(TfliteAsrError, match="at least one"):
        merge([])
