"""A training recipe: one TOML file, read into frozen dataclasses; an unknown key is an error."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import read_toml


@dataclass(frozen=True)
class Augmentation:
    """What is done to features on the fly; every range is drawn uniformly per utterance.

    Attributes:
        from_epoch: SpecAugment begins here: CTC leaves its plateau of blanks sooner without it.
        gain_db: range of the level that is added, in dB.
        speed: range of the speed factor (time and pitch together, as a resampled recording).
        vocal_tract: range of an independent factor on the frequency axis.
        noise_db: range of the level of added noise, in dB relative to the utterance's mean energy per mel; it is added
            to half of the utterances.
        join_share: chance that another clip follows a clip, and another that one; as many single clips get silence.
            Without it a model that has only heard short clips loses words in long recordings.
        join_seconds: the longest joined recording.
        silence: range of the silence before, between and after, in seconds. A negative draw is none at all: without
            such joins a model that has only heard rooms fade into each other fails where recordings are cut together.
        frequency_masks, frequency_width, time_masks, time_fraction: SpecAugment (Park et al. 2019).
    """

    from_epoch: int = 8
    gain_db: tuple[float, float] = (-12.0, 12.0)
    speed: tuple[float, float] = (0.88, 1.14)
    vocal_tract: tuple[float, float] = (0.92, 1.08)
    noise_db: tuple[float, float] = (-40.0, -12.0)
    join_share: float = 0.0
    join_seconds: float = 16.0
    silence: tuple[float, float] = (-0.3, 0.6)
    frequency_masks: int = 2
    frequency_width: int = 12
    time_masks: int = 2
    time_fraction: float = 0.06


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a checkpoint besides the audio.

    Attributes:
        name: the checkpoint's name.
        architecture, size, config: which model; `config` overrides single values of the size.
        frontend: overrides of `tflite_asr.frontend.FrontEnd`; mean and std are measured on the training data.
        seed: of weights, order and augmentation.
        epochs, decay_epochs: passes over the data, and how many of the last let the rate fall to zero.
        learning_rate, warmup_steps, weight_decay, clip_norm: AdamW.
        batch_seconds: audio in a batch, padding included.
        max_seconds: longer utterances are left out.
        curriculum_epochs: the first epochs use utterances of at most `curriculum_seconds`.
        fractions: share of each training manifest that an epoch draws, in the order of the command line; 1 if absent.
        intermediate_block, intermediate_weight: intermediate CTC (Lee and Watanabe 2021) after that block; 0 for none.
        teacher: a shipped name or a `.keras` file whose logits are learnt too, with its normalisation; none if empty.
        teacher_weight, teacher_epochs: that loss's share, and for how many of the first epochs.
        ctc_weight, label_smoothing: of an encoder-decoder: CTC's share of the loss, with what stands above, and the
            share of the decoder's targets that is spread over all pieces.
    """

    name: str
    architecture: str = "conformer"
    size: str = "shipped"
    config: dict[str, Any] = field(default_factory=dict)
    frontend: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    epochs: int = 60
    decay_epochs: int = 15
    learning_rate: float = 2e-3
    warmup_steps: int = 800
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    batch_seconds: float = 80.0
    max_seconds: float = 12.0
    curriculum_epochs: int = 0
    curriculum_seconds: float = 3.0
    fractions: tuple[float, ...] = ()
    intermediate_block: int = 0
    intermediate_weight: float = 0.0
    teacher: str = ""
    teacher_weight: float = 0.5
    teacher_epochs: int = 1000
    ctc_weight: float = 0.3
    label_smoothing: float = 0.1
    augmentation: Augmentation = Augmentation()

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe.

        Raises:
            TfliteAsrError: a missing file, no TOML, an unknown key, a value of the wrong type.
        """
        path = Path(path)
        values = read_toml(path)
        given = values.pop("augmentation", {})
        if not isinstance(given, dict):
            raise TfliteAsrError(f"{path}: augmentation is {given!r}; write a table [augmentation]")
        augmentation = Augmentation(**_tuples(given, Augmentation, f"{path}: [augmentation]"))
        values.setdefault("name", path.stem)
        return cls(**{**_tuples(values, cls, str(path)), "augmentation": augmentation})


def _tuples(values: dict[str, Any], kind: type, where: str) -> dict[str, Any]:
    known = {f.name for f in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise TfliteAsrError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    checked = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    examples = {
        f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(kind)
    }
    for name, value in checked.items():
        example = "" if examples[name] is MISSING else examples[name]
        number = isinstance(example, float) and type(value) is int
        pair = isinstance(example, tuple) and len(example) not in (
            0,
            len(value) if isinstance(value, tuple) else -1,
        )
        if (type(value) is not type(example) and not number) or pair:
            raise TfliteAsrError(f"{where}: {name} is {value!r}; give something like {_shown(example)}")
    return checked


def _shown(example: Any) -> str:
    return str(list(example)) if isinstance(example, tuple) else repr(example)
