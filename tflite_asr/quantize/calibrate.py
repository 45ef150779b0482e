"""Ranges by looking: the float flatbuffers run on inputs, and every activation's extremes are noted.

The runtime is LiteRT with all tensors kept, on its builtin kernels and one thread, so that values do not
depend on the machine's cores. Inputs come as sequences of steps for each signature: an utterance is a
sequence of one; a model with state is a sequence whose outputs go back in as the next step's inputs.

Padded frames count: what masks them (a large negative score, a zero) must fit its range as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.ranges import Range, Ranges
from tflite_asr.quantize.serialize import read_model, signature_names, text

Feed = Mapping[str, np.ndarray]
Sequences = Mapping[str, Sequence[Sequence[Feed]]]


@dataclass(frozen=True)
class Calibrator:
    """How a range comes out of what was observed.

    look: the float values of a tensor in one step -> (minimum, maximum).
    combine: those of all steps, in order -> (minimum, maximum).
    """

    name: str
    look: Callable[[np.ndarray], tuple[float, float]]
    combine: Callable[[Sequence[tuple[float, float]]], tuple[float, float]]


def _extremes(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _widest(seen: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in seen), max(high for _, high in seen)


MIN_MAX = Calibrator("min_max", _extremes, _widest)


def lay_into_windows(
    inputs: Iterable[np.ndarray | Feed], flatbuffers: Mapping[str, bytes], subsampling: int = 1
) -> dict[str, list[list[dict[str, np.ndarray]]]]:
    """Utterances laid into the windows as the runtime would: the smallest that fits, zeros behind, a mask
    over what is real.

    inputs: float32 [frames, mels] each, frames free, for the input `features` or the only one; longer ones
    than the longest window are cut into pieces of it, and a window that none falls into gets one of them
    joined (sums over time grow with it). Or input name to array without the batch axis, where a model has
    other inputs. flatbuffers: signature to flatbuffer, which tells the windows' shapes. Returns signature
    to sequences of one step: input name to float32 [1, ...], and `mask` [1, ceil(window / subsampling)].
    Raises TfliteAsrError where an input is missing or does not fit, naming it.
    """
    shapes = {signature: _input_shapes(data, signature) for signature, data in flatbuffers.items()}
    sequences: dict[str, list[list[dict[str, np.ndarray]]]] = {signature: [] for signature in shapes}
    main = next(iter(next(iter(shapes.values()))))  # `features` comes first in our models
    by_length = sorted(shapes, key=lambda signature: shapes[signature][main][1:2])
    longest = shapes[by_length[-1]][main][1]
    feeds: list[Feed] = [one if isinstance(one, Mapping) else {main: one} for one in inputs]
    for feed in feeds:
        if main not in feed:
            raise TfliteAsrError(
                f"calibration: an input holds {sorted(feed)} and not {main!r}, which the model takes"
            )
        for piece in _cut(feed, longest):
            signature = next((s for s in by_length if shapes[s][main][1] >= len(piece[main])), by_length[-1])
            sequences[signature].append([_padded(piece, shapes[signature], main, subsampling)])
    if feeds and all(len(feed) == 1 for feed in feeds):
        joined = np.concatenate([feed[main] for feed in feeds])
        for signature in (s for s in by_length if not sequences[s]):
            filled = {main: np.resize(joined, (shapes[signature][main][1], *joined.shape[1:]))}
            sequences[signature].append([_padded(filled, shapes[signature], main, subsampling)])
    return sequences


def _cut(feed: Feed, longest: int) -> list[Feed]:
    """An utterance in pieces of at most `longest` frames; several inputs at once are left whole."""
    if len(feed) > 1:
        return [feed]
    ((name, values),) = feed.items()
    return [{name: values[start : start + longest]} for start in range(0, len(values), longest)]


def _padded(
    piece: Feed, shapes: Mapping[str, tuple[int, ...]], main: str, subsampling: int
) -> dict[str, np.ndarray]:
    """Each array at the start of zeros of its input's shape; a mask that is not given covers the frames of
    `main`."""
    step = {}
    for name, shape in shapes.items():
        step[name] = np.zeros(shape, np.float32)
        if name in piece:
            values = piece[name]
            if values.ndim != len(shape) - 1 or any(
                n > most for n, most in zip(values.shape, shape[1:], strict=True)
            ):
                raise TfliteAsrError(
                    f"calibration: input {name!r} has shape {values.shape}, which does not fit {shape[1:]}"
                )
            place: tuple[Any, ...] = (0, *(slice(n) for n in values.shape))
            step[name][place] = values
        elif name == "mask":
            step[name][0, : -(-len(piece[main]) // subsampling)] = 1
        else:
            raise TfliteAsrError(
                f"calibration: the model takes {name!r}, which the inputs do not hold; give them by name"
            )
    return step


def _input_shapes(data: bytes, signature: str) -> dict[str, tuple[int, ...]]:
    model = read_model(data)
    definition = model.signatureDefs[signature_names(model).index(signature)]
    tensors = model.subgraphs[definition.subgraphIndex].tensors
    return {
        text(item.name): tuple(int(n) for n in tensors[item.tensorIndex].shape) for item in definition.inputs
    }


def calibrate(
    flatbuffers: Mapping[str, bytes],
    sequences: Sequences,
    carried: Mapping[str, str] | None = None,
    calibrator: Calibrator = MIN_MAX,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Ranges:
    """One set of ranges for all flatbuffers, from running each signature on its sequences.

    flatbuffers: signature to float flatbuffer with stable tensor names. sequences: signature to sequences
    of steps, each the values of the signature's inputs. carried: output name to the input name that it
    becomes in the next step; the first step gives all inputs. progress: called with the fraction done.
    Raises TfliteAsrError where a signature has no tensor names in common with those that were run, or where
    a value is not finite, naming the tensor.
    """
    seen: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    families: dict[str, str] = {}
    total = max(1, sum(len(some) for some in sequences.values()))
    done = 0
    for signature, some in sequences.items():
        if not some:
            continue
        runner = _Observer(flatbuffers[signature], signature)
        for sequence in some:
            state: dict[str, np.ndarray] = {}
            for step in sequence:
                outputs = runner.run({**step, **state})
                state = {new: outputs[old] for old, new in (carried or {}).items()}
                for name, values in runner.activations():
                    seen[name].append(calibrator.look(values))
                    families[name] = signature.rsplit("_", 1)[0] if signature[-1:].isdigit() else signature
            done += 1
            progress(done / total)
    entries = {}
    for name, extremes in seen.items():
        low, high = calibrator.combine(extremes)
        if not np.isfinite([low, high]).all():
            raise TfliteAsrError(
                f"calibration: tensor {name!r} takes values in [{low}, {high}]; the model or an input is broken"
            )
        entries[name] = Range(low, high, f"calibration:{calibrator.name}", families[name])
    return Ranges(entries)


class _Observer:
    """One signature of a float flatbuffer, run with every tensor kept."""

    def __init__(self, data: bytes, signature: str) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        model = read_model(data)
        if signature not in signature_names(model):
            raise TfliteAsrError(f"signature {signature!r}: not among {', '.join(signature_names(model))}")
        definition = model.signatureDefs[signature_names(model).index(signature)]
        self._subgraph = definition.subgraphIndex
        graph = model.subgraphs[self._subgraph]
        constant = [model.buffers[tensor.buffer].data is not None for tensor in graph.tensors]
        used = {*graph.inputs, *(index for operator in graph.operators for index in operator.outputs)}
        self._watched = [
            (index, text(tensor.name))
            for index, tensor in enumerate(graph.tensors)
            if index in used and not constant[index] and tensor.type == 0
        ]
        self._interpreter: Any = Interpreter(
            model_content=data,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._runner = self._interpreter.get_signature_runner(signature)

    def run(self, step: Feed) -> dict[str, np.ndarray]:
        return dict(self._runner(**step))

    def activations(self) -> Iterable[tuple[str, np.ndarray]]:
        """Name and float values of every activation of the last run."""
        for index, name in self._watched:
            yield name, self._interpreter.get_tensor(index, self._subgraph)
