"""What one model of a study came to: kept utterance by utterance, so that any two can be paired later."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.measure.evaluation import Result
from tflite_asr.measure.walk import TensorFidelity
from tflite_asr.measure.wer import ErrorCounts, word_errors


@dataclass(frozen=True)
class Heard:
    """What an int8 model heard of one corpus; arrays of one value an utterance.

    Attributes:
        errors: words.
        snr_db: float64, NaN where there are no float logits to hold against.
        agreeing, frames: int64, logit frames with the float model's argmax, and all.
    """

    errors: ErrorCounts
    snr_db: np.ndarray
    agreeing: np.ndarray
    frames: np.ndarray

    @classmethod
    def of(cls, results: Sequence[Result]) -> Heard:
        """From recognised utterances, one or more."""
        errors = word_errors([r.utterance.text for r in results], [r.pred_text for r in results])
        snr_db = np.array([np.nan if r.snr_db is None else r.snr_db for r in results])
        counts = ([r.agreeing_frames or 0 for r in results], [r.frames or 0 for r in results])
        return cls(errors, snr_db, *(np.array(one, np.int64) for one in counts))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        errors = {name: values.tolist() for name, values in vars(self.errors).items()}
        return errors | {name: getattr(self, name).tolist() for name in ("snr_db", "agreeing", "frames")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Heard:
        """Inverse of `to_dict`."""
        kinds = ("substitutions", "deletions", "insertions", "units")
        errors = ErrorCounts(*(np.array(values[name], np.int64) for name in kinds))
        snr_db = np.array(values["snr_db"], np.float64)
        return cls(errors, snr_db, np.array(values["agreeing"]), np.array(values["frames"]))


@dataclass(frozen=True)
class Outcome:
    """One model of the study.

    Attributes:
        arm, calibrator, seed: how it was calibrated; "" and 0 for one that was not.
        bytes, sha256: of model.tflite, without the front end. integer_only: the audit's verdict.
        corpora: name to what was heard.
        provenance: of the calibration inputs.
        grids: tensor to the lowest and highest value that its integers can hold, where the quantiser had a choice.
        walked: corpus to every tensor beside its float twin; {} where nothing was walked.
    """

    arm: str
    calibrator: str
    seed: int
    bytes: int
    sha256: str
    integer_only: bool
    corpora: dict[str, Heard]
    provenance: dict[str, Any] = field(default_factory=dict)
    grids: dict[str, tuple[float, float]] = field(default_factory=dict)
    walked: dict[str, list[TensorFidelity]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """As JSON; whole or not at all."""
        values = {
            **vars(self),
            "corpora": {name: heard.to_dict() for name, heard in self.corpora.items()},
            "walked": {name: [one.to_dict() for one in some] for name, some in self.walked.items()},
        }
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(values) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Outcome:
        """Inverse of `write`."""
        values = json.loads(path.read_text(encoding="utf-8"))
        values["corpora"] = {name: Heard.from_dict(one) for name, one in values["corpora"].items()}
        values["grids"] = {name: (low, high) for name, (low, high) in values["grids"].items()}
        values["walked"] = {
            name: [TensorFidelity(**one) for one in some] for name, some in values["walked"].items()
        }
        return cls(**values)
