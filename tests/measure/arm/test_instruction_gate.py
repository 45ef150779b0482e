"""int8 takes no more instructions than it did, and where it does, the kind of op is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import instruction_gate as gate
from tflite_asr.errors import Finding, TfliteAsrError

RECORDED = {
    "core": "cortex-a76",
    "runtime": "ai-edge-litert==2.3.0",
    "instructions": {
        "conformer, 4 s": {
            "total": 20_000_000,
            "op_types": {"MUL": 12_000_000, "SOFTMAX": 5_000_000, "PAD": 3_000_000},
        },
        "block, 4 s": {"total": 1_000_000, "op_types": {"MUL": 1_000_000}},
    },
}


def with_changes(case: str, **changes: int) -> dict[str, Any]:
    """The made-up record with instructions added to kinds of ops of one case."""
    measured = copy.deepcopy(RECORDED)
    entry = measured["instructions"][case]
    for op, added in changes.items():
        entry["op_types"][op] = entry["op_types"].get(op, 0) + added
        entry["total"] += added
    return measured


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("conformer, 4 s", {}),
        ("conformer, 4 s", {"SOFTMAX": 180_000}),  # +0.9 %
        ("conformer, 4 s", {"SOFTMAX": 2_000_000, "MUL": -1_900_000}),
        ("block, 4 s", {"MUL": -500_000}),
    ],
)
def test_up_to_one_percent_more_or_any_less_passes(case: str, changes: dict[str, int]):
    gate.check_growth(RECORDED, with_changes(case, **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"SOFTMAX": 220_000},
            "20.22 M instructions, 1.1 % above the recorded 20.00 M; .* SOFTMAX, from 5.00 M",
        ),
        ({"PAD": 1_000_000, "MUL": 400_000}, "what grew most is PAD, from 3.00 M to 4.00 M"),
        ({"MUL": -2_000_000, "SOFTMAX": 2_500_000}, "what grew most is SOFTMAX, from 5.00 M to 7.50 M"),
        ({"GATHER": 900_000, "MUL": 100_000}, "what grew most is GATHER, from 0.00 M to 0.90 M"),
    ],
)
def test_more_than_one_percent_fails_and_names_what_grew_most(changes: dict[str, int], said: str):
    with pytest.raises(Finding, match=said) as raised:
        gate.check_growth(RECORDED, with_changes("conformer, 4 s", **changes))
    assert "block" not in str(raised.value)
    assert "conformer, 4 s" in str(raised.value)


def test_a_small_case_is_not_hidden_by_a_large_one():
    with pytest.raises(Finding, match=r"block, 4 s: 1\.02 M instructions, 2\.0 % above the recorded 1\.00 M"):
        gate.check_growth(RECORDED, with_changes("block, 4 s", MUL=20_000))


def test_other_cases_than_the_recorded_ones_are_an_error():
    measured = copy.deepcopy(RECORDED)
    measured["instructions"].pop("block, 4 s")
    with pytest.raises(TfliteAsrError, match="--record"):
        gate.check_growth(RECORDED, measured)


def test_the_record_adds_up_and_a_window_of_four_times_the_length_costs_more_than_four_times_as_much():
    record = gate.read()
    cases = {case: entry["total"] for case, entry in record["instructions"].items()}
    assert sorted(cases) == [
        f"{name}, {seconds} s" for name in ("Conformer-S block", "conformer-ctc") for seconds in (16, 4)
    ]
    for case, entry in record["instructions"].items():
        assert entry["total"] == sum(entry["op_types"].values()), case
    for name in ("Conformer-S block", "conformer-ctc"):  # attention is quadratic
        assert 4 < cases[f"{name}, 16 s"] / cases[f"{name}, 4 s"] < 16


@pytest.mark.parametrize(
    ("runtime", "added", "code", "said"),
    [
        ("ai-edge-litert==2.3.0", 180_000, 0, ""),
        ("ai-edge-litert==2.3.0", 220_000, 1, "SOFTMAX"),
        ("ai-edge-litert==9.9.9", 0, 2, "9.9.9"),
    ],
)
def test_the_command_says_by_its_exit_code_what_it_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime: str, added: int, code: int, said: str
):
    monkeypatch.setattr(gate, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(gate, "runtime_of", lambda folder: runtime)
    monkeypatch.setattr(gate, "measure", lambda folder: with_changes("conformer, 4 s", SOFTMAX=added))
    gate.RECORD.write_text(json.dumps(RECORDED))
    done = CliRunner().invoke(gate.main)
    assert done.exit_code == code, done.output
    assert len(done.stderr.splitlines()) == (1 if code else 0)
    assert said in done.stderr
    assert json.loads(gate.RECORD.read_text()) == RECORDED


def test_record_writes_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(gate, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(gate, "measure", lambda folder: RECORDED)
    absent = CliRunner().invoke(gate.main)
    assert (absent.exit_code, len(absent.stderr.splitlines())) == (2, 1)
    assert CliRunner().invoke(gate.main, ["--record"]).exit_code == 0
    assert gate.read() == RECORDED


@pytest.mark.slow
def test_int8_takes_no_more_instructions_than_recorded(prepared_cores: Path):
    recorded = gate.read()
    try:
        gate.check_runtime(recorded, gate.runtime_of(prepared_cores))
    except TfliteAsrError as error:
        pytest.skip(str(error))
    gate.check_growth(recorded, gate.measure(prepared_cores))
