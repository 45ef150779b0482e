"""From a model alone to calibration inputs: prior, then refinement, within a budget of multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.slim.cost import count_macs
from tflite_asr.synthesis.inputs import SyntheticInputs, on_grid
from tflite_asr.synthesis.prior import inputs_without_a_model, prior_clips
from tflite_asr.synthesis.refine import GENTLE, PUBLISHED, Recipe, deterministic_ops, measure_of, refine
from tflite_asr.synthesis.shapes import ModelInputs, model_inputs
from tflite_asr.synthesis.statistics import batch_norms

METHODS = ("synthetic", "noise", "synthetic:published")
DEFAULT_BUDGET_MACS = 3e11
PUBLISHED_BATCH, PUBLISHED_FRAMES, PUBLISHED_BATCHES, PUBLISHED_RANGE = 8, 500, 20, 0.3

Progress = Callable[[float], None]


def synthesize(
    model: Any,
    facts: ModelFacts | None = None,
    method: str = "synthetic",
    seed: int = 0,
    budget_macs: float = DEFAULT_BUDGET_MACS,
    progress: Progress | None = None,
) -> SyntheticInputs:
    """Calibration inputs for a model, from the model alone.

    "synthetic": smooth fields and babble (`prior`), of which as many clips as the budget pays for are moved gently
    until the batch norms' statistics match (`refine.GENTLE`); without batch norm the prior stands alone.
    "noise": white noise. "synthetic:published": Q-ASR's recipe, as many batches of [8, 500, mels] as the budget
    pays for (at most 20), at least a part of one.

    Args:
        model: Functional Keras model; frozen here.
        facts: its facts; without a front end in them there is no babble.
        method: one of `METHODS`.
        seed: of every random draw.
        budget_macs: multiply-adds that refinement may spend; a step costs 3 forward passes.
        progress: called with the share of the budget that is done, 0 to 1.

    Raises:
        TfliteAsrError: an unknown method; a budget below 0; inputs that no prior fits; "synthetic:published" on a
            model without batch norm.
    """
    if method not in METHODS:
        raise TfliteAsrError(f"calibration: method {method!r} is unknown; give one of {', '.join(METHODS)}")
    if not budget_macs >= 0:
        raise TfliteAsrError(f"calibration: budget_macs is {budget_macs}; give 0 or more")
    shape = model_inputs(model, facts)
    if method == "noise":
        return inputs_without_a_model(shape, facts, method, seed)
    run = _Refinement(model, shape, float(budget_macs), progress)
    clips = run.gentle(prior_clips(shape, facts, seed)) if method == "synthetic" else run.published(seed)
    if progress is not None:
        progress(1.0)
    return SyntheticInputs(
        on_grid(clips), run.curve, method, seed, float(budget_macs), run.spent, run.refined
    )


class _Refinement:
    """Spends one budget, batch after batch."""

    def __init__(self, model: Any, shape: ModelInputs, budget: float, progress: Progress | None) -> None:
        self.model, self.shape, self.budget, self.progress = model, shape, budget, progress
        self.curve: list[dict[str, float]] = []
        self.spent, self.refined, self.batches = 0.0, 0, 0
        self.norms = batch_norms(model)
        self.measure: Any = None

    def step_macs(self, frames: int) -> float:
        """One step of one clip, forward and backward."""
        return 3.0 * count_macs(self.model, frames)

    def gentle(self, batches: list[list[np.ndarray]]) -> list[np.ndarray]:
        """Refine the first clips, as many as a full run of the recipe can be paid for; the rest stay as they are.

        What a batch saves by stopping early pays for later ones.
        """
        moved: list[np.ndarray] = []
        left: list[np.ndarray] = []
        open_purse = bool(self.norms)
        for clips in batches:
            step = self.step_macs(len(clips[0])) if open_purse else 0.0
            paid = (
                min(len(clips), int((self.budget - self.spent) // (step * GENTLE.steps))) if open_purse else 0
            )
            open_purse = open_purse and paid == len(clips)
            if paid:
                moved += self.move(clips[:paid], GENTLE, step * paid)
            left += clips[paid:]
        self.refined = len(moved)
        return moved + left

    def published(self, seed: int) -> list[np.ndarray]:
        """PAPERS.md, section 1: uniform start, Adam .05, 200 steps, on plateau less; fewer batches where unpaid."""
        if not self.norms:
            raise TfliteAsrError(
                f"{self.model.name}: has no batch norm, so the published recipe has nothing to match; use synthetic"
            )
        frames = self.shape.whole(PUBLISHED_FRAMES)
        step = self.step_macs(frames)
        rows = int(self.budget // (step * PUBLISHED.steps))
        if rows < 1:
            raise TfliteAsrError(
                f"calibration: one clip of the published recipe costs {step * PUBLISHED.steps:.3g} multiply-adds, "
                f"the budget is {self.budget:.3g}; raise it"
            )
        rows = min(rows, PUBLISHED_BATCH * PUBLISHED_BATCHES)
        rng = np.random.default_rng(seed)
        clips: list[np.ndarray] = []
        while len(clips) < rows:
            size = (min(PUBLISHED_BATCH, rows - len(clips)), frames, *self.shape.tail)
            batch = rng.uniform(-PUBLISHED_RANGE, PUBLISHED_RANGE, size).astype(np.float32)
            clips += self.move(list(batch), PUBLISHED, step * len(batch))
        self.refined = len(clips)
        return clips

    def move(self, clips: list[np.ndarray], recipe: Recipe, step_macs: float) -> list[np.ndarray]:
        """Refine one batch and keep the books."""

        def note(record: dict[str, float]) -> None:
            self.curve.append({"batch": self.batches, **record})
            self.spent += step_macs
            if self.progress is not None:
                self.progress(min(1.0, self.spent / self.budget))

        if self.measure is None:
            self.measure = measure_of(self.model, self.shape)
        mask = np.ones((len(clips), -(-len(clips[0]) // self.shape.subsampling)), np.float32)
        with deterministic_ops():
            clips = refine(self.measure, clips, mask, recipe, note)
        self.batches += 1
        return clips
