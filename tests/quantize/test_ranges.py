from __future__ import annotations

import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.ranges import Range, Ranges


def test_the_seventh_digit_does_not_count():
    one = Ranges({"a": Range(-1.2345678, 2.0), "b": Range(0, 1e-7 / 3)})
    other = Ranges({"b": Range(0, 1e-7 / 3 * (1 + 1e-9)), "a": Range(-1.2345679, 2.0000000001)})
    assert one == other
    assert one.sha256 == other.sha256


def test_json_round_trip():
    ranges = Ranges({"encoder.block0/add": Range(-3.25, 1 / 3, "calibration:min_max", "ctc")})
    again = Ranges.from_json(ranges.to_json())
    assert again == ranges
    assert again.sha256 == ranges.sha256
    assert again["encoder.block0/add"].signature == "ctc"


def test_a_range_is_finite_and_ordered():
    for low, high in ((1, 0), (0, float("nan")), (float("-inf"), 0)):
        with pytest.raises(TfliteAsrError, match="not a finite interval"):
            Range(low, high)


def test_other_json_is_one_line():
    for text in ("", "[]", '{"a": 3}', '{"a": [0, 1, 2, 3, 4, 5]}'):
        with pytest.raises(TfliteAsrError, match=r"^ranges: "):
            Ranges.from_json(text)
