"""What bundles cost to run: time on this machine, or instructions on an emulated ARM core, side by side."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.bundle import MODEL_FILE, Bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.frontend.config import FrontEnd
from tflite_asr.measure.arm import CORES, CoreRun, count_bundle
from tflite_asr.measure.latency import (
    RESAMPLES,
    WARM_UP,
    Case,
    Ratio,
    Times,
    ratio,
    real_time_factor,
    time_cases,
)
from tflite_asr.measure.profile import profile_window
from tflite_asr.measure.stations import ColdStart
from tflite_asr.measure.worker import Worker

HOST = "host"
FEWEST_RUNS = 20
OPENINGS = 5
PROFILED_RUNS = 20
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Cost:
    """One window of one bundle on one core; None is what was not measured there.

    Attributes:
        bundle: its folder, as it was given.
        scheme, bytes: of its acoustic model.
        window_seconds: the window; a feature-only bundle's frames are taken as 10 ms each.
        threads, core, delegate: what it ran on.
        latency_ms: `{"min", "median", "p95"}` of the acoustic model.
        frontend_ms: median of the front end.
        rtf: the medians of model and front end over the window; rtf_model: the model's alone.
        instructions_per_audio_second: `{"total", "dot", "vector", "memory"}`, front end included.
        frontend_instructions_per_audio_second: the front end's part of them.
        decode_step_ms, decode_step_instructions: of one token of an encoder-decoder, whose encoder is the model of all
            that stands above; the median, and `{"total", "dot", "vector", "memory"}`.
        load_ms: opening and allocating the acoustic model; median of `OPENINGS`.
        memory_growth_bytes: resident memory from before that to its highest by the end of the first run.
        ratio: to the first bundle on the same window and threads: of latencies, or of instructions.
        profile: time by op (`Profile`), or what `CoreRun` knows of instructions; None where it was not asked for.
        profile_missing: why it was asked for and is None.
        against_host, frontend_against_host: outputs of the emulated core against this machine's (`OutputDifference`).
    """

    bundle: str
    scheme: str
    window_seconds: float
    threads: int
    core: str
    delegate: str
    latency_ms: dict[str, float] | None
    rtf: float | None
    rtf_model: float | None
    frontend_ms: float | None
    instructions_per_audio_second: dict[str, float] | None
    frontend_instructions_per_audio_second: dict[str, float] | None
    decode_step_ms: float | None
    decode_step_instructions: dict[str, int] | None
    load_ms: float | None
    memory_growth_bytes: int | None
    bytes: int
    ratio: Ratio
    profile: dict[str, Any] | None = None
    profile_missing: str | None = None
    against_host: dict[str, Any] | None = None
    frontend_against_host: dict[str, Any] | None = None


@dataclass(frozen=True)
class Benchmark:
    """All costs, bundle by bundle in the order given, then by window, then by threads.

    Attributes:
        costs: one for each.
        header: what they were measured with: versions, processor, runs, kernels.
    """

    costs: tuple[Cost, ...]
    header: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.header, "bundles": [asdict(cost) for cost in self.costs]}

    def to_json(self) -> str:
        """What `bench --json` writes."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"


def bench(
    bundles: str | Path | Bundle | Sequence[str | Path | Bundle],
    *,
    windows: Sequence[float] = (),
    threads: Sequence[int] = (1,),
    runs: int | None = None,
    core: str = HOST,
    runtime: str = "litert",
    delegate: str | None = None,
    profile: bool = True,
    progress: Progress | None = None,
) -> Benchmark:
    """Measure what bundles cost to run.

    Args:
        bundles: one or more; ratios are to the first. The same one twice shows what the machine's noise amounts to.
        windows: in seconds; none: the longest, which must then be the same in all.
        threads: CPU threads; each number is measured.
        runs: rounds in which every bundle is timed once, at least 20; None: so many. An emulated core needs none.
        core: "host", or an emulated core (`measure.arm.CORES`), which counts instructions of one thread on XNNPACK
            instead of taking time.
        runtime, delegate: as `Transcriber` takes them.
        profile: time the ops too. The profiler is LiteRT's, for XNNPACK and builtin kernels; elsewhere the cost says
            why it has none.
        progress: told (stage, fraction done).

    Raises:
        TfliteAsrError: wrong use, a window that a bundle has not, a runtime that is missing or aborts, a core that is
            unknown or not prepared.
        Finding: a broken bundle.
    """
    if core != HOST:
        _check_core(core, runtime, delegate, threads, runs)
    runs = FEWEST_RUNS if runs is None else runs
    if runs < FEWEST_RUNS:
        raise TfliteAsrError(
            f"{runs} runs are too few for a median and its interval; give at least {FEWEST_RUNS}"
        )
    if not threads or min(threads) < 1:
        raise TfliteAsrError(f"{min(threads, default=0)} threads cannot run; give at least 1")
    loaded = _load(bundles)
    cases = _cases(loaded, windows, tuple(dict.fromkeys(threads)))
    tell = progress or (lambda stage, fraction: None)
    timed = core == HOST
    emulated: dict[str, str] = {}
    if timed:
        costs = _time(cases, runs, runtime, delegate, profile, tell)
    else:
        costs, emulated = _count(cases, core, profile, tell)
    header = {
        "versions": {**_versions(runtime), **emulated},
        "cpu": cpu_model(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "core": core,
        "runtime": runtime,
        "runs": runs if timed else None,
        "warm_up_runs": WARM_UP if timed else None,
        "bootstrap_resamples": RESAMPLES if timed else None,
    }
    return Benchmark(tuple(costs), header)


def _load(bundles: str | Path | Bundle | Sequence[str | Path | Bundle]) -> list[Bundle]:
    given = [bundles] if isinstance(bundles, (str, Path, Bundle)) else list(bundles)
    if not given:
        raise TfliteAsrError("no bundle to measure; give at least one")
    loaded = [one if isinstance(one, Bundle) else Bundle.load(one) for one in given]
    for bundle in loaded:
        if not bundle.lengths:
            raise TfliteAsrError(f"{bundle.path}: has no signature to run; export it again")
    return loaded


def _check_core(
    core: str, runtime: str, delegate: str | None, threads: Sequence[int], runs: int | None
) -> None:
    if core not in CORES:
        raise TfliteAsrError(f"core {core!r} is unknown; give one of {', '.join((HOST, *CORES))}")
    if tuple(threads) != (1,):
        raise TfliteAsrError(f"--core {core} counts one thread; leave out --threads")
    if runs is not None:
        raise TfliteAsrError(f"--core {core} counts the same each time; leave out --runs")
    if (runtime, delegate or "xnnpack") != ("litert", "xnnpack"):
        raise TfliteAsrError(f"--core {core} runs litert on xnnpack; leave out --runtime and --delegate")


def _cases(bundles: Sequence[Bundle], windows: Sequence[float], threads: Sequence[int]) -> list[Case]:
    """Bundle-major, then by window, then by threads."""
    known = [{frames * _hop(bundle): frames for frames in bundle.lengths} for bundle in bundles]
    if not windows:
        longest = [max(windows_of) for windows_of in known]
        if len({round(seconds, 6) for seconds in longest}) > 1:
            lengths = ", ".join(f"{b.path.name} {s:g} s" for b, s in zip(bundles, longest, strict=True))
            raise TfliteAsrError(
                f"the longest windows differ ({lengths}); say with --window which to compare"
            )
        windows = longest[:1]
    cases = []
    for bundle, windows_of in zip(bundles, known, strict=True):
        for seconds in dict.fromkeys(windows):
            fits = [frames for length, frames in windows_of.items() if abs(length - seconds) < 1e-6]
            if not fits:
                has = ", ".join(f"{length:g}" for length in windows_of)
                raise TfliteAsrError(f"{bundle.path}: has no window of {seconds:g} s; it has {has}")
            cases += [Case(bundle, fits[0], seconds, count) for count in threads]
    return cases


def _hop(bundle: Bundle) -> float:
    """Seconds per feature frame."""
    return (bundle.info.frontend or FrontEnd()).seconds_per_frame


def _time(
    cases: Sequence[Case], runs: int, runtime: str, delegate: str | None, profile: bool, tell: Progress
) -> list[Cost]:
    starts = []
    for number, case in enumerate(cases):
        tell(f"opening {case.bundle.path.name}", 0.2 * number / len(cases))
        path = str(case.bundle.path)
        with Worker(path, ColdStart, path, runtime, delegate, case.threads) as worker:
            starts.append(worker.ask("first_run", case.bundle.lengths[case.frames], OPENINGS))
    last = 0.8 if profile else 1.0
    times = time_cases(
        cases, runs, runtime, delegate, lambda stage, done: tell(stage, 0.2 + (last - 0.2) * done)
    )
    costs = []
    for number, (case, start, one) in enumerate(zip(cases, starts, times, strict=True)):
        found, missing = None, None
        if profile:
            tell(f"profiling {case.bundle.path.name}", last + 0.2 * number / len(cases))
            found, missing = _profile(case, runtime, delegate or case.bundle.info.delegate)
        first = times[_first_like(case, cases)]
        kernels = delegate or case.bundle.info.delegate
        costs.append(_timed(case, kernels, start, one, ratio(one.model, first.model), found, missing))
    return costs


def _timed(
    case: Case,
    delegate: str,
    start: dict[str, float],
    times: Times,
    to_first: Ratio,
    profile: dict[str, Any] | None,
    profile_missing: str | None,
) -> Cost:
    latency = times.latency_ms()
    frontend = None if times.frontend is None else float(np.median(times.frontend))
    token = None if times.decode_step is None else float(np.median(times.decode_step))
    return Cost(
        **_identity(case),
        core=HOST,
        delegate=delegate,
        latency_ms=latency,
        rtf=real_time_factor(case.window_seconds, latency["median"], frontend),
        rtf_model=real_time_factor(case.window_seconds, latency["median"]),
        frontend_ms=frontend,
        instructions_per_audio_second=None,
        frontend_instructions_per_audio_second=None,
        decode_step_ms=token,
        decode_step_instructions=None,
        load_ms=start["load_ms"],
        memory_growth_bytes=int(start["memory_growth_bytes"]),
        ratio=to_first,
        profile=profile,
        profile_missing=profile_missing,
    )


def _profile(case: Case, runtime: str, delegate: str) -> tuple[dict[str, Any] | None, str | None]:
    """The profile, or why there is none: what was timed is worth having without it."""
    if runtime != "litert":
        return None, f"runtime {runtime} has no profiler; profile with litert"
    try:
        return profile_window(case.bundle, case.frames, delegate, case.threads, PROFILED_RUNS).to_dict(), None
    except TfliteAsrError as error:
        return None, str(error)


def _count(
    cases: Sequence[Case], core: str, profile: bool, tell: Progress
) -> tuple[list[Cost], dict[str, str]]:
    """The costs, and the versions of what ran on the core."""
    counted: list[CoreRun] = []
    for number, case in enumerate(cases):

        def step(stage: str, done: float, number: int = number) -> None:
            tell(stage, (number + done) / len(cases))

        counted.append(count_bundle(case.bundle, case.window_seconds, core, progress=step))
    totals = [run.per_audio_second["total"] for run in counted]
    costs = []
    for case, run, total in zip(cases, counted, totals, strict=True):
        plain = run.to_json()
        costs.append(
            Cost(
                **_identity(case),
                core=core,
                delegate="xnnpack",
                latency_ms=None,
                rtf=None,
                rtf_model=None,
                frontend_ms=None,
                instructions_per_audio_second=run.per_audio_second,
                frontend_instructions_per_audio_second=plain["frontend"],
                decode_step_ms=None,
                decode_step_instructions=plain["decode_step"],
                load_ms=None,
                memory_growth_bytes=None,
                ratio=Ratio(total / totals[_first_like(case, cases)]),
                profile={key: plain[key] for key in ("op_types", "kernels")} if profile else None,
                against_host=plain["against_host"],
                frontend_against_host=plain["frontend_against_host"],
            )
        )
    return costs, {f"core_{name}": version for name, version in counted[0].versions.items()}


def _identity(case: Case) -> dict[str, Any]:
    info = case.bundle.info
    return {
        "bundle": str(case.bundle.path),
        "scheme": info.scheme,
        "window_seconds": case.window_seconds,
        "threads": case.threads,
        "bytes": info.files[MODEL_FILE]["bytes"],
    }


def _first_like(case: Case, cases: Sequence[Case]) -> int:
    """Place of the first bundle's case of the same window and threads."""
    like = (case.window_seconds, case.threads)
    return next(i for i, one in enumerate(cases) if (one.window_seconds, one.threads) == like)


def _versions(runtime: str) -> dict[str, str]:
    packages = {"litert": "ai-edge-litert"}.get(runtime, runtime)
    versions = {"python": platform.python_version()}
    for package in ("tflite-asr", packages, "numpy"):
        try:
            versions[package.replace("-", "_")] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def cpu_model() -> str:
    """The processor's name, as Linux tells it or as Python knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
