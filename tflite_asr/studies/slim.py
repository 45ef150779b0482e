"""Which modules a model can do without: each dropped in turn, then as many as a budget asks for, with recovery.

The first ranking takes no recovery and, without dev speech, no data: it is by how far the output distribution moves on
synthetic inputs. The greedy drops take the module with the least damage for its saving, recover after each, and are
held against the full model after the same extra steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.facts import ModelFacts
from tflite_asr.manifest import read_manifest
from tflite_asr.pipeline import Progress, model_path
from tflite_asr.studies.slim_folder import StudyFolder, read_json
from tflite_asr.studies.slim_greedy import Descent
from tflite_asr.studies.slim_ranking import Measured, agreement, rows_of, without
from tflite_asr.studies.slim_recovery import DISTIL, FINETUNE, RATE, Recovery
from tflite_asr.studies.slim_request import budget_asked, check_request, facts_to_slim, modules_named
from tflite_asr.studies.slim_speech import DevSpeech
from tflite_asr.training.recipe import Recipe

LAST_SHARE = 0.5  # of what follows the ranking, a last recovery's
# Of a clip that an encoder-decoder is to hear: as long as a sentence, and a quarter of the time that the longest window
# would take to be moved.
HEARD_SECONDS, HEARD_FRAMES = 4.0, 400
_PACKAGES = ("tflite-asr", "keras", "tensorflow", "numpy")


@dataclass(frozen=True)
class SlimStudy:
    """A whole study.

    Attributes:
        model: its name.
        full: the full model's `parameters`, `macs` (for `frames` feature frames), `wer` and, by corpus, `corpora`.
        rows: one record a module, the least damaging first: `path`, `parameters_saved`, `macs_saved`, `kl` (nats a
            valid frame), `wer`, `wer_rise` (a paired difference); the last two None without dev speech.
        agreement: of the data-free ranking with the real one (`slim_ranking.agreement`), or None.
        steps: one record a greedy drop, as in its folder's `result.json`; the last recovery's has no `path`.
        ended: "" where nothing was dropped greedily, "met", "wer" (the rise was too large), "nothing left".
        chosen: folder of the last accepted candidate, or None.
        settings: what was asked, as in `study.json`.
        folder: that keeps it all.
    """

    model: str
    full: dict[str, Any]
    rows: list[dict[str, Any]]
    agreement: dict[str, Any] | None
    steps: list[dict[str, Any]]
    ended: str
    chosen: str | None
    settings: dict[str, Any]
    folder: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


def slim_study(
    model: str | Path,
    out: str | Path,
    *,
    dev: Sequence[str | Path] = (),
    limit: int | None = None,
    modules: str | Sequence[str] = (),
    target_params: float | None = None,
    target_macs: float | None = None,
    max_wer_rise: float | None = None,
    score: str = "kl",
    rank_wer: bool = True,
    recover: str = DISTIL,
    manifests: Sequence[str | Path] = (),
    recipe: str | Path | None = None,
    steps: int = 300,
    last_steps: int = 0,
    at_once: int = 1,
    rate: float = RATE,
    seed: int = 0,
    cache: str | Path = "build/features",
    progress: Progress | None = None,
) -> SlimStudy:
    """Rank the modules of a model, and drop as many as a budget asks for.

    Args:
        model: a `.keras` file with its `.toml`, or the name of a shipped checkpoint.
        out: the study's folder; a study that was interrupted goes on from there.
        dev: manifests to judge by; none for a study without any data.
        limit: of each of those, its first utterances only.
        modules: specifications (`tflite_asr.slim.paths`) of what may go; none for every module.
        target_params, target_macs: what is to be left: below 1 a fraction of the full model's, else a number.
        max_wer_rise: points of dev WER above the control, at most.
        score: damage by "kl" or, with dev speech, by "wer".
        rank_wer: whether dev speech is heard by every model of the ranking too; else it judges the full model and the
            drops alone.
        recover: "distil" (from the full model, on synthetic inputs), "finetune" (on `manifests`) or "none".
        manifests, recipe, cache: for fine-tuning, as `train` takes them.
        steps: of each recovery.
        last_steps: of one more recovery when the budget is met; a study that ended goes on with it.
        at_once: modules that are dropped before each recovery, each the least damaging after those before it.
        rate: highest learning rate of a recovery.
        seed: of synthetic inputs, order, augmentation and bootstraps.
        progress: called with (stage, fraction done).

    Raises:
        TfliteAsrError: wrong input, a target that cannot be reached, a folder that cannot be written or belongs to
            another study.
    """
    trained = [Path(one) for one in manifests]
    check_request(
        dev,
        target_params,
        target_macs,
        max_wer_rise,
        score,
        rank_wer,
        recover,
        trained,
        recipe,
        steps,
        last_steps,
        at_once,
        rate,
        seed,
    )
    path = model_path(model)
    facts = facts_to_slim(path, bool(dev) or recover == FINETUNE)
    speech = DevSpeech([Path(one) for one in dev], facts, limit) if dev else None
    for manifest in trained:
        read_manifest(manifest, facts.tokens)
    settings: dict[str, Any] = {
        "model": facts.name,
        "model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "dev": list(speech.corpora) if speech else [],
        "dev_sha256": speech.sha256 if speech else None,
        "limit": limit,
        "modules": [modules] if isinstance(modules, str) else list(modules),
        "target_params": target_params,
        "target_macs": target_macs,
        "max_wer_rise": max_wer_rise,
        "score": score,
        "rank_wer": rank_wer,
        "recover": recover,
        "manifest": [str(one) for one in trained],
        "manifest_sha256": [hashlib.sha256(one.read_bytes()).hexdigest() for one in trained],
        "recipe": asdict(Recipe.read(recipe)) if recipe else None,
        "steps": steps,
        "at_once": at_once,
        "rate": rate,
        "seed": seed,
        "versions": {package: metadata.version(package) for package in _PACKAGES},
    }
    folder = StudyFolder(out, settings)
    if progress:
        progress("open the model", 0.0)
    chosen = modules_named(modules, facts)
    from tflite_asr.models import load_model
    from tflite_asr.models.transformer import ctc_part, spells
    from tflite_asr.slim import Reference
    from tflite_asr.synthesis.prior import prior_clips
    from tflite_asr.synthesis.shapes import model_inputs

    full_model = load_model(path)
    budget = budget_asked(full_model, facts, chosen, target_params, target_macs, max_wer_rise, score)
    shape = model_inputs(ctc_part(full_model), facts)
    clips = [clip for some in prior_clips(shape, facts, seed) for clip in some]
    folder.begin()
    spelled = None
    if spells(full_model):
        if progress:
            progress("clips that the decoder hears", 0.0)
        clips, spelled = _heard(full_model, facts, clips, seed)
    reference = Reference(full_model, facts, clips, spelled)
    share = 0.4 if budget else 1.0

    def ranking(stage: str, done: float) -> None:
        if progress:
            progress(stage, share * done)

    full, found = _rank(
        full_model, facts, chosen, reference, (speech, speech if rank_wer else None), folder, ranking
    )
    dropped: list[dict[str, Any]] = []
    ended = ""
    if budget:
        given = Recipe.read(recipe) if recipe else None
        recovery = Recovery(recover, steps, full_model, facts, seed, given, trained, Path(cache), rate)
        needed = budget.missing(full.parameters, full.macs)

        def behind(now: Measured) -> float:
            left = budget.missing(now.parameters, now.macs)
            return 1 - max((left.get(name, 0) / most for name, most in needed.items()), default=1.0)

        def descending(stage: str, was: Measured, now: Measured, part: float) -> None:
            done = behind(was) + part * (behind(now) - behind(was))
            if last_steps:
                done = (1 - LAST_SHARE) * done + (LAST_SHARE * part if behind(was) == 1 else 0)
            if progress:
                progress(stage, share + (1 - share) * min(0.99, done))

        descent = Descent(
            folder,
            full_model,
            facts,
            full,
            found,
            budget,
            recovery,
            reference,
            speech,
            seed,
            descending,
            last_steps,
            at_once,
        )
        dropped, ended = descent.run()
    accepted = [place for place, one in zip(folder.candidates, dropped, strict=False) if one["accepted"]]
    summary = {
        "parameters": full.parameters,
        "macs": full.macs,
        "frames": max(facts.windows),
        "wer": full.errors.rate if full.errors is not None else None,
        "corpora": speech.by_corpus(full.errors) if speech and full.errors is not None else {},
        "utterances": len(speech.utterances) if speech else 0,
    }
    return SlimStudy(
        facts.name,
        summary,
        rows_of(full, found, seed),
        agreement(found, seed),
        [{key: value for key, value in one.items() if key != "measured"} for one in dropped],
        ended,
        str(accepted[-1]) if accepted else None,
        settings,
        str(out),
    )


def _heard(
    model: Any, facts: ModelFacts, clips: Sequence[np.ndarray], seed: int
) -> tuple[list[np.ndarray], list[list[int]]]:
    """Clips of an encoder-decoder moved until it hears what it drew for them, and these tokens.

    On the clips as they are, what a decoder remembers texts by weighs too much and what it listens by too little:
    Spearman of `speech-transformer`'s modules with dev WER .65, and .75 on the moved ones.
    """
    from tflite_asr.slim.outputs import drawn_tokens
    from tflite_asr.synthesis.texts import toward_texts

    longest = round(HEARD_SECONDS / facts.frontend.hop_seconds) if facts.frontend else HEARD_FRAMES
    step = facts.subsampling
    cut = [clip[: min(len(clip), longest) // step * step] for clip in clips]
    spelled = drawn_tokens(model, facts, cut, seed)
    return toward_texts(model, cut, spelled, facts.blank_id, step), spelled


def _rank(
    model: Any,
    facts: ModelFacts,
    chosen: Sequence[str],
    reference: Any,
    speech: tuple[DevSpeech | None, DevSpeech | None],
    folder: StudyFolder,
    progress: Progress,
) -> tuple[Measured, list[Measured]]:
    """The full model, and every module dropped alone; what lies in the folder is not done again.

    speech: that the full model hears, and that the others do.
    """
    found = []
    for number, path in enumerate(("", *chosen)):
        kept = folder.ranked(number, path)
        if not kept.is_file():
            progress(f"without {path}" if path else "the full model", number / (len(chosen) + 1))
            _, _, one = without(model, facts, path, reference, speech[bool(path)])
            folder.write(kept, one.to_dict())
        found.append(Measured.from_dict(read_json(kept)))
    return found[0], found[1:]
