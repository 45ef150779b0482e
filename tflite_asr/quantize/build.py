"""A `.keras` file to one flatbuffer with all its windows, under one scheme or several: every step of this
room in order.

All of it runs in a child process, because TensorFlow and the interpreters may abort, and are never quiet.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.flatbuffer import read_flatbuffer
from tflite_asr.quantize.calibrators import AUTO, CALIBRATORS, check_calibrator
from tflite_asr.quantize.child import Progress, report_progress, run_in_child
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.schemes import Scheme, scheme
from tflite_asr.quantize.trained import SOURCE, Trained

Walk = Callable[..., Sequence[Any]]  # `measure.walk.walk`, which this room may not import

_PACKAGES = ("tensorflow", "keras", "ai_edge_litert", "ai_edge_quantizer")


@dataclass(frozen=True)
class FlatbufferResult:
    """A flatbuffer and what is known of it.

    data: the file's bytes. scheme: its name. lowered: whether the graph was rewritten for integer kernels.
    signatures: name to `{"inputs" | "outputs": {tensor: {"shape", "dtype", "scale", "zero_point"}}}`, scale
    and zero point only where quantised. ranges: what the activations' scales came from, None where none
    were needed. tensors: module path to the stable names of the tensors it computes. made_with: versions of
    what made it. calibrated: how the ranges were made, plain values: `calibrator`, and what `auto` found.
    """

    data: bytes
    scheme: str
    lowered: bool
    signatures: dict[str, Any]
    ranges: Ranges | None
    tensors: dict[str, tuple[str, ...]]
    made_with: dict[str, str]
    calibrated: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Order:
    """What is to be built, as it goes to the child: the arguments of `build_flatbuffers`, checked."""

    windows: tuple[int, ...]
    schemes: tuple[Scheme, ...]
    inputs: list[Any] | None
    subsampling: int
    ties: tuple[tuple[str, ...], ...]
    ranges: Ranges | None
    min_runtime: str | None = None
    facts: ModelFacts | None = None
    calibrator: str = "min_max"
    repair: Walk | None = None
    trained: Trained | None = None

    @property
    def end_id(self) -> int:
        """The token that a decoder starts and ends with."""
        return self.facts.tokens.blank_id if self.facts and self.facts.tokens else 0


@dataclass(frozen=True)
class _Share:
    """A stretch of the whole progress, from `start`, `width` long, both between 0 and 1."""

    start: float
    width: float

    def tell(self, stage: str, fraction: float) -> None:
        report_progress(stage, self.start + self.width * fraction)

    def part(self, start: float, width: float) -> _Share:
        return _Share(self.start + self.width * start, self.width * width)


def build_flatbuffers(
    keras_path: str | Path,
    windows: Sequence[int],
    schemes: Sequence[str | Scheme],
    inputs: Iterable[np.ndarray | Mapping[str, np.ndarray]] | None = None,
    *,
    subsampling: int = 1,
    ties: Iterable[Collection[str]] = (),
    ranges: Ranges | None = None,
    calibrator: str = "min_max",
    repair: Walk | None = None,
    trained: Trained | None = None,
    min_runtime: str | None = None,
    facts: ModelFacts | None = None,
    progress: Progress | None = None,
) -> list[FlatbufferResult]:
    """One flatbuffer for each scheme, in their order.

    windows: lengths in feature frames; not used where the model's time axis is fixed. inputs: for
    calibration, float32 [frames, mels] each (or, for a model with other inputs, input name to array without
    the batch axis); needed where a scheme is static and `ranges` is None. subsampling: feature frames that
    become one frame of `mask`. ties: sets of tensor names that get one scale. calibrator: one of
    `calibrators.CALIBRATORS`, or `auto`. repair: `measure.walk.walk`, if remedies are to be tried
    (`repair.repair`). trained: weights and ranges of static schemes, in the place of the model's and of calibration.
    min_runtime: the TFLite release that is to run them
    (`older.fit_runtime`), None for today's. facts: the model's, for `lowered`. progress: called with (stage,
    fraction done). Raises TfliteAsrError, one line, for whatever goes wrong, the child's death included.
    """
    order = _Order(
        tuple(sorted(set(windows))),
        tuple(scheme(one) for one in schemes),
        None if inputs is None else [_plain(one) for one in inputs],
        subsampling,
        tuple(tuple(sorted(one)) for one in ties),
        ranges,
        min_runtime=min_runtime,
        facts=facts,
        calibrator=calibrator,
        repair=repair,
        trained=trained,
    )
    check_calibrator(calibrator)
    if ranges is None and trained is None and not order.inputs:
        for one in order.schemes:
            if one.needs_ranges:
                raise TfliteAsrError(
                    f"{keras_path}: scheme {one.name} needs inputs to calibrate on; give some"
                )
    return run_in_child(_build, str(keras_path), order, stage="open the model", progress=progress)


def build_given(
    path: str | Path,
    schemes: Sequence[str | Scheme],
    inputs: Iterable[np.ndarray] | None = None,
    *,
    speech: bool = False,
    calibrator: str = "min_max",
    repair: Walk | None = None,
    min_runtime: str | None = None,
    progress: Progress | None = None,
) -> list[FlatbufferResult]:
    """A float `.tflite` that somebody else converted, under each scheme, in their order: quantised and no more.

    inputs: for calibration, float32 [frames, mels] each. speech: whether the runtime is to find its logits
    (`given.name_signatures`). calibrator, repair, min_runtime, errors: as `build_flatbuffers`, and what `given.look`
    raises.
    """
    check_calibrator(calibrator)
    order = _Order(
        (),
        tuple(scheme(one) for one in schemes),
        None,
        1,
        (),
        None,
        min_runtime=min_runtime,
        calibrator=calibrator,
        repair=repair,
    )
    if inputs is not None:
        order = replace(order, inputs=[_plain(one) for one in inputs])
    return run_in_child(_build_given, str(path), order, speech, stage="open the model", progress=progress)


def build_flatbuffer(
    keras_path: str | Path,
    windows: Sequence[int],
    scheme: str | Scheme,
    inputs: Iterable[np.ndarray | Mapping[str, np.ndarray]] | None = None,
    **settings: Any,
) -> FlatbufferResult:
    """`build_flatbuffers` for one scheme."""
    return build_flatbuffers(keras_path, windows, [scheme], inputs, **settings)[0]


def _plain(one: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
    if isinstance(one, Mapping):
        return {name: np.asarray(values, np.float32) for name, values in one.items()}
    return np.asarray(one, np.float32)


def _build(keras_path: str, order: _Order) -> list[FlatbufferResult]:
    """In the child: each form of the model (as written, lowered) is converted once, then quantised for each
    scheme that wants it."""
    import tflite_asr.lowering  # noqa: F401  its layers are then known, and a lowered model opens too
    from tflite_asr.models import load_model

    report_progress("open the model", 0.0)
    model = load_model(keras_path)
    results: dict[Scheme, FlatbufferResult] = {}
    forms = sorted({one.lowered for one in order.schemes})
    for number, lowered in enumerate(forms):
        for one, result in _build_form(model, lowered, order, _Share(number / len(forms), 1 / len(forms))):
            results[one] = result
    return [results[one] for one in order.schemes]


def _build_form(
    model: Any, lowered: bool, order: _Order, share: _Share
) -> Iterator[tuple[Scheme, FlatbufferResult]]:
    """One form of the model under all schemes that want it."""
    from tflite_asr.quantize.convert import has_open_time_axis
    from tflite_asr.quantize.entries import entries
    from tflite_asr.quantize.signatures import converted, lowered_entries
    from tflite_asr.quantize.steps import step_ties

    models = entries(model, order.facts)
    if lowered:
        share.tell("lower", 0.05)
        models = lowered_entries(models, order.subsampling, order.facts)
    lengths: list[int | None] = list(order.windows) if has_open_time_axis(model) else [None]
    if not lengths:
        raise TfliteAsrError(f"model {model.name!r}: its time axis is open and no window length is given")
    floats = converted(models, lengths, order.subsampling, share.part(0.1, 0.4).tell)
    parts = {window.signature: window.data for window in floats}
    order = replace(order, ties=(*order.ties, *(tuple(sorted(tie)) for tie in step_ties(parts))))
    wanted = [one for one in order.schemes if one.lowered == lowered]
    for number, one in enumerate(wanted):
        data, found, how = _quantise(
            parts, one, order, share.part(0.5 + 0.5 * number / len(wanted), 0.5 / len(wanted))
        )
        tensors = {path: names for window in floats[: len(models)] for path, names in window.tensors.items()}
        yield one, FlatbufferResult(data, one.name, lowered, describe(data), found, tensors, _versions(), how)


def _build_given(path: str, order: _Order, speech: bool) -> list[FlatbufferResult]:
    """In the child: each signature is made a part like a window of our own, and quantised like one."""
    from tflite_asr.quantize.given import look, name_signatures, parts

    report_progress("open the model", 0.0)
    data = Path(path).read_bytes()
    entries = look(data, path)
    floats = parts(data, entries)
    order = replace(order, subsampling=entries[0].subsampling)
    results = []
    for number, one in enumerate(order.schemes):
        share = _Share(0.1 + 0.9 * number / len(order.schemes), 0.9 / len(order.schemes))
        merged, found, how = _quantise(floats, one, order, share)
        named = name_signatures(merged, entries, speech)
        results.append(FlatbufferResult(named, one.name, False, describe(named), found, {}, _versions(), how))
    return results


def _quantise(
    parts: Mapping[str, bytes], one: Scheme, order: _Order, share: _Share
) -> tuple[bytes, Ranges | None, dict[str, Any]]:
    """The float windows under one scheme, in one file, the ranges that it took, and how they were made."""
    from tflite_asr.quantize.biases import correct
    from tflite_asr.quantize.finish import finish
    from tflite_asr.quantize.older import fit_runtime
    from tflite_asr.quantize.quantizer import quantize
    from tflite_asr.quantize.steps import require_ties
    from tflite_asr.quantize.windows import merge

    made = _Calibrated(parts, None)
    if one.needs_ranges and order.trained is not None:
        made = _trained(parts, order.trained)
    elif one.needs_ranges:
        made = _calibrate(parts, one, order, share.part(0.0, 0.5))
    finished = []
    for number, (signature, data) in enumerate(made.parts.items()):
        share.tell(f"quantise {signature}", 0.5 + 0.5 * number / len(parts))
        quantised = correct(quantize(data, made.ranges, order.ties, one), made.corrections)
        finished.append(finish(quantised, made.ranges))
    share.tell("merge the windows", 1.0)
    merged = merge(finished)
    require_ties(merged)
    return (
        (fit_runtime(merged, order.min_runtime) if order.min_runtime else merged),
        made.ranges,
        made.how,
    )


@dataclass(frozen=True)
class _Calibrated:
    """What is quantised, with which ranges and corrections of biases, and the provenance of these."""

    parts: Mapping[str, bytes]
    ranges: Ranges | None
    corrections: Mapping[str, np.ndarray] = field(default_factory=dict)
    how: dict[str, Any] = field(default_factory=dict)


def _trained(parts: Mapping[str, bytes], trained: Trained) -> _Calibrated:
    """What was trained, as it was trained: nothing is equalised, repaired or corrected behind its back."""
    how = _without_losses(trained.how)
    if "signatures" in how:
        how["signatures"] = [_without_losses(one) for one in how["signatures"]]
    written = trained.written_into_all(parts)
    began = {"method": SOURCE, **trained.how.get("inputs", {})}
    return _Calibrated(written, trained.ranges, how={**began, "calibrator": SOURCE, SOURCE: how})


def _without_losses(how: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in how.items() if name not in ("losses", "inputs")}


def _calibrate(parts: Mapping[str, bytes], one: Scheme, order: _Order, share: _Share) -> _Calibrated:
    """Ranges that were given, by the calibrator that was ordered, or by the one that `auto` finds; repaired where that
    was ordered. Given ranges without inputs leave biases as they are."""
    from tflite_asr.quantize.auto import choose
    from tflite_asr.quantize.calibrate import calibrate
    from tflite_asr.quantize.repair import repair
    from tflite_asr.quantize.signatures import sequences_of
    from tflite_asr.quantize.squares import corrections_of
    from tflite_asr.quantize.steps import step_parts

    if order.ranges is not None and not order.inputs:
        return _Calibrated(parts, order.ranges)
    inputs, name = order.inputs or [], order.calibrator
    for signature, data in parts.items():
        _refuse_loops(signature, data)
    steps = step_parts(parts)
    if steps and (name == AUTO or order.repair is not None):
        raise TfliteAsrError(
            f"an encoder-decoder is calibrated by one of {', '.join(CALIBRATORS)}, and not repaired; give one"
        )
    how: dict[str, Any] = {}
    settings: dict[str, Any] = {"subsampling": order.subsampling, "ties": order.ties}
    if name == AUTO:
        found = choose(
            parts, inputs, one, **settings, progress=lambda done: share.tell("try calibrators", 0.5 * done)
        )
        name, how[AUTO] = found.calibrator.name, found.provenance()
        share = share.part(0.5, 0.5)
    how = {"calibrator": name, **how}
    if order.repair is not None:
        repaired = repair(
            parts,
            inputs,
            one,
            CALIBRATORS[name],
            order.repair,
            **settings,
            progress=lambda done: share.tell("repair", done),
        )
        how["repair"] = repaired.provenance()
        return _Calibrated(repaired.flatbuffers, repaired.ranges, repaired.corrections, how)
    whole = {signature: data for signature, data in parts.items() if signature not in steps}
    sequences = sequences_of(parts, inputs, order.subsampling, order.end_id)
    ranges = order.ranges or calibrate(
        parts,
        sequences,
        calibrator=CALIBRATORS[name],
        progress=lambda done: share.tell("calibrate", 0.9 * done),
    )
    share.tell("correct biases", 0.9)
    corrections = corrections_of(whole, sequences, ranges, order.ties, one)
    if steps:
        corrections |= corrections_of(steps, sequences, ranges, order.ties, one)
    return _Calibrated(parts, ranges, corrections, how | {"corrected_biases": len(corrections)})


def _refuse_loops(signature: str, data: bytes) -> None:
    """A loop's body is a subgraph of its own, into which no calibration sees. Raises TfliteAsrError."""
    model = read_flatbuffer(data)
    if len(model.subgraphs) > 1:
        main = model.subgraphs[0]
        found = [op for op in main.operators if op.name in ("WHILE", "IF", "CALL_ONCE")]
        what = (
            ", ".join(f"{op.name} for {main.tensors[op.outputs[0]].name!r}" for op in found)
            or "a second subgraph"
        )
        raise TfliteAsrError(
            f"{signature}: holds {what}, and what runs inside a loop cannot be calibrated; export --scheme float32, "
            "or a model without recurrent layers"
        )


def describe(data: bytes) -> dict[str, Any]:
    """The signatures of a flatbuffer as bundle.json records them."""
    model = read_flatbuffer(data)
    described = {}
    for signature in model.signatures:
        tensors = model.subgraphs[signature.subgraph].tensors
        sides = {"inputs": signature.inputs, "outputs": signature.outputs}
        described[signature.name] = {
            side: {name: tensors[index].describe() for name, index in some.items()}
            for side, some in sides.items()
        }
    return described


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name.replace("_", "-")) for name in _PACKAGES}
