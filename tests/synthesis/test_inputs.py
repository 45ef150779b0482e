"""Calibration inputs on disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.synthesis.inputs import SyntheticInputs, on_grid


@pytest.fixture
def inputs() -> SyntheticInputs:
    clips = [
        np.random.default_rng(i).standard_normal((n, 4)).astype(np.float32) for i, n in enumerate((5, 9))
    ]
    return SyntheticInputs(clips, [{"batch": 0, "step": 0, "loss": 1.25}], "synthetic", 3, 1e9, 5e8, 1)


def test_what_is_saved_comes_back(inputs: SyntheticInputs, tmp_path: Path) -> None:
    read = SyntheticInputs.load(inputs.save(tmp_path / "inputs.npz"))
    assert all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for a, b in zip(read.features, inputs.features, strict=True)
    )
    assert read.curve == inputs.curve
    digest = hashlib.sha256((tmp_path / "inputs.npz").read_bytes()).hexdigest()
    assert read.provenance() == {
        **inputs.provenance(),
        "artefact": {"file": "inputs.npz", "sha256": digest},
    }
    assert read.save(tmp_path / "again.npz").read_bytes() == (tmp_path / "inputs.npz").read_bytes()
    assert json.loads(json.dumps(read.provenance()))["frames"] == 14


def test_the_same_inputs_are_the_same_bytes(inputs: SyntheticInputs, tmp_path: Path) -> None:
    first, second = inputs.save(tmp_path / "a.npz"), inputs.save(tmp_path / "b.npz")
    assert first.read_bytes() == second.read_bytes()


def test_what_cannot_be_written_is_one_line_and_leaves_what_was_there(
    inputs: SyntheticInputs, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(TfliteAsrError, match="cannot be written"):
        inputs.save(tmp_path / "file" / "inputs.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(TfliteAsrError, match=r"folder\.npz: cannot be written"):
        inputs.save(tmp_path / "folder.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.npz"]


def test_broken_files_are_one_line(inputs: SyntheticInputs, tmp_path: Path) -> None:
    path = inputs.save(tmp_path / "inputs.npz")
    whole = path.read_bytes()
    with pytest.raises(TfliteAsrError, match="no such inputs"):
        SyntheticInputs.load(tmp_path / "absent.npz")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TfliteAsrError, match="damaged"):
        SyntheticInputs.load(path)
    np.savez(path, metadata=np.array([{"pickled": 1}], dtype=object))
    with pytest.raises(TfliteAsrError, match="damaged"):
        SyntheticInputs.load(path)
    newer = {"schema_version": "2.0", "clips": 0}
    np.savez(path, metadata=np.frombuffer(json.dumps(newer).encode(), np.uint8))
    with pytest.raises(TfliteAsrError, match="newer"):
        SyntheticInputs.load(path)


def test_the_grid_is_exact_and_hides_the_last_bits() -> None:
    values = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    (kept,) = on_grid([values])
    assert kept.dtype == np.float32
    assert np.abs(kept - values).max() <= 2.0**-14
    assert np.array_equal(kept * 2**13, np.round(kept * 2**13))
    assert np.array_equal(on_grid([kept + np.float32(1e-6)])[0], kept)
    assert not np.signbit(on_grid([np.array([-1e-9])])[0]).any()
