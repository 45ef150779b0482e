"""`import`: a NeMo archive as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command_line import fault, run

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "nemo"


def test_a_table_says_what_was_imported(tmp_path: Path) -> None:
    out = tmp_path / "quartz.keras"
    result = run("import", FIXTURES / "quartznet.nemo", "--out", out)
    assert result.exit_code == 0, result.output
    shown = " ".join(result.output.split())
    for words in (
        "quartznet, subsampling 2",
        "8,525",
        "60 tensors",
        "28 characters and the blank, id 28",
        "64 mels",
        "per_feature",
        "3.0.0",
    ):
        assert words in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quartz.keras", "quartz.toml"]


def test_json_says_it_to_machines_and_overwrite_replaces(tmp_path: Path) -> None:
    out = tmp_path / "quartz.keras"
    out.write_bytes(b"mine")
    command = ("import", FIXTURES / "quartznet.nemo", "--out", out)
    assert f"{out}: exists" in fault(*command)
    result = run(*command, "--overwrite", "--json", "-")
    values = json.loads(result.stdout)
    assert (values["architecture"], values["parameters"], values["tensors"]) == ("quartznet", 8525, 60)
    assert values["frontend"]["normalise"] == "per_feature"
    assert values["tokens"]["blank_id"] == 28
    assert out.stat().st_size > 1000


def test_a_file_that_is_no_archive_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "a.nemo").write_bytes(b"nothing")
    message = fault("import", tmp_path / "a.nemo", "--out", tmp_path / "a.keras")
    assert f"{tmp_path / 'a.nemo'}: is no whole .nemo archive" in message
    assert "give a .nemo archive" in fault("import", tmp_path / "b.nemo", "--out", tmp_path / "a.keras")
    assert "write to NAME.keras" in fault("import", tmp_path / "a.nemo", "--out", tmp_path / "a.h5")
