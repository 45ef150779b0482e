"""A model given back what a drop took from it: distilled from the full one on made-up inputs, or trained on speech by
its text and by the full one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.training.recipe import Augmentation, Recipe

DISTIL, FINETUNE, NONE = "distil", "finetune", "none"
RECOVERIES = (DISTIL, FINETUNE, NONE)
RATE = 3e-4  # at the top, unless another is asked for: a fifth of what conformer-ctc was trained with
SAVED_EVERY = 100  # steps, a minute or two of a small model
WARMUP = 0.1  # of the steps; from there a linear fall to zero
# Made-up clips are cut and padded to one shape: a second one is traced anew, 25 s of a core for six Conformer blocks.
CLIPS, SECONDS = 4, 4.0
MOST_SETS = 64  # of prior clips, 82 s each: 215 MB of features; longer recoveries meet them again
RECIPE = Recipe("recovery", batch_seconds=24.0, augmentation=Augmentation(from_epoch=0))

Tell = Callable[[float], None]


def learning_rate(step: int, steps: int, most: float = RATE) -> float:
    """Rises to `most` over the first tenth of the steps, then falls to zero."""
    warmup = max(1.0, WARMUP * steps)
    return most * min((step + 1) / warmup, (steps - step) / max(1.0, steps - warmup))


class Recovery:
    """The same steps for whoever asks, slimmed model or control.

    Args:
        kind: of `RECOVERIES`. steps: of each recovery, one batch each.
        full, facts: the teacher.
        seed: of clips, order and augmentation.
        recipe: for fine-tuning; its batches, augmentation, decay, intermediate loss and `teacher_weight`, the
            teacher's share of the loss beside the text's.
        manifests, cache: for fine-tuning; as `tflite_asr.training.loop.train` takes them.
        rate: the highest learning rate.
    """

    def __init__(
        self,
        kind: str,
        steps: int,
        full: Any,
        facts: ModelFacts,
        seed: int = 0,
        recipe: Recipe | None = None,
        manifests: Sequence[Path] = (),
        cache: Path = Path("build/features"),
        rate: float = RATE,
    ) -> None:
        self.rate = rate
        self.kind, self.steps, self.full, self.facts, self.seed = kind, steps, full, facts, seed
        given = recipe or RECIPE
        augmentation = replace(given.augmentation, from_epoch=0)
        self.recipe = replace(given, seed=seed, curriculum_epochs=0, augmentation=augmentation)
        self.manifests, self.cache = manifests, cache
        self._taught: dict[int, list[Any]] = {}
        self._speller: Any = None  # of an encoder-decoder
        self._corpora: list[Any] = []

    def run(
        self,
        model: Any,
        number: int,
        tell: Tell = lambda done: None,
        steps: int | None = None,
        state: Path | None = None,
        teacher: Any = None,
        what: str = "",
    ) -> list[float]:
        """Train a model in place; number: of the drop, which decides what comes in which order; steps: None for those
        of each recovery; state: a file from which an interrupted one goes on; teacher: of fine-tuning, the full model
        without; what: is recovered, for a state to be told from another's. Gives the losses.

        Raises:
            TfliteAsrError: speech or a state that cannot be used, or a loss that is no number.
        """
        from tflite_asr.training.state import load_state, progress_of, save_state
        from tflite_asr.training.steps import adamw, run_steps

        steps = self.steps if steps is None else steps
        if self.kind == NONE or not steps:
            return []
        trainer = self._trainer(model, teacher or self.full)
        optimizer = adamw(self.rate, self.recipe.weight_decay, self.recipe.clip_norm)
        trainer.compile(optimizer=optimizer)
        losses: list[float] = []
        of = {"number": number, "steps": steps, "what": what}
        if state is not None and state.is_file():
            if progress_of(state).get("of") != of:
                raise TfliteAsrError(
                    f"{state}: is of another recovery than the {steps} steps that were asked for; give the same as "
                    "before, or remove it"
                )
            losses = load_state(state, model, optimizer)["losses"]
        batches = (
            self._spoken(number, trainer, steps) if self.kind == FINETUNE else self._made_up(number, steps)
        )
        for start in range(len(losses), steps, SAVED_EVERY):
            losses += run_steps(
                trainer,
                batches[start : start + SAVED_EVERY],
                lambda step, start=start: learning_rate(start + step, steps, self.rate),  # type: ignore[misc]
                lambda done, _, start=start: tell((start + done) / steps),  # type: ignore[misc]
                f"recovery {number}",
            )
            if state is not None:
                save_state(state, model, optimizer, {"of": of, "losses": [round(one, 5) for one in losses]})
        if teacher is not None:
            teacher.trainable = True  # it was held still, and may be trained on
        return losses

    def _trainer(self, model: Any, teacher: Any) -> Any:
        if self.kind == DISTIL:
            from tflite_asr.training.distil import Distiller

            return Distiller(model)
        from tflite_asr.training.objective import intermediate_layer, objective

        recipe = self.recipe
        if intermediate_layer(recipe) not in {
            layer.name for layer in model.layers
        }:  # it may have been dropped
            recipe = replace(recipe, intermediate_weight=0.0)
        assert self.facts.tokens is not None
        return objective(recipe, model, self.facts.tokens, teacher if recipe.teacher_weight else None)

    def _made_up(self, number: int, steps: int) -> list[Callable[[], Any]]:
        """Prior clips with what the full model says of them, all batches of one shape."""
        sets = -(-steps // len(self._set(0)))
        order: list[tuple[int, int]] = []
        rng = np.random.default_rng([self.seed, number])
        while len(order) < steps:
            places = [(i, j) for i in range(min(sets, MOST_SETS)) for j in range(len(self._set(0)))]
            order += [places[k] for k in rng.permutation(len(places))]
        return [lambda i=i, j=j: self._set(i)[j] for i, j in order[:steps]]  # type: ignore[misc]

    def _set(self, index: int) -> list[Any]:
        """One draw of prior clips, batch by batch; kept, since every recovery comes back to it."""
        if index not in self._taught:
            from tflite_asr.models.spelling import BatchSpeller
            from tflite_asr.models.transformer import ctc_part, spells
            from tflite_asr.slim.slim import model_config
            from tflite_asr.synthesis.prior import prior_clips
            from tflite_asr.synthesis.shapes import model_inputs

            shape = model_inputs(ctc_part(self.full), self.facts)
            if spells(self.full) and self._speller is None:
                self._speller = BatchSpeller(self.full, model_config(self.facts))
            whole = replace(shape, roles=("features", "mask"))
            # The ranking's clips have the seed itself: a recovery is not judged on what it was taught.
            draws = prior_clips(shape, self.facts, seed=1_000_000 * (self.seed + 1) + index)
            frontend = self.facts.frontend
            hop = frontend.hop_seconds if frontend is not None else 0.01
            frames = shape.whole(min(round(SECONDS / hop), max(self.facts.windows)))
            clips = cut([clip for some in draws for clip in some], frames)
            found = []
            for start in range(0, len(clips), CLIPS):
                batch = [clips[i % len(clips)] for i in range(start, start + CLIPS)]
                features, mask = whole.batch(batch, frames)
                found.append(self._heard(features, mask, seed=index * len(clips) + start))
            self._taught[index] = found
        return self._taught[index]

    def _heard(self, features: np.ndarray, mask: np.ndarray, seed: int) -> Any:
        """A batch with what the full model says of it; of an encoder-decoder also after tokens that it drew."""
        from keras import ops

        from tflite_asr.models.spelling import sampler, tokens_before
        from tflite_asr.training.distil import Taught

        if self._speller is None:
            logits = self.full([features, mask][: len(self.full.inputs)], training=False)
            return Taught((features, mask), (ops.convert_to_numpy(logits),), (mask,))
        ids, _ = self._speller.spell(features, mask, self.facts.blank_id, sampler(seed))
        tokens, valid = tokens_before(ids, self.facts.blank_id)
        # One shape for all: a second one is traced anew.
        room = self._speller.config.longest(features.shape[1]) + 1 - tokens.shape[1]
        tokens = np.pad(tokens, ((0, 0), (0, room)), constant_values=self.facts.blank_id)
        valid = np.pad(valid, ((0, 0), (0, room))).astype(np.float32)
        said = tuple(ops.convert_to_numpy(one) for one in self.full([features, mask, tokens], training=False))
        return Taught((features, mask, tokens), said, (mask, valid))

    def _spoken(self, number: int, trainer: Any, steps: int) -> list[Callable[[], Any]]:
        from tflite_asr.training.data import Corpus, training_batches
        from tflite_asr.training.objective import fed_by

        frontend, tokens = self.facts.frontend, self.facts.tokens
        assert frontend is not None
        assert tokens is not None
        if not self._corpora:
            self._corpora = [Corpus(one, frontend, tokens, self.cache) for one in self.manifests]
        found: list[Callable[[], Any]] = []
        epoch = 1000 * number
        while len(found) < steps:
            found += training_batches(
                self._corpora, self.recipe, frontend, self.facts.subsampling, tokens.blank_id, epoch
            )
            epoch += 1
        return fed_by(trainer, found[:steps])


def cut(clips: Sequence[np.ndarray], frames: int) -> list[np.ndarray]:
    """Pieces of at most `frames`, one after the other; every frame of every clip is in one."""
    return [clip[start : start + frames] for clip in clips for start in range(0, len(clip), frames)]
