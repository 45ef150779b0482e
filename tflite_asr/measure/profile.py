"""Where the time of one window goes: by type of op, and the slowest ops."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tflite_asr.bundle import Bundle
from tflite_asr.flatbuffer import Operator, Subgraph, read_flatbuffer
from tflite_asr.measure.op_names import name_ops
from tflite_asr.measure.profiler import Profiler
from tflite_asr.measure.worker import Worker

SLOWEST = 10


@dataclass(frozen=True)
class TypeTime:
    """All ops of one type. runs_on: "xnnpack", "builtin" (the runtime's own kernels) or "both"."""

    type: str
    ms: float
    share: float
    count: int
    runs_on: str


@dataclass(frozen=True)
class OpTime:
    """One op.

    Attributes:
        name: the tensor that it writes, or type and index where names were stripped.
        type: of the flatbuffer's op, or XNNPACK's kind where the operator stands for none.
        index: in the signature's subgraph, or None.
        shapes: "1x400x128 128x128 -> 1x400x128": of its tensors.
        kernel: as the runtime calls what ran.
        ms, share: mean time, and its part of the sum over ops.
    """

    name: str
    type: str
    index: int | None
    shapes: str
    kernel: str
    ms: float
    share: float


@dataclass(frozen=True)
class Profile:
    """The model of one window; the front end is no part of it.

    Attributes:
        by_type: the slowest first.
        slowest: the slowest `SLOWEST` ops, the slowest first.
        sum_ms: over all ops.
        outside_ops_ms: what happens between ops, and what the profiler's whole microseconds cut off.
        whole_ms: of the runtime's Invoke when nothing disturbs it: the two together.
        runs: that were made.
    """

    by_type: tuple[TypeTime, ...]
    slowest: tuple[OpTime, ...]
    sum_ms: float
    outside_ops_ms: float
    whole_ms: float
    runs: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def profile_window(bundle: Bundle, frames: int, delegate: str, threads: int, runs: int) -> Profile:
    """Time the ops of one window of a bundle on LiteRT, in a process of its own.

    Raises:
        TfliteAsrError: `Profiler`'s, or one line about a runtime that aborts.
    """
    path = str(bundle.model_path)
    with Worker(path, Profiler, path, delegate, threads) as worker:
        raw = worker.ask("profile", bundle.lengths[frames], runs, 3)
    graph = read_flatbuffer(bundle.model_path.read_bytes(), path).subgraphs[raw["subgraph"]]
    return summarise(graph, raw["whole_us"], raw["ops"])


def summarise(graph: Subgraph, whole_us: list[int], ops: list[tuple[str, int | None, list[int]]]) -> Profile:
    """The profile of several runs.

    An op's time is the mean over the faster half of its runs, so that another process, which takes the core for some
    milliseconds in one run and from one op, is not taken for that op's work. What lies outside of ops is the same mean
    of what the ops of each run leave of its whole.

    Args:
        graph: what ran.
        whole_us, ops: as `Profiler.profile` gives them.
    """
    table = np.array([times for *_, times in ops], np.float64).reshape(len(ops), len(whole_us))
    ms = _undisturbed(table) / 1000
    total, outside = float(ms.sum()), float(_undisturbed(np.array(whole_us) - table.sum(axis=0))) / 1000
    named = name_ops(graph, [(name, index) for name, index, _ in ops])
    counts = Counter(op.type for op in named)
    times: dict[str, float] = {}
    homes: dict[str, set[str]] = {}
    for op, (_, index, _), time in zip(named, ops, ms, strict=True):
        times[op.type] = times.get(op.type, 0.0) + float(time)
        homes.setdefault(op.type, set()).add("xnnpack" if index is None else "builtin")
    by_type = [
        TypeTime(
            kind,
            time,
            time / (total or 1.0),
            counts[kind],
            min(homes[kind]) if len(homes[kind]) == 1 else "both",
        )
        for kind, time in sorted(times.items(), key=lambda item: -item[1])
    ]
    slowest = []
    for place in np.argsort(-ms, kind="stable")[:SLOWEST]:
        op, time = named[place], float(ms[place])
        name, shapes = op.type, ""
        if op.index is not None:
            name, shapes = _describe(graph, graph.operators[op.index], f"{op.type} {op.index}")
        slowest.append(OpTime(name, op.type, op.index, shapes, ops[place][0], time, time / (total or 1.0)))
    return Profile(tuple(by_type), tuple(slowest), total, outside, total + outside, len(whole_us))


def _undisturbed(times: np.ndarray) -> np.ndarray:
    """Mean of the smaller half along the last axis."""
    return np.sort(times, axis=-1)[..., : max(1, times.shape[-1] // 2)].mean(axis=-1)


def _describe(graph: Subgraph, op: Operator, plain: str) -> tuple[str, str]:
    def shapes(tensors: tuple[int, ...]) -> str:
        sides = ("x".join(map(str, graph.tensors[t].shape)) for t in tensors if t >= 0)
        return " ".join(side for side in sides if side)

    name = graph.tensors[op.outputs[0]].name if op.outputs else ""
    return name or plain, f"{shapes(op.inputs)} -> {shapes(op.outputs)}"
