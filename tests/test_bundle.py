"""A bundle is whole or absent, and one changed byte anywhere in it is found."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tflite_asr import bundle as bundle_module
from tflite_asr.bundle import Bundle, BundleInfo, check_output, write_bundle
from tflite_asr.errors import Finding, TfliteAsrError
from tflite_asr.frontend import FrontEnd
from tflite_asr.tokens import CHARACTERS

SIGNATURES = {
    "ctc_400": {
        "inputs": {"features": {"shape": [1, 400, 80], "dtype": "int8", "scale": 0.04, "zero_point": -3}},
        "outputs": {"logits": {"shape": [1, 100, 29], "dtype": "int8", "scale": 0.2, "zero_point": 40}},
    },
    "ctc_200": {"inputs": {}, "outputs": {}},
}
INFO = BundleInfo(
    name="tiny",
    scheme="static_wi8_ai8",
    lowered=True,
    drop=("encoder.block1",),
    frontend=FrontEnd(),
    subsampling=4,
    signatures=SIGNATURES,
    calibration={"method": "synthetic", "seed": 0, "budget_macs": 1e12},
    made_with={"tflite_asr": "0.1.0"},
)


def write(out: Path, **changes) -> Bundle:
    contents = {
        "model": b"model" * 100,
        "frontend": b"front end",
        "tokens": CHARACTERS,
        "card": "# tiny\n",
        "samples": {"one.wav": b"RIFF", "transcripts.json": b"{}"},
    }
    return write_bundle(out, INFO, **{**contents, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle").path


def siblings(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.parent.iterdir())


def test_what_is_written_is_what_is_loaded(folder: Path):
    loaded = Bundle.load(folder)
    assert loaded.info.to_dict() == {
        **INFO.to_dict(),
        "tokens": {"file": "tokens.txt", "blank_id": 0},
        "files": loaded.info.files,
    }
    assert loaded.tokens == CHARACTERS
    assert loaded.info.frontend == FrontEnd()
    assert set(loaded.info.files) == {
        "model.tflite",
        "frontend.tflite",
        "tokens.txt",
        "README.md",
        "samples/one.wav",
        "samples/transcripts.json",
    }
    assert siblings(folder) == ["bundle"]


def test_bundle_json_holds_the_keys_of_schema_1(folder: Path):
    values = json.loads((folder / "bundle.json").read_text())
    assert next(iter(values)) == "schema_version"
    assert values["schema_version"] == "1.0"
    assert {"name", "scheme", "lowered", "drop", "frontend", "subsampling", "tokens", "signatures"} < set(
        values
    )
    assert {"calibration", "files", "made_with"} < set(values)
    assert values["files"]["model.tflite"]["bytes"] == 500
    assert len(values["files"]["model.tflite"]["sha256"]) == 64


def test_the_same_content_gives_the_same_bytes(folder: Path, tmp_path: Path):
    other = write(tmp_path / "other").path
    assert (folder / "bundle.json").read_bytes() == (other / "bundle.json").read_bytes()


def test_windows_come_shortest_first(folder: Path):
    assert list(Bundle.load(folder).windows.items()) == [(200, "ctc_200"), (400, "ctc_400")]


@pytest.mark.parametrize(
    "name", ["model.tflite", "frontend.tflite", "tokens.txt", "README.md", "samples/one.wav", "bundle.json"]
)
def test_a_changed_missing_or_extra_byte_in_any_file_is_found(folder: Path, name: str):
    file = folder / name
    good = file.read_bytes()
    middle = len(good) // 2
    for broken in (
        good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        good[:-1],
        good + b" ",
        b"",
    ):
        file.write_bytes(broken)
        with pytest.raises(Finding, match=Path(name).name) as found:
            Bundle.load(folder)
        assert "\n" not in str(found.value)
        assert found.value.exit_code == 1
    file.unlink()
    with pytest.raises(Finding, match=f"{Path(name).name}: is missing"):
        Bundle.load(folder)
    file.write_bytes(good)
    Bundle.load(folder)


def test_every_byte_of_bundle_json_counts(folder: Path):
    file = folder / "bundle.json"
    good = file.read_bytes()
    for place in range(0, len(good), 7):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(Finding):
            Bundle.load(folder)


def test_a_file_that_does_not_belong_is_named(folder: Path):
    (folder / "samples" / "stray.txt").write_text("x")
    with pytest.raises(Finding, match=r"stray.txt: is not part of the bundle; remove it"):
        Bundle.load(folder)


def test_a_newer_major_schema_is_refused_by_its_number(folder: Path):
    file = folder / "bundle.json"
    file.write_text(file.read_text().replace('"schema_version": "1.0"', '"schema_version": "2.0"'))
    with pytest.raises(Finding, match=r"bundle.json: schema_version 2.0 is newer than 1.0; install a newer"):
        Bundle.load(folder)


def test_a_newer_minor_schema_with_keys_of_its_own_loads(tmp_path: Path):
    values = {**INFO.to_dict(), "schema_version": "1.7", "mood": "good"}
    assert BundleInfo.from_dict(values).name == "tiny"


def test_no_folder_is_wrong_use_and_a_folder_without_a_record_is_a_finding(tmp_path: Path):
    with pytest.raises(TfliteAsrError, match="no such bundle") as error:
        Bundle.load(tmp_path / "nowhere")
    assert error.value.exit_code == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(TfliteAsrError, match="is a file"):
        Bundle.load(tmp_path / "file")
    with pytest.raises(Finding, match=r"bundle.json: is missing"):
        Bundle.load(tmp_path)


def test_a_feature_only_bundle_is_valid_and_says_what_it_lacks(tmp_path: Path):
    write(tmp_path / "bare", frontend=None, tokens=None)
    loaded = Bundle.load(tmp_path / "bare")
    assert loaded.info.tokens is None
    assert loaded.tokens is None
    with pytest.raises(TfliteAsrError, match=r"frontend.tflite\) and the tokens \(tokens.txt\)") as error:
        loaded.require_speech()
    assert error.value.exit_code == 2


def test_an_existing_output_is_kept_unless_overwriting_is_allowed(folder: Path):
    before = (folder / "model.tflite").read_bytes()
    for attempt in (lambda: write(folder, model=b"new"), lambda: check_output(folder)):
        with pytest.raises(TfliteAsrError, match="exists; choose another folder or allow overwriting"):
            attempt()
    assert (folder / "model.tflite").read_bytes() == before
    write(folder, model=b"new", overwrite=True)
    assert (Bundle.load(folder).path / "model.tflite").read_bytes() == b"new"
    assert siblings(folder) == ["bundle"]


def test_a_folder_that_is_no_bundle_is_never_overwritten(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "letters.txt").write_text("dear")
    with pytest.raises(TfliteAsrError, match="is no bundle and will not be overwritten"):
        write(home, overwrite=True)
    assert (home / "letters.txt").read_text() == "dear"


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(TfliteAsrError, match="cannot be written"):
        check_output(tmp_path / "file" / "bundle")

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(
        TfliteAsrError, match=r"bundle: cannot be written \(permission denied\); choose a folder"
    ):
        write(tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("full_at", ["model.tflite", "README.md", "bundle.json"])
def test_a_full_disk_leaves_nothing_and_keeps_what_was_there(folder: Path, monkeypatch, full_at: str):
    write_bytes = Path.write_bytes

    def fills_up(path: Path, data: bytes) -> int:
        if path.name == full_at:
            write_bytes(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fills_up)
    for out in (folder, folder.parent / "another"):
        with pytest.raises(
            TfliteAsrError, match=f"{out.name}: no space is left on the device; free some"
        ) as error:
            write(out, model=b"new", overwrite=True)
        assert "\n" not in str(error.value)
    assert siblings(folder) == ["bundle"]
    assert (Bundle.load(folder).path / "model.tflite").read_bytes() == b"model" * 100


def test_a_card_or_sample_that_fails_leaves_nothing(tmp_path: Path):
    def fails(staged: Bundle) -> str:
        assert (staged.path / "model.tflite").is_file()
        assert staged.tokens == CHARACTERS
        raise TfliteAsrError("no")

    with pytest.raises(TfliteAsrError, match="no"):
        write(tmp_path / "bundle", card=fails)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_bundle import write
from pathlib import Path
def card(staged):
    print("staged", flush=True)
    time.sleep(60)
write(Path({out!r}), card=card)
"""


def test_a_killed_export_leaves_no_bundle_and_the_next_one_sweeps_up(tmp_path: Path):
    out = tmp_path / "bundle"
    code = KILLED.format(tests=str(Path(__file__).parent), out=str(out))
    paths = os.pathsep.join([str(Path(bundle_module.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"staged"
    assert not out.exists()
    assert len(siblings(out)) == 1

    # A living export is not swept up by another one.
    write(out)
    assert len(siblings(out)) == 2

    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 5
    while len(siblings(out)) > 1 and time.monotonic() < deadline:
        write(out, overwrite=True)
    assert siblings(out) == ["bundle"]
    Bundle.load(out)


def test_a_sample_cannot_lie_outside_the_bundle(tmp_path: Path):
    with pytest.raises(TfliteAsrError, match="lies outside the bundle"):
        write(tmp_path / "bundle", samples={"../../evil": b"x"})
    assert list(tmp_path.iterdir()) == []
