"""The integer-only proof: what a `.tflite` file holds, read from the file itself, without TensorFlow or a
runtime.

In every signature every tensor must be an integer or a bool, every op a builtin, every shape fixed, and
every signature named. What a kernel does inside is the runtime's business.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from tflite_asr.errors import Finding, TfliteAsrError
from tflite_asr.flatbuffer import Model, Operator, Subgraph, read_flatbuffer
from tflite_asr.releases import newest
from tflite_asr.staging import scratch_folder

INTEGER_TYPES = frozenset({"INT2", "INT4", "INT8", "INT16", "INT32", "INT64", "BOOL"})
_BITS = {
    "INT2": 2,
    "INT4": 4,
    "INT8": 8,
    "INT16": 16,
    "INT32": 32,
    "INT64": 64,
    "FLOAT16": 16,
    "FLOAT32": 32,
    "UINT8": 8,
}
# Operand numbers of constant weights and of the bias.
_WEIGHTS = {
    "BATCH_MATMUL": 1,
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "EMBEDDING_LOOKUP": 1,
    "FULLY_CONNECTED": 1,
    "GATHER": 0,
    "TRANSPOSE_CONV": 1,
}
_BIASES = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
_LOAD_SECONDS = 120
_RUNTIMES = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
_LOAD = """
import importlib, importlib.metadata, sys
print(importlib.metadata.version(sys.argv[1]), flush=True)
interpreter = importlib.import_module(sys.argv[2]).Interpreter(model_path=sys.argv[3])
for name in interpreter.get_signature_list():
    interpreter.get_signature_runner(name)
interpreter.allocate_tensors()
print("loads")
"""


@dataclass(frozen=True)
class Offence:
    """What keeps a file from being integer-only. signature: "" for the file. op: its name and number, ""
    for none."""

    signature: str
    op: str
    reason: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.signature, self.op, self.reason) if part)


@dataclass(frozen=True)
class AuditReport:
    """What a flatbuffer holds.

    integer_only: whether nothing offends. offending: what does, op by op. signatures: name to `{"inputs" |
    "outputs": {tensor: {"shape", "dtype", ...}}}`. ops: builtin to its count over all signatures. versions:
    builtin to the highest version used. bytes_by_kind: weights, biases, other_constants, scales,
    zero_points, names, structure; they add up to `size_bytes`. macs: multiply-adds of one run of each
    signature. weight_bits: bits to number of weights (stored once). runtimes: each runtime installed here,
    with its version, to "loads" or to why not.
    """

    path: str
    size_bytes: int
    integer_only: bool
    offending: tuple[Offence, ...]
    signatures: dict[str, Any]
    ops: dict[str, int]
    versions: dict[str, int]
    bytes_by_kind: dict[str, int]
    macs: dict[str, int]
    weight_bits: dict[int, int]
    runtimes: dict[str, str] = field(default_factory=dict)

    @property
    def oldest_runtime(self) -> str | None:
        """The oldest runtime installed here that loads the file; None where none was tried or none does."""
        loading = [name for name, outcome in self.runtimes.items() if outcome == "loads"]
        return min(loading, key=_age) if loading else None

    @property
    def first_release(self) -> str | None:
        """The TFLite release that first ran every op at its version, by the table of releases.py; None where that is
        later than the table."""
        found = newest(self.versions)
        return found[0] if found else None

    def first_release_line(self) -> str:
        """The same with the op that asks for it, and how LiteRT's numbers, which began anew, compare."""
        found = newest(self.versions)
        if found is None:
            return "any"
        release, op, version = found
        if release is None:
            return f"none up to 2.20, the last ({op} version {version}); a LiteRT 2.x"
        return f"{release} ({op} version {version}); LiteRT 2.x follows on TFLite 2.20"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **asdict(self),
            "oldest_runtime": self.oldest_runtime,
            "first_release": self.first_release,
            "offending": [asdict(one) for one in self.offending],
        }

    def rows(self) -> list[tuple[str, str]]:
        """The report as a table of two columns."""
        return [
            ("integer-only", "yes" if self.integer_only else f"no: {len(self.offending)} findings"),
            *((f"finding {number}", str(one)) for number, one in enumerate(self.offending[:10], 1)),
            ("size", f"{self.size_bytes:,} bytes"),
            *((f"  {kind.replace('_', ' ')}", f"{size:,}") for kind, size in self.bytes_by_kind.items()),
            (
                "weights",
                ", ".join(f"{count:,} of {bits} bits" for bits, count in self.weight_bits.items()) or "none",
            ),
            *((f"multiply-adds of {name}", f"{count:,}") for name, count in self.macs.items()),
            ("ops", ", ".join(f"{name} {count}" for name, count in self.ops.items())),
            *((f"tried on {name}", outcome) for name, outcome in self.runtimes.items()),
            ("oldest TFLite", self.first_release_line()),
        ]


def audit(source: str | Path | bytes, load: bool = True) -> AuditReport:
    """Look at a flatbuffer.

    source: a `.tflite` file, a bundle's folder (its model; the rest is not checked), or the file's bytes.
    load: also try it, in processes of their own, on the runtimes installed here.
    Raises TfliteAsrError where there is no such file or it is no TFLite flatbuffer, Finding where it is a
    damaged one, or a bundle's model is none.
    """
    where = "model" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _contents(Path(source))
    try:
        model = read_flatbuffer(data, where)
    except TfliteAsrError as error:
        if isinstance(source, bytes) or not Path(source).is_dir():
            raise
        raise Finding(f"{where}: damaged bundle ({error}); copy or export it again") from error
    names = {signature.subgraph: signature.name for signature in model.signatures}
    offending = tuple(_offences(model, names))
    counts: Counter[str] = Counter()
    versions: dict[str, int] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            counts[operator.name] += 1
            versions[operator.name] = max(versions.get(operator.name, 1), operator.version)
    bytes_by_kind, weight_bits = _bytes_by_kind(model)
    return AuditReport(
        path=where,
        size_bytes=model.size,
        integer_only=not offending,
        offending=offending,
        signatures=_signatures(model),
        ops=dict(counts.most_common()),
        versions=dict(sorted(versions.items())),
        bytes_by_kind=bytes_by_kind,
        macs={one.name: _macs(model.subgraphs[one.subgraph]) for one in model.signatures},
        weight_bits=weight_bits,
        runtimes=_try_runtimes(data) if load else {},
    )


def require_integer_only(report: AuditReport) -> None:
    """Raises Finding, naming the first offender, where the report's file is not integer-only."""
    if report.offending:
        more = f" and {len(report.offending) - 1} more" if len(report.offending) > 1 else ""
        raise Finding(
            f"{report.path}: not integer-only: {report.offending[0]}{more}; `tflite-asr audit --json FILE` lists them"
        )


def _contents(path: Path) -> bytes:
    try:
        return (path / "model.tflite" if path.is_dir() else path).read_bytes()
    except OSError as error:
        raise TfliteAsrError(
            f"{path}: cannot be read ({error.strerror}); give a .tflite file or a bundle"
        ) from error


def _offences(model: Model, names: dict[int, str]) -> Iterator[Offence]:
    if not model.signatures:
        yield Offence("", "", "no signature; convert the model with named ones")
    for name, count in Counter(one.name for one in model.signatures).items():
        if not name or count > 1:
            yield Offence(
                name, "", "a signature without a name" if not name else f"{count} signatures of this name"
            )
    for number, graph in enumerate(model.subgraphs):
        where = names.get(number, f"subgraph {number}")
        for signature in model.signatures:
            if signature.subgraph == number:
                for name, index in {**signature.inputs, **signature.outputs}.items():
                    if not name:
                        yield Offence(where, "", f"tensor {index} goes in or out without a name")
        yield from _graph_offences(graph, where)


def _graph_offences(graph: Subgraph, where: str) -> Iterator[Offence]:
    """Each tensor is laid to the charge of the op that writes it, a constant or input to the first that
    reads it."""
    for position, operator in enumerate(graph.operators):
        if operator.custom:
            kind = "Flex (TensorFlow) op" if operator.name.startswith("Flex") else "custom op"
            yield Offence(
                where, f"{operator.name} #{position}", f"a {kind}, which needs more than the builtin kernels"
            )
    owners: dict[int, str] = {}
    for verb, side in (("writes", "outputs"), ("reads", "inputs")):
        for position, operator in enumerate(graph.operators):
            for index in getattr(operator, side):
                owners.setdefault(index, f"{operator.name} #{position} {verb}")
    for index, tensor in enumerate(graph.tensors):
        op = owners.get(index, "no op uses")
        name = f"tensor {index}" + (f" ({tensor.name})" if tensor.name else "")
        if tensor.type not in INTEGER_TYPES:
            yield Offence(where, op, f"{name} of type {tensor.type.lower()}")
        if tensor.open_shape:
            yield Offence(where, op, f"{name} of dynamic shape {list(tensor.shape)}")


def _signatures(model: Model) -> dict[str, Any]:
    described = {}
    for one in model.signatures:
        tensors = model.subgraphs[one.subgraph].tensors
        described[one.name] = {
            "inputs": {name: tensors[index].describe() for name, index in one.inputs.items()},
            "outputs": {name: tensors[index].describe() for name, index in one.outputs.items()},
        }
    return described


def _bytes_by_kind(model: Model) -> tuple[dict[str, int], dict[int, int]]:
    """Where the bytes go, and weights by their bits; what several tensors share counts once."""
    kinds: dict[int, str] = {}
    weights: dict[int, tuple[int, int]] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            for kind, operands in (("weights", _WEIGHTS), ("biases", _BIASES)):
                position = operands.get(operator.name, len(operator.inputs))
                if position >= len(operator.inputs) or operator.inputs[position] < 0:
                    continue
                tensor = graph.tensors[operator.inputs[position]]
                start, size = model.buffers[tensor.buffer] if model.buffers else (0, 0)
                if size:
                    kinds[start] = kind
                    if kind == "weights":
                        weights[start] = (
                            _BITS.get(tensor.type, 8 * size // max(1, prod(tensor.shape))),
                            prod(tensor.shape),
                        )
    found: Counter[str] = Counter()
    for start, (kind, size) in model.spans.items():
        found[kinds.get(start, "other_constants") if kind == "constants" else kind] += size
    order = ("weights", "biases", "other_constants", "scales", "zero_points", "names")
    by_kind = {kind: found[kind] for kind in order}
    by_kind["structure"] = model.size - sum(by_kind.values())
    bits: Counter[int] = Counter()
    for width, count in weights.values():
        bits[width] += count
    return by_kind, dict(sorted(bits.items()))


def _macs(graph: Subgraph) -> int:
    """Multiply-adds of one run: products and convolutions; element-wise work is not counted."""
    return sum(_op_macs(graph, operator) for operator in graph.operators)


def _op_macs(graph: Subgraph, operator: Operator) -> int:
    shapes = [graph.tensors[index].shape if index >= 0 else () for index in operator.inputs]
    out = graph.tensors[operator.outputs[0]].shape if operator.outputs else ()
    if len(shapes) < 2 or not all(shapes[:2]) or not out:
        return 0
    if operator.name == "FULLY_CONNECTED":
        return prod(out) * shapes[1][-1]
    if operator.name == "CONV_2D" and len(shapes[1]) == 4:
        return prod(out) * prod(shapes[1][1:])
    if operator.name == "DEPTHWISE_CONV_2D" and len(shapes[1]) == 4:
        return prod(out) * shapes[1][1] * shapes[1][2]
    if operator.name == "TRANSPOSE_CONV" and len(shapes) > 2 and len(shapes[1]) == 4:
        return prod(shapes[2]) * prod(shapes[1][:3])
    if operator.name == "BATCH_MATMUL" and len(out) > 1 and len(shapes[0]) > 1:
        return prod(out) * (shapes[0][-1] * shapes[0][-2] // max(1, out[-2]))
    return 0


def _try_runtimes(data: bytes) -> dict[str, str]:
    """Each installed runtime, `name version`, to "loads" or the reason why it does not."""
    outcomes: dict[str, str] = {}
    with scratch_folder() as folder:
        path = folder / "model.tflite"
        path.write_bytes(data)
        for package, module in _RUNTIMES.items():
            command = [sys.executable, "-c", _LOAD, package, module, str(path)]
            try:
                run = subprocess.run(
                    command, capture_output=True, text=True, timeout=_LOAD_SECONDS, check=False
                )
            except subprocess.TimeoutExpired:
                outcomes[package] = f"did not load it within {_LOAD_SECONDS} s"
                continue
            lines = run.stdout.split()
            if lines:
                outcomes[f"{package} {lines[0]}"] = "loads" if lines[-1] == "loads" else _refusal(run)
    return outcomes


def _refusal(run: subprocess.CompletedProcess[str]) -> str:
    if run.returncode < 0:
        return f"died of signal {-run.returncode}"
    lines = [line for line in run.stderr.splitlines() if line.strip()]
    return f"refuses: {lines[-1].strip()[:200]}" if lines else f"refuses with exit code {run.returncode}"


def _age(runtime: str) -> tuple[int, list[int]]:
    """Sort key: tflite-runtime came before LiteRT; then by version."""
    name, _, version = runtime.partition(" ")
    return (list(_RUNTIMES)[::-1].index(name), [int(part) for part in version.split(".") if part.isdigit()])
