"""What all peers start from: one float checkpoint, its front end and tokens, and synthetic clips to calibrate on."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.pipeline import calibration_inputs, model_path, shipped_models
from tflite_asr.quantize.child import run_in_child


@dataclass(frozen=True)
class Checkpoint:
    """A `.keras` file and what is known of it.

    Attributes:
        name: short, for titles.
        path: the file.
        facts: front end, tokens and subsampling; those of a model without a `.toml` are empty.
        random: the weights are drawn, so that word error rates say nothing.
    """

    name: str
    path: Path
    facts: ModelFacts
    random: bool = False

    @property
    def hop_seconds(self) -> float:
        """Seconds from one feature frame to the next."""
        return self.facts.frontend.seconds_per_frame if self.facts.frontend else 0.01


def open_checkpoint(model: str) -> Checkpoint:
    """A shipped checkpoint's name, or a `.keras` file with or without its `.toml`.

    Raises:
        TfliteAsrError: neither.
    """
    path = model_path(model)
    return Checkpoint(path.stem, path, ModelFacts.read(path) or ModelFacts(path.stem))


def draw_checkpoint(size: str, seed: int, folder: Path, architecture: str = "conformer") -> Checkpoint:
    """A model of one of the registry's sizes with random weights, with the first shipped model's front end.

    Args:
        size: of the architecture; a Conformer's are "tiny", "shipped", "S", "M" and "L".
        seed: of the weights; the same gives the same file.
        folder: keeps the file; one that is there already is taken.

    Raises:
        TfliteAsrError: an unknown architecture or size.
    """
    kind = "" if architecture == "conformer" else f"{architecture}-"
    path = folder / f"random-{kind}{size}-{seed}.keras"
    if not (path.is_file() and ModelFacts.path_for(path).is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        run_in_child(_draw, architecture, size, seed, path, stage=f"draw random weights of size {size}")
    facts = ModelFacts.read(path)
    assert facts is not None
    return Checkpoint(path.stem, path, facts, random=True)


def _draw(architecture: str, size: str, seed: int, path: Path) -> None:
    from tests.models.random_weights import randomise
    from tflite_asr.models import ARCHITECTURES, build, config_class
    from tflite_asr.tokens import CHARACTERS

    config_class(architecture)  # refuses what is unknown
    sizes = ARCHITECTURES[architecture][2]
    if size not in sizes:
        raise TfliteAsrError(f"size {size!r} is unknown; give one of {', '.join(sizes)}")
    config = sizes[size]
    like = ModelFacts.read(next(iter(shipped_models().values())))
    frontend = like.frontend if like else None
    if frontend and frontend.mels != config.mels:
        few = {key: getattr(frontend, key)[: config.mels] for key in ("mean", "std")}
        frontend = replace(frontend, mels=config.mels, **few)
    facts = ModelFacts(path.stem, architecture, asdict(config), frontend, CHARACTERS, config.subsampling)
    partial = path.with_name(f".{path.name}")
    randomise(build(architecture, config), seed).save(partial)
    facts.write(path)
    partial.replace(path)


def make_clips(checkpoint: Checkpoint, seed: int, path: Path, budget_macs: float | None = None) -> None:
    """Write the clips that every static peer is calibrated on (`SyntheticInputs`)."""
    arguments = (checkpoint.path, checkpoint.facts, seed, path, budget_macs)
    run_in_child(_synthesise, *arguments, stage="synthetic clips")


def _synthesise(
    keras_path: Path, facts: ModelFacts, seed: int, path: Path, budget_macs: float | None
) -> None:
    from tflite_asr.models import load_model

    made = calibration_inputs(
        load_model(keras_path),
        facts if facts.frontend else None,
        "synthetic",
        seed,
        budget_macs,
    )
    partial = path.with_name(f".{path.name}")
    made.save(partial)
    partial.replace(path)


def digest(*paths: Path) -> str:
    """SHA-256 of files, of folders the Python sources in them, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        for one in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            total.update(hashlib.sha256(one.read_bytes()).digest())
    return total.hexdigest()
