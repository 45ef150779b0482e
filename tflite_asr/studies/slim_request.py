"""What a slimming study is asked for: what does not go together is refused, targets and modules are looked up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.pipeline import facts_of
from tflite_asr.pipeline.model_files import FLATBUFFER
from tflite_asr.studies.slim_greedy import Budget
from tflite_asr.studies.slim_recovery import FINETUNE, NONE, RATE, RECOVERIES

SCORES = ("kl", "wer")


def check_request(
    dev: Sequence[Any],
    target_params: float | None,
    target_macs: float | None,
    max_wer_rise: float | None,
    score: str,
    rank_wer: bool,
    recover: str,
    manifests: Sequence[Path],
    recipe: Any,
    steps: int,
    last_steps: int,
    at_once: int,
    rate: float,
    seed: int,
) -> None:
    """Refuse at once what does not go together."""
    for name, value in (("target-params", target_params), ("target-macs", target_macs)):
        if value is not None and not (0 < value < math.inf and value != 1):
            raise TfliteAsrError(f"--{name} {value:g}: give a fraction below 1 (0.8), or a number (800000)")
    if max_wer_rise is not None and not 0 <= max_wer_rise < math.inf:
        raise TfliteAsrError(f"--max-wer-rise {max_wer_rise:g}: give points of WER, 0 or more")
    if score not in SCORES:
        raise TfliteAsrError(f"score {score!r}: unknown; give one of {', '.join(SCORES)}")
    if recover not in RECOVERIES:
        raise TfliteAsrError(f"recover {recover!r}: unknown; give one of {', '.join(RECOVERIES)}")
    if not dev and (max_wer_rise is not None or score == "wer"):
        named = "--max-wer-rise" if max_wer_rise is not None else "--score wer"
        raise TfliteAsrError(f"{named}: there is no word error rate without speech; give --dev MANIFEST")
    if score == "wer" and not rank_wer:
        raise TfliteAsrError("--no-rank-wer: drops are chosen by WER; leave it out, or give --score kl")
    if recover == FINETUNE and not manifests:
        raise TfliteAsrError("--recover finetune: nothing to train on; give --manifest MANIFEST")
    for name, given in (("--manifest", manifests), ("--recipe", recipe)):
        if given and recover != FINETUNE:
            raise TfliteAsrError(f"{name}: is for --recover finetune; give that too, or leave it out")
    if steps < 1:
        raise TfliteAsrError(f"--steps {steps}: give 1 or more, or --recover none")
    if last_steps < 0:
        raise TfliteAsrError(f"--last-steps {last_steps}: give 0 or more")
    if last_steps and (recover == NONE or (target_params is None and target_macs is None)):
        lacks = "--recover distil or finetune" if recover == NONE else "--target-params or --target-macs"
        raise TfliteAsrError(f"--last-steps {last_steps}: is recovery when a target is met; give {lacks} too")
    if not rank_wer and not dev:
        raise TfliteAsrError(
            "--no-rank-wer: there is no dev speech to spare; leave it out, or give --dev MANIFEST"
        )
    if at_once > 1 and target_params is None and target_macs is None and max_wer_rise is None:
        raise TfliteAsrError(
            f"--at-once {at_once}: nothing is dropped without --target-params, --target-macs or --max-wer-rise; give "
            "one"
        )
    if at_once < 1:
        raise TfliteAsrError(f"--at-once {at_once}: give 1 or more")
    if not 0 < rate < 1:
        raise TfliteAsrError(f"--rate {rate:g}: give a learning rate above 0 and below 1, such as {RATE:g}")
    if seed < 0:
        raise TfliteAsrError(f"--seed {seed}: give 0 or more")


def facts_to_slim(path: Path, spoken: bool) -> ModelFacts:
    if path.suffix == FLATBUFFER:
        raise TfliteAsrError(f"{path}: a .tflite has no modules to leave out; give the .keras file")
    facts = facts_of(path)
    if facts is None or facts.architecture is None:
        raise TfliteAsrError(
            f"{path}: its architecture is unknown; put architecture and config into its .toml"
        )
    if spoken and (facts.frontend is None or facts.tokens is None):
        raise TfliteAsrError(f"{path}: speech needs a front end and tokens; write them into its .toml")
    return facts


def modules_named(modules: str | Sequence[str], facts: ModelFacts) -> list[str]:
    """Paths that the specifications name, in the model's order; all of them without any.

    Not `dropped_paths` of them all: that leaves out what lies inside another.
    """
    from tflite_asr.slim import dropped_paths, module_paths
    from tflite_asr.slim.slim import model_config

    config = model_config(facts)
    paths = module_paths(config)
    items = [
        item.strip()
        for spec in ([modules] if isinstance(modules, str) else modules)
        for item in spec.split(",")
        if item.strip()
    ]
    if not items:
        return paths
    try:
        named = {path for item in items for path in dropped_paths(item, config)}
    except TfliteAsrError as error:
        raise TfliteAsrError(str(error).replace("drop: ", "--modules: ", 1)) from error
    return [path for path in paths if path in named]


def budget_asked(
    model: Any,
    facts: ModelFacts,
    chosen: Sequence[str],
    target_params: float | None,
    target_macs: float | None,
    max_wer_rise: float | None,
    score: str,
) -> Budget | None:
    """Targets as numbers; None without any.

    Raises:
        TfliteAsrError: a target that the model meets already, or that dropping all of `chosen` does not reach.
    """
    if target_params is None and target_macs is None and max_wer_rise is None:
        return None
    from tflite_asr.slim import slim

    least = slim(model, facts, list(chosen))[2]
    resolved: list[int | None] = []
    for name, target, most, fewest in (
        ("target-params", target_params, least.parameters_before, least.parameters_after),
        ("target-macs", target_macs, least.macs_before, least.macs_after),
    ):
        if target is None:
            resolved.append(None)
            continue
        number = round(target * most) if target < 1 else round(target)
        if number >= most:
            raise TfliteAsrError(f"--{name} {target:g}: the model has {most:,} already; give less")
        if number < fewest:
            raise TfliteAsrError(
                f"--{name} {target:g}: without all of these modules {fewest:,} are left "
                f"({fewest / most:.3f} of the full model's); give that or more, or more --modules"
            )
        resolved.append(number)
    rise = None if max_wer_rise is None else max_wer_rise / 100
    return Budget(resolved[0], resolved[1], rise, score)
