"""What is timed, inside a worker: a model that is opened for the first time, a bundle that runs again and again."""

from __future__ import annotations

import time

import numpy as np

from tflite_asr.bundle import Bundle
from tflite_asr.measure.arm.count import seeded_inputs
from tflite_asr.measure.footprint import forget_peak, peak_bytes, resident_bytes
from tflite_asr.runtime import RUNTIMES, Interpreter, Transcriber, open_interpreter
from tflite_asr.runtime.interpreter import import_runtime
from tflite_asr.runtime.spelling import Spelling

_NOISE = 0.1  # of full scale


class ColdStart:
    """An acoustic model in a process that has opened nothing yet; the front end stays closed."""

    def __init__(self, bundle: str, runtime: str, delegate: str | None, threads: int):
        if (
            runtime in RUNTIMES
        ):  # its own memory is no bundle's; an unknown one is refused when a model is opened
            import_runtime(runtime)
        loaded = Bundle.load(bundle)
        self._path = loaded.model_path
        self._settings = (runtime, delegate or loaded.info.delegate, threads)

    def first_run(self, signature: str, openings: int) -> dict[str, float]:
        """Open the model, run the signature once, then open it some more times.

        Returns:
            `load_ms`: opening and allocating every window, when the weights are packed; median over `openings`.
            `memory_growth_bytes`: the process' resident memory, from before the first opening to its highest by the
            end of the first run. The file is mapped: its pages that were touched count.
        """
        forget_peak()
        before = resident_bytes()
        model, seconds = self._open()
        model.run(signature, seeded_inputs(model.signatures[signature]))
        growth = max(0, peak_bytes() - before)
        del model
        loads = [seconds, *(self._open()[1] for _ in range(openings - 1))]
        return {"load_ms": 1000 * float(np.median(loads)), "memory_growth_bytes": growth}

    def _open(self) -> tuple[Interpreter, float]:
        began = time.perf_counter()
        model = open_interpreter(self._path, *self._settings)
        return model, time.perf_counter() - began


class Runner:
    """A bundle that is open: each run is one full window, through the front end where there is one, and one step of
    an encoder-decoder's decoder."""

    def __init__(self, bundle: str, runtime: str, delegate: str | None, threads: int):
        self._bundle = Bundle.load(bundle)
        self._random = np.random.default_rng(0)
        self._transcriber: Transcriber | None = None
        self._model: Interpreter | None = None
        featured = bool(self._bundle.missing_for_speech())
        if featured or self._bundle.decode_steps:
            kernels = delegate or self._bundle.info.delegate
            self._model = open_interpreter(self._bundle.model_path, runtime, kernels, threads)
        if not featured:
            heard = Spelling("ctc")  # how long the decoder spells noise says nothing
            self._transcriber = Transcriber(self._bundle, runtime, delegate, threads, heard)

    def run(self, frames: int) -> list[float | None]:
        """`[model, front end, decoder's step]` in ms; None for what the bundle has not."""
        step = self._bundle.decode_steps.get(frames)
        token = None if step is None else self._signature_ms(step)
        if self._transcriber is None:
            return [self._signature_ms(self._bundle.lengths[frames]), None, token]
        samples = self._transcriber.frontend.samples(frames)
        noise = (_NOISE * self._random.standard_normal(samples)).astype(np.float32)
        seconds = self._transcriber.recognise(noise).seconds
        return [1000 * seconds.model, 1000 * seconds.frontend, token]

    def _signature_ms(self, signature: str) -> float:
        assert self._model is not None
        inputs = seeded_inputs(self._model.signatures[signature])
        began = time.perf_counter()
        self._model.run(signature, inputs)
        return 1000 * (time.perf_counter() - began)
