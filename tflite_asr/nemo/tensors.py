"""The tensors of a checkpoint, each taken once by name and shape: what is missing or left over is named."""

from __future__ import annotations

import re

import numpy as np

from tflite_asr.errors import TfliteAsrError

# Counters, and tables that NeMo computes anew.
_COMPUTED = re.compile(r"(^|\.)num_batches_tracked$|^encoder\.pos_enc\.pe$|^preprocessor\.featurizer\.")


class Tensors:
    """A state dict that is used up.

    Attributes:
        taken: how many tensors were taken.
    """

    def __init__(self, tensors: dict[str, np.ndarray], where: str) -> None:
        self._left, self._where = dict(tensors), where
        self.taken = 0

    def take(self, name: str, *shape: int) -> np.ndarray:
        """The float32 tensor of that name and shape.

        Raises:
            TfliteAsrError: no such tensor, another shape, whole numbers, or a value that is not finite.
        """
        if name not in self._left:
            raise TfliteAsrError(f"{self._where}: no tensor {name}; the config describes another model")
        value = self._left.pop(name)
        if value.dtype != np.float32:
            raise TfliteAsrError(
                f"{self._where}: {name} holds {value.dtype} numbers; weights are floating point"
            )
        if value.shape != shape:
            raise TfliteAsrError(
                f"{self._where}: {name} is {list(value.shape)}, the config says {list(shape)}; "
                "it describes another model"
            )
        if not np.isfinite(value).all():
            raise TfliteAsrError(f"{self._where}: {name} holds NaN or infinity; the model did not train")
        self.taken += 1
        return value

    def find(self, name: str) -> np.ndarray | None:
        """A tensor that need not be there, left where it is."""
        return self._left.get(name)

    def done(self) -> None:
        """Refuse tensors that nothing took."""
        left = [name for name in self._left if not _COMPUTED.search(name)]
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise TfliteAsrError(
                f"{self._where}: tensor {left[0]}{more} has no place in the model; its config describes another one"
            )
