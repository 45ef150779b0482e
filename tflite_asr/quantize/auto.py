"""The calibrator of least output error, found without data: a part of the calibration inputs is held back, and every
calibrator's int8 model is run on it against the float one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.calibrate import (
    lay_into_windows,
    observe,
    ranges_of,
    real_part,
    time_axes,
)
from tflite_asr.quantize.calibrators import CALIBRATORS, Calibrator
from tflite_asr.quantize.finish import finish
from tflite_asr.quantize.kept_whole import kept_whole
from tflite_asr.quantize.quantizer import Ties, quantize
from tflite_asr.quantize.running import Feed, outputs_of
from tflite_asr.quantize.schemes import Scheme
from tflite_asr.quantize.serialize import read_model, signature_names, text

HELD_BACK = 4  # every fourth input
_CEILING_DB = 120.0


@dataclass(frozen=True)
class Choice:
    """calibrator: of the highest score. scores: by name, the mean SNR in dB of the outputs over the clips held
    back. signature: the window of the trial. clips: held back in it."""

    calibrator: Calibrator
    scores: dict[str, float]
    signature: str
    clips: int

    def provenance(self) -> dict[str, Any]:
        """Plain values, scores to a hundredth of a dB."""
        return {
            "scores_db": {name: round(score, 2) for name, score in self.scores.items()},
            "window": self.signature,
            "clips": self.clips,
        }


def choose(
    flatbuffers: Mapping[str, bytes],
    inputs: Sequence[np.ndarray | Feed],
    scheme: Scheme,
    *,
    subsampling: int = 1,
    ties: Ties = (),
    calibrators: Mapping[str, Calibrator] = CALIBRATORS,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Choice:
    """Try every calibrator on inputs that it has not seen.

    flatbuffers: signature to float flatbuffer with stable names. inputs: as `lay_into_windows` takes them; every
    fourth is held back, the last where there are fewer. One window is enough for the trial: the one that most of
    those fall into, the shortest of several; longer ones are cut to it. A calibrator takes the place of the first
    only where it is better by more than the standard error of that difference over the clips: they are few. Raises
    TfliteAsrError where there is nothing to hold back.
    """
    rest, held = hold_back(inputs)
    seen = observe(
        flatbuffers,
        lay_into_windows(rest, flatbuffers, subsampling),
        progress=lambda done: progress(done / 2),
    )
    kept = kept_whole(flatbuffers.values())
    signature, feeds = trial(held, flatbuffers, subsampling)
    error = OutputError(flatbuffers, signature, feeds)
    found: dict[str, np.ndarray] = {}
    for number, (name, one) in enumerate(calibrators.items()):
        ranges = ranges_of(seen, one, kept)
        found[name] = error.snr_db(finish(quantize(flatbuffers[signature], ranges, ties, scheme), ranges))
        progress(0.5 + 0.5 * (number + 1) / len(calibrators))
    scores = {name: float(values.mean()) for name, values in found.items()}
    best = clear_winner(found)
    return Choice(calibrators[best], scores, signature, len(feeds))


def clear_winner(found: Mapping[str, np.ndarray]) -> str:
    """The name of the highest mean, if it beats the first by more than a standard error; else the first.

    found: SNR in dB of every clip, by name, the same clips for all.
    """
    first, *_ = found
    best = max(found, key=lambda name: float(found[name].mean()))
    gain = found[best] - found[first]
    doubt = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else 0.0
    return best if gain.mean() > doubt else first


def hold_back(
    inputs: Sequence[np.ndarray | Feed],
) -> tuple[list[np.ndarray | Feed], list[np.ndarray | Feed]]:
    """Inputs to calibrate on, and those held back. Raises TfliteAsrError where there are fewer than two."""
    if len(inputs) < 2:
        raise TfliteAsrError(
            f"calibration: {len(inputs)} input, and one must be held back to judge by; give more, or name a calibrator"
        )
    held = set(range(HELD_BACK - 1, len(inputs), HELD_BACK)) or {len(inputs) - 1}
    return (
        [one for number, one in enumerate(inputs) if number not in held],
        [inputs[number] for number in sorted(held)],
    )


def trial(
    held: Sequence[np.ndarray | Feed], flatbuffers: Mapping[str, bytes], subsampling: int
) -> tuple[str, list[Feed]]:
    """The window for a trial, and the inputs held back laid into it, longer ones in pieces."""
    by_window = lay_into_windows(held, flatbuffers, subsampling)
    signature = max(by_window, key=lambda name: len(by_window[name]))
    laid = lay_into_windows(held, {signature: flatbuffers[signature]}, subsampling)[signature]
    return signature, [step for sequence in laid for step in sequence]


class OutputError:
    """How far an integer model's outputs lie from the float model's, on the same inputs, padding left out."""

    def __init__(self, flatbuffers: Mapping[str, bytes], signature: str, feeds: Sequence[Feed]) -> None:
        along_time = time_axes(flatbuffers.values())
        self._signature, self.feeds = signature, feeds
        self._expected = outputs_of(flatbuffers[signature], signature, feeds)
        axes = output_axes(flatbuffers[signature], signature, along_time)
        self._real = [
            {
                name: real_part(values.shape, axes[name], float(np.mean(feed.get("mask", 1.0))))
                for name, values in outputs.items()
            }
            for feed, outputs in zip(feeds, self._expected, strict=True)
        ]

    def snr_db(self, data: bytes) -> np.ndarray:
        """Of every input and output, 10 log10(signal / noise), at most 120; `data` holds the signature."""
        found = []
        for expected, got, real in zip(
            self._expected, outputs_of(data, self._signature, self.feeds), self._real, strict=True
        ):
            for name, values in expected.items():
                wanted = values[real[name]].astype(np.float64)
                signal = float(np.square(wanted).sum())
                noise = float(np.square(got[name][real[name]] - wanted).sum())
                least = max(signal, np.finfo(np.float64).tiny) * 10 ** (-_CEILING_DB / 10)
                found.append(10 * np.log10(max(signal, least) / max(noise, least)))
        return np.array(found)


def output_axes(
    data: bytes, signature: str, along_time: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Output to the axes along which it grows with the window."""
    model = read_model(data)
    definition = model.signatureDefs[signature_names(model).index(signature)]
    tensors = model.subgraphs[definition.subgraphIndex].tensors
    return {
        text(one.name): along_time.get(text(tensors[one.tensorIndex].name), ()) for one in definition.outputs
    }
