"""A benchmark has every cost of every bundle in the order given; wrong use is one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.markup import escape

from tests.tone_bundle import write_tone_bundle
from tflite_asr import bench
from tflite_asr.bundle import write_bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure import bench as room
from tflite_asr.measure.arm import CoreRun, InstructionCounts, OutputDifference
from tflite_asr.measure.bench import FEWEST_RUNS
from tflite_asr.measure.latency import Times
from tflite_asr.report.bench_table import bench_tables, short_name

KEYS = {
    *(
        "bundle",
        "scheme",
        "window_seconds",
        "threads",
        "core",
        "delegate",
        "latency_ms",
        "rtf",
        "rtf_model",
        "frontend_ms",
    ),
    *("instructions_per_audio_second", "frontend_instructions_per_audio_second", "load_ms", "bytes", "ratio"),
    *("decode_step_ms", "decode_step_instructions"),
    *("memory_growth_bytes", "profile", "profile_missing", "against_host", "frontend_against_host"),
}


@pytest.fixture(scope="module")
def report(float_bundle, int8_bundle) -> dict:
    """A real run, as JSON."""
    result = bench([float_bundle.path, int8_bundle], windows=(1, 4))
    return json.loads(result.to_json())


def test_bundles_come_in_the_order_given_then_windows(report, float_bundle, int8_bundle):
    assert [(one["bundle"], one["window_seconds"]) for one in report["bundles"]] == [
        (str(bundle.path), seconds) for bundle in (float_bundle, int8_bundle) for seconds in (1, 4)
    ]
    assert [one["scheme"] for one in report["bundles"]] == ["float32"] * 2 + ["static_wi8_ai8"] * 2


def test_the_header_says_what_ran(report):
    assert report["runs"] == FEWEST_RUNS
    assert (report["core"], report["runtime"]) == ("host", "litert")
    assert report["cpu"]
    assert set(report["versions"]) >= {"python", "tflite_asr", "ai_edge_litert"}


def test_every_cost_is_measured_on_the_host(report):
    for one in report["bundles"]:
        assert set(one) == KEYS
        latency = one["latency_ms"]
        assert 0 < latency["min"] <= latency["median"] <= latency["p95"]
        assert one["rtf"] == pytest.approx(
            (latency["median"] + one["frontend_ms"]) / 1000 / one["window_seconds"]
        )
        assert one["rtf_model"] == pytest.approx(latency["median"] / 1000 / one["window_seconds"])
        assert one["load_ms"] > 0
        assert 0 < one["memory_growth_bytes"] < 500e6
        assert one["bytes"] == (Path(one["bundle"]) / "model.tflite").stat().st_size
        assert one["instructions_per_audio_second"] is None
        assert one["decode_step_ms"] is None  # a CTC model has no steps
        assert one["profile_missing"] is None
        assert {row["type"] for row in one["profile"]["by_type"]} >= {"FULLY_CONNECTED", "MEAN", "MUL"}


def test_ratios_are_to_the_first_bundle_of_the_same_window(report):
    first = report["bundles"][:2]
    for one, like in zip(report["bundles"], [*first, *first], strict=True):
        expected = one["latency_ms"]["median"] / like["latency_ms"]["median"]
        assert one["ratio"]["value"] == pytest.approx(expected)
        assert one["ratio"]["low"] <= one["ratio"]["value"] <= one["ratio"]["high"]
    assert first[0]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_a_feature_only_bundle_has_no_front_end_to_time(tmp_path: Path):
    bare = write_tone_bundle(tmp_path / "bare", integer=False, feature_only=True)
    (cost,) = bench(bare, profile=False).costs
    assert (cost.frontend_ms, cost.rtf, cost.profile) == (None, None, None)
    assert cost.window_seconds == 4.0  # the longest
    assert cost.rtf_model is not None
    assert cost.rtf_model > 0


def test_signatures_that_are_no_ctc_are_timed_by_their_frames(tmp_path: Path):
    """As somebody's own model has them, with open and with fixed length."""
    bare = write_tone_bundle(tmp_path / "bare", integer=False, feature_only=True)
    signatures = bare.info.signatures
    own = replace(bare, info=replace(bare.info, signatures={"main": signatures["ctc_400"]}))
    assert (own.windows, own.lengths) == ({}, {400: "main"})
    renamed = {name.replace("ctc", "main"): one for name, one in signatures.items()}
    open_ended = replace(bare, info=replace(bare.info, signatures=renamed))
    assert open_ended.lengths == {100: "main_100", 200: "main_200", 400: "main_400"}
    assert bare.lengths == bare.windows


def test_kernels_without_a_profiler_are_timed_all_the_same(int8_bundle):
    (cost,) = bench(int8_bundle, windows=[1], delegate="reference").costs
    assert cost.latency_ms is not None
    assert cost.profile is None
    assert cost.profile_missing == "delegate reference cannot be profiled; profile xnnpack or builtin"


def test_each_bundle_runs_on_the_kernels_that_it_names(int8_bundle, tmp_path: Path):
    """As it is evaluated, unless others are asked for; the table says so where they differ."""
    old = write_bundle(
        tmp_path / "old",
        replace(int8_bundle.info, delegate="builtin"),
        model=int8_bundle.model_path.read_bytes(),
        frontend=int8_bundle.frontend_path.read_bytes(),
        tokens=int8_bundle.tokens,
        card="",
    )
    result = bench([int8_bundle, old], windows=[1])
    assert [cost.delegate for cost in result.costs] == ["xnnpack", "builtin"]
    homes = [{row["runs_on"] for row in cost.profile["by_type"]} for cost in result.costs if cost.profile]
    assert "xnnpack" in homes[0]
    assert homes[1] == {"builtin"}
    (table,) = bench_tables(result.to_dict(), profile=False)
    assert "litert on xnnpack and builtin" in str(table.title)
    assert list(table.columns[0].cells) == ["int8\nxnnpack", "old\nbuiltin"]
    (asked,) = bench(old, windows=[1], delegate="xnnpack", profile=False).costs
    assert asked.delegate == "xnnpack"


@pytest.fixture
def clockless(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Nothing is run: every case takes as many ms as its place, and its opening is recorded."""
    opened = []

    class Start:
        def __init__(self, subject, kind, path, runtime, delegate, threads):
            self.path, self.threads = Path(path).name, threads

        def ask(self, method, signature, openings):
            opened.append((self.path, signature, self.threads))
            return {"load_ms": 5.0, "memory_growth_bytes": 1000}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def times(cases, runs, runtime, delegate, tell):
        return [Times(np.full(runs, place + 1.0), np.full(runs, 0.25)) for place in range(len(cases))]

    monkeypatch.setattr(room, "Worker", Start)
    monkeypatch.setattr(room, "time_cases", times)
    return opened


def test_costs_are_bundle_major_then_by_window_then_by_threads(float_bundle, int8_bundle, clockless):
    result = bench([int8_bundle, float_bundle], windows=[4, 1], threads=[2, 1, 2], profile=False)
    places = [(Path(c.bundle).name, c.window_seconds, c.threads) for c in result.costs]
    assert places == [(n, w, t) for n in ("int8", "float") for w in (4, 1) for t in (2, 1)]
    assert clockless == [(name, f"ctc_{seconds * 100}", threads) for name, seconds, threads in places]
    # Medians are 1 to 8 ms: those of the second bundle over those of the first, case by case.
    assert [c.ratio.value for c in result.costs[4:]] == [5 / 1, 6 / 2, 7 / 3, 8 / 4]
    assert result.costs[0].rtf == pytest.approx(0.00125 / 4)


def test_the_same_bundle_twice_is_compared_with_itself(int8_bundle, clockless):
    result = bench([int8_bundle.path, int8_bundle.path], profile=False)
    assert [cost.ratio.value for cost in result.costs] == [1.0, 2.0]


def counted(total: int, core: str, seconds: float) -> CoreRun:
    def part(total: int) -> InstructionCounts:
        functions = {"xnn_qs8_gemm": total}
        return InstructionCounts(core, "s", seconds, total, total // 2, 5, 6, (total, total), functions, ())

    same, apart = OutputDifference(100, 0, 0.0), OutputDifference(100, 3, 1.0)
    return CoreRun(core, seconds, part(total), part(40), apart, same, {"qemu": "7.2"})


def test_an_emulated_core_counts_instructions_instead_of_time(float_bundle, int8_bundle, monkeypatch):
    totals = iter([760, 360])
    monkeypatch.setattr(
        room,
        "count_bundle",
        lambda bundle, seconds, core, progress: counted(next(totals), core, seconds),
    )
    result = bench([float_bundle, int8_bundle], core="cortex-a76", windows=[4])
    first, second = (json.loads(result.to_json())["bundles"][place] for place in (0, 1))
    assert first["instructions_per_audio_second"]["total"] == (760 + 40) / 4
    assert first["frontend_instructions_per_audio_second"]["total"] == 40 / 4
    assert second["ratio"] == {"value": 400 / 800, "low": None, "high": None}
    for one in (first, second):
        assert set(one) == KEYS
        assert (one["core"], one["threads"]) == ("cortex-a76", 1)
        for key in ("latency_ms", "rtf", "frontend_ms", "load_ms", "memory_growth_bytes"):
            assert one[key] is None
        assert (one["against_host"]["different"], one["frontend_against_host"]["different"]) == (3, 0)
        assert one["profile"]["kernels"][0]["name"] == "xnn_qs8_gemm"
    assert result.header["runs"] is None
    assert result.header["versions"]["core_qemu"] == "7.2"
    instructions, kinds, *_ = bench_tables(result.to_dict(), profile=True)
    words = [f"3 of\n100 differ\nby {by} or less" for by in ("1.0e+00", "1 step")]
    assert list(instructions.columns[7].cells) == words
    # The front end is in the first table's total, and not in the second's.
    assert list(kinds.columns[2].cells)[-1] == f"{360 / 4 / 1e6:.3f}"


def test_a_kernel_is_shown_by_its_name_alone():
    """Whole, where rich would take it for markup; a C++ function without its arguments."""
    shown = {
        "[libc.so.6]": "\\[libc.so.6]",
        "ruy::Pack8bitColMajorForNeonDotprod(void const*, void const*, int)": "ruy::Pack8bitColMajorForNeonDotprod",
        "bool tflite::detail::CustomGemv<signed char, std::array<int, 3>>(int const&)": "tflite::detail::CustomGemv",
        "tflite::(anonymous namespace)::LogEval(TfLiteContext*)": "tflite::{anonymous}::LogEval",
        "xnn_qs8_gemm": "xnn_qs8_gemm",
    }
    for name, words in shown.items():
        assert escape(short_name(name)) == words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windows": [3]}, r"int8: has no window of 3 s; it has 1, 2, 4"),
        ({"runs": 19}, r"19 runs are too few .* give at least 20"),
        ({"threads": [1, 0]}, r"0 threads cannot run; give at least 1"),
        ({"threads": []}, r"0 threads cannot run; give at least 1"),
        ({"core": "z80"}, r"core 'z80' is unknown; give one of host, cortex-a53, cortex-a76"),
        ({"core": "cortex-a76", "threads": [2]}, r"--core cortex-a76 counts one thread; leave out --threads"),
        (
            {"core": "cortex-a76", "runs": 20},
            r"--core cortex-a76 counts the same each time; leave out --runs",
        ),
        ({"core": "cortex-a76", "delegate": "builtin"}, r"leave out --runtime and --delegate"),
        ({"runtime": "onnx", "profile": False}, r"runtime 'onnx' is unknown"),
        ({"delegate": "gpu", "profile": False}, r"delegate 'gpu' is unknown"),
    ],
)
def test_wrong_use_is_one_line(int8_bundle, options, message):
    with pytest.raises(TfliteAsrError, match=message) as error:
        bench(int8_bundle, **options)
    assert "\n" not in str(error.value)


def test_no_bundle_and_no_such_bundle(tmp_path: Path):
    with pytest.raises(TfliteAsrError, match="no bundle to measure; give at least one"):
        bench([])
    with pytest.raises(TfliteAsrError, match="no such bundle"):
        bench(tmp_path / "nowhere")
