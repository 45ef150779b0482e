"""How low-bit training goes, known before TensorFlow is."""

from __future__ import annotations

from dataclasses import dataclass

from tflite_asr.errors import TfliteAsrError


@dataclass(frozen=True)
class Settings:
    """How to train.

    steps: of the optimizer. batch: examples each. learning_rate: of AdamW, after `warmup` steps and before the line to
    a tenth of it. frozen_share: of the steps, the last ones, in which ranges stand still. looks: how often before that
    the grids are made anew of what was followed. decay: of the moving average that ranges follow; None for the widest
    that was seen. seed: of the order.
    """

    steps: int = 300
    batch: int = 4
    learning_rate: float = 2e-5
    warmup: int = 20
    frozen_share: float = 0.5
    looks: int = 3
    decay: float | None = None
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise TfliteAsrError(f"qat: {self.steps} steps of {self.batch}; give 1 or more of both")
        if not 0 < self.learning_rate < 1:
            raise TfliteAsrError(
                f"qat: learning rate {self.learning_rate:g}; give one between 0 and 1, 2e-5 say"
            )
        if self.decay is not None and not 0 < self.decay < 1:
            raise TfliteAsrError(f"qat: decay {self.decay:g}; give one between 0 and 1, 0.95 say")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        left = 1.0 - step / max(self.steps, 1)
        return self.learning_rate * min(1.0, (step + 1) / max(self.warmup, 1)) * max(0.1, left)

    def look_steps(self) -> tuple[int, ...]:
        """After how many steps the grids are made anew; the last time for good."""
        until = max(1, round(self.steps * (1.0 - self.frozen_share)))
        return tuple(sorted({max(1, round(until * (i + 1) / self.looks)) for i in range(self.looks)}))
