"""Time by op: LiteRT's own profiler, through its C API.

Three ways were weighed for ai-edge-litert 2.3.0. The classic interpreter's profiler is not within Python's reach, and
to it all that XNNPACK took is one DELEGATE node. Cutting the flatbuffer into single ops times each op with its inputs
cold, outside of the delegate's fusions, and needs a writer of flatbuffers. LiteRT's compiled model has a profiler to
which XNNPACK reports each of its operators, beside the runtime's own kernels; it runs the same kernels on the same
partitions as the interpreter does, gives the same bytes, and takes as long. Python cannot switch it on, so libLiteRt
is called directly. Its functions change between minor versions (creating a model took no environment before), hence
the versions that are let through. Times are whole microseconds, cut: some 700 ops lose a third of a millisecond, which
is part of what lies outside of ops.
"""

from __future__ import annotations

import ctypes
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm.count import seeded_inputs
from tflite_asr.runtime import open_interpreter

KNOWN_VERSIONS = ("2.3.",)
_CPU = 1
_WRITE = 1
_WHOLE, _OWN_KERNEL, _DELEGATED = 1, 2, 8  # types of events
_RANKED_TYPE_BYTES = 512  # more than the structure has; it is only handed on
# The compiled model takes "reference" too, and runs the builtin kernels all the same.
_SETTINGS = {"xnnpack": "", "builtin": 'kernel_mode = "builtin"\n'}


class _Event(ctypes.Structure):
    """ProfiledEventData of litert/c/litert_profiler_event.h."""

    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_int64 * 6),
        ("index", ctypes.c_int64),
        ("subgraph", ctypes.c_int64),
        ("source", ctypes.c_int),
    )


class Profiler:
    """A model whose ops are timed.

    Args:
        model: path of a flatbuffer.
        delegate: "xnnpack" or "builtin".
        threads: CPU threads.

    Raises:
        TfliteAsrError: another delegate, another version of ai-edge-litert, or LiteRT's refusal.
    """

    def __init__(self, model: str, delegate: str, threads: int):
        if delegate not in _SETTINGS:
            raise TfliteAsrError(f"delegate {delegate} cannot be profiled; profile {' or '.join(_SETTINGS)}")
        self._path = model
        self._library = _library()
        self._kept: list[Any] = []
        self._environment, self._model, options = (ctypes.c_void_p() for _ in range(3))
        self._call("LiteRtCreateEnvironment", 0, None, ctypes.byref(self._environment))
        path = str(model).encode()
        self._call("LiteRtCreateModelFromFile", self._environment, path, ctypes.byref(self._model))
        self._call("LiteRtCreateOptions", ctypes.byref(options))
        self._call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
        self._option(options, "runtime_options_string", "enable_profiling = true\n")
        self._option(options, "xnnpack", f"num_threads = {threads}\n{_SETTINGS[delegate]}")
        self._compiled, self._profiler = ctypes.c_void_p(), ctypes.c_void_p()
        compiled = ctypes.byref(self._compiled)
        self._call("LiteRtCreateCompiledModel", self._environment, self._model, options, compiled)
        self._call("LiteRtCompiledModelGetProfiler", self._compiled, ctypes.byref(self._profiler))

    def profile(self, signature: str, runs: int, warm_up: int) -> dict[str, Any]:
        """Run a signature on seeded inputs.

        Returns:
            `subgraph`: its index. `whole_us`: [runs], of the runtime's Invoke. `ops`: in the order of execution,
            `[name, index, us]`: a kernel of the runtime has its flatbuffer op's name and its index in the subgraph, an
            operator of XNNPACK the name that XNNPACK gives it and None; `us`: [runs], whole microseconds.
        """
        index, handle = self._signature(signature)
        facts = open_interpreter(self._path).signatures[signature]
        given = {name: value.tobytes() for name, value in seeded_inputs(facts).items()}
        inputs, outputs = (self._buffers(handle, index, kind) for kind in ("Input", "Output"))
        for name, buffer in inputs.items():
            memory = ctypes.c_void_p()
            self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(memory), _WRITE)
            ctypes.memmove(memory, given[name], len(given[name]))
            self._call("LiteRtUnlockTensorBuffer", buffer)
        arrays = [(ctypes.c_void_p * len(side))(*side.values()) for side in (inputs, outputs)]
        counts = [ctypes.c_size_t(len(side)) for side in (inputs, outputs)]
        arguments = (self._compiled, index, counts[0], arrays[0], counts[1], arrays[1])
        for _ in range(warm_up):
            self._call("LiteRtRunCompiledModel", *arguments)
        whole, ops, subgraph = [], [], 0
        for _ in range(runs):
            self._call("LiteRtResetProfiler", self._profiler)
            self._call("LiteRtStartProfiler", self._profiler)
            self._call("LiteRtRunCompiledModel", *arguments)
            self._call("LiteRtStopProfiler", self._profiler)
            events = self._events()
            (invoke,) = [e for e in events if e.type == _WHOLE and e.tag == b"Invoke"]
            whole.append(int(invoke.elapsed_us))
            subgraph = int(invoke.subgraph)
            ops.append([e for e in events if e.type in (_OWN_KERNEL, _DELEGATED)])
        if len({tuple((e.tag, e.type, e.index) for e in one) for one in ops}) != 1:
            raise TfliteAsrError(f"{self._path}: its ops differ from run to run; profile another window")
        microseconds = np.array([[e.elapsed_us for e in one] for one in ops]).T.tolist()
        names = [(e.tag.decode(), int(e.index) if e.type == _OWN_KERNEL else None) for e in ops[0]]
        rows = [[*name, times] for name, times in zip(names, microseconds, strict=True)]
        return {"subgraph": subgraph, "whole_us": whole, "ops": rows}

    def _call(self, name: str, *arguments: Any) -> None:
        if status := getattr(self._library, name)(*arguments):
            raise TfliteAsrError(f"{self._path}: LiteRT's profiler failed ({name}: status {status})")

    def _option(self, options: ctypes.c_void_p, kind: str, text: str) -> None:
        """Hand over one group of options, TOML as LiteRT reads it; the bytes must outlive the model."""
        data, leave = ctypes.create_string_buffer(text.encode()), _LEAVE
        self._kept.append(data)
        group = ctypes.c_void_p()
        self._call("LiteRtCreateOpaqueOptions", kind.encode(), data, leave, ctypes.byref(group))
        self._call("LiteRtAddOpaqueOptions", options, group)

    def _signature(self, wanted: str) -> tuple[ctypes.c_size_t, ctypes.c_void_p]:
        count = ctypes.c_size_t()
        self._call("LiteRtGetNumModelSignatures", self._model, ctypes.byref(count))
        for number in range(count.value):
            index, handle, key = ctypes.c_size_t(number), ctypes.c_void_p(), ctypes.c_char_p()
            self._call("LiteRtGetModelSignature", self._model, index, ctypes.byref(handle))
            self._call("LiteRtGetSignatureKey", handle, ctypes.byref(key))
            if key.value == wanted.encode():
                return index, handle
        raise TfliteAsrError(f"{self._path}: no signature {wanted!r}")

    def _buffers(
        self, signature: ctypes.c_void_p, index: ctypes.c_size_t, kind: str
    ) -> dict[str, ctypes.c_void_p]:
        """Tensor buffers by name; kind: Input or Output."""
        count = ctypes.c_size_t()
        self._call(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(count))
        buffers = {}
        for number in range(count.value):
            place, name = ctypes.c_size_t(number), ctypes.c_char_p()
            tensor, needs, buffer = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
            facts = (ctypes.c_uint8 * _RANKED_TYPE_BYTES)()
            self._call(f"LiteRtGetSignature{kind}Name", signature, place, ctypes.byref(name))
            self._call(f"LiteRtGetSignature{kind}TensorByIndex", signature, place, ctypes.byref(tensor))
            self._call("LiteRtGetRankedTensorType", tensor, facts)
            needed = f"LiteRtGetCompiledModel{kind}BufferRequirements"
            self._call(needed, self._compiled, index, place, ctypes.byref(needs))
            create = "LiteRtCreateManagedTensorBufferFromRequirements"
            self._call(create, self._environment, facts, needs, ctypes.byref(buffer))
            buffers[(name.value or b"").decode()] = buffer
        return buffers

    def _events(self) -> list[_Event]:
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * max(1, count.value))()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        return list(events)[: count.value]


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _LEAVE(_: int) -> None:
    """What LiteRT calls to free options: Python frees them."""


def _library() -> ctypes.CDLL:
    import ai_edge_litert

    version = metadata.version("ai-edge-litert")
    if not version.startswith(KNOWN_VERSIONS):
        raise TfliteAsrError(
            f"ai-edge-litert {version}: its profiler is not known here; "
            f"profile with version {KNOWN_VERSIONS[-1]}x"
        )
    for path in Path(ai_edge_litert.__file__).parent.glob("libLiteRt.*"):
        return ctypes.CDLL(str(path))
    raise TfliteAsrError("ai-edge-litert: has no libLiteRt to profile with; install its wheel again")
