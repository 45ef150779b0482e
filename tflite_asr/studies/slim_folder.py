"""The folder of a slimming study: what was asked, what is done; an interrupted study goes on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.staging import move_into_place, plain_errors, probe, remove_stale, staging_folder

SCHEMA = "1.0"
BEFORE = {"rank_wer": True, "at_once": 1, "rate": 3e-4}  # what studies were begun with that do not say
STUDY, UNFINISHED = "study.json", "unfinished"


class StudyFolder:
    """`study.json`, `ranking/NNN-<path>.json`, and `candidates/NNN-<path>/` with `model.keras`, `control.keras`, their
    `.toml` and `result.json`. `unfinished/NNN-*` is what the next candidate is to lack, and the states of its recovery.

    Args:
        out: the folder; `begin` makes it.
        settings: everything that shapes a result, as plain values.

    Raises:
        TfliteAsrError: a folder that cannot be written, is not a study's, or is a study of other arguments.
    """

    def __init__(self, out: str | Path, settings: Mapping[str, Any]) -> None:
        self.out = Path(out)
        asked = json.loads(json.dumps({"schema_version": SCHEMA, **settings}))
        file = self.out / STUDY
        self.settings = asked
        with plain_errors(self.out):
            if self.out.exists() and not self.out.is_dir():
                raise TfliteAsrError(f"{self.out}: is no folder; give another --out")
            if file.is_file():
                _same(file, asked)
            elif self.out.is_dir() and any(self.out.iterdir()):
                raise TfliteAsrError(
                    f"{self.out}: holds other things and no {STUDY}; give an empty folder or another --out"
                )
            probe(next(one for one in (self.out, *self.out.absolute().parents) if one.exists()))

    def begin(self) -> None:
        """Make the folder, or go on in it."""
        with plain_errors(self.out):
            for name in ("ranking", "candidates", UNFINISHED):
                (self.out / name).mkdir(parents=True, exist_ok=True)
            if not (self.out / STUDY).is_file():
                _write(self.out / STUDY, self.settings)

    def ranked(self, number: int, path: str) -> Path:
        """The file of one module of the ranking."""
        return self.out / "ranking" / f"{number:03d}-{path or 'full'}.json"

    def write(self, path: Path, values: Any) -> None:
        """Plain values as JSON; whole or not at all."""
        with plain_errors(self.out):
            _write(path, values)

    @property
    def candidates(self) -> list[Path]:
        """Folders of the greedy drops that are complete, in their order."""
        folders = self.out / "candidates"
        return sorted(one for one in folders.iterdir() if (one / "result.json").is_file())

    def unfinished(self, number: int, name: str) -> Path:
        """A file that a candidate needs until it is complete."""
        return self.out / UNFINISHED / f"{number:03d}-{name}"

    def keep(
        self, number: int, path: str, models: Mapping[str, tuple[Any, ModelFacts]], result: Mapping[str, Any]
    ) -> Path:
        """Write a candidate; whole or not at all. What was unfinished of it goes. models: name to model and facts."""
        out = self.out / "candidates" / f"{number:03d}-{path}"
        with plain_errors(self.out):
            remove_stale(out)
            with staging_folder(out) as staging:
                for name, (model, facts) in models.items():
                    model.save(staging / f"{name}.keras")
                    facts.write(staging / f"{name}.keras")
                _write(staging / "result.json", result)
                move_into_place(staging, out)
            for file in (self.out / UNFINISHED).glob(f"{number:03d}-*"):
                file.unlink()
        return out


def read_json(path: Path) -> Any:
    """What `StudyFolder.write` wrote.

    Raises:
        TfliteAsrError: a damaged file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TfliteAsrError(f"{path}: is damaged ({error}); {_mend(path)}") from error
    if not isinstance(values, dict) or not values:
        raise TfliteAsrError(f"{path}: is damaged (holds no record); {_mend(path)}")
    return values


def _mend(path: Path) -> str:
    if path.name == STUDY:
        return "give another --out"
    return f"remove {path.parent if path.name == 'result.json' else 'it'} and run again"


def _same(file: Path, asked: Mapping[str, Any]) -> None:
    """Refuse to go on with other arguments."""
    held = read_json(file)
    for key in dict.fromkeys((*asked, *held)):
        was, now = held.get(key, BEFORE.get(key)), asked.get(key)
        if was != now:
            name = key.replace("_", "-")
            raise TfliteAsrError(
                f"{file}: this study was begun with {name} {_shown(was)}, not {_shown(now)}; "
                "give the same again, or another --out"
            )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _write(path: Path, values: Any) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
