"""What is concluded from a study: means over seeds, paired differences, overlap of ranges, who is to blame."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.made_up import NAMES, base, outcome, tensor
from tflite_asr.studies import findings
from tflite_asr.studies.outcome import Outcome


def test_word_errors_are_the_mean_over_seeds_paired_with_float32_and_with_real() -> None:
    runs = [outcome("synthetic", 0, ([1, 1], [2, 2])), outcome("synthetic", 1, ([1, 3], [2, 2]))]
    row = findings.summarise(runs, base(), [outcome("real", errors=([1, 2], [2, 2]))])
    assert row["wer"] == pytest.approx(7 / 40)  # 6 and 8 errors
    assert row["against_float32"]["difference"] == pytest.approx(2 / 40)
    assert row["against_real"]["difference"] == pytest.approx(0.0)
    assert row["corpora"]["near/dev"]["wer"] == pytest.approx(3 / 20)
    assert row["corpora"]["far/dev"]["against_float32"]["difference"] == 0.0


def test_fidelity_is_told_by_corpus_with_every_seed_and_paired_with_real() -> None:
    runs = [
        outcome("synthetic", 0, snr_db=([25, 27], [20, 22])),
        outcome("synthetic", 1, snr_db=([23, 25], [20, 22])),
    ]
    row = findings.summarise(runs, base(), [outcome("real", snr_db=([27, 29], [20, 20]))])
    near, far = row["corpora"]["near/dev"], row["corpora"]["far/dev"]
    assert (near["snr_db"], near["snr_db_seeds"], near["argmax_agreement"]) == (25.0, [26.0, 24.0], 0.99)
    assert near["snr_db_against_real"] == {"difference": -3.0, "low": -3.0, "high": -3.0}
    assert far["snr_db_against_real"]["difference"] == 1.0
    assert findings.summarise([base()], base(), [])["corpora"]["near/dev"]["snr_db"] is None


def test_a_range_is_too_wide_or_cuts_off_what_real_speech_reaches() -> None:
    real = [outcome("real", grids=dict(zip(NAMES, [(-1.0, 1.0), (0.0, 2.0)], strict=True)))]
    arm = [outcome("noise", grids=dict(zip(NAMES, [(-4.0, 4.0), (0.0, 1.5)], strict=True)))]
    found = findings.overlap(arm, real)
    assert (found["tensors"], found["too_wide"], found["clipping"]) == (2, 0.5, 0.5)
    assert found["widest"][0] == {"name": NAMES[0], "width_ratio": 4.0, "outside": 0.0}
    assert found["most_clipping"][0] == {"name": NAMES[1], "width_ratio": 0.75, "outside": 0.25}


def test_real_ranges_are_held_against_another_draw_of_real_speech() -> None:
    draws = [outcome("real", seed, grids={"a/mul": (0.0, 1.0 + seed)}) for seed in (0, 1)]
    assert findings.overlap(draws, draws)["by_tensor"] == {"a/mul": [(0.5 + 2.0) / 2, 0.25]}
    assert findings.overlap(draws[:1], draws[:1])["tensors"] == 0


def test_the_worst_tensors_are_those_of_the_worst_corpus_without_what_only_moves_values() -> None:
    walked = {
        "near/dev": [
            tensor("a/mul", 30, 50),
            tensor("b/mul", 10, 50),
            tensor("b/reshape", 10, 50, "RESHAPE"),
        ],
        "far/dev": [tensor("a/mul", 5, 50), tensor("b/mul", 20, 50), tensor("b/reshape", 1, 50, "RESHAPE")],
    }
    first, second = findings.worst_tensors(walked)
    assert (first["name"], first["snr_db"]) == ("a/mul", {"near/dev": 30, "far/dev": 5})
    assert second["name"] == "b/mul"


def test_a_tensor_is_to_blame_where_its_own_grid_is_worse_than_real_s_and_that_shows() -> None:
    real = [tensor(name, 25, 40) for name in ("a", "b", "c", "d")]
    arm = [
        tensor("a", 20, 39.5),  # no worse
        tensor("b", 20, 22),  # 18 dB, and near all the noise there is
        tensor("c", 20, 35),  # 5 dB, drowned by what came before
        tensor("d", 20, 30),  # 10 dB, a tenth of the noise
    ]
    assert [row["name"] for row in findings.blamed(arm, real)] == ["b", "d"]


def test_where_synthetic_loses_is_said_in_words() -> None:
    real = outcome("real", errors=([0, 0], [2, 2]), walked={"near/dev": [tensor("a", 25, 40)]})
    arm = outcome(
        "synthetic",
        errors=([1, 1], [2, 2]),
        snr_db=([22, 24], [21, 22]),
        walked={"near/dev": [tensor("a", 20, 22)]},
    )
    near, far = findings.losses([arm], [real])
    assert near["loses_snr"]
    assert near["loses_wer"]
    assert [one["name"] for one in near["tensors"]] == ["a"]
    assert findings.sentence(near) == (
        "min_max, near/dev: synthetic loses in SNR against real, -3.00 dB (-3.00 to -3.00); "
        "WER +10.00 points (+10.00 to +10.00), loses"
    )
    assert not far["loses_snr"]
    assert "is level in SNR" in findings.sentence(far)


def test_where_synthetic_loses_is_one_line_for_whom_it_loses_to() -> None:
    real = outcome("real", errors=([0, 0], [2, 2]))
    arm = outcome("synthetic", errors=([1, 1], [2, 2]), snr_db=([22, 24], [21, 22]))
    assert findings.where_it_loses(
        findings.losses([arm], [real]) + findings.losses([arm], [outcome("noise", snr_db=([9, 9], [9, 9]))])
    ) == [
        "synthetic loses to real: min_max, near/dev (-3.00 dB, +10.00 points)",
        "synthetic loses to noise: nowhere (2 comparisons)",
    ]


def test_an_outcome_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    made = outcome("real", walked={"near/dev": [tensor("a", 25, 40)]})
    made.write(tmp_path / "one.json")
    again = Outcome.read(tmp_path / "one.json")
    assert again.walked == made.walked
    assert again.grids == made.grids
    assert findings.pooled(again).errors.rate == findings.pooled(made).errors.rate
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]
