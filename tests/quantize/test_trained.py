"""Low-bit weights and ranges as a file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.ranges import Range, Ranges
from tflite_asr.quantize.trained import Trained, digest

ONE = Trained(
    {"b/conv:1": np.ones((2, 3), np.float32), "a/dense:1": np.zeros(4, np.float32)},
    {"b/conv:1": "1", "a/dense:1": "2"},
    Ranges({"a/dense": Range(-1.0, 2.0, "qat", "ctc")}),
    {"steps": 3},
)


def test_it_comes_back_and_the_same_content_gives_the_same_bytes(tmp_path):
    path = ONE.save(tmp_path / "one.npz")
    again = Trained.load(path)
    assert again.began == ONE.began
    assert again.ranges == ONE.ranges
    assert again.how == ONE.how
    assert all(np.array_equal(again.weights[name], ONE.weights[name]) for name in ONE.weights)
    assert again.save(tmp_path / "two.npz").read_bytes() == path.read_bytes()


def test_what_is_no_such_file_is_refused_in_one_line(tmp_path):
    with pytest.raises(TfliteAsrError, match="no such file"):
        Trained.load(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(TfliteAsrError, match="is damaged"):
        Trained.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", clip0=np.zeros(3))
    with pytest.raises(TfliteAsrError, match="holds no low-bit weights"):
        Trained.load(tmp_path / "other.npz")


def test_a_newer_schema_asks_for_a_newer_package(tmp_path, monkeypatch):
    monkeypatch.setattr("tflite_asr.quantize.trained.SCHEMA", "2.0")
    path = ONE.save(tmp_path / "new.npz")
    monkeypatch.undo()
    with pytest.raises(TfliteAsrError, match="install a newer tflite_asr"):
        Trained.load(path)


def test_a_digest_is_of_values_not_of_shapes():
    values = np.arange(6, dtype=np.float32)
    assert digest(values) == digest(values.reshape(2, 3)) != digest(values + 1)
    assert replace(ONE, how={}) != ONE
