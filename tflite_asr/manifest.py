"""Utterance records: NeMo's JSON lines, one utterance a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.tokens import Tokens, normalise_text


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest.

    Attributes:
        audio_filepath: absolute once read (in the file: relative to the manifest).
        duration: seconds.
        text: normalised (`tflite_asr.tokens.normalise_text`).
        extra: every other key of the line, unchanged.
    """

    audio_filepath: Path
    duration: float
    text: str
    extra: dict[str, Any] = field(default_factory=dict)


def read_manifest(path: str | Path, tokens: Tokens | None = None) -> list[Utterance]:
    """Read a manifest, every line checked before any audio is touched.

    Args:
        path: a `.jsonl` file.
        tokens: where given, every normalised text must be spelled by these pieces.

    Raises:
        TfliteAsrError: a missing or empty manifest; a line that is no JSON object, lacks a key, names a missing
            file, or holds characters outside the alphabet: named by line number.
    """
    path = Path(path)
    if not path.is_file():
        raise TfliteAsrError(
            f"{path}: no such manifest; give a JSON-lines file (audio_filepath, duration, text)"
        )
    try:
        # Not splitlines: JSON may hold U+2028 and its like unescaped.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise TfliteAsrError(
            f"{path}: is not UTF-8 text ({error.reason}); give a JSON-lines manifest"
        ) from error
    except OSError as error:
        raise TfliteAsrError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    rows = [_parse(path, number, line, tokens) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise TfliteAsrError(f"{path}: holds no utterance; add lines with audio_filepath, duration and text")
    return rows


def _parse(path: Path, number: int, line: str, tokens: Tokens | None) -> Utterance:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", str(error))
        raise TfliteAsrError(f"{path}:{number}: is not JSON ({reason}); mend or remove the line") from error
    if not isinstance(row, dict):
        raise TfliteAsrError(f'{path}:{number}: is not a JSON object; write {{"audio_filepath": ..., ...}}')
    for key, kind in (("audio_filepath", str), ("duration", (int, float)), ("text", str)):
        if not isinstance(row.get(key), kind) or isinstance(row.get(key), bool):
            raise TfliteAsrError(f"{path}:{number}: {key} is {row.get(key)!r}; every line needs {key}")
    if not 0 < row["duration"] < math.inf:
        raise TfliteAsrError(
            f"{path}:{number}: duration is {row['duration']}; give the seconds of audio, above 0"
        )
    audio = Path(os.path.normpath(path.parent.absolute() / row.pop("audio_filepath")))
    if not os.path.isfile(audio):  # unlike Path.is_file, False for a name that cannot be
        raise TfliteAsrError(
            f"{path}:{number}: audio file {audio} is missing; mend the line or restore the file"
        )
    raw = row.pop("text")
    text = normalise_text(raw)
    # What normalisation would silently drop (another script, say) is named; punctuation is not.
    if tokens is not None and (foreign := [c for c in raw if c.isalnum() and not normalise_text(c)]):
        raise TfliteAsrError(
            f"{path}:{number}: character {foreign[0]!r} is outside the model's alphabet; mend the text"
        )
    if tokens is not None:
        try:
            tokens.encode(text)
        except TfliteAsrError as error:
            raise TfliteAsrError(f"{path}:{number}: {error}") from error
    return Utterance(audio, float(row.pop("duration")), text, row)


def write_manifest(path: str | Path, rows: Iterable[Utterance]) -> None:
    """Write rows as JSON lines, audio paths relative to the manifest."""
    path = Path(path)
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            relative = os.path.relpath(row.audio_filepath, path.parent.absolute())
            record = {"audio_filepath": relative, "duration": row.duration, "text": row.text, **row.extra}
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
