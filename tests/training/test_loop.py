"""A tiny Conformer learns a whistled alphabet; a training that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.tone_bundle import whistle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.manifest import Utterance, write_manifest
from tflite_asr.models import load_model
from tflite_asr.training.loop import Progress, train
from tflite_asr.training.recipe import Augmentation, Recipe

pytestmark = pytest.mark.slow

STILL = Augmentation(gain_db=(-3, 3), speed=(1, 1), vocal_tract=(1, 1), noise_db=(-60, -50), from_epoch=99)
RECIPE = Recipe(
    "whistles",
    size="tiny",
    config={"dim": 32, "blocks": 2, "dropout": 0.0},
    seed=3,
    epochs=40,
    decay_epochs=10,
    learning_rate=8e-3,
    warmup_steps=20,
    batch_seconds=8.0,
    intermediate_block=1,
    intermediate_weight=0.3,
    augmentation=STILL,
)


def whistled(folder: Path, name: str, count: int, seed: int) -> Path:
    """A manifest of random words over a to d, each letter a tone of its own."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        text = "".join(rng.choice(list("abcd"), rng.integers(3, 7)))
        path = folder / f"{name}{index}.wav"
        audio = whistle(text) + 1e-3 * rng.standard_normal(len(whistle(text)))
        soundfile.write(path, audio, 16000)
        rows.append(Utterance(path, len(audio) / 16000, text))
    write_manifest(folder / f"{name}.jsonl", rows)
    return folder / f"{name}.jsonl"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("whistles")
    return whistled(folder, "train", 64, 0), whistled(folder, "dev", 16, 1)


def history(out: Path) -> list[dict]:
    return [json.loads(line) for line in out.with_suffix(".history.jsonl").read_text().splitlines()]


def test_a_tiny_conformer_learns_to_spell_whistles(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "whistles.keras"
    result = train(RECIPE, [corpus[0]], [corpus[1]], out, tmp_path / "cache")
    lines = history(out)
    assert [line["epoch"] for line in lines] == list(range(1, 41))
    assert lines[0]["loss"] > 2.0
    assert result["loss"] < 0.4
    assert result["best_dev_wer"] < 0.4
    assert result["best_dev_wer"] == pytest.approx(min(line["dev_wer"] for line in lines), abs=1e-4)
    assert load_model(out).count_params() > 0
    facts = ModelFacts.read(out)
    assert facts is not None
    assert facts.extra["training"]["epoch"] == result["best_epoch"]
    assert facts.frontend is not None
    assert facts.frontend.normalise == "fixed"


def test_a_tiny_transformer_learns_to_spell_whistles_by_attention_and_by_ctc(tmp_path: Path) -> None:
    recipe = replace(
        RECIPE,
        architecture="transformer",
        config={"dim": 32, "dropout": 0.0, "positions": "sinusoidal"},
        epochs=40,
        learning_rate=4e-3,
        intermediate_block=0,
        intermediate_weight=0.0,
    )
    out = tmp_path / "whistles.keras"
    data = whistled(tmp_path, "train", 160, 0), whistled(tmp_path, "dev", 16, 1)
    result = train(recipe, [data[0]], [data[1]], out, tmp_path / "cache")
    assert result["best_dev_wer"] < 0.3
    assert min(line["dev_wer_by_ctc"] for line in history(out)) < 0.3
    assert [tensor.name for tensor in load_model(out).inputs] == ["features", "mask", "tokens"]


def test_an_interrupted_training_goes_on_where_it_stopped(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, out = replace(RECIPE, epochs=4, decay_epochs=1), tmp_path / "m.keras"
    arguments = (recipe, [corpus[0]], [corpus[1]], out, tmp_path / "cache")

    def interrupt(progress: Progress) -> None:
        if progress.stage == "train" and progress.epoch == 3 and progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(*arguments, progress=interrupt)
    assert [line["epoch"] for line in history(out)] == [1, 2]
    seen: list[tuple[int, str]] = []
    result = train(*arguments, progress=lambda p: seen.append((p.epoch, p.stage)))
    assert {epoch for epoch, stage in seen if stage == "train"} == {3, 4}
    lines = history(out)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    steps = [line["step"] for line in lines]
    assert steps == [steps[0] * epoch for epoch in (1, 2, 3, 4)]
    assert lines[3]["loss"] < lines[1]["loss"]
    assert result["epoch"] == 4
    again = train(*arguments, progress=lambda p: pytest.fail(p.stage) if p.stage == "train" else None)
    assert again["best_dev_wer"] == result["best_dev_wer"]


def test_a_block_that_is_not_there_cannot_give_a_loss(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(TfliteAsrError, match="intermediate_block 3 is no block"):
        train(replace(RECIPE, intermediate_block=3), [corpus[0]], [corpus[1]], tmp_path / "m.keras", tmp_path)


def test_a_student_learns_with_its_teachers_front_end(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    short = replace(RECIPE, epochs=2, decay_epochs=1)
    train(short, [corpus[0]], [corpus[1]], tmp_path / "teacher.keras", tmp_path / "cache")
    taught = replace(short, seed=4, teacher=str(tmp_path / "teacher.keras"), teacher_epochs=1)
    # Another corpus would give another normalisation.
    train(taught, [corpus[1]], [corpus[1]], tmp_path / "student.keras", tmp_path / "cache")
    teacher, student = (ModelFacts.read(tmp_path / f"{name}.keras") for name in ("teacher", "student"))
    assert teacher is not None
    assert student is not None
    assert student.frontend == teacher.frontend


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"frontend": {"mels": 40}}, "another front end"),
        ({"config": {**RECIPE.config, "subsampling": 8}}, "another subsampling"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(
    recipe: dict, message: str, corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    short = replace(RECIPE, epochs=1, decay_epochs=1)
    train(short, [corpus[1]], [corpus[1]], tmp_path / "teacher.keras", tmp_path / "cache")
    wrong = replace(short, teacher=str(tmp_path / "teacher.keras"), **recipe)
    with pytest.raises(TfliteAsrError, match=message):
        train(wrong, [corpus[1]], [corpus[1]], tmp_path / "student.keras", tmp_path / "cache")
