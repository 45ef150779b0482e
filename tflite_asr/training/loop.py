"""The training loop: read a recipe, train, keep the best checkpoint by dev WER, resume where it stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import jiwer
import keras
import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import FrontEnd
from tflite_asr.models import ARCHITECTURES, build, load_model
from tflite_asr.models.registry import config_class
from tflite_asr.tokens import CHARACTERS, Tokens
from tflite_asr.training.data import Corpus, measure_normalisation, training_batches
from tflite_asr.training.objective import fed_by, objective
from tflite_asr.training.recipe import Recipe
from tflite_asr.training.state import load_state, save_state
from tflite_asr.training.steps import adamw, run_steps
from tflite_asr.training.transcripts import CTCTranscriber, transcriber_of, transcripts


@dataclass(frozen=True)
class Progress:
    """What the loop tells whoever shows it: `stage` is "features", "train" or "dev"."""

    stage: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float = math.nan
    dev_wer: float = math.nan


def learning_rate(recipe: Recipe, step: int, epoch: float) -> float:
    """Linear warm-up, a plateau, a linear fall to zero over the last `decay_epochs` epochs."""
    fall = (recipe.epochs - epoch) / max(recipe.decay_epochs, 1e-9)
    return recipe.learning_rate * min(1.0, (step + 1) / max(recipe.warmup_steps, 1), max(fall, 1e-3))


def train(
    recipe: Recipe,
    manifests: Sequence[str | Path],
    dev: Sequence[str | Path],
    out: str | Path,
    cache: str | Path = "build/features",
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train a CTC model, or an encoder-decoder with CTC, whose dev WER is that of its decoder.

    Writes `out` (best by pooled dev WER) with its facts, `NAME.history.jsonl` (a line an epoch) and `NAME.state.npz`,
    from which the next call with the same arguments goes on; the state is removed by the user, not by us.

    Args:
        recipe: see `Recipe`.
        manifests, dev: NeMo manifests.
        out: the `.keras` file.
        cache: folder of cached features.
        progress: told after every step.

    Returns:
        The last line of the history, with `best_dev_wer` and `best_epoch`.

    Raises:
        TfliteAsrError: a recipe, manifest, recording or state that cannot be used, or a loss that is no number.
    """
    out, tell = Path(out), progress or (lambda _: None)
    out.parent.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(recipe.seed)
    tokens = CHARACTERS
    raw = FrontEnd.from_dict(recipe.frontend)
    config = _config(recipe, raw.mels, len(tokens.pieces))

    def corpus(path: str | Path) -> Corpus:
        return Corpus(
            path, raw, tokens, Path(cache), lambda i, n: tell(Progress("features", 0, recipe.epochs, i, n))
        )

    corpora, dev_corpora = [corpus(p) for p in manifests], [corpus(p) for p in dev]
    if recipe.teacher:
        teacher, frontend = _teacher(recipe, raw, tokens, config.subsampling)
    else:
        teacher, frontend = None, measure_normalisation(corpora, raw)
    model = build(recipe.architecture, config)
    trainer = objective(recipe, model, tokens, teacher)
    transcriber = transcriber_of(model, config, tokens)
    optimizer = adamw(recipe.learning_rate, recipe.weight_decay, recipe.clip_norm)
    trainer.compile(optimizer=optimizer, jit_compile=keras.backend.backend() == "jax")
    state_path = out.with_suffix(".state.npz")
    history_path = out.with_suffix(".history.jsonl")
    done: dict[str, Any] = {"epoch": 0, "step": 0, "best_dev_wer": math.inf, "best_epoch": 0}
    record: dict[str, Any] = {}
    if state_path.is_file():
        done = load_state(state_path, model, optimizer)
    facts = ModelFacts(
        name=recipe.name,
        architecture=recipe.architecture,
        config=asdict(config),
        frontend=frontend,
        tokens=tokens,
        subsampling=config.subsampling,
    )
    step = done["step"]
    for epoch in range(done["epoch"], recipe.epochs):
        batches = training_batches(corpora, recipe, frontend, config.subsampling, tokens.blank_id, epoch)
        started = time.monotonic()
        if trainer.teacher is not None and epoch >= recipe.teacher_epochs:
            trainer.teacher = None
            trainer.make_train_function(force=True)

        def rate(i: int, step: int = step, epoch: int = epoch, steps: int = len(batches)) -> float:
            return learning_rate(recipe, step + i, epoch + i / steps)

        def told(i: int, losses: list[float], epoch: int = epoch, steps: int = len(batches)) -> None:
            tell(Progress("train", epoch + 1, recipe.epochs, i, steps, float(np.mean(losses[-100:]))))

        losses = run_steps(trainer, fed_by(trainer, batches), rate, told, f"{recipe.name}: epoch {epoch + 1}")
        step += len(batches)
        pooled, per_corpus, others = _dev_wers(transcriber, dev_corpora, frontend, config.subsampling)
        if pooled < done["best_dev_wer"]:
            done["best_dev_wer"], done["best_epoch"] = pooled, epoch + 1
            _save_best(out, model, facts, epoch + 1, pooled, per_corpus)
        done["epoch"], done["step"] = epoch + 1, step
        save_state(state_path, model, optimizer, done)
        record = {
            "epoch": epoch + 1,
            "step": step,
            "loss": round(float(np.mean(losses)), 4),
            "dev_wer": round(pooled, 4),
            **{f"dev_wer_{n}": round(w, 4) for n, w in per_corpus.items()},
            **{f"dev_wer_by_{n}": round(w, 4) for n, w in others.items()},
            "learning_rate": round(float(optimizer.learning_rate), 7),
            "seconds": round(time.monotonic() - started, 1),
        }
        with history_path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record) + "\n")
        tell(Progress("dev", epoch + 1, recipe.epochs, len(batches), len(batches), record["loss"], pooled))
    return {**record, "best_dev_wer": done["best_dev_wer"], "best_epoch": done["best_epoch"]}


def _config(recipe: Recipe, mels: int, pieces: int) -> Any:
    """The model's config: the recipe's size with its overrides."""
    kind, sizes = config_class(recipe.architecture), ARCHITECTURES[recipe.architecture][2]
    if recipe.size not in sizes:
        raise TfliteAsrError(f"{recipe.name}: size {recipe.size!r} is unknown; known are {', '.join(sizes)}")
    known = {f.name for f in fields(kind)} - {"mels", "pieces"}
    if unknown := sorted(set(recipe.config) - known):
        raise TfliteAsrError(
            f"{recipe.name}: [config] unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )
    return replace(sizes[recipe.size], **recipe.config, mels=mels, pieces=pieces)


def _dev_wers(
    transcriber: CTCTranscriber, corpora: Sequence[Corpus], frontend: FrontEnd, subsampling: int
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Word error rates: of all corpora, of each, and of all by each further decoder that the model has."""
    found = [transcripts(transcriber, corpus, frontend, subsampling) for corpus in corpora]
    references = [[row.text for row in corpus.rows] for corpus in corpora]

    def pooled(decoder: str) -> float:
        spoken, heard = (
            list(chain.from_iterable(some)) for some in (references, [t[decoder] for t in found])
        )
        return jiwer.wer(spoken, heard)

    first, *others = found[0]
    per_corpus = {
        f"{corpus.path.parent.name}-{corpus.path.stem}": jiwer.wer(reference, texts[first])
        for corpus, reference, texts in zip(corpora, references, found, strict=True)
    }
    return pooled(first), per_corpus, {decoder: pooled(decoder) for decoder in others}


def _teacher(recipe: Recipe, raw: FrontEnd, tokens: Tokens, subsampling: int) -> tuple[keras.Model, FrontEnd]:
    """The teacher and its front end, which becomes the student's."""
    facts = ModelFacts.read(recipe.teacher)
    if facts is None or facts.frontend is None or facts.tokens is None:
        raise TfliteAsrError(
            f"{recipe.name}: teacher {recipe.teacher} has no facts beside it; put its .toml there"
        )
    alike = {
        "front end": replace(facts.frontend, normalise="none", mean=(), std=()) == raw,
        "vocabulary": facts.tokens == tokens,
        "subsampling": facts.subsampling == subsampling,
    }
    for what, same in alike.items():
        if not same:
            raise TfliteAsrError(
                f"{recipe.name}: teacher {recipe.teacher} has another {what}; take one that fits"
            )
    return load_model(recipe.teacher), facts.frontend


def _save_best(
    out: Path, model: keras.Model, facts: ModelFacts, epoch: int, wer: float, per_corpus: dict
) -> None:
    temporary = out.with_name(f".{out.name}.part.keras")
    model.save(temporary)
    temporary.replace(out)
    result = {
        "epoch": epoch,
        "dev_wer": round(wer, 4),
        **{f"dev_wer_{n}": round(w, 4) for n, w in per_corpus.items()},
    }
    replace(facts, extra={"training": result}).write(out)
