"""The whole comparison, on the tiniest Conformer: what is installed is measured, the rest says what it lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.peers import main
from benchmarks.side_by_side.makers import FLOAT, PEERS


def peers(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.peers", *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["no-such-model"], "no-such-model"),
        (["conformer-ctc", "--core", "z80"], "z80"),
        (["conformer-ctc", "-m", "no-such.jsonl"], "no-such.jsonl"),
    ],
)
def test_wrong_use_is_one_line_that_names_the_value(tmp_path: Path, arguments: list[str], named: str) -> None:
    done = CliRunner().invoke(main, [*arguments, "--work", str(tmp_path)])
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert named in done.stderr


@pytest.mark.slow
def test_the_tiny_model_through_every_peer_that_is_installed(repository: Path, tmp_path: Path) -> None:
    arguments = ["--random", "tiny", "--window", "1", "--rounds", "2", "--budget-macs", "1e9"]
    arguments += ["--work", str(tmp_path / "work"), "--json", str(tmp_path / "peers.json")]
    done = peers(repository, *arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "peers.json").read_text())
    rows = {row["peer"]: row for row in report["peers"]}
    assert list(rows) == [peer.name for peer in PEERS]
    assert report["base"] == FLOAT
    absent = sorted(name for name in ("onnx", "onnxruntime", "tf2onnx") if find_spec(name) is None)
    for name, row in rows.items():
        if row["status"] == "refused":
            assert absent, f"{name}: {row['refusal']}"
            assert name.startswith("onnx")
            assert "not installed" in row["refusal"] or "there is none of" in row["refusal"]
            continue
        assert row["bytes"] == Path(row["file"]).stat().st_size
        assert row["latency"]["1"]["latency_ms"]["min"] > 0
        assert row["corpora"]["synthetic"]["snr_db"] > 10, name
    assert rows["tflite_asr_int8"]["integer_only"] is True
    assert rows[FLOAT]["integer_only"] is False
    assert rows[FLOAT]["latency"]["1"]["ratio"]["value"] == 1.0
    unknown = peers(repository, "--random", "XXL", "--work", str(tmp_path))
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 1)
    assert "XXL" in unknown.stderr

    if absent:
        pytest.skip(f"{', '.join(absent)} not installed (make peers): the ONNX peers refused, as they should")
    assert rows["onnx_float32"]["notes"]["layer_norms"] == 10
    assert rows["onnx_float32"]["corpora"]["synthetic"]["snr_db"] > 90

    again = peers(repository, *arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("made before") == len(PEERS)
