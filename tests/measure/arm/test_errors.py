"""What is missing or wrong is one line that says what to do, before anything is fetched or run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command_line import fault
from tflite_asr.bundle import Bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm import CORES, compare_outputs, cores_folder, count_bundle, find_core, prepare
from tflite_asr.measure.arm.layout import RECORD_FILE, fingerprint, read_record


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """What looks like a prepared folder from outside."""
    folder = tmp_path / "cores"
    folder.mkdir()
    (folder / "qemu-aarch64").write_text("")
    record = {"fingerprint": fingerprint(), "qemu": "qemu-aarch64", "qemu_libraries": []}
    (folder / RECORD_FILE).write_text(json.dumps(record))
    return folder


def test_the_cores_are_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TFLITE_ASR_CORES", raising=False)
    assert cores_folder() == tmp_path / "cache" / "tflite-asr" / "cores"
    monkeypatch.setenv("TFLITE_ASR_CORES", str(tmp_path / "mine"))
    assert cores_folder() == tmp_path / "mine"


def test_an_unknown_core_lists_the_known_ones():
    with pytest.raises(
        TfliteAsrError, match=r"^core 'cortex-x4' is unknown; give one of cortex-a53, cortex-a76, i8mm$"
    ):
        find_core("cortex-x4")


def test_a_core_says_in_cpuinfo_what_it_has():
    fields = {name: dict(_pairs(core.cpuinfo())) for name, core in CORES.items()}
    assert "asimddp" not in fields["cortex-a53"]["Features"].split()
    assert {"asimddp"} <= set(fields["cortex-a76"]["Features"].split()) - {"i8mm"}
    assert {"asimddp", "i8mm"} <= set(fields["i8mm"]["Features"].split())
    assert fields["cortex-a53"]["CPU part"] == "0xd03"
    assert fields["cortex-a76"]["CPU part"] == "0xd0b"


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(line.split("\t: ")[0], line.split("\t: ")[1]) for line in text.splitlines() if line]


def test_a_folder_that_is_not_prepared_names_the_command(tmp_path: Path, int8_bundle: Bundle):
    with pytest.raises(
        TfliteAsrError, match=r"no emulated core is prepared there; run tflite-asr prepare-core --dir"
    ):
        count_bundle(int8_bundle, 4.0, "cortex-a76", tmp_path)


@pytest.mark.parametrize("record", ['{"fingerprint": "0123"}', "{}", "[]", "not JSON"])
def test_a_folder_of_another_version_is_refused(prepared: Path, record: str):
    (prepared / RECORD_FILE).write_text(record)
    with pytest.raises(
        TfliteAsrError, match=r"prepared by another version.*; run tflite-asr prepare-core --dir"
    ):
        read_record(prepared)


def test_an_emulator_that_is_gone_is_named(prepared: Path, int8_bundle: Bundle):
    (prepared / "qemu-aarch64").unlink()
    with pytest.raises(
        TfliteAsrError, match=r"qemu-aarch64: the emulator .* is gone; apt-get install qemu-user"
    ):
        count_bundle(int8_bundle, 4.0, "cortex-a76", prepared)


def test_a_window_that_the_bundle_has_not_lists_those_that_it_has(prepared: Path, int8_bundle: Bundle):
    with pytest.raises(TfliteAsrError, match=r"has no window of 16 s; it has 1, 2, 4$"):
        count_bundle(int8_bundle, 16.0, "cortex-a76", prepared)


@pytest.mark.parametrize("tool", ["gcc", "apt-get", "dpkg-deb"])
def test_a_tool_that_is_missing_is_named_with_what_brings_it(
    tool: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name in {"gcc", "apt-get", "dpkg-deb"} - {tool}:
        (bin_folder / name).write_text("#!/bin/sh\nexit 1\n")
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder))
    said = fault("prepare-core", "--dir", tmp_path / "cores")
    assert said.startswith(f"{tool} is not installed, which preparing an emulated core needs; ")
    assert not (tmp_path / "cores").exists()


def test_what_apt_refuses_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    answers = {"gcc": "exit 0", "dpkg": "echo amd64", "dpkg-deb": "exit 0"}
    answers["apt-get"] = "echo 'W: a warning' >&2; echo 'E: no such source' >&2; exit 100"
    for name, answer in answers.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{answer}\n")
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder))
    monkeypatch.setattr("tflite_asr.measure.arm.layout._wheels", lambda fetched, site: None)
    said = fault("prepare-core", "--dir", tmp_path / "cores")
    assert "apt-get cannot fetch the package lists" in said
    assert "E: no such source" in said
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_somebody_elses_folder_is_not_replaced(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(TfliteAsrError, match="is no folder of emulated cores and will not be replaced"):
        prepare(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_outputs_are_compared_value_by_value():
    ours = [{"a": np.array([1, -128, 3], np.int8), "b": np.array([np.nan, 1.0, np.inf], np.float32)}]
    theirs = [{"a": np.array([1, 127, 3], np.int8), "b": np.array([np.nan, 1.5, np.inf], np.float32)}]
    assert compare_outputs(ours, theirs).to_json() == {"values": 6, "different": 2, "largest": 255.0}
    assert compare_outputs(ours, ours).to_json() == {"values": 6, "different": 0, "largest": 0.0}
