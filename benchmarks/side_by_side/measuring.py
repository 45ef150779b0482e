"""All peers of one window measured: audit, logits on every corpus, latency in one race, instructions where asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side.checkpoint import Checkpoint
from benchmarks.side_by_side.makers import FLOAT, Ingredients, Peer
from benchmarks.side_by_side.runners import RUNNERS
from benchmarks.side_by_side.trial import Corpus, Trial, lay_out, score
from benchmarks.side_by_side.workshop import Built, build_all, one_line
from tflite_asr.audit import audit
from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import read_flatbuffer
from tflite_asr.measure.arm import count_instructions
from tflite_asr.measure.latency import WARM_UP, Times, in_turn, ratio
from tflite_asr.measure.worker import Worker

Progress = Callable[[str], None]
Row = dict[str, Any]
Refuse = Callable[[str, TfliteAsrError], None]


@dataclass(frozen=True)
class Plan:
    """What is to be measured in one window.

    Attributes:
        checkpoint: the weights.
        clips: `SyntheticInputs` on disk, for calibration.
        corpora: what the logits are judged on.
        seconds: the window.
        threads: each of them is a race of its own.
        rounds: of each race.
        folder: of this window's files.
        core: an emulated core to count instructions on; None for none.
    """

    checkpoint: Checkpoint
    clips: Path
    corpora: tuple[Corpus, ...]
    seconds: float
    threads: tuple[int, ...]
    rounds: int
    folder: Path
    core: str | None = None

    @property
    def frames(self) -> int:
        """The window in feature frames."""
        return round(self.seconds / self.checkpoint.hop_seconds)


def measure_window(plan: Plan, peers: Sequence[Peer], progress: Progress = lambda line: None) -> list[Row]:
    """One row a peer, in their order; a peer that refuses is a row with its reason.

    Raises:
        TfliteAsrError: the float model cannot be made or run: there is nothing to measure against.
    """
    subsampling = plan.checkpoint.facts.subsampling
    given = Ingredients(plan.checkpoint.path, plan.clips, plan.frames, subsampling)
    built = build_all(peers, given, plan.folder, progress)
    rows = {peer.name: _row(peer, built[peer.name], plan) for peer in peers}
    running = {name: row for name, row in rows.items() if row["status"] == "measured"}

    def refuse(name: str, error: TfliteAsrError) -> None:
        if name == FLOAT:
            raise TfliteAsrError(f"{plan.checkpoint.path}: the float model does not run ({one_line(error)})")
        rows[name] |= {"status": "refused", "refusal": one_line(error)}
        running.pop(name, None)
        progress(f"{rows[name]['title']}: refused, {one_line(error)}")

    if FLOAT not in running:
        raise TfliteAsrError(f"{plan.checkpoint.path}: no float model ({rows[FLOAT]['refusal']})")
    _judge(plan, running, refuse, progress)
    for threads in plan.threads:
        _race(plan, running, threads, refuse, progress)
    if plan.core is not None:
        _count(plan, running, progress)
    return list(rows.values())


def _row(peer: Peer, built: Built, plan: Plan) -> Row:
    """What is known of a peer before it runs."""
    row: Row = {
        "peer": peer.name,
        "title": peer.title,
        "window_seconds": plan.seconds,
        "status": "refused" if built.refusal else "measured",
        "refusal": built.refusal,
        "bytes": None,
        "integer_only": None,
        "notes": built.notes,
        "latency": {},
        "corpora": {},
        "instructions_per_audio_second": None,
    }
    if built.file is None:
        return row
    path = plan.folder / built.file
    row |= {"file": str(path), "bytes": path.stat().st_size}
    if path.suffix == ".tflite":
        report = audit(path, load=False)
        first = f"{report.offending[0].op}: {report.offending[0].reason}" if report.offending else None
        row |= {
            "integer_only": report.integer_only,
            "findings": len(report.offending),
            "first_finding": first,
            "macs": next(iter(report.macs.values())),
        }
    return row


def _judge(plan: Plan, running: dict[str, Row], refuse: Refuse, progress: Progress) -> None:
    """Logits of every peer on every corpus against the float model's."""
    flatbuffer = Path(running[FLOAT]["file"]).read_bytes()
    for corpus in plan.corpora:
        trial = lay_out(corpus, flatbuffer, plan.frames, plan.checkpoint, plan.folder)
        reference: np.ndarray | None = None
        for name, row in list(running.items()):
            progress(f"{row['title']}: logits on {corpus.name}, {len(corpus.features)} utterances")
            try:
                logits = _logits(Path(row["file"]), trial)
            except TfliteAsrError as error:
                refuse(name, error)
                continue
            reference = logits if name == FLOAT else reference
            assert reference is not None  # the float model comes first
            row["corpora"][corpus.name] = score(trial, logits, reference, plan.checkpoint)


def _logits(path: Path, trial: Trial) -> np.ndarray:
    out = path.with_suffix(".logits.npy")
    try:
        with Worker(path, RUNNERS[path.suffix], str(path), 1) as worker:
            worker.ask("logits", str(trial.feeds), str(out))
        return np.load(out)
    finally:
        out.unlink(missing_ok=True)


def _race(plan: Plan, running: dict[str, Row], threads: int, refuse: Refuse, progress: Progress) -> None:
    """Latency with so many threads, each peer once a round, so that what slows the machine slows all of them."""
    label = f"{threads} thread{'s' * (threads > 1)}"
    with ExitStack() as stack:
        steps = {}
        for name, row in list(running.items()):
            path = Path(row["file"])
            progress(f"{row['title']}: opened, {label}")
            try:
                worker = stack.enter_context(Worker(path, RUNNERS[path.suffix], str(path), threads))
                worker.ask("warm_up")
            except TfliteAsrError as error:
                refuse(name, error)
            else:
                steps[name] = _Step(name, worker, refuse)
        rounds = in_turn(
            list(steps.values()),
            WARM_UP + plan.rounds,
            lambda stage, done: progress(f"{label}: {stage}"),
        )
    times = {
        name: np.array(found[WARM_UP:]) for name, found in zip(steps, rounds, strict=True) if name in running
    }
    for name, found in times.items():
        running[name]["latency"][str(threads)] = {
            "latency_ms": Times(found, None).latency_ms(),
            "ratio": asdict(ratio(found, times[FLOAT])),
        }


@dataclass
class _Step:
    """One peer's turn: its time in ms, or 0 from the round on in which it failed."""

    name: str
    worker: Worker
    refuse: Refuse
    failed: bool = False

    def __call__(self) -> float:
        if self.failed:
            return 0.0
        try:
            return float(self.worker.ask("milliseconds"))
        except TfliteAsrError as error:
            self.failed = True
            self.refuse(self.name, error)
            return 0.0


def _count(plan: Plan, running: dict[str, Row], progress: Progress) -> None:
    """Instructions per second of audio on an emulated core, of the flatbuffers; why not, where one does not run."""
    assert plan.core is not None
    for row in running.values():
        path = Path(row["file"])
        if path.suffix != ".tflite":
            continue
        progress(f"{row['title']}: instructions on {plan.core}")
        try:
            signature = read_flatbuffer(path.read_bytes()).signatures[0].name
            counts = count_instructions(path, signature, plan.core, plan.seconds)
        except TfliteAsrError as error:
            row["core_refusal"] = one_line(error)
            progress(f"{row['title']}: not on {plan.core}, {one_line(error)}")
        else:
            row["instructions_per_audio_second"] = {"core": plan.core, **counts.per_audio_second()}
