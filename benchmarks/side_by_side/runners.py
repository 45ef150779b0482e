"""One peer's file opened on its runtime, as it stands inside a worker process (`tflite_asr.measure.worker`).

Features and masks come in as float; what the file stores them as, and how its logits become float again, is settled
here, outside of what is timed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side.makers import Feed
from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm.count import seeded_inputs
from tflite_asr.measure.fidelity import dequantise
from tflite_asr.runtime.interpreter import Signature, TensorFacts, open_interpreter


class Runner:
    """A model of one window. Subclasses open a file and say what its inputs are.

    Attributes:
        signature: its inputs and outputs.
    """

    signature: Signature

    def invoke(self, stored: Feed) -> np.ndarray:
        """One inference, all that is timed: [1, frames, pieces] as the file gives it."""
        raise NotImplementedError

    def real(self, output: np.ndarray) -> np.ndarray:
        """The same as real values."""
        return output

    def warm_up(self) -> None:
        """Run the timed inputs once."""
        self._timed = seeded_inputs(self.signature)
        self.invoke(self._timed)

    def milliseconds(self) -> float:
        """Wall-clock time of one inference, inputs copied in and outputs out."""
        began = time.perf_counter()
        self.invoke(self._timed)
        return 1000 * (time.perf_counter() - began)

    def logits(self, feeds: str, out: str) -> int:
        """Run every row of the arrays in `feeds` (.npz, input name to float32 [n, ...]) and write float32
        [n, frames, pieces] to `out` (.npy). Returns n."""
        with np.load(feeds) as archive:
            arrays = {name: archive[name] for name in archive.files}
        rows = len(next(iter(arrays.values())))
        found = [
            self.invoke(self.stored({name: array[row : row + 1] for name, array in arrays.items()}))
            for row in range(rows)
        ]
        np.save(out, np.concatenate([self.real(one) for one in found]).astype(np.float32))
        return rows

    def stored(self, feed: Feed) -> Feed:
        """A feed as the file stores it."""
        return {name: facts.quantise(feed[name]) for name, facts in self.signature.inputs.items()}


class TfliteRunner(Runner):
    """A flatbuffer of one signature on LiteRT with XNNPACK."""

    def __init__(self, path: str, threads: int):
        self._model = open_interpreter(path, threads=threads)
        if len(self._model.signatures) != 1:
            raise TfliteAsrError(f"{path}: has {len(self._model.signatures)} signatures; one window has one")
        (self.signature,) = self._model.signatures.values()
        ((self._output, self._facts),) = self.signature.outputs.items()

    def invoke(self, stored: Feed) -> np.ndarray:
        return self._model.run(self.signature.name, stored)[self._output]

    def real(self, output: np.ndarray) -> np.ndarray:
        return dequantise(output, self._facts.scale, self._facts.zero_point)


class OnnxRunner(Runner):
    """An ONNX graph on ONNX Runtime's CPU provider, all its optimisations on (its default)."""

    def __init__(self, path: str, threads: int):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # Its threads would else spin on, and take the processor from the next peer in the round.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common class below this
            raise TfliteAsrError(f"{Path(path).name}: ONNX Runtime cannot load it ({error})") from error
        inputs = {one.name: TensorFacts(tuple(one.shape), "float32") for one in self._session.get_inputs()}
        self.signature = Signature("main", inputs, {})

    def invoke(self, stored: Feed) -> np.ndarray:
        try:
            (logits,) = self._session.run(None, stored)
        except Exception as error:
            raise TfliteAsrError(f"ONNX Runtime cannot run it ({error})") from error
        return logits


RUNNERS: dict[str, Any] = {".tflite": TfliteRunner, ".onnx": OnnxRunner}
