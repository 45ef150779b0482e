"""A model's signatures in training, one after the other: what each is taught on, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.facts import ModelFacts
from tflite_asr.qat.batches import (
    STEPS,
    Examples,
    spoken_clips,
    spoken_examples,
    taught_examples,
    taught_steps,
)
from tflite_asr.qat.graph import Graph, read_graph
from tflite_asr.qat.settings import Order
from tflite_asr.qat.train import Objective, toward_teacher, toward_text, train_low_bit
from tflite_asr.quantize.child import report_progress
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.schemes import scheme as scheme_named
from tflite_asr.quantize.signatures import family_of
from tflite_asr.quantize.steps import step_parts
from tflite_asr.quantize.trained import Trained

DISTIL_SEEDS = 8  # draws of the prior that are taught, 18 clips each
HELD_BACK_SEED = 1 << 20  # of the clips that judge; no draw above
MOST_ROWS = 2400  # of speech that the float model teaches on; longer trainings meet them again


def joined(found: Sequence[Trained], how: Mapping[str, Any]) -> Trained:
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
class Training:
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
            of={"manifest_sha256": self.order.manifest_sha256, "calibration": self.order.calibration},
            state=self.order.state_of(signature, alone),
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
            clips, spelled = self._heard(STEPS if graph.signature in step_parts(self.parts) else 1)
        return self._examples(graph, clips, self.order.seed, spelled)

    def _heard(self, rows: int) -> tuple[list[np.ndarray], list[Any]]:
        """As many utterances of the manifest, of so many rows each, as steps will ask for, and their tokens.

        What the float model says of each is held at once: `MOST_ROWS` take 1.3 GB of a model of 2 million parameters.
        """
        order, facts = self.order, self.facts
        assert order.manifest is not None
        assert order.window is not None
        assert facts is not None
        clips, labels = spoken_clips(order.manifest, order.window, facts, order.cache)
        most = -(-min(order.settings.steps * order.settings.batch, MOST_ROWS) // rows)
        chosen = np.random.default_rng(order.seed).permutation(len(clips))[:most]
        return [clips[i] for i in chosen], [labels[i].tolist() for i in chosen]

    def _spoken(self, graph: Graph) -> Examples:
        assert self.order.manifest is not None
        assert self.facts is not None
        return spoken_examples(self.order.manifest, graph, self.facts, self.order.cache)

    def _examples(
        self, graph: Graph, clips: Sequence[Any], seed: int, spelled: Sequence[Any] = ()
    ) -> Examples:
        subsampling = self.facts.subsampling if self.facts else 1
        if graph.signature not in step_parts(self.parts):
            return taught_examples(self.parts[graph.signature], graph, clips, subsampling)
        return taught_steps(self.parts, graph, clips, subsampling, self.end_id, seed, spelled)

    def _judged(self, signature: str, trained: Trained) -> dict[str, dict[str, float]]:
        """int8 against float on clips that nothing was made of, before and after: what a user's kernels give."""
        from tflite_asr.measure.fidelity import argmax_agreement, decibels
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
        place = names.index(graph.logits or names[0])
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
