"""Instructions of one inference on an emulated ARM core, and whether the core computes what this machine computes.

Counts see no caches, clocks or heat: they are instructions per second of audio, and no real-time factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.measure.arm.emulator import CLASSES, Blocks, Emulator, Job, JobResult, Mapped
from tflite_asr.measure.arm.layout import Progress
from tflite_asr.measure.arm.op_types import count_by_op_type
from tflite_asr.measure.arm.symbols import count_by_function
from tflite_asr.runtime.interpreter import Signature, TensorFacts, open_interpreter
from tflite_asr.staging import scratch_folder

_CALLER = ("python3", "_ctypes.", "libffi.")  # files of the Python that calls the runtime and sets the marks


@dataclass(frozen=True)
class OutputDifference:
    """Two machines' outputs for the same inputs.

    Attributes:
        values: how many were compared.
        different: how many are not the same bytes.
        largest: difference, as stored: steps of an integer tensor, units of a float one.
    """

    values: int
    different: int
    largest: float

    def to_json(self) -> dict[str, int | float]:
        return {"values": self.values, "different": self.different, "largest": self.largest}


@dataclass(frozen=True)
class InstructionCounts:
    """One inference of one signature, after one to warm up; what is counted is the runtime's `Invoke`.

    Attributes:
        core, signature: what ran.
        audio_seconds: that one inference takes in.
        total: instructions.
        dot: of these, 8-bit dot products and matrix products (SDOT, UDOT, SMMLA, ...).
        vector: the other arithmetic of the vector and floating-point unit.
        memory: loads and stores.
        repeats: total of each inference that was counted; the counts above are the last one's.
        functions: instructions by function of the runtime, most first.
        outputs: a dict of arrays for each run of the signature, in the tensors' own dtypes.
    """

    core: str
    signature: str
    audio_seconds: float
    total: int
    dot: int
    vector: int
    memory: int
    repeats: tuple[int, ...]
    functions: Mapping[str, int]
    outputs: tuple[Mapping[str, np.ndarray], ...]

    def per_audio_second(self) -> dict[str, float]:
        """`{"total", "dot", "vector", "memory"}`, instructions per second of audio."""
        return {name: getattr(self, name) / self.audio_seconds for name in CLASSES}

    @property
    def repeat_difference(self) -> float:
        """By how much the counted inferences differ, as a fraction of the smallest."""
        return (max(self.repeats) - min(self.repeats)) / max(1, min(self.repeats))

    def op_types(self) -> dict[str, int]:
        """Instructions by kind of op, most first."""
        return count_by_op_type(self.functions)


def compare_outputs(
    ours: Sequence[Mapping[str, np.ndarray]], theirs: Sequence[Mapping[str, np.ndarray]]
) -> OutputDifference:
    """Value by value; two NaN are the same.

    Args:
        ours, theirs: a dict of arrays for each run, of the same names, dtypes and shapes.
    """
    values = different = 0
    largest = 0.0
    for one, other in zip(ours, theirs, strict=True):
        for name, value in one.items():
            apart = ~((value == other[name]) | ((value != value) & (other[name] != other[name])))
            values += value.size
            different += int(apart.sum())
            if apart.any():
                gap = np.abs(value[apart].astype(np.float64) - other[name][apart].astype(np.float64))
                largest = max(largest, float(gap.max()))
    return OutputDifference(values, different, largest)


def seeded_inputs(signature: Signature, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs for a signature of which nothing is known: standard normal values as its tensors store them, ones for a
    mask and for a decoder's history, zeros for what counts or chooses (a token, a position)."""
    rng = np.random.default_rng(seed)

    def made(name: str, facts: TensorFacts) -> np.ndarray:
        if "mask" in name or name == "history":
            return np.ones(facts.shape, np.float32)
        if facts.scale is None and np.issubdtype(np.dtype(facts.dtype), np.integer):
            return np.zeros(facts.shape, np.float32)
        return rng.standard_normal(facts.shape).astype(np.float32)

    return {name: facts.quantise(made(name, facts)) for name, facts in sorted(signature.inputs.items())}


def count_instructions(
    model: str | Path | bytes,
    signature: str,
    core: str,
    audio_seconds: float,
    inputs: Mapping[str, np.ndarray] | Sequence[Mapping[str, np.ndarray]] | None = None,
    *,
    folder: Path | None = None,
    seed: int = 0,
    repeats: int = 2,
    progress: Progress | None = None,
) -> InstructionCounts:
    """Count one inference of a signature.

    Args:
        model: a flatbuffer's path or bytes.
        signature: its name.
        core: of `CORES`.
        audio_seconds: that one inference takes in.
        inputs: arrays as the tensors store them; several dicts where one inference is several runs, as a front end
            that works in blocks; None: `seeded_inputs` of `seed`, which needs a runtime on this machine.
        folder: what `prepare` laid out; None: the default one.
        repeats: inferences to count, each by itself.

    Raises:
        TfliteAsrError: an unknown core, a folder that is not prepared, a program that failed on the core.
    """
    emulator = Emulator(folder, core)
    if inputs is None:
        inputs = seeded_inputs(open_interpreter(model).signatures[signature], seed)
    runs = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    if progress:
        progress(f"{core}: {signature}", 0.0)
    with scratch_folder() as work:
        path = work / "model.tflite" if isinstance(model, bytes) else Path(model)
        if isinstance(model, bytes):
            path.write_bytes(model)
        (result,), maps = emulator.run([Job(path, signature, runs, repeats)])
    return counts_of(result, maps, core, signature, audio_seconds)


def counts_of(
    result: JobResult, maps: Sequence[Mapped], core: str, signature: str, audio_seconds: float
) -> InstructionCounts:
    """What the emulator brought back, as counts."""
    inferences = [_without_caller(blocks, maps) for blocks in result.inferences]
    last = inferences[-1]
    return InstructionCounts(
        core=core,
        signature=signature,
        audio_seconds=audio_seconds,
        repeats=tuple(blocks.sums()["total"] for blocks in inferences),
        functions=count_by_function(last, maps),
        outputs=result.outputs,
        **last.sums(),
    )


def _without_caller(blocks: Blocks, maps: Sequence[Mapped]) -> Blocks:
    """Without the Python that calls the runtime: some 2,500 instructions, and not always the same."""
    keep = np.ones(len(blocks.addresses), bool)
    for mapped in maps:
        if Path(mapped.path).name.startswith(_CALLER):
            keep &= (blocks.addresses < mapped.base) | (blocks.addresses >= mapped.end)
    return Blocks(blocks.addresses[keep], blocks.counts[keep])


def share_table(counted: Mapping[str, int], audio_seconds: float, top: int) -> list[dict[str, Any]]:
    """The first rows of counts by name, per second of audio, with their share of the whole."""
    whole = max(1, sum(counted.values()))
    return [
        {"name": name, "instructions_per_audio_second": n / audio_seconds, "share": n / whole}
        for name, n in list(counted.items())[:top]
    ]
