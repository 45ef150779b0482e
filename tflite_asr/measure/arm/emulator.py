"""Runs flatbuffers on a prepared core and gives back what they computed and which blocks of code ran how often."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm.cores import find_core
from tflite_asr.measure.arm.layout import GUEST_SOURCE, cores_folder, read_record
from tflite_asr.staging import scratch_folder

CLASSES = ("total", "dot", "vector", "memory")


@dataclass(frozen=True)
class Job:
    """One signature to run and count.

    Attributes:
        model: path of the flatbuffer.
        signature: its name.
        inputs: one dict of arrays for each run that belongs to one inference, in the tensors' own dtypes.
        repeats: how often the inference is counted, after one run to warm up.
    """

    model: Path
    signature: str
    inputs: Sequence[Mapping[str, np.ndarray]]
    repeats: int = 2


@dataclass(frozen=True)
class Blocks:
    """The translated blocks that ran within one inference.

    Attributes:
        addresses: uint64 [blocks], of the first instruction.
        counts: int64 [blocks, 4], instructions executed: all, dot, vector, memory.
    """

    addresses: np.ndarray
    counts: np.ndarray

    def sums(self) -> dict[str, int]:
        """`{"total", "dot", "vector", "memory"}`."""
        return dict(zip(CLASSES, (int(n) for n in self.counts.sum(axis=0)), strict=True))


@dataclass(frozen=True)
class Mapped:
    """A file in the guest's memory: `path` from `base` (address of its first byte) to `end`."""

    path: str
    base: int
    end: int


@dataclass(frozen=True)
class JobResult:
    """What came of a job.

    Attributes:
        inferences: the blocks of each counted inference.
        outputs: of the last one, a dict of arrays for each of the job's inputs.
    """

    inferences: tuple[Blocks, ...]
    outputs: tuple[dict[str, np.ndarray], ...]


class Emulator:
    """A prepared core.

    Args:
        folder: what `prepare` laid out; None: `cores_folder()`.
        core: its name.
        record: of the folder, read from it unless given.

    Raises:
        TfliteAsrError: an unknown core; a folder that is not prepared, or by another version.
    """

    def __init__(self, folder: Path | None, core: str, record: dict[str, Any] | None = None):
        self.core = find_core(core)
        self.folder = (folder or cores_folder()).absolute()
        self.record = record if record is not None else read_record(self.folder)
        self._qemu = str(self.folder / self.record["qemu"])
        if not Path(self._qemu).is_file():
            raise TfliteAsrError(
                f"{self._qemu}: the emulator that the cores were prepared with is gone; apt-get install qemu-user"
            )

    def qemu_version(self) -> str:
        """As `qemu-aarch64 --version` says it: "7.2.22"."""
        done = self._start([self._qemu, "--version"], self.folder)
        words = done.stdout.split()
        if done.returncode or "version" not in words:
            said = (done.stderr.strip().splitlines() or ["no version"])[-1]
            raise TfliteAsrError(f"{self._qemu}: does not run ({said}); apt-get install qemu-user")
        return words[words.index("version") + 1]

    def execute(self, program: Sequence[str], work: Path) -> dict[int, Blocks]:
        """Run an arm64 program in the folder `work`; what ran up to each mark, by label (`read_counts`).

        Raises:
            TfliteAsrError: it failed; the line has its last words.
        """
        # By relative names: QEMU splits a plugin's arguments at commas.
        (work / "plugin.so").symlink_to(self.folder / "plugin.so")
        options = ["-cpu", self.core.qemu_cpu, "-plugin", "./plugin.so,out=counts.txt"]
        options += ["-L", str(self.folder / "roots" / self.core.name), "-U", "LD_LIBRARY_PATH"]
        done = self._start([self._qemu, *options, *program], work)
        if done.returncode:
            raise TfliteAsrError(self._failure(done.returncode, done.stderr))
        return read_counts(work / "counts.txt")

    def run(self, jobs: Sequence[Job], write_bytecode: bool = False) -> tuple[list[JobResult], list[Mapped]]:
        """Run the jobs, one after the other, in one arm64 Python.

        Raises:
            TfliteAsrError: `execute`'s.
        """
        with scratch_folder() as work:
            labels = _write_jobs(work, jobs)
            # Isolated, so that nothing of this machine's Python is imported.
            python = [str(self.folder / "sysroot/usr/bin/python3.11"), "-I", "-S"]
            if not write_bytecode:
                python.append("-B")
            blocks = self.execute([*python, str(GUEST_SOURCE), str(self.folder / "site"), "jobs.json"], work)
            results = []
            for index, job in enumerate(jobs):
                with np.load(work / f"out{index}.npz") as saved:
                    outputs: tuple[dict[str, np.ndarray], ...] = tuple({} for _ in job.inputs)
                    for key in saved.files:
                        number, _, output = key.partition(":")
                        outputs[int(number)][output] = saved[key]
                results.append(JobResult(tuple(blocks[label] for label in labels[index]), outputs))
            return results, read_maps((work / "maps.txt").read_text())

    def _start(self, command: Sequence[str], work: Path) -> subprocess.CompletedProcess[str]:
        """In an environment of its own: the program sees none of the caller's variables."""
        plain = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}
        if libraries := self.record["qemu_libraries"]:
            plain["LD_LIBRARY_PATH"] = ":".join(str(self.folder / path) for path in libraries)
        return subprocess.run(
            command,
            cwd=work,
            env=plain,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )

    def _failure(self, code: int, said: str) -> str:
        lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
        why = lines[-1] if lines else "no message"
        if code < 0:
            why = f"{signal.Signals(-code).name}, {why}"
        return (
            f"{self.core.name}: the emulated program failed ({why}); prepare the core again, or take another"
        )


def read_counts(path: Path) -> dict[int, Blocks]:
    """The plugin's file, label by label; the runs between several marks of one label are added up.

    A mark closes what ran since the mark before it.
    """
    parts: dict[int, list[np.ndarray]] = {}
    for section in path.read_text().split("mark ")[1:]:
        label, _, body = section.partition("\n")
        rows = [line.split() for line in body.splitlines()]
        table = np.array([[int(row[0], 16), *map(int, row[1:])] for row in rows], np.int64).reshape(-1, 6)
        parts.setdefault(int(label), []).append(table)
    found = {}
    for number, tables in parts.items():
        table = np.concatenate(tables)
        found[number] = Blocks(table[:, 0].astype(np.uint64), table[:, 1:2] * table[:, 2:])
    return found


def read_maps(text: str) -> list[Mapped]:
    """/proc/PID/maps, file by file."""
    spans: dict[str, list[int]] = {}
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or not fields[5].startswith("/"):
            continue
        start, _, end = fields[0].partition("-")
        base = int(start, 16) - int(fields[2], 16)
        span = spans.setdefault(fields[5], [base, 0])
        span[:] = [min(span[0], base), max(span[1], int(end, 16))]
    return [Mapped(path, base, end) for path, (base, end) in spans.items()]


def _write_jobs(work: Path, jobs: Sequence[Job]) -> list[list[int]]:
    """jobs.json and the inputs' files; gives the labels of each job's inferences."""
    described, labels = [], []
    following = 1
    for index, job in enumerate(jobs):
        files = []
        for number, inputs in enumerate(job.inputs):
            files.append(f"in{index}-{number}.npz")
            np.savez(work / files[-1], **inputs)  # type: ignore[arg-type]
        labels.append(list(range(following, following + job.repeats)))
        following += job.repeats
        described.append(
            {
                "model": str(job.model.absolute()),
                "signature": job.signature,
                "inputs": files,
                "labels": labels[-1],
                "outputs": f"out{index}.npz",
            }
        )
    (work / "jobs.json").write_text(json.dumps(described))
    return labels
