"""Modules dropped one after the other until a budget is met, with recovery after each, beside a control."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.measure.wer import ErrorCounts, paired_difference
from tflite_asr.studies.slim_folder import StudyFolder, read_json
from tflite_asr.studies.slim_ranking import RESAMPLES, Measured, without
from tflite_asr.studies.slim_recovery import Recovery
from tflite_asr.studies.slim_speech import DevSpeech

# Of the full model's parameters or multiply-adds: a bias alone is not worth a recovery.
LEAST_SAVING = 0.002
MODEL, CONTROL, RESULT = "model", "control", "result.json"
CHOSEN, STATE = "chosen.json", "{}.state.npz"  # of a drop that is not complete
LAST = "recovered"  # what the last recovery is kept as


@dataclass(frozen=True)
class Budget:
    """When to stop.

    Attributes:
        parameters, macs: at most so many; None for no such target.
        max_wer_rise: a fraction above the control's dev WER, None for any.
        score: damage by "kl" or by "wer".
    """

    parameters: int | None = None
    macs: int | None = None
    max_wer_rise: float | None = None
    score: str = "kl"

    def missing(self, parameters: int, macs: int) -> dict[str, int]:
        """What is still too much, by the name of a `Measured`'s attribute."""
        have = {"parameters": (self.parameters, parameters), "macs": (self.macs, macs)}
        return {name: now - most for name, (most, now) in have.items() if most is not None and now > most}

    def met(self, parameters: int, macs: int) -> bool:
        """Whether all targets are reached; never without a target."""
        targets = self.parameters is not None or self.macs is not None
        return targets and not self.missing(parameters, macs)


def saving(one: Measured, now: Measured, full: Measured, budget: Budget) -> float:
    """Share of the full model that a drop saves of what is still missing; 0 where that is too little to bother."""
    missing = budget.missing(now.parameters, now.macs) or {"macs": now.macs}
    shares = {
        name: min(getattr(now, name) - getattr(one, name), most) / getattr(full, name)
        for name, most in missing.items()
    }
    enough = any(
        (getattr(now, name) - getattr(one, name)) / getattr(full, name) >= LEAST_SAVING for name in missing
    )
    return sum(shares.values()) if enough else 0.0


def damage(one: Measured, now: Measured, score: str) -> float:
    """By how much a drop moves the model farther from the full one; none where it moves it nearer."""
    if score == "wer":
        assert one.errors is not None
        assert now.errors is not None
        return max(0.0, one.errors.rate - now.errors.rate)
    return max(0.0, one.kl - now.kl)


@dataclass
class Descent:
    """A greedy search on its way down.

    Attributes:
        model, facts, full: the full model and what it comes to. alone: each module that may go, dropped from it.
        reference: `tflite_asr.slim.Reference` of the full model.
        tell: called with (stage, the model before this drop, the model so far, share of its recovery).
        last_steps: of one more recovery when the budget is met, of the model and of its control; 0 for none.
        at_once: modules that are dropped, one after the other, before each recovery.
    """

    folder: StudyFolder
    model: Any
    facts: ModelFacts
    full: Measured
    alone: Sequence[Measured]
    budget: Budget
    recovery: Recovery
    reference: Any
    speech: DevSpeech | None
    seed: int
    tell: Callable[[str, Measured, Measured, float], None]
    last_steps: int = 0
    at_once: int = 1

    def __post_init__(self) -> None:
        self._was = self.full

    def run(self) -> tuple[list[dict[str, Any]], str]:
        """Drop until the budget is met or nothing is left to drop; what is complete in the folder is not done again.

        Returns:
            One record a drop, as in `result.json`, and why it ended: "met", "wer" or "nothing left". The last recovery
            has a record of its own, whose `path` is "".
        """
        from tflite_asr.slim import slim

        steps: list[dict[str, Any]] = []
        model, control, facts, now = self.model, self.model, self.facts, self.full
        for folder in self.folder.candidates:
            steps.append(read_json(folder / RESULT))
        if steps:
            from tflite_asr.models import load_model

            now = Measured.from_dict(steps[-1]["measured"])
            ended = self._ended(steps, now)
            if ended and not self._to_recover(steps, ended):
                return steps, ended
            last = self.folder.candidates[-1]
            read = ModelFacts.read(last / f"{MODEL}.keras")
            assert read is not None
            facts = read
            model, control = (load_model(last / f"{name}.keras") for name in (MODEL, CONTROL))
        while not (ended := self._ended(steps, now)) or self._to_recover(steps, ended):
            number = len(steps) + 1
            self._was = now
            if number == 1 and control is self.model:
                control = self._copy_of_full()
            if ended:
                before = replace(now, path="")
            else:
                kept = self.folder.unfinished(number, CHOSEN)
                chosen = (
                    Measured.from_dict(read_json(kept)) if kept.is_file() else self._choose(model, facts, now)
                )
                if chosen is None:
                    return steps, "nothing left"
                self.folder.write(kept, chosen.to_dict())
                model, facts, _ = slim(model, facts, chosen.path)
                before = chosen
            length = self.last_steps if ended else self.recovery.steps
            errors = self._control(control, before, number, length)
            now, record = self._recovered(model, facts, before, number, length, control)
            record |= self._held_against(now, errors)
            pair = {MODEL: (model, facts), CONTROL: (control, self.facts)}
            self.folder.keep(number, _name(now.path), pair, record)
            steps.append(record)
        return steps, ended

    def _to_recover(self, steps: Sequence[dict[str, Any]], ended: str) -> bool:
        """Whether the last recovery is still to come.

        Raises:
            TfliteAsrError: the folder has one of another length.
        """
        done = steps[-1]["steps"] if steps and not steps[-1]["path"] else 0
        if done and self.last_steps not in (0, done):
            raise TfliteAsrError(
                f"{self.folder.candidates[-1]}: is a last recovery of {done} steps, not {self.last_steps}; give "
                f"--last-steps {done}, or remove this candidate alone"
            )
        return ended == "met" and bool(steps) and self.last_steps > 0 and not done

    def _ended(self, steps: Sequence[dict[str, Any]], now: Measured) -> str:
        drops = [one for one in steps if one["path"]]  # the last recovery takes nothing away that was met
        if drops and not drops[-1]["accepted"]:
            return "wer"
        return "met" if self.budget.met(now.parameters, now.macs) else ""

    def _choose(self, model: Any, facts: ModelFacts, now: Measured) -> Measured | None:
        """What the model comes to without the modules of the next drop; `path` names them all, as `slim` takes them.
        None where nothing is left to drop.

        Each is the one whose loss does the least damage for what it saves. For the first of them every module is tried.
        For the others only those are tried again that look better, by what they did before, than one that has been:
        what is dropped makes the rest be missed more, seldom less (the lazy greedy search of Minoux 1978).
        """
        from tflite_asr.slim import slim

        paths: list[str] = []
        waiting = [
            (*self._worth(one, now), place, 0, one)
            for place, one in enumerate(self.alone if not now.path else self._without_each(model, facts, now))
        ]
        heapq.heapify(waiting)
        while waiting:
            *_, place, after, one = heapq.heappop(waiting)
            if after < len(paths):
                if one.path in self._left(facts):
                    one = self._without(model, facts, now, one.path)
                    heapq.heappush(waiting, (*self._worth(one, now), place, len(paths), one))
                continue
            if self._worth(one, now)[0] == math.inf:
                break
            paths.append(one.path)
            now = one
            if len(paths) == self.at_once or self.budget.met(now.parameters, now.macs):
                break
            model, facts, _ = slim(model, facts, one.path)
        return replace(now, path=",".join(paths)) if paths else None

    def _worth(self, one: Measured, now: Measured) -> tuple[float, float]:
        """Damage for what is saved, and less the more is saved; the smaller the better, infinite for no saving."""
        saved = saving(one, now, self.full, self.budget)
        return (damage(one, now, self.budget.score) / saved, -saved) if saved > 0 else (math.inf, 0.0)

    def _left(self, facts: ModelFacts) -> list[str]:
        """What may go and is still there, in the model's order."""
        from tflite_asr.slim import module_paths
        from tflite_asr.slim.slim import model_config

        may = {one.path for one in self.alone}
        return [path for path in module_paths(model_config(facts)) if path in may]

    def _without_each(self, model: Any, facts: ModelFacts, now: Measured) -> list[Measured]:
        return [self._without(model, facts, now, path) for path in self._left(facts)]

    def _without(self, model: Any, facts: ModelFacts, now: Measured, path: str) -> Measured:
        drops = f"{len(now.dropped)} drop{'s' if len(now.dropped) > 1 else ''}"
        self.tell(f"after {drops}: without {path}?", self._was, self._was, 0.0)
        speech = self.speech if self.budget.score == "wer" else None
        return without(model, facts, path, self.reference, speech)[2]

    def _recovered(
        self, model: Any, facts: ModelFacts, before: Measured, number: int, steps: int, teacher: Any
    ) -> tuple[Measured, dict[str, Any]]:
        """`model`, which came to `before`, recovered in place and measured; teacher: of fine-tuning."""
        stage = f"drop {number}, {before.path}" if before.path else "at last"
        losses = self.recovery.run(
            model,
            number,
            lambda done: self.tell(f"{stage}: recover", self._was, before, 0.5 + done / 2),
            steps,
            self.folder.unfinished(number, STATE.format(MODEL)),
            teacher,
            ",".join(before.dropped),
        )
        errors = self.speech.errors(model, facts) if self.speech is not None else None
        now = replace(before, kl=self.reference.divergence(model), errors=errors)
        return now, {
            "number": number,
            "path": before.path,
            "dropped": list(before.dropped),
            "parameters": before.parameters,
            "macs": before.macs,
            "steps": steps,
            "kl_before_recovery": before.kl,
            "kl": now.kl,
            "loss_first": float(np.mean(losses[:20])) if losses else None,
            "loss_last": float(np.mean(losses[-20:])) if losses else None,
            "wer": errors.rate if errors is not None else None,
            "measured": now.to_dict(),
        }

    def _control(self, control: Any, after: Measured, number: int, steps: int) -> ErrorCounts | None:
        """The same steps for the full model, and the errors that it makes then. It comes first: it is what teaches
        the smaller one in fine-tuning, since no full model is better by then."""
        stage = f"drop {number}" if after.path else "at last"
        self.recovery.run(
            control,
            number,
            lambda done: self.tell(f"{stage}: control", self._was, after, done / 2),
            steps,
            self.folder.unfinished(number, STATE.format(CONTROL)),
        )
        return self.speech.errors(control) if self.speech is not None else None

    def _held_against(self, now: Measured, errors: ErrorCounts | None) -> dict[str, Any]:
        """What lies between a model and its control, which makes `errors`."""
        if self.speech is None or now.errors is None or errors is None:
            return {"control_wer": None, "wer_rise": None, "corpora": {}, "accepted": True}
        rise = paired_difference(now.errors, errors, self.seed, RESAMPLES)
        most = self.budget.max_wer_rise
        theirs = self.speech.by_corpus(errors)
        return {
            "control_wer": errors.rate,
            "wer_rise": rise.to_dict(),
            "corpora": {
                name: {"wer": rate, "control_wer": theirs[name]}
                for name, rate in self.speech.by_corpus(now.errors).items()
            },
            "accepted": most is None or rise.difference <= most,
        }

    def _copy_of_full(self) -> Any:
        """The control is trained, the full model is the teacher: two models."""
        from tflite_asr.slim import slim

        return slim(self.model, self.facts, "")[0]


def _name(path: str) -> str:
    """Of a candidate's folder: the first module and how many more."""
    first, *others = path.split(",")
    return (first or LAST) + (f"+{len(others)}" if others else "")
