"""What refinement may cost: one budget of multiply-adds, and a bound on what one step holds in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from tflite_asr.slim.cost import Cost, cost
from tflite_asr.synthesis.inputs import SyntheticInputs
from tflite_asr.synthesis.parts import Parts
from tflite_asr.synthesis.refine import Recipe, deterministic_ops, measure_of, refine
from tflite_asr.synthesis.shapes import ModelInputs
from tflite_asr.synthesis.statistics import batch_norms

FORWARD_PASSES = 3.0  # that a step costs: one forward, and backward twice as much
MEMORY_BYTES = 2.0 * 2**30
# Twice by how much the shipped Conformer's peak memory grows: 3.1 to 3.9 bytes a value, 8 x 200 to 4 x 1600 frames.
BYTES_PER_VALUE = 8.0


class Spending:
    """Spends one budget, batch after batch.

    Attributes:
        curve: a record a step of every batch. spent: multiply-adds. refined: clips, for whoever calls to count.
        norms: the model's batch norms. blank_id: where labels pull, else None.
    """

    def __init__(
        self,
        model: Any,
        shape: ModelInputs,
        budget: float,
        progress: Callable[[float], None] | None,
        parts: Parts,
        blank_id: int | None = None,
        memory_bytes: float = MEMORY_BYTES,
    ) -> None:
        self.model, self.shape, self.budget, self.progress = model, shape, budget, progress
        self.parts, self.blank_id, self.memory_bytes = parts, blank_id, memory_bytes
        self.curve: list[dict[str, float]] = []
        self.spent, self.refined, self.batches = 0.0, 0, 0
        self.norms = batch_norms(model)
        self._costs: dict[int, Cost] = {}

    def _cost(self, frames: int) -> Cost:
        if frames not in self._costs:
            self._costs[frames] = cost(self.model, frames)
        return self._costs[frames]

    def step_macs(self, frames: int) -> float:
        """One step of one clip, forward and backward."""
        return FORWARD_PASSES * self._cost(frames).macs

    def affordable(self, clips: int, frames: int, recipe: Recipe) -> int:
        """How many of the clips the rest of the budget pays all steps for."""
        price = self.step_macs(frames) * recipe.steps
        return min(clips, int((self.budget - self.spent) // price)) if price else clips

    def fitting(self, frames: int) -> int:
        """How many clips may be moved at once; 0: not even one."""
        return int(self.memory_bytes // (BYTES_PER_VALUE * self._cost(frames).values))

    @cached_property
    def _measure(self) -> Any:
        return measure_of(self.model, self.shape, self.blank_id)

    def move(
        self, clips: list[np.ndarray], recipe: Recipe, labels: list[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Refine one batch of equally long clips, or take it from where it was kept, and keep the books."""
        number, start = self.batches, [*clips, *(labels or ())]
        self.batches += 1
        if made := self.parts.read(number, recipe, start):
            self.curve += made.curve
            self.spent += made.spent_macs
            self._tell()
            return made.features
        price = self.step_macs(len(clips[0])) * len(clips)
        before, taken = self.spent, len(self.curve)

        def note(record: dict[str, float]) -> None:
            self.curve.append({"batch": number, **record})
            self.spent += price
            self._tell()

        mask = np.ones((len(clips), -(-len(clips[0]) // self.shape.subsampling)), np.float32)
        with deterministic_ops():
            moved = refine(self._measure, clips, mask, recipe, note, labels)
        made = SyntheticInputs(
            moved, self.curve[taken:], "part", spent_macs=self.spent - before, refined=len(moved)
        )
        self.parts.keep(number, recipe, start, made)
        return moved

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(min(1.0, self.spent / max(self.budget, 1.0)))
