"""One face for LiteRT and tflite-runtime: a flatbuffer opened on chosen kernels, its signatures run on arrays."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError

# Runtime to (module, extra that installs it).
RUNTIMES = {
    "litert": ("ai_edge_litert.interpreter", "litert"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}

# Delegate to the op resolver that gives it. XNNPACK is the default delegate of both runtimes; the reference kernels
# are plain loops that define each op's fixed-point arithmetic.
DELEGATES = {"xnnpack": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}


@dataclass(frozen=True)
class TensorFacts:
    """An input or output of a signature.

    Attributes:
        shape: static.
        dtype: NumPy's name ("int8", "float32").
        scale, zero_point: real = scale * (stored - zero_point); None where the tensor is not quantised.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As bundle.json writes it: scale and zero point only where quantised."""
        values: dict[str, Any] = {"shape": list(self.shape), "dtype": self.dtype}
        if self.scale is not None:
            values |= {"scale": self.scale, "zero_point": self.zero_point}
        return values

    def quantise(self, real: np.ndarray) -> np.ndarray:
        """Real values as this tensor stores them: rounded to nearest (halves to even), saturated."""
        if self.scale is None:
            return real.astype(self.dtype, copy=False)
        limits = np.iinfo(self.dtype)
        stored = np.rint(real * np.float32(1.0 / self.scale))
        stored += np.float32(self.zero_point or 0)
        return np.clip(stored, limits.min, limits.max).astype(self.dtype)


@dataclass(frozen=True)
class Signature:
    """A named entry of a flatbuffer."""

    name: str
    inputs: Mapping[str, TensorFacts]
    outputs: Mapping[str, TensorFacts]

    def to_dict(self) -> dict[str, Any]:
        """As bundle.json writes it."""
        return {
            "inputs": {name: facts.to_dict() for name, facts in self.inputs.items()},
            "outputs": {name: facts.to_dict() for name, facts in self.outputs.items()},
        }


class Interpreter:
    """A flatbuffer on one runtime, ready to run; made by `open_interpreter`.

    Attributes:
        signatures: by name.
        runtime, delegate, threads: as asked for.
    """

    def __init__(self, name: str, engine: Any, runtime: str, delegate: str, threads: int):
        self.runtime, self.delegate, self.threads = runtime, delegate, threads
        self._name, self._engine = name, engine
        self._runners = {key: engine.get_signature_runner(key) for key in engine.get_signature_list()}
        self.signatures = {
            key: Signature(key, _facts(runner.get_input_details()), _facts(runner.get_output_details()))
            for key, runner in self._runners.items()
        }

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one signature.

        Args:
            signature: its name.
            inputs: one array for each input, in the tensor's own dtype and shape; nothing is quantised here.

        Returns:
            The outputs by name, in the tensors' own dtypes; nothing is dequantised.

        Raises:
            TfliteAsrError: an unknown signature or input, or an array of another dtype or shape.
        """
        if signature not in self.signatures:
            known = ", ".join(sorted(self.signatures)) or "none"
            raise TfliteAsrError(f"{self._name}: no signature {signature!r}; it has {known}")
        wanted = self.signatures[signature].inputs
        if set(inputs) != set(wanted):
            raise TfliteAsrError(
                f"{self._name}: {signature} takes {', '.join(sorted(wanted))}, "
                f"not {', '.join(sorted(inputs)) or 'none'}"
            )
        for key, facts in wanted.items():
            value = inputs[key]
            if value.dtype != facts.dtype or value.shape != facts.shape:
                raise TfliteAsrError(
                    f"{self._name}: {signature} takes {key} as {facts.dtype} {list(facts.shape)}, "
                    f"not {value.dtype} {list(value.shape)}"
                )
        try:
            return self._runners[signature](**inputs)
        except (RuntimeError, ValueError) as error:
            raise TfliteAsrError(
                f"{self._name}: {self.runtime} failed in {signature} ({_first_line(error)}); try another --delegate"
            ) from error


def open_interpreter(
    model: str | Path | bytes,
    runtime: str = "litert",
    delegate: str = "xnnpack",
    threads: int = 1,
) -> Interpreter:
    """Open a flatbuffer.

    Args:
        model: a path, which the runtime maps, or the bytes.
        runtime: "litert" or "tflite-runtime".
        delegate: "xnnpack", "builtin" (the runtime's own fast kernels) or "reference" (plain loops).
        threads: CPU threads, at least 1.

    Raises:
        TfliteAsrError: an unknown choice, a runtime that is not installed, or a flatbuffer that it cannot load.
    """
    if runtime not in RUNTIMES:
        raise TfliteAsrError(f"runtime {runtime!r} is unknown; give one of {', '.join(RUNTIMES)}")
    if delegate not in DELEGATES:
        raise TfliteAsrError(f"delegate {delegate!r} is unknown; give one of {', '.join(DELEGATES)}")
    if threads < 1:
        raise TfliteAsrError(f"{threads} threads cannot run; give at least 1")
    name = "model of " + format(len(model), ",") + " bytes" if isinstance(model, bytes) else str(model)
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise TfliteAsrError(f"{name}: no such .tflite file; check the path")
    engine_module = import_runtime(runtime)
    source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    try:
        with _quiet(), warnings.catch_warnings():
            # tflite-runtime, and TensorFlow's copy of it, warn of their own deletion at every open.
            warnings.simplefilter("ignore")
            engine = engine_module.Interpreter(
                **source,
                num_threads=threads,
                experimental_op_resolver_type=getattr(engine_module.OpResolverType, DELEGATES[delegate]),
            )
            # Applies the default delegate to every subgraph, which running a signature alone would not.
            engine.allocate_tensors()
            return Interpreter(name, engine, runtime, delegate, threads)
    except (RuntimeError, ValueError) as error:
        raise TfliteAsrError(
            f"{name}: {runtime} cannot load it ({_first_line(error)}); check the file, or use another runtime"
        ) from error


def import_runtime(runtime: str) -> Any:
    """The runtime's interpreter module.

    Raises:
        TfliteAsrError: one that is not installed, or cannot be imported; the message names its extra, then the other.
    """
    module, extra = RUNTIMES[runtime]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        offers = f'pip install "tflite-asr[{extra}]"'
        for name in RUNTIMES.keys() - {runtime}:
            offers += f', or "tflite-asr[{RUNTIMES[name][1]}]" and give --runtime {name}'
        if (
            isinstance(error, ModuleNotFoundError)
            and (error.name or "").split(".")[0] == module.split(".")[0]
        ):
            raise TfliteAsrError(f"runtime {runtime} is not installed; {offers}") from error
        raise TfliteAsrError(
            f"runtime {runtime} cannot be imported ({_first_line(error)}); {offers}"
        ) from error


def _facts(details: Mapping[str, Any]) -> dict[str, TensorFacts]:
    facts = {}
    for name, detail in details.items():
        quantised = detail["quantization_parameters"]
        scale = float(quantised["scales"][0]) if len(quantised["scales"]) else None
        zero_point = int(quantised["zero_points"][0]) if scale is not None else None
        shape = tuple(int(size) for size in detail["shape"])
        facts[name] = TensorFacts(shape, np.dtype(detail["dtype"]).name, scale, zero_point)
    return facts


@contextmanager
def _quiet() -> Iterator[None]:
    """The runtimes' C++ log, written past Python to descriptor 2, put aside: what matters comes as an exception."""
    try:
        sys.stderr.flush()
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except (OSError, AttributeError, ValueError):
        yield
        return
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
