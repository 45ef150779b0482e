"""A bundle on an emulated ARM core: its front end and its model, on the same speech as on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.bundle import Bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm.count import (
    InstructionCounts,
    OutputDifference,
    compare_outputs,
    counts_of,
    seeded_inputs,
    share_table,
)
from tflite_asr.measure.arm.emulator import CLASSES, Emulator, Job
from tflite_asr.measure.arm.layout import Progress
from tflite_asr.measure.arm.speech import shipped_speech
from tflite_asr.runtime.interpreter import open_interpreter
from tflite_asr.runtime.transcriber import frontend_inputs

TOP = 10


@dataclass(frozen=True)
class CoreRun:
    """What one window of a bundle costs on a core.

    Attributes:
        core: its name.
        window_seconds: the window, which is all audio.
        model: the acoustic model's counts.
        frontend: the front end's, in the blocks that the runtime runs it in; None in a feature-only bundle.
        against_host: the outputs of the model, and of the step, against this machine's, for the same inputs.
        frontend_against_host: the same for the front end, which is float.
        versions: of what ran.
        decode_step: one token of an encoder-decoder, on seeded inputs; None for CTC.
    """

    core: str
    window_seconds: float
    model: InstructionCounts
    frontend: InstructionCounts | None
    against_host: OutputDifference
    frontend_against_host: OutputDifference | None
    versions: Mapping[str, str]
    decode_step: InstructionCounts | None = None

    @property
    def per_audio_second(self) -> dict[str, float]:
        """`{"total", "dot", "vector", "memory"}`: instructions per second of audio, front end included."""
        parts = [self.model, self.frontend] if self.frontend else [self.model]
        return {name: sum(part.per_audio_second()[name] for part in parts) for name in CLASSES}

    @property
    def kernels(self) -> dict[str, int]:
        """The acoustic model's instructions for one window, by function of the runtime, most first."""
        return dict(self.model.functions)

    @property
    def op_types(self) -> dict[str, int]:
        """The acoustic model's instructions for one window, by kind of op, most first."""
        return self.model.op_types()

    def to_json(self) -> dict[str, Any]:
        """Plain values; every count but the step's is per second of audio. Kernels and kinds of ops are the acoustic
        model's."""
        seconds = self.window_seconds
        parts = [self.model, self.frontend] if self.frontend else [self.model]
        return {
            "core": self.core,
            "window_seconds": seconds,
            "instructions_per_audio_second": self.per_audio_second,
            "frontend": self.frontend.per_audio_second() if self.frontend else None,
            "decode_step": (
                {name: getattr(self.decode_step, name) for name in CLASSES} if self.decode_step else None
            ),
            "against_host": self.against_host.to_json(),
            "frontend_against_host": (
                self.frontend_against_host.to_json() if self.frontend_against_host else None
            ),
            "repeat_difference": max(part.repeat_difference for part in parts),
            "op_types": share_table(self.op_types, seconds, TOP),
            "kernels": share_table(self.kernels, seconds, TOP),
            "versions": dict(self.versions),
        }


def count_bundle(
    bundle: Bundle,
    window_seconds: float,
    core: str,
    folder: Path | None = None,
    progress: Progress | None = None,
    *,
    samples: np.ndarray | None = None,
    repeats: int = 2,
) -> CoreRun:
    """Count one window of a bundle on a core, and compare what the core computes with this machine.

    Args:
        bundle: a feature-only one is counted without a front end, on seeded noise.
        window_seconds: one of the bundle's windows.
        core: of `CORES`.
        folder: what `prepare` laid out; None: the default one.
        progress: told (stage, fraction done).
        samples: float32 [samples] of speech at the front end's rate, repeated or cut to the window; None: the clips
            that the package ships.
        repeats: inferences to count, each by itself, after one to warm up.

    Raises:
        TfliteAsrError: a window that the bundle has not, an unknown core, a folder that is not prepared, a runtime
            that is not installed, a program that failed on the core.
    """
    tell = progress or (lambda stage, fraction: None)
    emulator = Emulator(folder, core)
    frames = _window_frames(bundle, window_seconds)
    signature = bundle.lengths[frames]
    model = open_interpreter(bundle.model_path)
    frontend = bundle.info.frontend
    jobs: list[Job] = []
    blocks: list[dict[str, np.ndarray]] = []
    made: list[dict[str, np.ndarray]] = []
    block_name = ""
    tell(f"{core}: inputs", 0.0)
    inputs = seeded_inputs(model.signatures[signature])
    if frontend is not None and bundle.frontend_path.is_file():
        if samples is None:
            samples = shipped_speech(frontend.sample_rate, frontend.reach(frames))
        samples = np.resize(samples, frontend.reach(frames)).astype(np.float32)
        block_name, blocks = frontend_inputs(frontend, bundle.windows, samples, frames, frames)
        host = open_interpreter(bundle.frontend_path)
        made = [host.run(block_name, block) for block in blocks]
        features = np.concatenate([one["features"] for one in made], axis=1)[:, :frames]
        inputs["features"] = model.signatures[signature].inputs["features"].quantise(features)
        jobs.append(Job(bundle.frontend_path, block_name, blocks, repeats))
    jobs.append(Job(bundle.model_path, signature, [inputs], repeats))
    expected = [model.run(signature, inputs)]
    step = bundle.decode_steps.get(frames)
    if step is not None:
        token = seeded_inputs(model.signatures[step])
        jobs.append(Job(bundle.model_path, step, [token], repeats))
        expected.append(model.run(step, token))
    tell(f"{core}: {bundle.path.name}, {window_seconds:g} s", 0.1)
    results, maps = emulator.run(jobs)
    front = counts_of(results.pop(0), maps, core, block_name, window_seconds) if blocks else None
    counted = counts_of(results.pop(0), maps, core, signature, window_seconds)
    spelled = counts_of(results.pop(0), maps, core, step, window_seconds) if step is not None else None
    outputs = [*counted.outputs, *(spelled.outputs if spelled else ())]
    tell(f"{core}: done", 1.0)
    return CoreRun(
        core,
        window_seconds,
        counted,
        front,
        compare_outputs(outputs, expected),
        compare_outputs(front.outputs, made) if front else None,
        {"qemu": emulator.record["qemu_version"], "runtime": emulator.record["runtime"]},
        spelled,
    )


def _window_frames(bundle: Bundle, window_seconds: float) -> int:
    """Feature frames of a window; a feature-only bundle's are taken as 10 ms each."""
    hop = bundle.info.frontend.seconds_per_frame if bundle.info.frontend else 0.01
    frames = round(window_seconds / hop)
    if frames not in bundle.lengths:
        known = ", ".join(f"{frames * hop:g}" for frames in bundle.lengths) or "none"
        raise TfliteAsrError(f"{bundle.path}: has no window of {window_seconds:g} s; it has {known}")
    return frames
