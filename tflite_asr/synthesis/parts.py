"""Finished batches of a synthesis, kept as they end, so that one that was interrupted goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.synthesis.inputs import SyntheticInputs

_PACKAGES = ("tensorflow", "keras", "numpy")


class Parts:
    """A folder of batches, each under a name made of all that it depends on.

    Args:
        folder: made when the first batch ends; None keeps nothing.
        model: its weights and its graph are part of the names.
        settings: so are these: method, seed, budget.
    """

    def __init__(self, folder: Path | None, model: Any, settings: tuple[Any, ...]) -> None:
        self.folder = folder
        if folder is not None:
            versions = [metadata.version(package) for package in _PACKAGES]
            values = (weight.numpy() for weight in model.weights)
            self.key = _digest([repr((model.to_json(), settings, versions)).encode()], values)

    def read(self, number: int, recipe: Any, start: list[np.ndarray]) -> SyntheticInputs | None:
        """The batch, if it lies here whole: its clips, curve and multiply-adds."""
        path = self._place(number, recipe, start)
        if path is None or not path.is_file():
            return None
        try:
            return SyntheticInputs.load(path)
        except TfliteAsrError:
            return None  # made anew and written over

    def keep(self, number: int, recipe: Any, start: list[np.ndarray], made: SyntheticInputs) -> None:
        """Write a batch that has ended.

        Raises:
            TfliteAsrError: the folder cannot be written.
        """
        path = self._place(number, recipe, start)
        if path is not None:
            made.save(path)

    def _place(self, number: int, recipe: Any, start: list[np.ndarray]) -> Path | None:
        if self.folder is None:
            return None
        digest = _digest([self.key.encode(), repr((number, recipe)).encode()], start)
        return self.folder / f"batch{number:03d}-{digest[:16]}.npz"


def _digest(words: Iterable[bytes], arrays: Iterable[np.ndarray]) -> str:
    found = hashlib.sha256()
    for word in words:
        found.update(word)
    for array in arrays:
        found.update(repr((array.shape, str(array.dtype))).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
