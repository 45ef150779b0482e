"""Instructions of whole bundles on cores that were prepared from nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tone_bundle import FRONTEND, TOKENS, whistle, write_tone_bundle
from tflite_asr.bundle import Bundle
from tflite_asr.frontend import log_mel
from tflite_asr.measure.arm import CoreRun, count_bundle, count_instructions, prepare

pytestmark = pytest.mark.slow
WINDOW_SECONDS = 4.0
# Logit frames x mels x pieces, by a dot product that does 16 multiply-adds.
FLOOR = 100 * 80 * len(TOKENS.pieces) / 16


@pytest.fixture(scope="module")
def runs(prepared_cores: Path, int8_bundle: Bundle) -> dict[str, CoreRun]:
    cores = ("cortex-a53", "cortex-a76", "i8mm")
    return {core: count_bundle(int8_bundle, WINDOW_SECONDS, core, prepared_cores) for core in cores}


def test_what_was_prepared_is_whole_and_stays_as_it_is(prepared_cores: Path):
    assert [path.name for path in prepared_cores.parent.iterdir()] == [prepared_cores.name]
    before = {path: path.lstat().st_mtime_ns for path in prepared_cores.rglob("*")}
    assert prepare(prepared_cores) == prepared_cores
    assert {path: path.lstat().st_mtime_ns for path in prepared_cores.rglob("*")} == before


def test_counting_leaves_the_folder_as_it_is(runs: dict[str, CoreRun], prepared_cores: Path):
    newest = max(path.lstat().st_mtime_ns for path in prepared_cores.rglob("*") if path.is_file())
    assert newest <= (prepared_cores / "prepared.json").stat().st_mtime_ns


def test_counts_repeat_within_a_process_and_between_two(
    runs: dict[str, CoreRun], prepared_cores: Path, int8_bundle: Bundle
):
    first = runs["cortex-a76"]
    again = count_bundle(int8_bundle, WINDOW_SECONDS, "cortex-a76", prepared_cores)
    for name, value in first.per_audio_second.items():
        assert again.per_audio_second[name] == pytest.approx(value, rel=1e-4), name
    assert first.to_json()["repeat_difference"] < 1e-4


def test_only_cores_with_dot_products_use_them(runs: dict[str, CoreRun]):
    assert runs["cortex-a53"].per_audio_second["dot"] == 0
    assert runs["cortex-a76"].model.dot >= FLOOR
    assert FLOOR / 2 <= runs["i8mm"].model.dot < runs["cortex-a76"].model.dot  # a matrix product does 32
    assert runs["cortex-a76"].model.total < runs["cortex-a53"].model.total


def test_every_core_computes_what_this_machine_computes(runs: dict[str, CoreRun]):
    for core, run in runs.items():
        compared = run.against_host.to_json()
        assert compared == {"values": 100 * len(TOKENS.pieces), "different": 0, "largest": 0.0}, core


def test_the_front_end_on_a_core_computes_numpys_features(prepared_cores: Path, int8_bundle: Bundle):
    samples = np.resize(whistle("abcdef"), FRONTEND.samples(400))
    run = count_bundle(int8_bundle, WINDOW_SECONDS, "cortex-a76", prepared_cores, samples=samples, repeats=1)
    assert run.frontend is not None
    features = np.concatenate([block["features"] for block in run.frontend.outputs], axis=1)[0]
    np.testing.assert_allclose(features, log_mel(samples, FRONTEND), atol=1e-3)


def test_the_sum_is_model_and_front_end_and_each_knows_its_kernels(runs: dict[str, CoreRun]):
    run = runs["cortex-a76"]
    plain = run.to_json()
    whole = plain["instructions_per_audio_second"]
    for name, value in plain["frontend"].items():
        assert whole[name] * WINDOW_SECONDS == pytest.approx(
            value * WINDOW_SECONDS + getattr(run.model, name)
        )
    assert sum(run.kernels.values()) == run.model.total
    assert sum(run.op_types.values()) == run.model.total
    assert any("gemm" in name and "neondot" in name for name in run.kernels)
    assert not any("neondot" in name for name in runs["cortex-a53"].kernels)
    assert any("i8mm" in name for name in runs["i8mm"].kernels)


def test_a_bundle_without_a_front_end_is_counted_alone(prepared_cores: Path, tmp_path: Path):
    bare = write_tone_bundle(tmp_path / "bare", integer=False, feature_only=True)
    run = count_bundle(bare, WINDOW_SECONDS, "cortex-a53", prepared_cores, repeats=1)
    assert run.frontend is None
    assert run.to_json()["frontend"] is None
    assert run.per_audio_second["total"] * WINDOW_SECONDS == run.model.total > 0


def test_one_signature_counts_as_it_does_in_its_bundle(
    runs: dict[str, CoreRun], prepared_cores: Path, int8_bundle: Bundle
):
    counted = count_instructions(
        int8_bundle.model_path.read_bytes(), "ctc_400", "cortex-a76", WINDOW_SECONDS, folder=prepared_cores
    )
    assert counted.total == pytest.approx(runs["cortex-a76"].model.total, rel=1e-2)
    assert counted.outputs[0]["logits"].shape == (1, 100, len(TOKENS.pieces))
