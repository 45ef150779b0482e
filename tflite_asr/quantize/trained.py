"""What low-bit training gives: weights by the names of tensors, and the ranges that they were trained with.

Names are those of the lowered float flatbuffer, which all windows of a model share, so one artefact serves them all.
Each weight comes with the digest of what it was trained from: weights of another model, or of this one lowered
otherwise, are refused.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.serialize import read_model, schema, text, write_model

SCHEMA = "1.0"
SOURCE = "qat"  # of every range


@dataclass(frozen=True)
class Trained:
    """The result of a low-bit training.

    weights: name of a constant to float32 values in TFLite's layout. began: name to the digest of the values that
    training began from (`digest`). ranges: of every activation. how: provenance, plain values.
    """

    weights: Mapping[str, np.ndarray]
    began: Mapping[str, str]
    ranges: Ranges
    how: Mapping[str, Any] = field(default_factory=dict)

    def written_into(self, data: bytes) -> bytes:
        """A float flatbuffer with these weights in the place of those it was trained from.

        Raises TfliteAsrError where it lacks one of them, or holds another than training began from.
        """
        return self.written_into_all({"": data})[""]

    def written_into_all(self, parts: Mapping[str, bytes]) -> dict[str, bytes]:
        """The same of several signatures of a model, each of which may lack what another one holds."""
        missing = set(self.weights)
        written = {}
        for signature, data in parts.items():
            written[signature], held = self._written(data)
            missing -= held
        if missing:
            raise TfliteAsrError(
                f"low-bit weights: the model has no {min(missing)!r} ({len(missing)} are missing); train this very "
                "model, and with what is dropped of it"
            )
        return written

    def _written(self, data: bytes) -> tuple[bytes, set[str]]:
        """A flatbuffer with those of these weights that it holds, and their names."""
        model = read_model(data)
        left = dict(self.weights)
        for graph in model.subgraphs:
            for tensor in graph.tensors:
                name = text(tensor.name)
                if name not in left:
                    continue
                held = model.buffers[tensor.buffer].data
                values = left.pop(name)
                if (
                    held is None
                    or tuple(map(int, tensor.shape)) != values.shape
                    or digest(held.view(np.float32)) != self.began[name]
                ):
                    raise TfliteAsrError(
                        f"low-bit weights: {name!r} is another than they were trained from; train this very model, "
                        "and with what is dropped of it"
                    )
                model.buffers.append(schema.BufferT(data=_bytes(values)))
                tensor.buffer = len(model.buffers) - 1
        return write_model(model), set(self.weights) - set(left)

    def save(self, path: str | Path) -> Path:
        """Write an `.npz`: the weights as `weight0`, `weight1`, ... and JSON as `metadata`; same content, same bytes.

        Raises TfliteAsrError for a file that cannot be written; what was there stays.
        """
        path = Path(path)
        names = sorted(self.weights)
        metadata = {
            "schema_version": SCHEMA,
            "kind": SOURCE,
            "names": names,
            "began": [self.began[name] for name in names],
            "ranges": self.ranges.to_json(),
            "how": dict(self.how),
        }
        arrays = {f"weight{number}": self.weights[name] for number, name in enumerate(names)}
        arrays["metadata"] = np.frombuffer(json.dumps(metadata, sort_keys=True).encode(), np.uint8)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside:
                staged = Path(beside) / path.name
                with zipfile.ZipFile(staged, "w", zipfile.ZIP_DEFLATED) as archive:
                    for name, array in arrays.items():
                        # A fixed date: numpy's own savez stamps entries with the time of writing.
                        entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                        entry.compress_type = zipfile.ZIP_DEFLATED
                        with archive.open(entry, "w") as out:
                            np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
                staged.replace(path)
        except OSError as error:
            raise TfliteAsrError(
                f"{path}: cannot be written ({error.strerror}); choose another file"
            ) from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Trained:
        """Inverse of `save`. Raises TfliteAsrError for a file that is missing, damaged, or of a newer schema."""
        path = Path(path)
        if not path.is_file():
            raise TfliteAsrError(f"{path}: no such file of low-bit weights; write one with tflite-asr qat")
        try:
            with np.load(path, allow_pickle=False) as archive:
                metadata = json.loads(archive["metadata"].tobytes())
                if metadata["kind"] != SOURCE:
                    raise ValueError("is of another kind")
                version = str(metadata["schema_version"])
                newer = int(version.split(".")[0]) > int(SCHEMA.split(".")[0])
                names = [] if newer else metadata["names"]
                weights = {name: archive[f"weight{number}"] for number, name in enumerate(names)}
        except Exception as error:  # numpy and zipfile raise many kinds on a damaged archive
            reason = " ".join(str(error).split())[:120]
            raise TfliteAsrError(
                f"{path}: is damaged or holds no low-bit weights ({reason}); train again"
            ) from error
        if newer:
            raise TfliteAsrError(
                f"{path}: schema_version {version} is newer than {SCHEMA}; install a newer tflite_asr"
            )
        began = dict(zip(names, metadata["began"], strict=True))
        return cls(weights, began, Ranges.from_json(metadata["ranges"]), metadata["how"])


def digest(values: np.ndarray) -> str:
    """Of float32 values, whatever their shape."""
    return hashlib.sha256(_bytes(values).tobytes()).hexdigest()[:16]


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
