"""Low-bit training of a checkpoint: what `export` then takes for the weights and ranges of its integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.manifest import read_manifest
from tflite_asr.pipeline.model_files import FLATBUFFER, facts_of, model_path
from tflite_asr.pipeline.preparation import Progress, calibration_inputs, check_budget, check_calibration
from tflite_asr.qat.settings import CALIBRATED, LOGITS, Settings
from tflite_asr.quantize.child import report_progress, run_in_child
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.schemes import scheme as scheme_named
from tflite_asr.quantize.trained import Trained

if TYPE_CHECKING:
    from tflite_asr.qat.batches import Examples
    from tflite_asr.qat.graph import Graph
    from tflite_asr.qat.train import Objective

DISTIL_SEEDS = 8  # draws of the prior that are taught, 18 clips each
HELD_BACK_SEED = 1 << 20  # of the clips that judge; no draw above
WINDOW_SECONDS = 4.0  # the shortest window at least that long is trained, if none is named


@dataclass(frozen=True)
class Order:
    """What is to be trained, checked, as it goes to the child.

    manifest: None for distillation. window: in frames. state: where an interrupted training goes on from.
    """

    manifest: Path | None
    calibration: str
    window: int | None
    seed: int
    budget_macs: float | None
    cache: Path
    threads: int
    state: Path
    settings: Settings


def train_low_bit(
    model: str | Path,
    out: str | Path,
    *,
    manifest: str | Path | None = None,
    calibration: str = "synthetic",
    steps: int = 300,
    batch: int = 8,
    learning_rate: float | None = None,
    ranges: str = "calibrated",
    sparsity: str | None = None,
    window_seconds: float | None = None,
    seed: int = 0,
    budget_macs: float | None = None,
    threads: int = 1,
    cache: str | Path = "build/features",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train all weights and activations of a checkpoint in 8 bits, and write what `export` takes for its `trained`.

    The state lies beside OUT while it runs; the same call goes on from there.

    Args:
        model: a `.keras` file with its `.toml`, or the name of a shipped checkpoint.
        out: the `.npz`.
        manifest: of speech to train on by CTC, or, for an encoder-decoder, by what the float model says of it and of
            its text; None to be taught by the float model on synthetic inputs alone.
        calibration: what ranges begin from, as `export` takes it.
        steps, batch: of the optimizer, and examples of each.
        learning_rate: None for the default.
        ranges: "calibrated" leaves them, "widest" and "average" let them follow what is seen for half of the steps.
        sparsity: share of the weights that become zeros, "0.5" say, or "2:4"; None for none.
        window_seconds: of the model's windows, the one that is trained; None for the shortest of at least 4 s.
        seed: of inputs and order.
        budget_macs: as `export` takes it.
        threads: that train; another number may give other bytes.
        cache: folder of cached features.
        overwrite: replace a file that is there.
        progress: called with (stage, fraction done).

    Raises:
        TfliteAsrError: wrong input, an op that low-bit training does not know, an output that exists or cannot be
            written.
    """
    path, out = model_path(model), Path(out)
    if path.suffix == FLATBUFFER:
        raise TfliteAsrError(f"{path}: low-bit training needs the Keras model; give the .keras file")
    if out.suffix != ".npz":
        raise TfliteAsrError(f"{out}: is no .npz name; write to NAME.npz")
    if out.exists() and not overwrite:
        raise TfliteAsrError(f"{out}: exists; choose another name or allow overwriting it (--overwrite)")
    facts = facts_of(path)
    check_budget(seed, budget_macs)
    check_calibration(calibration, facts, path)
    if manifest is not None:
        if facts is None or facts.tokens is None or facts.frontend is None:
            raise TfliteAsrError(
                f"{path}: training on {manifest} needs a front end and tokens; write its .toml"
            )
        read_manifest(manifest, facts.tokens)
    settings = Settings(steps, batch, ranges=ranges, sparsity=sparsity, seed=seed)
    if learning_rate is not None:
        settings = replace(settings, learning_rate=learning_rate)
    order = Order(
        manifest=None if manifest is None else Path(manifest).absolute(),
        calibration=calibration,
        window=_window(facts, window_seconds, path),
        seed=seed,
        budget_macs=budget_macs,
        cache=Path(cache).absolute(),
        threads=threads,
        state=out.with_suffix(".state.npz").absolute(),
        settings=settings,
    )
    order.state.parent.mkdir(parents=True, exist_ok=True)
    trained = run_in_child(_train, path, facts, order, stage="open the model", progress=progress)
    trained.save(out)
    for one in trained.how.get("signatures", [trained.how]):
        _state_of(order, one["signature"], "signatures" not in trained.how).unlink(missing_ok=True)
    return trained


def _state_of(order: Order, signature: str, alone: bool) -> Path:
    """Where the training of a signature goes on from; alone: whether the model has one."""
    return order.state if alone else order.state.with_name(f"{order.state.name[:-10]}.{signature}.state.npz")


def _window(facts: ModelFacts | None, seconds: float | None, path: Path) -> int | None:
    """Frames of the window to train; None where nothing is known of windows."""
    if facts is None or facts.frontend is None:
        return None
    hop = facts.frontend.hop_seconds
    if seconds is None:
        return next((n for n in facts.windows if n * hop >= WINDOW_SECONDS - hop), facts.windows[-1])
    found = [n for n in facts.windows if abs(n * hop - seconds) < 0.05]
    if not found:
        known = ", ".join(f"{n * hop:g}" for n in facts.windows)
        raise TfliteAsrError(f"{path}: has no window of {seconds:g} s; give one of {known}")
    return found[0]


def _train(path: Path, facts: ModelFacts | None, order: Order) -> Trained:
    """In the child."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(order.threads)
    import tflite_asr.lowering  # noqa: F401  its layers are then known, and a lowered model opens too
    from tflite_asr.models import load_model
    from tflite_asr.quantize.calibrate import calibrate
    from tflite_asr.quantize.convert import has_open_time_axis
    from tflite_asr.quantize.entries import entries
    from tflite_asr.quantize.signatures import converted, lowered_entries, sequences_of
    from tflite_asr.quantize.steps import END_ID, step_parts, step_ties

    model = load_model(path)
    whole = entries(model, facts)
    if len(whole) > 1 and order.settings.ranges != CALIBRATED:
        raise TfliteAsrError(
            f"{path}: is an encoder-decoder, whose caches have one scale on both sides; its ranges stay as "
            f"calibrated (--ranges {CALIBRATED})"
        )
    subsampling = facts.subsampling if facts else 1
    end_id = facts.tokens.blank_id if facts and facts.tokens else END_ID
    stage = f"calibration inputs: {order.calibration}"
    inputs = calibration_inputs(
        model,
        facts,
        order.calibration,
        order.seed,
        order.budget_macs,
        lambda done: report_progress(stage, 0.1 * done),
    )
    report_progress("lower", 0.1)
    lengths: list[int | None] = [None]
    if has_open_time_axis(model):
        lengths = list(facts.windows if facts else ModelFacts("").windows)
    floats = converted(
        lowered_entries(whole, subsampling, facts),
        lengths,
        subsampling,
        lambda one, _: report_progress(one, 0.12),
    )
    parts = {one.signature: one.data for one in floats}
    report_progress("calibrate", 0.15)
    ranges = calibrate(parts, sequences_of(parts, inputs.features, subsampling, end_id))
    room = _Room(model, facts, order, parts, ranges, inputs.features, end_id, tuple(step_ties(parts)))
    chosen = [one for one in parts if order.window and one.endswith(f"_{order.window}")] or list(parts)
    steps = [one for one in chosen if one in step_parts(parts)]
    signatures = [next(one for one in chosen if one not in steps), *steps[:1]]
    found = [
        room.train(signature, number / len(signatures), 1 / len(signatures))
        for number, signature in enumerate(signatures)
    ]
    taught = order.manifest is None or len(found) > 1
    how = {
        "objective": "distil" if taught else "ctc",
        "manifest": None if order.manifest is None else order.manifest.name,
        "inputs": inputs.provenance(),
    }
    return _joined(found, how)


def _joined(found: Sequence[Trained], how: Mapping[str, Any]) -> Trained:
    """What was trained a signature at a time; the provenance of several lies in `signatures`."""
    first = found[0]
    if len(found) == 1:
        return Trained(first.weights, first.began, first.ranges, {**first.how, **how})
    return Trained(
        {name: values for one in found for name, values in one.weights.items()},
        {name: values for one in found for name, values in one.began.items()},
        Ranges({name: values for one in found for name, values in one.ranges.items()}),
        {**how, "signatures": [dict(one.how) for one in found]},
    )


@dataclass(frozen=True)
class _Room:
    """What every signature of a model is trained with: the float model and its flatbuffers, their ranges, and the
    features float32 [frames, mels] that these were calibrated on."""

    model: Any
    facts: ModelFacts | None
    order: Order
    parts: dict[str, bytes]
    ranges: Ranges
    inputs: Sequence[Any]
    end_id: int
    ties: tuple[Any, ...]

    def train(self, signature: str, start: float, width: float) -> Trained:
        """One signature, judged on clips held back; from `start`, of the progress, `width`."""
        from tflite_asr.qat.train import toward_teacher, toward_text, train_low_bit
        from tflite_asr.quantize.signatures import family_of

        settings, family = self.order.settings, family_of(self.parts, signature)
        alone = len(family) == len(self.parts)

        def tell(step: int, loss: float) -> None:
            done = 0.05 + 0.9 * step / settings.steps
            stage = f"step {step}/{settings.steps}" if alone else f"{signature}, step {step}/{settings.steps}"
            report_progress(f"{stage}, loss {loss:.4f}", 0.17 + 0.83 * (start + width * done))

        examples: Callable[[Graph], Examples] = self._taught
        objective: Callable[[Graph], Objective] = toward_teacher
        if self.order.manifest is not None and alone:
            examples, objective = self._spoken, toward_text(self.end_id)
        report_progress(f"make the network of {signature}", 0.17 + 0.83 * start)
        trained = train_low_bit(
            family,
            signature,
            self.ranges,
            examples,
            objective,
            scheme_named("int8"),
            settings,
            ties=self.ties,
            state=_state_of(self.order, signature, alone),
            tell=tell,
        )
        report_progress("compare on clips held back", 0.17 + 0.83 * (start + 0.95 * width))
        return Trained(
            trained.weights,
            trained.began,
            trained.ranges,
            {**trained.how, "held_back": self._judged(signature, trained)},
        )

    def _drawn(self, seeds: range) -> list[np.ndarray]:
        return [clip for seed in seeds for clip in _prior(self.model, self.facts, seed)]

    def _taught(self, graph: Graph) -> Examples:
        """Clips of the prior or, for an encoder-decoder with a manifest, of its speech after its own text."""
        spelled: list[Any] = []
        if self.order.manifest is None:
            first = self.order.seed * DISTIL_SEEDS
            clips = [*self.inputs, *self._drawn(range(first, first + DISTIL_SEEDS))]
        else:
            clips, spelled = self._heard()
        return self._examples(graph, clips, self.order.seed, spelled)

    def _heard(self) -> tuple[list[np.ndarray], list[Any]]:
        """As many utterances of the manifest as steps will ask for, and their tokens."""
        from tflite_asr.qat.batches import spoken_clips

        order, facts = self.order, self.facts
        assert order.manifest is not None
        assert order.window is not None
        assert facts is not None
        clips, labels = spoken_clips(order.manifest, order.window, facts, order.cache)
        most = min(len(clips), order.settings.steps * order.settings.batch)
        chosen = np.random.default_rng(order.seed).permutation(len(clips))[:most]
        return [clips[i] for i in chosen], [labels[i].tolist() for i in chosen]

    def _spoken(self, graph: Graph) -> Examples:
        from tflite_asr.qat.batches import spoken_examples

        assert self.order.manifest is not None
        assert self.facts is not None
        return spoken_examples(self.order.manifest, graph, self.facts, self.order.cache)

    def _examples(
        self, graph: Graph, clips: Sequence[Any], seed: int, spelled: Sequence[Any] = ()
    ) -> Examples:
        from tflite_asr.qat.batches import taught_examples, taught_steps
        from tflite_asr.quantize.steps import step_parts

        subsampling = self.facts.subsampling if self.facts else 1
        if graph.signature not in step_parts(self.parts):
            return taught_examples(self.parts[graph.signature], graph, clips, subsampling)
        return taught_steps(self.parts, graph, clips, subsampling, self.end_id, seed, spelled)

    def _judged(self, signature: str, trained: Trained) -> dict[str, dict[str, float]]:
        """int8 against float on clips that nothing was made of, before and after: what a user's kernels give."""
        from tflite_asr.measure.fidelity import argmax_agreement, decibels
        from tflite_asr.qat.graph import read_graph
        from tflite_asr.quantize.finish import finish
        from tflite_asr.quantize.quantizer import quantize
        from tflite_asr.quantize.running import outputs_of

        data = self.parts[signature]
        graph = read_graph(data, signature)
        seed = HELD_BACK_SEED + self.order.seed
        examples = self._examples(graph, self._drawn(range(seed, seed + 1)), seed)
        feeds = [
            dict(zip(graph.inputs, (x[row : row + 1] for x in examples.x), strict=True))
            for row in range(len(examples))
        ]
        names = list(graph.outputs)
        place = names.index(LOGITS) if LOGITS in names else 0
        said, real = examples.y[place], examples.y[len(names) + place] > 0
        int8, found = scheme_named("int8"), {}
        for when, source, held in (
            ("before", data, self.ranges),
            ("after", trained.written_into(data), trained.ranges),
        ):
            file = finish(quantize(source, held, self.ties, int8), held)
            given = np.concatenate([one[names[place]] for one in outputs_of(file, signature, feeds)])
            signal, noise = np.square(said[real]).sum(), np.square(given[real] - said[real]).sum()
            same, frames = argmax_agreement(said[real], given[real])
            found[when] = {
                "snr_db": round(decibels(float(signal), float(noise)), 2),
                "argmax": round(same / frames, 5),
            }
        return found


def _prior(model: Any, facts: ModelFacts | None, seed: int) -> list[np.ndarray]:
    """One draw of the prior's clips."""
    from tflite_asr.models import FUNCTIONAL
    from tflite_asr.models.transformer import ctc_part
    from tflite_asr.synthesis.prior import prior_clips
    from tflite_asr.synthesis.shapes import model_inputs

    shape = model_inputs(ctc_part(model) if isinstance(model, FUNCTIONAL) else model, facts)
    return [clip for batch in prior_clips(shape, facts, seed) for clip in batch]
