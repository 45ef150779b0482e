"""Refinement: it matches, it stays near, it keeps to its budget, and it gives the same bytes again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.slim import count_macs
from tflite_asr.synthesis.inputs import SyntheticInputs, on_grid
from tflite_asr.synthesis.plot import plot
from tflite_asr.synthesis.prior import prior_clips
from tflite_asr.synthesis.refine import GENTLE
from tflite_asr.synthesis.shapes import model_inputs
from tflite_asr.synthesis.synthesize import METHODS, synthesize


@pytest.fixture(scope="module")
def budget(tiny: Any) -> float:
    """Enough for 60 steps of four clips of 2 s."""
    return 4.5 * GENTLE.steps * 3 * count_macs(tiny, 200)


@pytest.fixture(scope="module")
def refined(tiny: Any, facts: ModelFacts, budget: float) -> SyntheticInputs:
    return synthesize(tiny, facts, seed=7, budget_macs=budget)


def test_refinement_matches_and_stays_near(tiny: Any, facts: ModelFacts, refined: SyntheticInputs) -> None:
    losses = [record["loss"] for record in refined.curve]
    assert min(losses) < 0.5 * losses[0]
    start = [clip for batch in prior_clips(model_inputs(tiny, facts), facts, 7) for clip in batch]
    assert refined.refined == 4
    for index, (clip, began) in enumerate(zip(refined.features, on_grid(start), strict=True)):
        moved = np.abs(clip - began)
        if index < 4:
            assert 0.01 < moved.mean() < 0.6
            assert moved.max() < 0.01 * GENTLE.steps * 2
        else:
            assert not moved.any()


def test_the_budget_is_kept_and_counted(
    tiny: Any, facts: ModelFacts, refined: SyntheticInputs, budget: float
) -> None:
    assert refined.spent_macs == len(refined.curve) * 4 * 3 * count_macs(tiny, 200)
    assert refined.spent_macs <= budget == refined.budget_macs
    poor = synthesize(tiny, facts, budget_macs=1e6)
    assert (poor.refined, poor.spent_macs, poor.curve) == (0, 0, [])
    assert len(poor.features) == len(refined.features)


def test_progress_reaches_the_end(own: Any) -> None:
    done: list[float] = []
    made = synthesize(own, None, budget_macs=1e9, progress=done.append)
    assert done[-1] == 1.0
    assert done == sorted(done)
    assert len(done) > 10
    assert {clip.shape for clip in made.features} == {(60, 20)}
    assert made.curve[-1]["loss"] < made.curve[0]["loss"]


def test_without_batch_norm_the_prior_stands_alone() -> None:
    inputs = keras.Input((None, 20))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    made = synthesize(model, None)
    assert (made.refined, made.spent_macs, made.curve) == (0, 0, [])
    assert np.concatenate(made.features).std() == pytest.approx(1, abs=0.1)
    with pytest.raises(TfliteAsrError, match="no batch norm"):
        synthesize(model, None, "synthetic:published")


def test_the_published_recipe_takes_what_the_budget_pays_for(own: Any) -> None:
    step = 3 * count_macs(own, 60)
    made = synthesize(own, None, "synthetic:published", budget_macs=200 * step * 10.5)
    assert len(made.features) == made.refined == 10  # a batch of 8 and a part of one
    assert [sum(r["batch"] == b for r in made.curve) for b in (0, 1)] == [200, 200]
    assert made.spent_macs == 200 * step * 10
    assert made.curve[199]["loss"] < 0.1 * made.curve[0]["loss"]
    with pytest.raises(TfliteAsrError, match="raise it"):
        synthesize(own, None, "synthetic:published", budget_macs=200 * step * 0.9)


def test_noise_spends_nothing(own: Any) -> None:
    made = synthesize(own, None, "noise", seed=1)
    assert made.spent_macs == made.budget_macs == 0
    assert np.concatenate(made.features).std() == pytest.approx(1, abs=0.05)


def test_wrong_wishes_are_one_line(own: Any) -> None:
    with pytest.raises(TfliteAsrError, match="synthetic, noise, synthetic:published"):
        synthesize(own, None, "magic")
    with pytest.raises(TfliteAsrError, match="budget_macs is -1"):
        synthesize(own, None, budget_macs=-1)
    assert METHODS[0] == "synthetic"


def test_the_model_is_frozen(tiny: Any, refined: SyntheticInputs) -> None:
    from tests.synthesis.conftest import tiny_conformer

    fresh = tiny_conformer()
    assert all(np.array_equal(a, b) for a, b in zip(tiny.get_weights(), fresh.get_weights(), strict=True))


def test_two_processes_with_one_and_two_threads_give_the_same_bytes(
    tiny: Any, facts: ModelFacts, refined: SyntheticInputs, budget: float, tmp_path: Path, repository: Path
) -> None:
    """Slow only because TensorFlow starts anew; batch norm refinement runs in full."""
    tiny.save(tmp_path / "tiny.keras")
    facts.write(tmp_path / "tiny.keras")
    script = (
        "import sys; from pathlib import Path; from tflite_asr.facts import ModelFacts; "
        "from tflite_asr.models import load_model; from tflite_asr.synthesis.synthesize import synthesize; "
        "path = Path(sys.argv[1]); "
        f"made = synthesize(load_model(path), ModelFacts.read(path), seed=7, budget_macs={budget!r}); "
        "made.save(sys.argv[2])"
    )
    environment = {
        **os.environ,
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    other = tmp_path / "other.npz"
    command = [sys.executable, "-c", script, str(tmp_path / "tiny.keras"), str(other)]
    subprocess.run(command, check=True, cwd=repository, env=environment, capture_output=True)
    assert other.read_bytes() == refined.save(tmp_path / "here.npz").read_bytes()


def test_a_picture(refined: SyntheticInputs, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot(refined, tmp_path / "inputs.png").read_bytes()[:4] == b"\x89PNG"
    bare = SyntheticInputs(refined.features[:1])
    assert plot(bare, tmp_path / "bare.png").stat().st_size > 1000
    beside = plot(
        refined, tmp_path / "beside.svg", against=SyntheticInputs(bare.features, method="real.jsonl")
    )
    drawn = beside.read_text()
    assert drawn.count("<image") >= 7  # six synthetic, one real; colour bars are images too
    with pytest.raises(TfliteAsrError, match=r"give NAME\.png, \.pdf or \.svg"):
        plot(bare, tmp_path / "picture.txt")
    assert plot(bare, tmp_path / "new" / "folder.png").is_file()  # as every other output
    with pytest.raises(TfliteAsrError, match="cannot be written"):
        plot(bare, "/proc/picture.png")
