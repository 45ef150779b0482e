"""What a training needs to go on: weights in full, AdamW's moments in 8 bits, in one file of 6 bytes a parameter.

The moments only steer the next steps. The first is kept as float8 (e4m3, scaled per tensor); the second as the float8
(e5m2) of its root, never zero, so that no step can explode. A 2.4 M-parameter model's state is 14.4 MB.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np

from tflite_asr.errors import TfliteAsrError

_DAMAGED = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile)
_MOMENTS = {"momentum": (ml_dtypes.float8_e4m3fn, 240.0), "velocity": (ml_dtypes.float8_e5m2, 28672.0)}


def save_state(
    path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer, progress: dict[str, Any]
) -> None:
    """Write the state to a temporary sibling, then rename it: a kill leaves the old one."""
    arrays: dict[str, Any] = {f"weight/{i}": np.asarray(w) for i, w in enumerate(model.get_weights())}
    for i, variable in enumerate(optimizer.variables):
        value = np.asarray(keras.ops.convert_to_numpy(variable), np.float32)
        kind = variable.path.rsplit("_", 1)[-1]
        if kind not in _MOMENTS:
            arrays[f"optimizer/{i}"] = value
            continue
        dtype, top = _MOMENTS[kind]
        if kind == "velocity":
            value = np.sqrt(value)
        scale = float(np.abs(value).max()) / top or 1.0
        small = np.maximum(value / scale, 2.0**-14) if kind == "velocity" else value / scale
        arrays[f"optimizer/{i}"] = small.astype(dtype).view(np.uint8)
        arrays[f"scale/{i}"] = np.float32(scale)
    arrays["progress"] = np.frombuffer(json.dumps(progress).encode(), np.uint8)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as out:
        np.savez(out, **arrays)
    temporary.replace(path)


def load_state(path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """Put the state back and return its progress.

    Raises:
        TfliteAsrError: a damaged file, or one of another model.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        model.set_weights([arrays[f"weight/{i}"] for i in range(len(model.weights))])
        optimizer.build(model.trainable_variables)
        for i, variable in enumerate(optimizer.variables):
            value, kind = arrays[f"optimizer/{i}"], variable.path.rsplit("_", 1)[-1]
            if kind in _MOMENTS:
                value = value.view(_MOMENTS[kind][0]).astype(np.float32) * arrays[f"scale/{i}"]
                value = np.square(value) if kind == "velocity" else value
            variable.assign(value.astype(variable.dtype))
        return json.loads(bytes(arrays["progress"]))
    except _DAMAGED as error:
        raise _refused(path, error) from error


def progress_of(path: Path) -> dict[str, Any]:
    """The progress that a state holds, whatever it is of.

    Raises:
        TfliteAsrError: a damaged file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(json.loads(bytes(stored["progress"])))
    except _DAMAGED as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> TfliteAsrError:
    return TfliteAsrError(
        f"{path}: is damaged or belongs to another model ({' '.join(str(error).split())[:120]}); "
        "remove it to train from the start"
    )
