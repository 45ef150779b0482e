"""`bench`: JSON for machines, a table that fits a terminal for people, one line for wrong use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.command_line import fault, run
from tflite_asr.bundle import Bundle


def test_bench_json_is_all_of_standard_output_and_bundle_major(tones: Path, float_bundle: Bundle) -> None:
    result = run("bench", float_bundle.path, tones, "--window", 1, "--json", "-")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    first, second = report["bundles"]
    assert (first["bundle"], second["bundle"]) == (str(float_bundle.path), str(tones))
    assert (first["scheme"], second["scheme"]) == ("float32", "static_wi8_ai8")
    assert (first["window_seconds"], first["threads"], first["core"]) == (1.0, 1, "host")
    assert set(first["latency_ms"]) == {"min", "median", "p95"}
    assert first["profile"]["slowest"]
    # The table went to standard error, and shows no profile that was not asked for.
    assert "median" in result.stderr
    assert "slowest ops" not in result.stderr


def test_bench_shows_tables_that_fit_80_columns(tones: Path, tmp_path: Path) -> None:
    result = run("bench", tones, "--window", 1, "--window", 2, "--profile", "--json", tmp_path / "b.json")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    for words in ("1 s, 1 thread:", "2 s, 1 thread:", "ms by type of op", "outside of ops", "slowest ops of"):
        assert words in result.stdout
    assert "…" not in result.stdout
    assert len(json.loads((tmp_path / "b.json").read_text())["bundles"]) == 2


def test_bench_says_why_there_is_no_profile(tones: Path) -> None:
    result = run("bench", tones, "--window", 1, "--delegate", "reference", "--profile")
    assert result.exit_code == 0, result.output
    assert "no profile: delegate reference cannot be profiled; profile xnnpack or builtin" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--window", 3), "int8: has no window of 3 s; it has 1, 2, 4"),
        (("--runs", 5), "5 runs are too few for a median and its interval; give at least 20"),
        (("--core", "z80"), "core 'z80' is unknown; give one of host, cortex-a53, cortex-a76, i8mm"),
        (("--core", "cortex-a53", "--threads", 2), "--core cortex-a53 counts one thread"),
    ],
)
def test_wrong_use_of_bench(tones: Path, options: tuple[object, ...], message: str) -> None:
    assert message in fault("bench", tones, *options)


def test_bench_wants_a_bundle_and_a_thread(tones: Path, tmp_path: Path) -> None:
    for arguments in ((), (tones, "--threads", 0)):
        result = run("bench", *arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")
    assert "no such bundle" in fault("bench", tmp_path / "gone")


def test_a_broken_bundle_is_a_finding_of_bench(float_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(float_bundle.path, tmp_path / "copy")
    (tmp_path / "copy" / "model.tflite").write_bytes(b"cut")
    assert "model.tflite: has 3 bytes" in fault("bench", tmp_path / "copy", code=1)
