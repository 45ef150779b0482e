"""Ranges by looking: the float flatbuffers run on inputs, and what every activation holds is noted.

The runtime is LiteRT with all tensors kept, on its builtin kernels and one thread, so that values do not
depend on the machine's cores. Inputs come as sequences of steps for each signature: an utterance is a
sequence of one; a model with state is a sequence whose outputs go back in as the next step's inputs.

Padded frames count only where they are masked (`kept_whole`): nobody hears what a model makes of them, and it is
often larger than speech.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.calibrators import MIN_MAX, Calibrator
from tflite_asr.quantize.kept_whole import HEADROOM, NOTHING, Kept, kept_whole
from tflite_asr.quantize.observed import Observed
from tflite_asr.quantize.ranges import Range, Ranges, family
from tflite_asr.quantize.running import Feed, Observer
from tflite_asr.quantize.serialize import read_model, signature_names, text

Sequences = Mapping[str, Sequence[Sequence[Feed]]]


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
    """One set of ranges for all flatbuffers: `observe`, then `ranges_of`."""
    seen = observe(flatbuffers, sequences, carried, calibrator.clips, progress)
    return ranges_of(seen, calibrator, kept_whole(flatbuffers.values()))


def observe(
    flatbuffers: Mapping[str, bytes],
    sequences: Sequences,
    carried: Mapping[str, str] | None = None,
    histograms: bool = True,
    progress: Callable[[float], None] = lambda fraction: None,
) -> dict[str, Observed]:
    """What every activation takes for values, by name, from running each signature on its sequences.

    flatbuffers: signature to float flatbuffer with stable tensor names. sequences: signature to sequences
    of steps, each the values of the signature's inputs. carried: output name to the input name that it
    becomes in the next step; the first step gives all inputs. histograms: whether a calibrator that clips
    is to come. progress: called with the fraction done. Raises TfliteAsrError where a value is not finite,
    naming the tensor.
    """
    seen: dict[str, Observed] = {}
    along_time = time_axes(flatbuffers.values())
    total = max(1, sum(len(some) for some in sequences.values()))
    done = 0
    for signature, some in sequences.items():
        if not some:
            continue
        runner = Observer(flatbuffers[signature], signature)
        for sequence in some:
            state: dict[str, np.ndarray] = {}
            for step in sequence:
                outputs = runner.run({**step, **state})
                state = {new: outputs[old] for old, new in (carried or {}).items()}
                # A step of a decoder has no padded frames: its caches fill from the end, its memory holds zeros there.
                share = float(step["mask"].mean()) if "mask" in step and "token" not in step else 1.0
                for name, values in runner.activations():
                    one = seen.setdefault(name, Observed(family(signature), histograms))
                    one.add(values, real_part(values.shape, along_time.get(name, ()), share))
            done += 1
            progress(done / total)
    for name, one in seen.items():
        if not np.isfinite([one.minimum, one.maximum]).all():
            raise TfliteAsrError(
                f"calibration: tensor {name!r} takes values in [{one.minimum}, {one.maximum}]; the model or an input "
                "is broken"
            )
    return seen


def ranges_of(
    seen: Mapping[str, Observed],
    calibrator: Calibrator,
    kept: Kept = NOTHING,
    chosen: Mapping[str, Calibrator] | None = None,
) -> Ranges:
    """The range of every tensor that was observed: of its real frames, save where `kept` names it. chosen: tensors
    that get another calibrator."""
    entries = {}
    for name, one in seen.items():
        used = MIN_MAX if name in kept.whole else (chosen or {}).get(name, calibrator)
        low, high = (one.minimum, one.maximum) if name in kept.masked else used.range_of(one)
        if name in kept.wider:
            low, high = min(low, low * HEADROOM), max(high, high * HEADROOM)
        entries[name] = Range(low, high, f"calibration:{used.name}", one.signature)
    return Ranges(entries)


def time_axes(flatbuffers: Iterable[bytes]) -> dict[str, tuple[int, ...]]:
    """Name to the axes along which a tensor is longer in a longer window; none where there is one window."""
    shapes: defaultdict[str, set[tuple[int, ...]]] = defaultdict(set)
    for data in flatbuffers:
        for graph in read_model(data).subgraphs:
            for tensor in graph.tensors:
                shapes[text(tensor.name)].add(tuple(int(n) for n in tensor.shape))
    return {
        name: tuple(axis for axis, sizes in enumerate(zip(*some, strict=True)) if len(set(sizes)) > 1)
        for name, some in shapes.items()
        if len({len(shape) for shape in some}) == 1
    }


def real_part(shape: tuple[int, ...], axes: tuple[int, ...], share: float) -> tuple[slice, ...]:
    """What of a tensor is no padding, where `share` of the window is real; () where nothing is known."""
    if share >= 1.0 or not axes:
        return ()
    return tuple(
        slice(max(1, math.ceil(size * share))) if axis in axes else slice(None)
        for axis, size in enumerate(shape)
    )
