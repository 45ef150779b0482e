"""What a recipe's objective is for a model: CTC, or CTC with an attention decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import keras

from tflite_asr.errors import TfliteAsrError
from tflite_asr.models.transformer import ctc_part, spells
from tflite_asr.tokens import Tokens
from tflite_asr.training.ctc import CTCTrainer
from tflite_asr.training.data import Batch
from tflite_asr.training.recipe import Recipe
from tflite_asr.training.sequence import SequenceTrainer


def objective(recipe: Recipe, model: keras.Model, tokens: Tokens, teacher: keras.Model | None) -> CTCTrainer:
    """What trains the model.

    teacher: a trained model of the same frames and pieces, whose logits are learnt by the recipe's `teacher_weight`:
        CTC's, and the decoder's where both have one; None without.

    Raises:
        TfliteAsrError: a block for intermediate CTC that the model has not.
    """
    taught = (teacher, recipe.teacher_weight) if teacher is not None else None
    if spells(model):
        weights = recipe.ctc_weight, recipe.label_smoothing
        return SequenceTrainer(model, tokens.blank_id, *weights, taught)
    heard = (ctc_part(taught[0]), taught[1]) if taught else None
    return CTCTrainer(model, tokens.blank_id, _intermediate(recipe, model), heard)


def fed_by(trainer: CTCTrainer, batches: Sequence[Callable[[], Batch]]) -> list[Callable[[], Batch]]:
    """The batches as the trainer takes them, each made when it is wanted."""
    return [partial(_fed, trainer, make) for make in batches]


def _fed(trainer: CTCTrainer, make: Callable[[], Batch]) -> Batch:
    return trainer.fed(make())


def intermediate_layer(recipe: Recipe) -> str:
    """The layer whose output intermediate CTC reads."""
    return f"encoder.block{recipe.intermediate_block - 1}.norm"


def _intermediate(recipe: Recipe, model: keras.Model) -> tuple[str, float] | None:
    """The layer and the weight of intermediate CTC; None without."""
    if not recipe.intermediate_weight:
        return None
    layer = intermediate_layer(recipe)
    if layer not in {found.name for found in model.layers}:
        raise TfliteAsrError(
            f"{recipe.name}: intermediate_block {recipe.intermediate_block} is no block of the model; count from 1"
        )
    return layer, recipe.intermediate_weight
