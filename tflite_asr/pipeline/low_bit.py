"""Low-bit training of a checkpoint: what `export` then takes for the weights and ranges of its integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.manifest import read_manifest
from tflite_asr.pipeline.model_files import FLATBUFFER, facts_of, model_path
from tflite_asr.pipeline.preparation import Progress, calibration_inputs, check_budget, check_calibration
from tflite_asr.qat.settings import Settings
from tflite_asr.quantize.child import report_progress, run_in_child
from tflite_asr.quantize.schemes import scheme as scheme_named
from tflite_asr.quantize.trained import Trained

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
        manifest: of speech to train on by CTC; None to be taught by the float model on synthetic inputs alone.
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
    order.state.unlink(missing_ok=True)
    return trained


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
    from tflite_asr.qat.batches import Examples, spoken_examples, taught_examples
    from tflite_asr.qat.graph import Graph
    from tflite_asr.qat.train import Objective, toward_teacher, toward_text, train_low_bit
    from tflite_asr.quantize.calibrate import calibrate, lay_into_windows
    from tflite_asr.quantize.convert import convert, has_open_time_axis
    from tflite_asr.quantize.entries import entries
    from tflite_asr.quantize.lowered import lowered

    settings = order.settings
    model = load_model(path)
    if len(entries(model, facts)) > 1:
        raise TfliteAsrError(
            f"{path}: is an encoder-decoder; low-bit training takes models of one signature so far"
        )
    subsampling = facts.subsampling if facts else 1
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
    small = lowered(model, subsampling, facts)
    lengths: list[int | None] = [None]
    if has_open_time_axis(model):
        lengths = list(facts.windows if facts else ModelFacts("").windows)
    parts = {}
    for frames in lengths:
        report_progress(f"convert {frames} frames" if frames else "convert", 0.12)
        window = convert(small, frames, subsampling)
        parts[window.signature] = window.data
    ends = f"_{order.window}"
    signature = next((one for one in parts if order.window and one.endswith(ends)), next(iter(parts)))
    report_progress("calibrate", 0.15)
    ranges = calibrate(parts, lay_into_windows(inputs.features, parts, subsampling))

    def drawn(seeds: range) -> list[np.ndarray]:
        return [clip for seed in seeds for clip in _prior(model, facts, seed)]

    def taught(graph: Graph) -> Examples:
        first = order.seed * DISTIL_SEEDS
        clips = [*inputs.features, *drawn(range(first, first + DISTIL_SEEDS))]
        return taught_examples(parts[signature], graph, clips, subsampling)

    def spoken(graph: Graph) -> Examples:
        assert order.manifest is not None
        assert facts is not None
        return spoken_examples(order.manifest, graph, facts, order.cache)

    def tell(step: int, loss: float) -> None:
        report_progress(f"step {step}/{settings.steps}, loss {loss:.4f}", 0.2 + 0.75 * step / settings.steps)

    examples: Callable[[Graph], Examples] = taught
    objective: Objective = toward_teacher
    if order.manifest is not None:
        assert facts is not None
        assert facts.tokens is not None
        examples, objective = spoken, toward_text(facts.tokens.blank_id)
    report_progress("make the network", 0.18)
    int8 = scheme_named("int8")
    trained = train_low_bit(
        parts, signature, ranges, examples, objective, int8, settings, state=order.state, tell=tell
    )
    report_progress("compare on clips held back", 0.95)
    held_back = drawn(range(HELD_BACK_SEED + order.seed, HELD_BACK_SEED + order.seed + 1))
    how = {
        **trained.how,
        "objective": "distil" if order.manifest is None else "ctc",
        "manifest": None if order.manifest is None else order.manifest.name,
        "inputs": inputs.provenance(),
        "held_back": _judged(parts, signature, ranges, trained, held_back, subsampling),
    }
    return Trained(trained.weights, trained.began, trained.ranges, how)


def _prior(model: Any, facts: ModelFacts | None, seed: int) -> list[np.ndarray]:
    """One draw of the prior's clips."""
    from tflite_asr.synthesis.prior import prior_clips
    from tflite_asr.synthesis.shapes import model_inputs

    return [clip for batch in prior_clips(model_inputs(model, facts), facts, seed) for clip in batch]


def _judged(
    parts: dict[str, bytes],
    signature: str,
    ranges: Any,
    trained: Trained,
    clips: list[np.ndarray],
    subsampling: int,
) -> dict[str, dict[str, float]]:
    """int8 against float on clips that nothing was made of, before and after: what a user's kernels give."""
    from tflite_asr.measure.fidelity import argmax_agreement, decibels
    from tflite_asr.qat.batches import taught_examples
    from tflite_asr.qat.graph import read_graph
    from tflite_asr.quantize.finish import finish
    from tflite_asr.quantize.quantizer import quantize
    from tflite_asr.quantize.running import outputs_of

    data = parts[signature]
    graph = read_graph(data, signature)
    examples = taught_examples(data, graph, clips, subsampling)
    feeds = [
        dict(zip(graph.inputs, (x[row : row + 1] for x in examples.x), strict=True))
        for row in range(len(examples))
    ]
    (name,) = graph.outputs
    said, masks = examples.y
    int8, found = scheme_named("int8"), {}
    for when, source, held in (
        ("before", data, ranges),
        ("after", trained.written_into(data), trained.ranges),
    ):
        file = finish(quantize(source, held, (), int8), held)
        given = np.concatenate([one[name] for one in outputs_of(file, signature, feeds)])
        real = masks > 0
        signal, noise = np.square(said[real]).sum(), np.square(given[real] - said[real]).sum()
        same, frames = argmax_agreement(said[real], given[real])
        found[when] = {
            "snr_db": round(decibels(float(signal), float(noise)), 2),
            "argmax": round(same / frames, 5),
        }
    return found
