from __future__ import annotations

import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.schemes import SCHEMES, scheme


def test_int8_is_short_for_static():
    assert scheme("int8") is SCHEMES["static_wi8_ai8"]
    assert scheme("int8").needs_ranges
    assert scheme("int8").lowered


def test_float_schemes_keep_the_author_s_graph():
    assert not scheme("float32").lowered
    assert not scheme("dynamic_wi8_afp32").lowered


def test_an_unknown_scheme_lists_the_known():
    with pytest.raises(TfliteAsrError, match=r"int7.*float32, dynamic_wi8_afp32, static_wi8_ai8, int8"):
        scheme("int7")


def test_bits_are_those_of_the_name():
    for name, one in SCHEMES.items():
        if one.weight_bits:
            assert f"_wi{one.weight_bits}_" in name
        assert name.endswith(
            "afp32" if one.when == "dynamic" else f"ai{one.activation_bits}" if one.activation_bits else "32"
        )
