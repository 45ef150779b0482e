"""The whole comparison on a tiny checkpoint: every arm, kept results, bytes equal to what `export` writes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny_checkpoint import write_tiny_checkpoint
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.pipeline import export
from tflite_asr.studies import calibration
from tflite_asr.studies.calibration import Comparison, compare

SETTINGS = {
    "calibrators": ("min_max", "percentile"),
    "seeds": 1,
    "limit": 6,
    "budget_macs": 0.0,
    "published_budget_macs": 1.0,
}
MADE = ("noise", "synthetic", "synthetic:labels", "real")  # the published recipe gets too little


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One window of 4 s."""
    path = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    replace(ModelFacts.read(path), windows_seconds=(4,)).write(path)
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def study(checkpoint: Path, work: Path, demo_manifest: Path) -> Comparison:
    return compare(checkpoint, demo_manifest, work=work, **SETTINGS)


@pytest.mark.slow
def test_every_arm_stands_beside_float_and_dynamic(study: Comparison) -> None:
    table = [(row["arm"], row["calibrator"]) for row in study.rows]
    assert table == [
        ("float32", ""),
        ("dynamic_wi8_afp32", ""),
        *((arm, name) for name in ("min_max", "percentile") for arm in MADE),
    ]
    assert [row["integer_only"] for row in study.rows] == [False, False] + [True] * 8
    assert study.rows[0]["bytes"] > study.rows[2]["bytes"]
    int8 = [row["corpora"]["demo/demo"] for row in study.rows[2:]]
    assert all(0 < scores["snr_db"] < 60 for scores in int8)
    assert study.settings["corpora"]["demo/demo"]["utterances"] == 3
    assert "3 clips set aside" in study.notes[0]


@pytest.mark.slow
def test_an_arm_that_cannot_be_is_left_out_and_said(study: Comparison) -> None:
    assert any(
        note.startswith("synthetic:published: left out (") and "raise it" in note for note in study.notes
    )


@pytest.mark.slow
def test_synthetic_is_held_against_real_tensor_by_tensor(study: Comparison) -> None:
    assert [(one["arm"], one["calibrator"], one["against"]) for one in study.losses] == [
        ("synthetic", name, other)
        for name in ("min_max", "percentile")
        for other in ("real", "noise", "synthetic:labels")
    ]
    assert {(one["arm"], one["calibrator"]) for one in study.overlaps} == {
        (arm, name) for arm in MADE[:-1] for name in ("min_max", "percentile")
    }
    assert all(len(one["tensors"]) == 10 for one in study.worst)
    assert "ctc.dense/fully_connected" in study.walks["tensors"]


@pytest.mark.slow
def test_the_model_that_is_judged_is_the_one_that_export_writes(
    study: Comparison, checkpoint: Path, tmp_path: Path
) -> None:
    bundle = export(checkpoint, tmp_path / "b", calibration="noise", seed=0)
    judged = next(one for one in study.outcomes if (one.arm, one.calibrator) == ("noise", "min_max"))
    assert hashlib.sha256(bundle.model_path.read_bytes()).hexdigest() == judged.sha256


@pytest.mark.slow
def test_what_is_done_is_not_done_again(
    study: Comparison, checkpoint: Path, work: Path, demo_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(calibration, "run_in_child", lambda function, order, **_: asked.append(order))
    arms = MADE
    again = compare(checkpoint, demo_manifest, work=work, arms=arms, **SETTINGS)
    assert asked == []
    assert again.rows == study.rows
    lost = next(work.glob("*/synthetic-percentile-seed0-*.json"))
    lost.unlink()
    with pytest.raises(OSError, match=lost.name):
        compare(checkpoint, demo_manifest, work=work, arms=arms, **SETTINGS)
    assert [(one.arm, list(one.wanted)) for one in asked] == [("synthetic", ["percentile"])]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arms": ("ours",)}, "arm 'ours': unknown; the known ones are noise, synthetic:published"),
        ({"calibrators": ("median",)}, "calibrator 'median': unknown; the known ones are min_max"),
        ({"seeds": 0}, "seeds is 0; give 1 or more"),
        ({"budget_macs": -1.0}, "give 0 or more"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_made(
    settings: dict, message: str, tmp_path: Path, demo_manifest: Path
) -> None:
    with pytest.raises(TfliteAsrError, match=message):
        compare("conformer-ctc", demo_manifest, work=tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_knows_no_speech_is_refused(
    checkpoint: Path, tmp_path: Path, demo_manifest: Path
) -> None:
    (tmp_path / "bare.keras").write_bytes(checkpoint.read_bytes())
    with pytest.raises(TfliteAsrError, match="needs a front end and tokens"):
        compare(tmp_path / "bare.keras", demo_manifest, work=tmp_path / "work")
