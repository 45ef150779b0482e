"""The tables of a study: in a terminal of 100 columns every name and every interval stays on its line."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from tests.studies.made_up import base, outcome, tensor
from tflite_asr.quantize.calibrators import CALIBRATORS
from tflite_asr.report.calibration_table import comparison_tables
from tflite_asr.studies.calibration import ARMS, conclude

LONG = "encoder.block5.mhsa.attention/fully_connected"


def printed(corpora: tuple[str, str] = ("an4/test", "speechocean762/test")) -> list[str]:
    """Every arm under every calibrator with five seeds, and a walk of each."""

    def of(arm: str, calibrator: str, seed: int):
        snr = {"noise": 10.0}.get(arm, 28.0) + seed / 10
        walked = {} if seed else {"near/dev": [tensor(LONG, 20, 22)], "far/dev": [tensor(LONG, 25, 40)]}
        one = outcome(
            arm, seed, ([1, seed], [2, 2]), ([snr, snr + 1], [snr, snr]), walked=walked, calibrator=calibrator
        )
        return renamed(replace(one, bytes=1_834_176))

    def renamed(one):
        names = dict(zip(("near/dev", "far/dev"), corpora, strict=True))
        return replace(
            one,
            corpora={names[name]: heard for name, heard in one.corpora.items()},
            walked={names[name]: some for name, some in one.walked.items()},
        )

    outcomes = [of(arm, name, seed) for name in CALIBRATORS for arm in ARMS for seed in range(5)]
    dynamic = replace(of("dynamic_wi8_afp32", "", 0), walked={}, integer_only=False)
    settings = {"corpora": {name: {"utterances": 2, "words": 20} for name in corpora}}
    study = conclude("conformer-ctc", renamed(base()), dynamic, outcomes, [], settings).to_dict()
    console = Console(file=io.StringIO(), width=100)
    for table in comparison_tables(study):
        console.print(table)
    return console.file.getvalue().splitlines()


def test_no_name_and_no_interval_is_broken_in_100_columns():
    lines = printed()
    assert max(map(len, lines)) <= 100
    rows = [line.split() for line in lines]
    per_table = len(CALIBRATORS)
    for arm in ARMS:  # costs, two corpora, and ranges against real
        assert sum(row[:1] == [arm] for row in rows) == 4 * per_table
    assert sum(row[:1] == [LONG] for row in rows) >= per_table * len(ARMS)
    for line in lines:
        assert line.count("(") == line.count(")")


def test_what_is_not_integer_only_is_named():
    assert any("integer-only: all but dynamic_wi8_afp32" in line for line in printed())


def test_corpora_that_differ_in_their_split_alone_keep_it():
    def words(lines: list[str]) -> str:
        return " ".join(" ".join(lines).split())

    assert "an4/dev an4/test its grid" in words(printed(("an4/dev", "an4/test")))
    assert "an4 speechocean762 its grid" in words(printed())
