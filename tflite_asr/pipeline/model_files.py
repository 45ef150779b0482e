"""Which file a model's name means, what is known of it, and the clips that the package ships."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import replace
from importlib import resources
from pathlib import Path

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import FrontEnd
from tflite_asr.tokens import Tokens

FLATBUFFER = ".tflite"
_MEMBERS = ("config.json", "metadata.json")  # of a .keras
_WEIGHTS = {"model.weights.h5", "model.weights.npz"}  # one of them


def shipped_models() -> dict[str, Path]:
    """Checkpoints that the package ships, by name."""
    folder = Path(str(resources.files("tflite_asr") / "pretrained"))
    return {path.stem: path for path in sorted(folder.glob("*.keras"))}


def model_path(model: str | Path) -> Path:
    """The `.keras` or `.tflite` file of a path, or the `.keras` of a shipped checkpoint's name.

    Raises:
        TfliteAsrError: neither, or a `.keras` that is damaged, which is seen without TensorFlow.
    """
    shipped = shipped_models()
    if str(model) in shipped:
        return shipped[str(model)]
    path = Path(model)
    if path.suffix in (".keras", FLATBUFFER) and path.is_file():
        if path.suffix == ".keras":
            _check_archive(path)
        return path
    known = ", ".join(shipped) or "none"
    if not path.exists():
        raise TfliteAsrError(f"{model}: no such model; give a .keras file or a shipped checkpoint ({known})")
    raise TfliteAsrError(
        f"{model}: is no .keras file and no .tflite; save the model with model.save('NAME.keras')"
    )


def _check_archive(path: Path) -> None:
    """Whether every member of a `.keras` reads back as it was written, and those that Keras opens are there."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            missing = [name for name in _MEMBERS if name not in names]
            if not names & _WEIGHTS:
                missing.append(sorted(_WEIGHTS)[0])
            bad = archive.testzip()
            what = f"holds no {missing[0]}" if missing else f"{bad} is not what was written" if bad else ""
            for name in _MEMBERS if not what else ():
                json.loads(archive.read(name))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        what = " ".join(str(error).split())[:120] or type(error).__name__
    if what:
        raise TfliteAsrError(
            f"{path}: is damaged or not a .keras file ({what}); save the model again with model.save"
        )


def facts_of(path: Path, frontend: FrontEnd | None = None, tokens: Tokens | None = None) -> ModelFacts | None:
    """The facts beside a model, `frontend` and `tokens` in the place of theirs; None where there are none at all.

    A `.tflite` says its windows and its subsampling itself.

    Raises:
        TfliteAsrError: broken facts; a `.tflite` that is not plain float, or that its front end or tokens do not fit.
    """
    facts = ModelFacts.read(path)
    if path.suffix == FLATBUFFER:
        facts = _with_shapes(facts or ModelFacts(path.stem), path, frontend, tokens)
    if facts is not None:
        return replace(facts, frontend=frontend or facts.frontend, tokens=tokens or facts.tokens)
    return ModelFacts(path.stem, frontend=frontend, tokens=tokens) if frontend or tokens else None


def _with_shapes(
    facts: ModelFacts, path: Path, frontend: FrontEnd | None, tokens: Tokens | None
) -> ModelFacts:
    from tflite_asr.quantize.given import look

    entries = look(path.read_bytes(), str(path))
    frontend, tokens = frontend or facts.frontend, tokens or facts.tokens
    for entry in entries:
        if frontend is not None and entry.tail != (frontend.mels,):
            raise TfliteAsrError(
                f"{path}: takes frames of {list(entry.tail)} values, its front end gives {frontend.mels} mels; mend it"
            )
        if tokens is not None and entry.pieces not in (None, len(tokens.pieces)):
            raise TfliteAsrError(
                f"{path}: gives {entry.pieces} values a frame, its tokens are {len(tokens.pieces)}; give its own"
            )
    hop = frontend.hop_seconds if frontend else 0.01
    seconds = tuple(dict.fromkeys(entry.frames * hop for entry in entries))
    return replace(facts, subsampling=entries[0].subsampling, windows_seconds=seconds)


def demo_manifest() -> Path:
    """The manifest of the clips that the package ships."""
    return Path(str(resources.files("tflite_asr") / "pretrained" / "demo" / "demo.jsonl"))


def demo_clips() -> list[Path]:
    """The package's clips."""
    return sorted(demo_manifest().parent.glob("*.ogg"))
