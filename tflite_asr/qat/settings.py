"""How low-bit training goes, known before TensorFlow is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.ranges import family

CALIBRATED = "calibrated"
RANGES = (CALIBRATED, "widest", "average")
TWO_OF_FOUR = "2:4"


@dataclass(frozen=True)
class Settings:
    """How to train.

    steps: of the optimizer. batch: examples each. learning_rate: of AdamW, after `warmup` steps and before the line to
    a tenth of it. ranges: `calibrated` leaves them, `widest` lets them grow with what is seen, `average` follows a
    moving average of each batch's extremes, of momentum `decay`. frozen_share: of the steps, the last ones, in which
    ranges stand still. looks: how often before that the grids are made anew of what was followed. sparsity: share of
    the weights of products (not depthwise) that become zeros before that, or `2:4`; None for none. seed: of the order.

    On the shipped Conformer `widest` gave digits away: after 120 steps of 8 (2e-6) int8 lay 24.6 dB from the float
    model on clips held back, 25.4 dB before (`tflite-asr qat conformer-ctc --steps 120 --batch 8 --learning-rate 2e-6
    --ranges widest`).
    """

    steps: int = 300
    batch: int = 8
    learning_rate: float = 1e-6
    warmup: int = 20
    ranges: str = "calibrated"
    frozen_share: float = 0.5
    looks: int = 3
    decay: float = 0.95
    clip_norm: float = 1.0
    sparsity: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise TfliteAsrError(f"qat: {self.steps} steps of {self.batch}; give 1 or more of both")
        if not 0 < self.learning_rate < 1:
            raise TfliteAsrError(
                f"qat: learning rate {self.learning_rate:g}; give one between 0 and 1, 1e-6 say"
            )
        if self.ranges not in RANGES:
            raise TfliteAsrError(f"qat: ranges {self.ranges!r}; give one of {', '.join(RANGES)}")
        if self.sparsity not in (None, TWO_OF_FOUR) and not 0 < _number(self.sparsity) < 1:
            raise TfliteAsrError(
                f"qat: sparsity {self.sparsity!r}; give a share between 0 and 1, or {TWO_OF_FOUR}"
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        left = 1.0 - step / max(self.steps, 1)
        return self.learning_rate * min(1.0, (step + 1) / max(self.warmup, 1)) * max(0.1, left)

    def still_from(self) -> int:
        """The step from which ranges and zeros stay."""
        return max(1, round(self.steps * (1.0 - self.frozen_share)))

    def prune_steps(self) -> tuple[int, ...]:
        """After how many steps zeros are chosen: before the first, and ten times until they stay."""
        if self.sparsity is None:
            return ()
        times = 1 if self.sparsity == TWO_OF_FOUR else 10
        return tuple(sorted({round(self.still_from() * i / times) for i in range(times + 1)}))

    def look_steps(self) -> tuple[int, ...]:
        """After how many steps the grids are made anew, the last time for good; never where ranges stay."""
        if self.ranges == "calibrated":
            return ()
        until = self.still_from()
        return tuple(sorted({max(1, round(until * (i + 1) / self.looks)) for i in range(self.looks)}))


@dataclass(frozen=True)
class Order:
    """What is to be trained, checked, as it goes to the child.

    manifest: None for distillation; its digest is of the bytes. window: in frames. state: where an interrupted
    training goes on from.
    """

    manifest: Path | None
    manifest_sha256: str | None
    calibration: str
    window: int | None
    seed: int
    budget_macs: float | None
    cache: Path
    threads: int
    state: Path
    settings: Settings

    def state_of(self, signature: str, alone: bool) -> Path:
        """Where the training of a signature goes on from, whatever its window; alone: whether the model has one."""
        if alone:
            return self.state
        return self.state.with_name(
            f"{self.state.name.removesuffix('.state.npz')}.{family(signature)}.state.npz"
        )


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return float("nan")
