"""A float model and its integer twin run side by side, tensor by tensor: where the integers lose.

The finishing pass strips the integer file of its names, so these come from the float one, whose tensors bear the
stable names of quantising. What pairs them is the order of the ops: the quantiser and the finishing pass keep it, and
only add or drop QUANTIZE and DEQUANTIZE, drop idle clamps, and write a product for NEG and SQUARE. That is checked,
op by op.

Both run on the builtin kernels, since a delegate keeps its tensors to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import Model, Operator, Subgraph, Tensor, read_flatbuffer
from tflite_asr.measure.fidelity import decibels, dequantise
from tflite_asr.runtime.interpreter import DELEGATES, TensorFacts, import_runtime

Feed = Mapping[str, np.ndarray]

INPUT = "INPUT"
_BRIDGES = ("QUANTIZE", "DEQUANTIZE")
_CLAMPS = ("MINIMUM", "RELU")
_WRITTEN_AS = {"NEG": "MUL", "SQUARE": "MUL"}


@dataclass(frozen=True)
class TensorFidelity:
    """One activation of the integer model beside the float one, over all inputs of a walk.

    Attributes:
        name: the stable name, `<module path>/<op>`.
        op: what computes it, `FULLY_CONNECTED` say; `INPUT` for an input.
        module: its path in the Keras model, "" for an input.
        snr_db: float values against the integers' real values, all that was lost before included; at most 120.
        grid_snr_db: what storing the float values on this tensor's own grid costs, nothing else; 120 where it is
            float.
        share_clipped: part of the float values that lie outside the grid.
        low, high: the real values that the grid can hold; None where the tensor stayed float.
        seen_low, seen_high: extremes of the float values.

    Where a walk was told what the readers of a tensor can tell apart, all of these are of the values cut to that.
    """

    name: str
    op: str
    module: str
    snr_db: float
    grid_snr_db: float
    share_clipped: float
    low: float | None
    high: float | None
    seen_low: float
    seen_high: float

    @property
    def width_ratio(self) -> float | None:
        """Width of the grid over that of the values seen, zero included in both: 2 wastes one bit."""
        if self.low is None or self.high is None:
            return None
        seen = max(self.seen_high, 0.0) - min(self.seen_low, 0.0)
        return (self.high - self.low) / seen if seen else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def walk(
    float_flatbuffer: bytes,
    int_flatbuffer: bytes,
    feeds: Iterable[Feed],
    signature: str,
    *,
    told_apart: Mapping[str, tuple[float, float]] | None = None,
    runtime: str = "litert",
) -> list[TensorFidelity]:
    """Every activation that both models compute, in the order of execution, inputs first.

    Args:
        float_flatbuffer: the model that was quantised: lowered, its tensors bearing stable names.
        int_flatbuffer: what quantising and finishing made of it; names are not asked for. One that was then fitted
            to an older runtime has other ops and is refused.
        feeds: of `signature`: input name to float32 array in the input's shape. Padding counts as any other value, so
            inputs that fill the window say most.
        signature: in both files.
        told_apart: name to the interval outside of which nothing that reads the tensor sees a difference
            (`quantize.saturating`): both sides are cut to it, so that a range that ends there on purpose is no loss.
        runtime: "litert" or "tflite-runtime".

    Raises:
        TfliteAsrError: a signature that is missing, ops that do not pair, feeds that do not fit, or none.
    """
    pairs = pair_tensors(float_flatbuffer, int_flatbuffer, signature)
    one = _Kept(float_flatbuffer, signature, runtime)
    other = _Kept(int_flatbuffer, signature, runtime)
    sums = [_Sums((told_apart or {}).get(pair.name)) for pair in pairs]
    for feed in feeds:
        one.run(feed)
        other.run(feed)
        for pair, total in zip(pairs, sums, strict=True):
            total.add(one.values(pair.float_index), other.values(pair.int_index), pair.grid)
    if not sums or not sums[0].count:
        raise TfliteAsrError(f"walk of {signature}: nothing was fed; give at least one input")
    return [total.fidelity(pair) for pair, total in zip(pairs, sums, strict=True)]


@dataclass(frozen=True)
class TensorPair:
    """The same activation in both files: tensor indices, and the integer one's grid."""

    name: str
    op: str
    float_index: int
    int_index: int
    grid: TensorFacts

    @property
    def limits(self) -> tuple[float, float] | None:
        """The real values that the grid can hold, lowest and highest; None where the tensor stayed float."""
        return _limits(self.grid) if self.grid.scale is not None else None


def pair_tensors(float_flatbuffer: bytes, int_flatbuffer: bytes, signature: str) -> list[TensorPair]:
    """Which tensor of the integer model is which of the float one, inputs first; raises as `walk`."""
    floats, integers = (
        _function(read_flatbuffer(data, kind), signature, kind)
        for data, kind in ((float_flatbuffer, "float model"), (int_flatbuffer, "integer model"))
    )
    (graph, inputs), (twin, twin_inputs) = floats, integers
    if sorted(inputs) != sorted(twin_inputs):
        raise TfliteAsrError(
            f"{signature}: takes {', '.join(sorted(inputs))} in float and {', '.join(sorted(twin_inputs))} in "
            "integers; give two files of one model"
        )
    found = [(INPUT, index, twin_inputs[name]) for name, index in inputs.items()]
    ops, twins = _computing(graph), _computing(twin)
    ops = _without_dropped(ops, graph, twins, twin)
    for place, (op, twin_op) in enumerate(zip(ops, twins, strict=False)):
        if not _alike(op, graph, twin_op, twin):
            raise TfliteAsrError(
                f"{signature}: op {place} is {op.name} in float and {twin_op.name} in integers; give the float "
                "model that was quantised (lowered)"
            )
        found += [(op.name, a, b) for a, b in zip(op.outputs, twin_op.outputs, strict=True)]
    if len(ops) != len(twins):
        raise TfliteAsrError(
            f"{signature}: {len(ops)} ops in float and {len(twins)} in integers; give the float model that was "
            "quantised (lowered)"
        )
    pairs = []
    for op_name, index, twin_index in found:
        tensor, kept = graph.tensors[index], twin.tensors[twin_index]
        if tensor.type != "FLOAT32":
            continue
        pairs.append(TensorPair(tensor.name, op_name, index, twin_index, _grid(kept)))
    return pairs


def _function(model: Model, signature: str, kind: str) -> tuple[Subgraph, dict[str, int]]:
    """The subgraph of a signature, and its inputs."""
    for one in model.signatures:
        if one.name == signature:
            return model.subgraphs[one.subgraph], one.inputs
    known = ", ".join(one.name for one in model.signatures) or "none"
    raise TfliteAsrError(f"{kind}: no signature {signature!r}; it has {known}")


def _computing(graph: Subgraph) -> list[Operator]:
    return [op for op in graph.operators if op.name not in _BRIDGES]


def _without_dropped(
    ops: list[Operator], graph: Subgraph, twins: list[Operator], twin: Subgraph
) -> list[Operator]:
    """The float ops that have a twin: the finishing pass drops a clamp to where the integers end anyway."""
    kept: list[Operator] = []
    for op in ops:
        here = twins[len(kept)] if len(kept) < len(twins) else None
        if op.name not in _CLAMPS or (here is not None and _alike(op, graph, here, twin)):
            kept.append(op)
    return kept


def _alike(op: Operator, graph: Subgraph, twin: Operator, twin_graph: Subgraph) -> bool:
    """Whether two ops do the same: the type, and the shapes of what comes out."""
    shapes = [graph.tensors[index].shape for index in op.outputs]
    twin_shapes = [twin_graph.tensors[index].shape for index in twin.outputs]
    return twin.name in (op.name, _WRITTEN_AS.get(op.name)) and shapes == twin_shapes


class _Kept:
    """One signature of a flatbuffer, run with every tensor kept."""

    def __init__(self, data: bytes, signature: str, runtime: str) -> None:
        module = import_runtime(runtime)
        model = read_flatbuffer(data)
        definition = next(one for one in model.signatures if one.name == signature)
        self._subgraph = definition.subgraph
        tensors = model.subgraphs[definition.subgraph].tensors
        self._inputs = {name: _grid(tensors[index]) for name, index in definition.inputs.items()}
        self._signature = signature
        self._interpreter: Any = module.Interpreter(
            model_content=data,
            num_threads=1,
            experimental_op_resolver_type=getattr(module.OpResolverType, DELEGATES["builtin"]),
            experimental_preserve_all_tensors=True,
        )
        self._runner = self._interpreter.get_signature_runner(signature)

    def run(self, feed: Feed) -> None:
        """Raises TfliteAsrError where the feed is not what the signature takes."""
        shapes = {name: tuple(values.shape) for name, values in feed.items()}
        wanted = {name: facts.shape for name, facts in self._inputs.items()}
        if shapes != wanted:
            raise TfliteAsrError(f"walk of {self._signature}: fed {shapes}, it takes {wanted}")
        self._runner(**{name: self._inputs[name].quantise(values) for name, values in feed.items()})

    def values(self, index: int) -> np.ndarray:
        """A tensor of the last run, as it is stored."""
        return self._interpreter.get_tensor(index, self._subgraph)


@dataclass
class _Sums:
    """What adds up over the inputs of a walk. told_apart: as `walk` takes it, of one tensor."""

    told_apart: tuple[float, float] | None = None
    signal: float = 0.0
    noise: float = 0.0
    grid_noise: float = 0.0
    clipped: int = 0
    count: int = 0
    low: float = field(default=np.inf)
    high: float = field(default=-np.inf)

    def add(self, real: np.ndarray, stored: np.ndarray, grid: TensorFacts) -> None:
        held = _real(stored, grid)
        if self.told_apart is not None:
            real, held = np.clip(real, *self.told_apart), np.clip(held, *self.told_apart)
        wide = real.astype(np.float64)
        self.signal += float(np.square(wide).sum())
        self.noise += float(np.square(held - wide).sum())
        self.count += real.size
        self.low, self.high = min(self.low, float(real.min())), max(self.high, float(real.max()))
        if grid.scale is not None:
            self.grid_noise += float(np.square(_real(grid.quantise(real), grid) - wide).sum())
            low, high = _limits(grid)
            beyond = grid.scale / 2  # within half a step of the end nothing is lost
            self.clipped += int(((wide < low - beyond) | (wide > high + beyond)).sum())

    def fidelity(self, pair: TensorPair) -> TensorFidelity:
        low, high = pair.limits or (None, None)
        return TensorFidelity(
            name=pair.name,
            op=pair.op,
            module=pair.name.rpartition("/")[0],
            snr_db=decibels(self.signal, self.noise),
            grid_snr_db=decibels(self.signal, self.grid_noise),
            share_clipped=self.clipped / self.count,
            low=low,
            high=high,
            seen_low=self.low,
            seen_high=self.high,
        )


def _limits(grid: TensorFacts) -> tuple[float, float]:
    limits = np.iinfo(grid.dtype)
    scale, zero_point = grid.scale or 0.0, grid.zero_point or 0
    return scale * (int(limits.min) - zero_point), scale * (int(limits.max) - zero_point)


def _grid(tensor: Tensor) -> TensorFacts:
    facts = tensor.describe()
    return TensorFacts(tensor.shape, facts["dtype"], facts.get("scale"), facts.get("zero_point"))


def _real(stored: np.ndarray, grid: TensorFacts) -> np.ndarray:
    return dequantise(stored, grid.scale, grid.zero_point)
