"""What calibration is fed: clips of features, and how they came to be."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError

SCHEMA = "1.0"


@dataclass(frozen=True, eq=False)
class SyntheticInputs:
    """Clips for calibration, and their provenance.

    Attributes:
        features: one float32 [frames, mels] a clip (for somebody's own model: its first input without the batch
            axis), valid frames only, lengths vary.
        curve: one record a refinement step: batch, step, loss, statistics (divergence from the batch norms' stored
            statistics), distance (mean squared distance from the start) and, where labels pulled, labels (nats each).
        method: "synthetic", "noise", "synthetic:published", "synthetic:labels", or a manifest's name.
        seed: of every random draw.
        budget_macs, spent_macs: multiply-adds that refinement was allowed and used.
        refined: how many clips refinement moved; the first ones.
        artefact: name and SHA-256 of the file that these were read from; empty where they were made here.
    """

    features: list[np.ndarray]
    curve: list[dict[str, float]] = field(default_factory=list)
    method: str = "synthetic"
    seed: int = 0
    budget_macs: float = 0.0
    spent_macs: float = 0.0
    refined: int = 0
    artefact: dict[str, str] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Frames of all clips together."""
        return sum(len(clip) for clip in self.features)

    def provenance(self) -> dict[str, Any]:
        """What a bundle records of its calibration: plain values."""
        return {
            "method": self.method,
            "seed": self.seed,
            "budget_macs": self.budget_macs,
            "spent_macs": self.spent_macs,
            "clips": len(self.features),
            "refined": self.refined,
            "frames": self.frames,
            **({"artefact": self.artefact} if self.artefact else {}),
        }

    def save(self, path: str | Path) -> Path:
        """Write an `.npz`: the clips as `clip0`, `clip1`, ... and JSON as `metadata`; same content, same bytes.

        Raises:
            TfliteAsrError: a file that cannot be written; what was there stays.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside:
                self._write(Path(beside) / path.name).replace(path)
        except OSError as error:
            raise TfliteAsrError(
                f"{path}: cannot be written ({error.strerror}); choose another file"
            ) from error
        return path

    def _write(self, path: Path) -> Path:
        metadata = {"schema_version": SCHEMA, **self.provenance(), "curve": self.curve}
        metadata.pop("artefact", None)  # of the file that was read, not of the one that is written
        arrays = {f"clip{index}": clip for index, clip in enumerate(self.features)}
        arrays["metadata"] = np.frombuffer(json.dumps(metadata, sort_keys=True).encode(), np.uint8)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                # A fixed date: numpy's own savez stamps entries with the time of writing.
                entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w") as out:
                    np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
        return path

    @classmethod
    def load(cls, path: str | Path) -> SyntheticInputs:
        """Inverse of `save`.

        Raises:
            TfliteAsrError: a file that is missing, damaged, or of a newer schema.
        """
        path = Path(path)
        if not path.is_file():
            raise TfliteAsrError(f"{path}: no such inputs; write them with SyntheticInputs.save")
        try:
            with np.load(path, allow_pickle=False) as archive:
                metadata = json.loads(archive["metadata"].tobytes())
                features = [archive[f"clip{index}"] for index in range(metadata["clips"])]
                version = str(metadata["schema_version"])
                newer = int(version.split(".")[0]) > int(SCHEMA.split(".")[0])
                known = ("curve", "method", "seed", "budget_macs", "spent_macs", "refined")
                settings = {} if newer else {key: metadata[key] for key in known}
        except Exception as error:  # numpy and zipfile raise many kinds on a damaged archive
            reason = " ".join(str(error).split())[:120]
            raise TfliteAsrError(
                f"{path}: is damaged or holds no inputs ({reason}); make them again"
            ) from error
        if newer:
            raise TfliteAsrError(
                f"{path}: schema_version {version} is newer than {SCHEMA}; install a newer tflite_asr"
            )
        artefact = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        return cls(features, **settings, artefact=artefact)


def on_grid(features: Sequence[np.ndarray], step: float = 2.0**-13) -> list[np.ndarray]:
    """Clips rounded to multiples of `step` (1.2e-4, exact in float32): far below what 8 bits can tell apart, far
    above what the last bit of a sum leaves open. It hides most differences in rounding, it cannot hide all."""
    return [
        np.asarray(np.round(np.asarray(clip, np.float64) / step) * step, np.float32) + 0.0
        for clip in features
    ]
