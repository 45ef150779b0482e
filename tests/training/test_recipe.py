"""A recipe is one TOML file; what is wrong in it is named. The learning rate follows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.training.loop import learning_rate, train
from tflite_asr.training.recipe import Augmentation, Recipe


def read(folder: Path, text: str) -> Recipe:
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return Recipe.read(folder / "mine.toml")


def test_a_recipe_is_read_with_its_defaults(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        "epochs = 3\nlearning_rate = 1\nfractions = [1, 0.5]\n[config]\ndropout = 0.0\n"
        "[augmentation]\nspeed = [0.9, 1.1]\n",
    )
    assert recipe == Recipe(
        "mine",
        epochs=3,
        learning_rate=1,
        fractions=(1, 0.5),
        config={"dropout": 0.0},
        augmentation=Augmentation(speed=(0.9, 1.1)),
    )


@pytest.mark.parametrize(
    ("name", "architecture", "size"),
    [
        ("conformer-ctc", "conformer", "shipped"),
        ("quartznet", "quartznet", "small"),
        ("jasper", "jasper", "small"),
        ("speech-transformer", "transformer", "shipped"),
    ],
)
def test_the_shipped_recipes_read(repository: Path, name: str, architecture: str, size: str) -> None:
    recipe = Recipe.read(repository / "recipes" / name / "recipe.toml")
    assert (recipe.name, recipe.architecture, recipe.size) == (name, architecture, size)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3\n", "unknown key 'epoch'; known are architecture, augmentation, batch_seconds"),
        ("[augmentation]\ngain = 3\n", "[augmentation]: unknown key 'gain'; known are frequency_masks"),
        ("epochs = 'three'\n", "epochs is 'three'; give something like 60"),
        ("epochs = 3.5\n", "epochs is 3.5"),
        ("[augmentation]\nspeed = 1.1\n", "speed is 1.1; give something like [0.88, 1.14]"),
        ("[augmentation]\nspeed = [1.1]\n", "speed is (1.1,); give something like"),
        ("config = 3\n", "config is 3"),
        ("augmentation = 3\n", "augmentation is 3; write a table"),
        ("epochs\n", "is not TOML"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TfliteAsrError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/mine.toml: ")
    assert message in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(TfliteAsrError, match=r"gone\.toml: cannot be read"):
        Recipe.read(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe("r", architecture="rnn"), "architecture 'rnn' is unknown; known are conformer"),
        (Recipe("r", size="XL"), "size 'XL' is unknown; known are tiny, shipped, S, M, L"),
        (Recipe("r", size="tiny", config={"depth": 3}), "unknown key 'depth'; known are blocks"),
        (Recipe("r", size="tiny", config={"blocks": 0}), "blocks is 0; give a whole number"),
        (Recipe("r", frontend={"mels": 0}), "mels is 0"),
    ],
)
def test_what_cannot_be_built_is_said_before_any_audio_is_read(
    tmp_path: Path, recipe: Recipe, message: str
) -> None:
    with pytest.raises(TfliteAsrError, match=message):
        train(
            recipe,
            [tmp_path / "gone.jsonl"],
            [tmp_path / "gone.jsonl"],
            tmp_path / "out" / "m.keras",
            tmp_path,
        )


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(TfliteAsrError, match=r"gone\.jsonl: no such manifest"):
        train(Recipe("r", size="tiny"), [tmp_path / "gone.jsonl"], [], tmp_path / "m.keras", tmp_path)


def test_the_rate_rises_stays_and_falls() -> None:
    recipe = Recipe("r", epochs=60, decay_epochs=20, learning_rate=2e-3, warmup_steps=100)
    assert learning_rate(recipe, 0, 0.0) == pytest.approx(2e-5)
    assert learning_rate(recipe, 49, 0.5) == pytest.approx(1e-3)
    assert learning_rate(recipe, 99, 1.0) == pytest.approx(2e-3)
    assert learning_rate(recipe, 5000, 40.0) == pytest.approx(2e-3)
    assert learning_rate(recipe, 6000, 50.0) == pytest.approx(1e-3)
    assert 0 < learning_rate(recipe, 7000, 59.999) < 1e-5


def test_without_warm_up_and_decay_the_rate_is_constant() -> None:
    recipe = Recipe("r", epochs=3, decay_epochs=0, learning_rate=1e-3, warmup_steps=0)
    assert {learning_rate(recipe, step, epoch) for step, epoch in ((0, 0.0), (9, 1.5), (30, 2.99))} == {1e-3}
