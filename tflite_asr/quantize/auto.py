"""The calibrator of least output error, found without data: a part of the calibration inputs is held back, and every
calibrator's int8 model is run on it against the float one.

What is held back was drawn like what calibrates, so it reaches no further, and a calibrator that clips looks better
than it is: real speech does reach further. So the clips are heard in several ways, as they are and unlike anything
that calibrates: louder, quieter, with more contrast. Another calibrator takes the place of the first, which keeps all
that was seen, only where it wins clearly in each of them. Judged by clips as they are alone, octav was chosen for
conformer-ctc with two seeds of two, and was .5 and 1.3 dB worse than min_max on an4's dev split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.biases import correct
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
from tflite_asr.quantize.squares import corrections_of

HELD_BACK = 4  # every fourth input
# Name to (gain, shift) of held-back features about their mean, the shift in their standard deviations. A level is a
# shift of log-mel energies: 8 dB are half of the 4 nats by which they spread over speech and its pauses.
HEARD: dict[str, tuple[float, float]] = {
    "as they are": (1.0, 0.0),
    "louder": (1.0, 0.5),
    "quieter": (1.0, -0.5),
    "more contrast": (1.25, 0.0),
}
CLEAR_DB = (
    0.5  # that another calibrator must gain in each of them; between two seeds the same one moves by as much
)
_CEILING_DB = 120.0


@dataclass(frozen=True)
class Choice:
    """calibrator: the one that was found. scores: by way of hearing and name, the mean SNR in dB of the outputs over
    the clips held back. signature: the window of the trial. clips: held back in it."""

    calibrator: Calibrator
    scores: dict[str, dict[str, float]]
    signature: str
    clips: int

    def provenance(self) -> dict[str, Any]:
        """Plain values, scores to a hundredth of a dB; `scores_db` are the means over all ways of hearing."""
        names = next(iter(self.scores.values()))
        means = {name: np.mean([some[name] for some in self.scores.values()]) for name in names}
        return {
            "scores_db": _rounded(means),
            "heard_db": {heard: _rounded(some) for heard, some in self.scores.items()},
            "window": self.signature,
            "clips": self.clips,
        }


def _rounded(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: round(float(score), 2) for name, score in scores.items()}


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
    those fall into, the shortest of several; longer ones are cut to it. Clips are heard in the ways of `HEARD`; inputs
    that are several arrays as they are alone. Raises TfliteAsrError where there is nothing to hold back.
    """
    rest, held = hold_back(inputs)
    laid = lay_into_windows(rest, flatbuffers, subsampling)
    seen = observe(flatbuffers, laid, progress=lambda done: progress(done / 2))
    kept = kept_whole(flatbuffers.values())
    signature, feeds = trial(held, flatbuffers, subsampling)
    window = {signature: flatbuffers[signature]}
    errors = {
        heard: OutputError(flatbuffers, signature, trial(some, window, subsampling)[1])
        for heard, some in heard_otherwise(held).items()
    }
    found: dict[str, dict[str, np.ndarray]] = {heard: {} for heard in errors}
    for number, (name, one) in enumerate(calibrators.items()):
        ranges = ranges_of(seen, one, kept)
        corrections = corrections_of(flatbuffers, laid, ranges, ties, scheme)
        data = finish(correct(quantize(flatbuffers[signature], ranges, ties, scheme), corrections), ranges)
        for heard, error in errors.items():
            found[heard][name] = error.snr_db(data)
        progress(0.5 + 0.5 * (number + 1) / len(calibrators))
    scores = {
        heard: {name: float(values.mean()) for name, values in some.items()} for heard, some in found.items()
    }
    return Choice(calibrators[clear_winner(*found.values(), margin=CLEAR_DB)], scores, signature, len(feeds))


def heard_otherwise(held: Sequence[np.ndarray | Feed]) -> dict[str, list[np.ndarray | Feed]]:
    """The clips in every way of `HEARD`; those of several arrays, and constant ones, as they are alone."""
    plain = [one for one in held if not isinstance(one, Mapping)]
    if len(plain) < len(held):
        return {"as they are": list(held)}
    frames = np.concatenate([one.reshape(-1) for one in plain])
    mean, deviation = np.float32(frames.mean()), np.float32(frames.std())
    return {
        heard: [mean + np.float32(gain) * (one - mean) + np.float32(shift) * deviation for one in plain]
        for heard, (gain, shift) in HEARD.items()
    }


def clear_winner(*ways: Mapping[str, np.ndarray], margin: float = 0.0) -> str:
    """The name that beats the first by more than a standard error and `margin` in each way of hearing, by most where
    it gains least; else the first.

    ways: SNR in dB of every clip, by name, the same clips for all.
    """
    first, *others = ways[0]
    best, most = first, 0.0
    for name in others:
        gains = [some[name] - some[first] for some in ways]
        doubts = [one.std(ddof=1) / np.sqrt(len(one)) if len(one) > 1 else 0.0 for one in gains]
        if all(one.mean() > max(doubt, margin) for one, doubt in zip(gains, doubts, strict=True)):
            least = min(float(one.mean()) for one in gains)
            if least > most:
                best, most = name, least
    return best


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
