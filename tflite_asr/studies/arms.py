"""One arm of a calibration study: a way to calibrate, with one seed, taken all the way to what it costs.

Runs in a child process. Inputs are made once and the float model is observed once; every calibrator then makes its
ranges of the same observation, the model is quantised, and the result is heard, weighed and walked. Each result is a
file of its own, written when it is complete, so that an interrupted study goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.audio import read_audio
from tflite_asr.audit import audit
from tflite_asr.bundle import Bundle
from tflite_asr.facts import ModelFacts
from tflite_asr.flatbuffer import read_flatbuffer
from tflite_asr.frontend import log_mel
from tflite_asr.manifest import Utterance
from tflite_asr.measure.evaluate import recognise
from tflite_asr.measure.walk import TensorFidelity, pair_tensors, walk
from tflite_asr.pipeline import Prepared, bundle_up, calibration_inputs
from tflite_asr.pipeline.model_files import FLATBUFFER
from tflite_asr.pipeline.preparation import flatbuffer_inputs
from tflite_asr.quantize.build import FlatbufferResult, describe
from tflite_asr.quantize.child import report_progress
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.schemes import scheme
from tflite_asr.runtime import Transcriber
from tflite_asr.staging import scratch_folder
from tflite_asr.studies.floats import FLOAT, lowered_windows, read_logits
from tflite_asr.studies.outcome import Heard, Outcome

WALKED_CLIPS = 3  # filled windows of each corpus
WALKED_SECONDS = 4.0  # the shortest window that is at least so long


@dataclass(frozen=True)
class Order:
    """What `run_arm` is to do.

    Attributes:
        model: the `.keras` or float `.tflite`. facts: with a front end and tokens.
        arm: "noise", "synthetic", "synthetic:published", "synthetic:labels" or "real". calibration: that, or the
            manifest of "real".
        seed, budget_macs: of the inputs; None for the default budget.
        base: folder of the study's float side (`floats.make`).
        utterances: (corpus, record) of all that is heard. logits: file of their float logits.
        wanted: calibrator to the file that its result goes to.
        walked: whether to walk each result.
    """

    model: Path
    facts: ModelFacts
    arm: str
    calibration: str
    seed: int
    budget_macs: float | None
    base: Path
    utterances: list[tuple[str, Utterance]]
    logits: Path
    wanted: dict[str, Path]
    walked: bool


@dataclass(frozen=True)
class _Share:
    """A stretch of an arm's progress."""

    stage: str
    start: float
    width: float

    def tell(self, done: float) -> None:
        report_progress(self.stage, self.start + self.width * done)


def run_arm(order: Order) -> None:
    """Make every result that is wanted; wants TensorFlow, so run it in a child."""
    from tflite_asr.quantize.calibrate import lay_into_windows, observe, ranges_of
    from tflite_asr.quantize.calibrators import AUTO, CALIBRATORS
    from tflite_asr.quantize.kept_whole import kept_whole
    from tflite_asr.quantize.squares import corrections_of

    title = f"{order.arm}, seed {order.seed}"
    report_progress(f"{title}: inputs", 0.0)
    inputs = _inputs(order, _Share(f"{title}: inputs", 0.0, 0.3).tell)
    parts = lowered_windows(order.base)
    provenance = inputs.provenance()
    chosen = {name: CALIBRATORS[name] for name in order.wanted if name != AUTO}
    if AUTO in order.wanted:
        from tflite_asr.quantize.auto import choose

        report_progress(f"{title}: choose the calibrator", 0.3)
        choice = choose(parts, inputs.features, scheme("int8"), subsampling=order.facts.subsampling)
        chosen[AUTO] = choice.calibrator
        provenance["auto"] = {"calibrator": choice.calibrator.name, **choice.provenance()}
    sequences = lay_into_windows(inputs.features, parts, order.facts.subsampling)
    seen = observe(
        parts,
        sequences,
        histograms=any(one.clips for one in chosen.values()),
        progress=_Share(f"{title}: observe", 0.3, 0.2).tell,
    )
    kept = kept_whole(parts.values())
    logits = read_logits(order.logits, order.utterances)
    for number, (name, path) in enumerate(order.wanted.items()):
        start, width = 0.5 + 0.5 * number / len(order.wanted), 0.5 / len(order.wanted)
        report_progress(f"{title}, {name}: quantise", start)
        ranges = ranges_of(seen, chosen[name], kept)
        data = _quantised(parts, ranges, corrections_of(parts, sequences, ranges, (), scheme("int8")))
        with scratch_folder() as folder:
            bundle = _bundle(order, inputs, data, ranges, folder / "bundle")
            share = _Share(f"{title}, {name}: listen", start + width * 0.2, width * 0.6)
            corpora = hear(bundle, order.utterances, logits, share.tell)
            proof = audit(bundle.model_path, load=False)
            sha256 = bundle.info.files["model.tflite"]["sha256"]
        report_progress(f"{title}, {name}: walk", start + width * 0.8)
        Outcome(
            arm=order.arm,
            calibrator=name,
            seed=order.seed,
            bytes=proof.size_bytes,
            sha256=sha256,
            integer_only=proof.integer_only,
            corpora=corpora,
            provenance=provenance,
            grids=_grids(parts, data),
            walked=_walked(order, parts, data, ranges) if order.walked else {},
        ).write(path)


def hear(
    bundle: Bundle,
    utterances: Sequence[tuple[str, Utterance]],
    logits: Mapping[Path, np.ndarray] | None,
    progress: Callable[[float], None] = lambda done: None,
) -> dict[str, Heard]:
    """What a bundle hears, by corpus."""
    transcriber = Transcriber(bundle)
    rows = [(Path(corpus), one) for corpus, one in utterances]
    results = recognise(transcriber, rows, logits, lambda done, total: progress(done / total))
    names = dict.fromkeys(corpus for corpus, _ in utterances)
    return {name: Heard.of([r for r in results if r.manifest == Path(name)]) for name in names}


def filled_windows(
    utterances: Iterable[Utterance], facts: ModelFacts, frames: int, clips: int = WALKED_CLIPS
) -> list[np.ndarray]:
    """Speech without padding: float32 [frames, mels] each, utterances one after the other, `clips` at most.

    Padding is exact in the integers and would hide what speech costs.
    """
    assert facts.frontend is not None
    filled: list[np.ndarray] = []
    held: list[np.ndarray] = []
    for one in utterances:
        held.append(log_mel(read_audio(one.audio_filepath, facts.frontend.sample_rate), facts.frontend))
        if sum(map(len, held)) >= frames:
            filled.append(np.concatenate(held)[:frames])
            held = []
        if len(filled) == clips:
            return filled
    if not filled and held:
        filled.append(np.resize(np.concatenate(held), (frames, facts.frontend.mels)))
    return filled


def _inputs(order: Order, progress: Callable[[float], None]) -> Any:
    """Calibration inputs of the arm, kept beside the float side for whoever asks again."""
    if order.model.suffix == FLATBUFFER:
        return flatbuffer_inputs(order.model, order.facts, order.calibration, order.seed)
    import tflite_asr.lowering  # noqa: F401  its layers are then known, and a lowered model opens too
    from tflite_asr.models import load_model

    model = load_model(order.model)
    return calibration_inputs(model, order.facts, order.calibration, order.seed, order.budget_macs, progress)


def _quantised(parts: Mapping[str, bytes], ranges: Ranges, corrections: Mapping[str, np.ndarray]) -> bytes:
    """The int8 file, byte for byte what `export` writes."""
    from tflite_asr.quantize.biases import correct
    from tflite_asr.quantize.finish import finish
    from tflite_asr.quantize.quantizer import quantize
    from tflite_asr.quantize.windows import merge

    quantised = (quantize(data, ranges, (), scheme("int8")) for data in parts.values())
    return merge([finish(correct(one, corrections), ranges) for one in quantised])


def _bundle(order: Order, inputs: Any, data: bytes, ranges: Ranges, out: Path) -> Bundle:
    if order.model.suffix == FLATBUFFER:
        from tflite_asr.quantize.given import look, name_signatures

        data = name_signatures(data, look(order.model.read_bytes(), str(order.model)), speech=True)
    frontend = (order.base / FLOAT / "frontend.tflite").read_bytes()
    ready = Prepared(order.model, order.facts, (), None, inputs, frontend)
    made = FlatbufferResult(data, scheme("int8").name, True, describe(data), ranges, {}, {})
    return bundle_up(ready, made, out)


def _grids(parts: Mapping[str, bytes], data: bytes) -> dict[str, tuple[float, float]]:
    """What each activation's integers can hold, save where the kernel or the tensor before it decides that."""
    from tflite_asr.quantize.ops import FIXED_OUTPUT, SAME_SCALE

    grids: dict[str, tuple[float, float]] = {}
    for signature, float_data in parts.items():
        for pair in pair_tensors(float_data, data, signature):
            if pair.limits is not None and pair.op not in SAME_SCALE and pair.op not in FIXED_OUTPUT:
                grids[pair.name] = pair.limits
    return grids


def _walked(
    order: Order, parts: Mapping[str, bytes], data: bytes, ranges: Ranges
) -> dict[str, list[TensorFidelity]]:
    """Every tensor beside its float twin, corpus by corpus, on real speech that fills the window."""
    from tflite_asr.quantize.saturating import told_apart
    from tflite_asr.quantize.serialize import read_model

    assert order.facts.frontend is not None
    shapes = {signature: _input_shapes(data, signature) for signature, data in parts.items()}
    lengths = {signature: shape["features"][1] for signature, shape in shapes.items()}
    least = WALKED_SECONDS / order.facts.frontend.hop_seconds
    long_enough = [one for one, frames in lengths.items() if frames >= least]
    signature = min(long_enough, key=lengths.__getitem__, default=max(lengths, key=lengths.__getitem__))
    needed = told_apart(read_model(parts[signature]), ranges)
    found = {}
    for corpus in dict.fromkeys(name for name, _ in order.utterances):
        heard = (one for name, one in order.utterances if name == corpus)
        clips = filled_windows(heard, order.facts, lengths[signature])
        feeds = [
            {
                name: clip[None] if name == "features" else np.ones(shape, np.float32)
                for name, shape in shapes[signature].items()
            }
            for clip in clips
        ]
        found[corpus] = walk(parts[signature], data, feeds, signature, told_apart=needed)
    return found


def _input_shapes(data: bytes, signature: str) -> dict[str, tuple[int, ...]]:
    """Input name to shape."""
    model = read_flatbuffer(data)
    entry = next(one for one in model.signatures if one.name == signature)
    return {name: model.subgraphs[entry.subgraph].tensors[i].shape for name, i in entry.inputs.items()}
