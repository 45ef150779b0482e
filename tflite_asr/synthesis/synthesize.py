"""From a model alone to calibration inputs: prior, then refinement, within a budget of multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.slim.cost import cost
from tflite_asr.synthesis.inputs import SyntheticInputs, on_grid
from tflite_asr.synthesis.labels import check_ctc, draw_labels
from tflite_asr.synthesis.parts import Parts
from tflite_asr.synthesis.prior import batch_lengths, inputs_without_a_model, prior_clips
from tflite_asr.synthesis.refine import GENTLE, PUBLISHED
from tflite_asr.synthesis.shapes import ModelInputs, model_inputs
from tflite_asr.synthesis.spending import FORWARD_PASSES, MEMORY_BYTES, Spending

METHODS = ("synthetic", "noise", "synthetic:published", "synthetic:labels")
# Every clip of the shipped models is refined. On dev, against 3e11, which refines 12 of 18, mean of an4 and
# speechocean762 over 2 or 3 seeds: conformer-ctc +.2 dB, quartznet +.5, the small Jasper +.5, for 10 to 20 s of a core.
LEAST_BUDGET_MACS = 8e11
PUBLISHED_BATCH, PUBLISHED_FRAMES, PUBLISHED_BATCHES, PUBLISHED_RANGE = 8, 500, 20, 0.3

Progress = Callable[[float], None]


def synthesize(
    model: Any,
    facts: ModelFacts | None = None,
    method: str = "synthetic",
    seed: int = 0,
    budget_macs: float | None = None,
    progress: Progress | None = None,
    work: str | Path | None = None,
    memory_bytes: float = MEMORY_BYTES,
) -> SyntheticInputs:
    """Calibration inputs for a model, from the model alone.

    "synthetic": smooth fields and babble (`prior`), of which as many clips as the budget pays for are moved gently
    until the batch norms' statistics match (`refine.GENTLE`); without batch norm the prior stands alone.
    "synthetic:labels": the same, moved as gently toward random label sequences by the model's own CTC loss too, with
    batch norms or without.
    "noise": white noise. "synthetic:published": Q-ASR's recipe, as many batches of [8, 500, mels] as the budget
    pays for (at most 20), at least a part of one.

    Args:
        model: Functional Keras model; frozen here.
        facts: its facts; without a front end in them there is no babble.
        method: one of `METHODS`.
        seed: of every random draw.
        budget_macs: multiply-adds that refinement may spend; a step costs 3 forward passes. None: `default_budget`.
        progress: called with the share of the budget that is done, 0 to 1.
        work: folder that keeps each batch as it ends and gives it back to the next run with the same model, method,
            seed and budget; None keeps nothing.
        memory_bytes: activations of one gentle step may take so much; batches are split to fit, and a clip that does
            not fit alone stays as it began. The published recipe keeps its batches.

    Raises:
        TfliteAsrError: an unknown method; a budget below 0; inputs that no prior fits; "synthetic:published" on a
            model without batch norm; "synthetic:labels" on one whose tokens are unknown or that gives no CTC logits;
            a work folder that cannot be written.
    """
    if method not in METHODS:
        raise TfliteAsrError(f"calibration: method {method!r} is unknown; give one of {', '.join(METHODS)}")
    if budget_macs is not None and not budget_macs >= 0:
        raise TfliteAsrError(f"calibration: budget_macs is {budget_macs}; give 0 or more")
    shape = model_inputs(model, facts)
    if method == "noise":
        return inputs_without_a_model(shape, facts, method, seed)
    if budget_macs is None:
        budget_macs = default_budget(model, shape, facts, method)
    blank_id = None
    if method == "synthetic:labels":
        check_ctc(model, facts)
        blank_id = facts.tokens.blank_id  # type: ignore[union-attr]
    parts = Parts(None if work is None else Path(work), model, (method, seed, float(budget_macs)))
    run = Spending(model, shape, float(budget_macs), progress, parts, blank_id, memory_bytes)
    clips = _published(run, seed) if method == "synthetic:published" else _gentle(run, facts, seed)
    if progress is not None:
        progress(1.0)
    return SyntheticInputs(
        on_grid(clips), run.curve, method, seed, float(budget_macs), run.spent, run.refined
    )


def default_budget(model: Any, shape: ModelInputs, facts: ModelFacts | None, method: str) -> float:
    """Multiply-adds that a synthesis may spend where nobody says how many: 8e11, or what moves the prior's first batch
    (8 clips of 2 s) by every step of the gentle recipe, where that is more.

    8e11 move all of the shipped models' 18 clips, and none of QuartzNet-15x5's or Conformer-L's; their first batch
    takes 2.8e12 and 8.7e12. The published recipe gets at least one clip.
    """
    if method == "synthetic:published":
        steps, lengths = PUBLISHED.steps, [shape.whole(PUBLISHED_FRAMES)]
    else:
        steps, lengths = GENTLE.steps, batch_lengths(shape, facts)[0]
    price = len(lengths) * steps * FORWARD_PASSES * cost(model, lengths[0]).macs
    return max(LEAST_BUDGET_MACS, price)


def _gentle(run: Spending, facts: ModelFacts | None, seed: int) -> list[np.ndarray]:
    """Refine the first clips, as many as a full run of the recipe can be paid for; the rest stay as they are.

    Batches come shortest first. What one saves by stopping early pays for later ones.
    """
    moved: list[np.ndarray] = []
    left: list[np.ndarray] = []
    purse_is_open = bool(run.norms) or run.blank_id is not None
    for batch in prior_clips(run.shape, facts, seed):
        frames = len(batch[0])
        paid = run.affordable(len(batch), frames, GENTLE) if purse_is_open else 0
        purse_is_open = purse_is_open and paid == len(batch)
        fitting = run.fitting(frames) if paid else 0
        if not fitting:
            left += batch
            continue
        for first in range(0, paid, fitting):
            clips = batch[first : min(paid, first + fitting)]
            labels = None
            if run.blank_id is not None and facts is not None:
                place = len(moved)
                draws = (np.random.default_rng([seed, place + row, 1]) for row in range(len(clips)))
                labels = [draw_labels(rng, frames, run.shape, facts) for rng in draws]
            moved += run.move(clips, GENTLE, labels)
        left += batch[paid:]
    run.refined = len(moved)
    return moved + left


def _published(run: Spending, seed: int) -> list[np.ndarray]:
    """PAPERS.md, section 1: uniform start, Adam .05, 200 steps, on plateau less; fewer batches where unpaid."""
    if not run.norms:
        raise TfliteAsrError(
            f"{run.model.name}: has no batch norm, so the published recipe has nothing to match; use synthetic"
        )
    frames = run.shape.whole(PUBLISHED_FRAMES)
    rows = run.affordable(PUBLISHED_BATCH * PUBLISHED_BATCHES, frames, PUBLISHED)
    if rows < 1:
        cost = run.step_macs(frames) * PUBLISHED.steps
        raise TfliteAsrError(
            f"calibration: one clip of the published recipe costs {cost:.3g} multiply-adds, "
            f"the budget is {run.budget:.3g}; raise it"
        )
    rng = np.random.default_rng(seed)
    clips: list[np.ndarray] = []
    while len(clips) < rows:
        size = (min(PUBLISHED_BATCH, rows - len(clips)), frames, *run.shape.tail)
        batch = rng.uniform(-PUBLISHED_RANGE, PUBLISHED_RANGE, size).astype(np.float32)
        clips += run.move(list(batch), PUBLISHED)
    run.refined = len(clips)
    return clips
