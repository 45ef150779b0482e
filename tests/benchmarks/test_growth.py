"""What misses a mark is named, and a tiny model goes the whole way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.growth import Growth, measure

GOOD = Growth("conformer:L", 10**8, 900.0, 1100.0, 10**10, 400_000_000, 100_000_000, True, {})


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"cpu_seconds": 1260.0}, ["21.0 min of 20"]),
        ({"peak_bytes": 17_000_000_000}, ["17.0 GB of 16"]),
        ({"int8_bytes": 110_000_000}, ["bytes 3.64 of 3.8"]),
        ({"integer_only": False}, ["not integer-only"]),
        ({"model": "conformer:S", "cpu_seconds": 1e6, "peak_bytes": 10**12, "int8_bytes": 10**9}, []),
    ],
)
def test_what_misses_a_mark_is_named(changes: dict, missed: list[str]) -> None:
    assert replace(GOOD, **changes).misses() == missed


@pytest.mark.slow
def test_a_tiny_model_is_measured(tmp_path: Path) -> None:
    row = measure("quartznet:tiny", tmp_path)
    assert row.integer_only
    assert row.weights == 6624  # kernels alone: what batch norm was is in them
    assert row.cpu_seconds > 0
    assert 1e8 < row.peak_bytes < 8e9
    assert row.float32_bytes > row.int8_bytes
    assert {"calibrate", "lower", "front end"} <= set(row.stages)
