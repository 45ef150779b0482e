"""Low-bit training of a checkpoint: what `export` then takes for the weights and ranges of its integers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.manifest import read_manifest
from tflite_asr.pipeline.model_files import FLATBUFFER, facts_of, model_path
from tflite_asr.pipeline.preparation import Progress, calibration_inputs, check_budget, check_calibration
from tflite_asr.qat.settings import CALIBRATED, Order, Settings
from tflite_asr.quantize.child import report_progress, run_in_child
from tflite_asr.quantize.trained import Trained

WINDOW_SECONDS = 4.0  # the shortest window at least that long is trained, if none is named


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
    if out.is_dir():
        raise TfliteAsrError(f"{out}: is a folder; choose another name")
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
        said = read_manifest(manifest, facts.tokens)
    settings = Settings(steps, batch, ranges=ranges, sparsity=sparsity, seed=seed)
    if learning_rate is not None:
        settings = replace(settings, learning_rate=learning_rate)
    window = _window(facts, window_seconds, path)
    digest = None
    if manifest is not None:
        assert facts is not None
        assert window is not None
        _check_lengths(manifest, [one.duration for one in said], facts, window)
        digest = hashlib.sha256(Path(manifest).read_bytes()).hexdigest()
    order = Order(
        manifest=None if manifest is None else Path(manifest).absolute(),
        manifest_sha256=digest,
        calibration=calibration,
        window=window,
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
        order.state_of(one["signature"], "signatures" not in trained.how).unlink(missing_ok=True)
    return trained


def _check_lengths(
    manifest: str | Path, seconds: Sequence[float | None], facts: ModelFacts, window: int
) -> None:
    """Refuse a manifest of which nothing fits the window that is trained, as far as its durations say."""
    assert facts.frontend is not None
    room = window * facts.frontend.hop_seconds
    if any(one is None or one <= room + facts.frontend.window_seconds for one in seconds):
        return
    longer = [f"{n * facts.frontend.hop_seconds:g}" for n in facts.windows if n > window]
    mend = f"give --window {' or '.join(longer)}" if longer else "give shorter utterances"
    raise TfliteAsrError(f"{manifest}: no utterance fits the window of {room:g} s; {mend}")


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
    from tflite_asr.qat.model import Training, joined
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
    training = Training(model, facts, order, parts, ranges, inputs.features, end_id, tuple(step_ties(parts)))
    chosen = [one for one in parts if order.window and one.endswith(f"_{order.window}")] or list(parts)
    steps = [one for one in chosen if one in step_parts(parts)]
    signatures = [next(one for one in chosen if one not in steps), *steps[:1]]
    found = [
        training.train(signature, number / len(signatures), 1 / len(signatures))
        for number, signature in enumerate(signatures)
    ]
    taught = order.manifest is None or len(found) > 1
    how = {
        "objective": "distil" if taught else "ctc",
        "manifest": None if order.manifest is None else order.manifest.name,
        "inputs": inputs.provenance(),
    }
    return joined(found, how)
