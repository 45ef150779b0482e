"""What the table of op versions says of a file; that it is true of TFLite 2.14 is tried in test_old_runtime.py."""

from __future__ import annotations

import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import BUILTIN_OPS
from tflite_asr.quantize.ops import HYBRID_VERSIONS, INT8_VERSIONS
from tflite_asr.releases import RELEASES, age, first_release, known_runtime, newest, require_release


def test_releases_are_numbers_and_ops_are_the_schemas() -> None:
    assert set(RELEASES) <= set(BUILTIN_OPS)
    assert all(age(release) for releases in RELEASES.values() for release in releases if release != "-")


@pytest.mark.parametrize(
    ("op", "version", "release"),
    [
        ("CONV_2D", 1, "1.5"),
        ("EXP", 2, "2.12"),
        ("LOG", 2, "2.15"),
        ("FULLY_CONNECTED", 12, "2.17"),
        ("BROADCAST_TO", 1, None),
        ("FULLY_CONNECTED", 99, None),
        ("NO_SUCH_OP", 1, None),
        ("ADD", 0, None),
    ],
)
def test_an_op_version_has_one_first_release(op: str, version: int, release: str | None) -> None:
    assert first_release(op, version) == release


def test_every_version_that_is_written_is_in_the_table() -> None:
    written = {*INT8_VERSIONS.items(), *((op, v) for op, both in HYBRID_VERSIONS.items() for v in both)}
    assert {(op, v) for op, v in written if first_release(op, v) is None} == {
        ("SQRT", 2)
    }  # later than the table


def test_the_newest_op_decides_and_2_9_is_older_than_2_14() -> None:
    assert newest({"GELU": 2, "ADD": 1, "SLICE": 6}) == ("2.14", "SLICE", 6)
    assert newest({"LOG": 2, "SQRT": 2}) == (None, "SQRT", 2)
    assert newest({}) is None


def test_a_file_that_is_too_new_is_refused_with_op_version_and_mend() -> None:
    require_release("model.tflite", [("LOG", 1), ("GATHER", 2)], "2.14")
    with pytest.raises(
        TfliteAsrError, match=r"^model.tflite: .* 2.14: LOG version 2, .* TFLite 2.15; .*scheme"
    ):
        require_release("model.tflite", [("ADD", 2), ("LOG", 2)], "2.14")
    with pytest.raises(TfliteAsrError, match="SQRT version 2, which came later than TFLite"):
        require_release("model.tflite", [("SQRT", 2)], "2.14")


def test_a_runtime_that_no_file_is_written_for_is_refused() -> None:
    assert known_runtime("2.14") == "2.14"
    with pytest.raises(TfliteAsrError, match=r"'2.13'.*give 2.14"):
        known_runtime("2.13")
