"""Makers of peers that are quick: one that makes, one that refuses, one that takes its process down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.makers import Ingredients
from tflite_asr.errors import TfliteAsrError


def make_letters(given: Ingredients) -> tuple[bytes, dict[str, Any]]:
    """Some bytes; leaves a mark in `made` beside the checkpoint each time."""
    with Path(given.keras_path).with_name("made").open("a") as marks:
        marks.write("x")
    return b"letters of " + given.keras_path.read_bytes(), {"letters": 7}


def make_refusal(given: Ingredients) -> tuple[bytes, dict[str, Any]]:
    raise TfliteAsrError("this model\nis not to my taste")


def make_abort(given: Ingredients) -> tuple[bytes, dict[str, Any]]:
    os.abort()
