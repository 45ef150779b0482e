"""Integer-only remedies for the tensors where int8 loses most, each kept only if it helps on inputs held back.

In this order:

1. equalisation of channels between two linear ops (`equalise`);
2. another calibrator's range for the tensors that a walk of float and int8 side by side names worst;
3. correction of biases (`biases`).

Not among them is int16 for single tensors: LiteRT 2.3.0 has no kernel of int8 weights that reads int8 and writes
int16, and its int16 kernels take 30 to 100 times as long as the int8 ones, so it would never be chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tflite_asr.quantize.auto import OutputError, clear_winner, hold_back, trial
from tflite_asr.quantize.biases import Corrections, correct, mean_errors, summed
from tflite_asr.quantize.build import Walk
from tflite_asr.quantize.calibrate import Sequences, lay_into_windows, observe, ranges_of
from tflite_asr.quantize.calibrators import CALIBRATORS, Calibrator
from tflite_asr.quantize.equalise import equalise
from tflite_asr.quantize.finish import finish
from tflite_asr.quantize.kept_whole import NOTHING, Kept, kept_whole
from tflite_asr.quantize.observed import Observed
from tflite_asr.quantize.ops import FIXED_OUTPUT, SAME_SCALE
from tflite_asr.quantize.quantizer import Ties, quantize
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.running import Feed
from tflite_asr.quantize.saturating import told_apart
from tflite_asr.quantize.schemes import Scheme
from tflite_asr.quantize.serialize import read_model
from tflite_asr.quantize.squares import corrections_of

WORST = 24  # tensors that get another range tried
TRIALS = 20  # int8 models built to try them
_LEAST_DIFFERENCE = 0.03  # of a range's width, below which another is the same


@dataclass(frozen=True)
class Step:
    """One remedy. tensors: to which it was applied. before_db, after_db: mean SNR of the outputs on the inputs held
    back. kept: whether it helped by more than a standard error."""

    remedy: str
    tensors: tuple[str, ...]
    before_db: float
    after_db: float
    kept: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, to a hundredth of a dB."""
        values = asdict(self)
        return {**values, "before_db": round(self.before_db, 2), "after_db": round(self.after_db, 2)}


@dataclass(frozen=True)
class Repaired:
    """What to quantise with.

    flatbuffers: the float ones, equalised where that helped. ranges: of all inputs. corrections: of biases, those
    that every export has (`squares`) among them. steps: all that was tried.
    """

    flatbuffers: dict[str, bytes]
    ranges: Ranges
    corrections: Corrections
    steps: tuple[Step, ...]

    def provenance(self) -> list[dict[str, Any]]:
        return [step.to_dict() for step in self.steps]


@dataclass
class _Bench:
    """The model as it is repaired so far, and its int8 outputs on the inputs held back."""

    flatbuffers: Mapping[str, bytes]
    rest: Sequence[np.ndarray | Feed]
    scheme: Scheme
    subsampling: int
    ties: Ties
    calibrator: Calibrator
    signature: str
    error: OutputError
    kept: Kept = NOTHING
    seen: dict[str, Observed] = field(default_factory=dict)
    chosen: dict[str, Calibrator] = field(default_factory=dict)
    corrections: Corrections = field(default_factory=dict)
    squares: Corrections = field(default_factory=dict)

    def look(self) -> None:
        laid = lay_into_windows(self.rest, self.flatbuffers, self.subsampling)
        self.seen, self.kept = observe(self.flatbuffers, laid), kept_whole(self.flatbuffers.values())
        self.weigh_squares(laid)

    def weigh_squares(self, laid: Sequences) -> None:
        """What every export corrects (`squares`), with the ranges chosen so far."""
        ranges = self.ranges(self.chosen)
        self.squares = corrections_of(self.flatbuffers, laid, ranges, self.ties, self.scheme)

    def ranges(self, chosen: Mapping[str, Calibrator]) -> Ranges:
        return ranges_of(self.seen, self.calibrator, self.kept, chosen)

    def named(self, chosen: Mapping[str, Calibrator], corrections: Corrections) -> bytes:
        """int8, with names."""
        data = quantize(self.flatbuffers[self.signature], self.ranges(chosen), self.ties, self.scheme)
        return correct(data, summed(self.squares, corrections))

    def int8(
        self, chosen: Mapping[str, Calibrator] | None = None, corrections: Corrections | None = None
    ) -> bytes:
        chosen = self.chosen if chosen is None else chosen
        corrections = self.corrections if corrections is None else corrections
        return finish(self.named(chosen, corrections), self.ranges(chosen))


def repair(
    flatbuffers: Mapping[str, bytes],
    inputs: Sequence[np.ndarray | Feed],
    scheme: Scheme,
    calibrator: Calibrator,
    walk: Walk,
    *,
    subsampling: int = 1,
    ties: Ties = (),
    progress: Callable[[float], None] = lambda fraction: None,
) -> Repaired:
    """Try the remedies on a part of the inputs, keep those that help on the rest, and apply these on all inputs.

    flatbuffers: signature to float flatbuffer with stable names. inputs: as `lay_into_windows` takes them. walk:
    float and integer flatbuffer, feeds, signature -> `name`, `op` and `grid_snr_db` of every tensor
    (`measure.walk.walk`), and `told_apart` by name. Raises TfliteAsrError where there is nothing to hold back.
    """
    rest, held = hold_back(inputs)
    signature, feeds = trial(held, flatbuffers, subsampling)
    error = OutputError(flatbuffers, signature, feeds)
    bench = _Bench(flatbuffers, rest, scheme, subsampling, ties, calibrator, signature, error)
    bench.look()
    steps = []
    for number, remedy in enumerate((_equalise, _other_ranges, _biases)):
        progress(0.3 * number)
        steps += remedy(bench, walk)
    laid = lay_into_windows(inputs, bench.flatbuffers, subsampling)
    bench.seen = observe(bench.flatbuffers, laid)
    bench.weigh_squares(laid)
    ranges = bench.ranges(bench.chosen)
    corrections = _mean_errors(bench, laid[signature]) if bench.corrections else {}
    progress(1.0)
    return Repaired(dict(bench.flatbuffers), ranges, summed(bench.squares, corrections), tuple(steps))


def _equalise(bench: _Bench, walk: Walk) -> list[Step]:
    laid = lay_into_windows(bench.rest, bench.flatbuffers, bench.subsampling)
    before = bench.flatbuffers, bench.seen, bench.squares
    made, factors = equalise(bench.flatbuffers, laid)
    if not factors:
        return []
    old = bench.error.snr_db(bench.int8())
    bench.flatbuffers = made
    bench.look()
    new = bench.error.snr_db(bench.int8())
    step = _judge("equalise channels", tuple(factors), old, new)
    if not step.kept:
        bench.flatbuffers, bench.seen, bench.squares = before
    return [step]


def _other_ranges(bench: _Bench, walk: Walk) -> list[Step]:
    """Each calibrator's ranges for all of the worst tensors at once, then for halves of those that it did not help."""
    data = bench.int8()
    old = bench.error.snr_db(data)
    here = bench.ranges(bench.chosen)
    floats = bench.flatbuffers[bench.signature]
    needed = told_apart(read_model(floats), here)
    walked = walk(floats, data, bench.error.feeds, bench.signature, told_apart=needed)
    worst = worst_tensors(walked, bench.kept.whole)
    steps: list[Step] = []
    queues = []
    for name, other in CALIBRATORS.items():
        there = ranges_of(bench.seen, other, bench.kept)
        queues.append((name, [tuple(one for one in worst if _differs(here[one], there[one]))]))
    trials = 0
    while trials < TRIALS and any(queue for _, queue in queues):
        for name, queue in queues:
            if not queue or trials >= TRIALS:
                continue
            some = tuple(one for one in queue.pop(0) if one not in bench.chosen)
            if not some:
                continue
            tried = {**bench.chosen, **dict.fromkeys(some, CALIBRATORS[name])}
            new = bench.error.snr_db(bench.int8(tried))
            trials += 1
            step = _judge(f"range by {name}", some, old, new)
            if step.kept:
                bench.chosen, old = tried, new
                steps.append(step)
            elif len(some) > 1:
                queue += [some[: len(some) // 2], some[len(some) // 2 :]]
            else:
                steps.append(step)
    if trials and not any(step.kept for step in steps):
        best = float(old.mean())
        steps = [Step(f"other ranges, {trials} tried", tuple(worst), best, best, False)]
    return [step for step in steps if step.kept] or steps[:1]


def _biases(bench: _Bench, walk: Walk) -> list[Step]:
    laid = lay_into_windows(bench.rest, bench.flatbuffers, bench.subsampling)[bench.signature]
    old = bench.error.snr_db(bench.int8())
    found = _mean_errors(bench, laid)
    if not found:
        return []
    new = bench.error.snr_db(bench.int8(corrections=found))
    step = _judge("correct biases", tuple(found), old, new)
    if step.kept:
        bench.corrections = found
    return [step]


def _mean_errors(bench: _Bench, laid: Sequence[Sequence[Feed]]) -> dict[str, np.ndarray]:
    steps = [step for sequence in laid for step in sequence]
    return mean_errors(bench.flatbuffers, bench.signature, steps, bench.named(bench.chosen, {}))


def worst_tensors(walked: Iterable[Any], whole: Collection[str] = ()) -> list[str]:
    """The tensors whose own grid costs most, worst first; without those whose range is not theirs to choose, and those
    that are kept `whole`."""
    fixed = {*SAME_SCALE, *FIXED_OUTPUT, "INPUT"}
    open_to_change = [one for one in walked if one.op not in fixed and one.name not in whole]
    return [one.name for one in sorted(open_to_change, key=lambda one: (one.grid_snr_db, one.name))[:WORST]]


def _differs(one: Any, other: Any) -> bool:
    width = max(one.maximum, 0.0) - min(one.minimum, 0.0)
    moved = abs(one.minimum - other.minimum) + abs(one.maximum - other.maximum)
    return bool(moved > _LEAST_DIFFERENCE * width)


def _judge(remedy: str, tensors: tuple[str, ...], old: np.ndarray, new: np.ndarray) -> Step:
    kept = clear_winner({"without": old, "with": new}) == "with"
    return Step(remedy, tensors, float(old.mean()), float(new.mean()), kept)
