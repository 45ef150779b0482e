"""An encoder-decoder's steps run on a flatbuffer: the encoder's memory in, token after token out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.decoding.alignment import align
from tflite_asr.decoding.attention import search
from tflite_asr.decoding.ctc_prefix import CTCPrefixScorer
from tflite_asr.errors import TfliteAsrError
from tflite_asr.runtime.interpreter import Interpreter, TensorFacts

DECODERS = ("attention", "ctc", "joint")
CTC_WEIGHT = 0.3  # CTC's share in joint scoring, as in training
TOKENS_PER_SECOND = 25.0  # nobody speaks faster; a shorter limit than the caches' for short recordings


@dataclass(frozen=True)
class Spelling:
    """How a transcript is searched for.

    decoder: "attention", "ctc", or "joint" (attention with CTC's prefix scores). beam: 1 (greedy) to 8.
    """

    decoder: str = "attention"
    beam: int = 1

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise TfliteAsrError(f"decoder {self.decoder!r} is unknown; give one of {', '.join(DECODERS)}")
        if self.decoder == "ctc" and self.beam != 1:
            raise TfliteAsrError(
                f"beam {self.beam}: decoder ctc is greedy; give --decoder attention or joint"
            )


def wanted_spelling(decoder: str | None, beam: int) -> Spelling | None:
    """What a caller asked for; None where that is nothing."""
    return None if decoder is None and beam == 1 else Spelling(decoder or "attention", beam)


class StepSpeller:
    """A `Speller` of one utterance.

    Args:
        model: holds the signature.
        signature: `decode_step_<frames>`.
        memory: what the encoder gave besides its logits, as it is stored: nothing is requantised.
        mask: float32 [1, logit frames], 1 where the memory is of speech.
    """

    def __init__(
        self, model: Interpreter, signature: str, memory: Mapping[str, np.ndarray], mask: np.ndarray
    ) -> None:
        self._model, self._signature = model, signature
        facts = model.signatures[signature]
        self._logits = facts.outputs["logits"]
        self._inputs = facts.inputs
        self._given = {name: values for name, values in memory.items() if name in self._inputs}
        if "mask" in self._inputs:
            self._given["mask"] = self._inputs["mask"].quantise(mask)
        self._caches = [name for name in facts.outputs if name != "logits"]

    @property
    def longest(self) -> int | None:
        """Tokens that the caches hold, the start among them; None without caches."""
        return self._inputs["history"].shape[1] if "history" in self._inputs else None

    def start(self) -> tuple[int, dict[str, np.ndarray]]:
        """Tokens so far, and empty caches."""
        return 0, {name: _zeros(self._inputs[name]) for name in self._caches}

    def step(
        self, state: tuple[int, dict[str, np.ndarray]], token: int
    ) -> tuple[np.ndarray, tuple[int, dict[str, np.ndarray]]]:
        """See `Speller.step`."""
        count, caches = state
        feeds = {**self._given, **caches}
        if "token" in self._inputs:
            feeds["token"] = np.array([[token]], np.int32)
        if "position" in self._inputs:
            feeds["position"] = np.array([[count]], np.int32)
        if "history" in self._inputs:
            past = np.zeros(self._inputs["history"].shape, np.float32)
            past[:, past.shape[1] - 1 - count :] = 1.0
            feeds["history"] = self._inputs["history"].quantise(past)
        outputs = dict(self._model.run(self._signature, feeds))
        logits = log_softmax(real_values(outputs.pop("logits")[0], self._logits))
        return logits, (count + 1, outputs)


def spell(
    speller: StepSpeller,
    end_id: int,
    seconds: float,
    how: Spelling,
    ctc_logits: np.ndarray,
) -> tuple[int, ...]:
    """Tokens of one stretch of speech.

    end_id: of start and end. seconds: the stretch's length. ctc_logits: float32 [logit frames, pieces] of its valid
    frames, for joint scoring.
    """
    longest = max(4, round(seconds * TOKENS_PER_SECOND))
    if speller.longest is not None:
        longest = min(longest, speller.longest - 1)
    scorer = None
    if how.decoder == "joint" and len(ctc_logits):
        scorer = CTCPrefixScorer(log_softmax(ctc_logits), end_id)
    weight = CTC_WEIGHT if scorer is not None else 0.0
    return search(speller, end_id, longest, how.beam, scorer, weight).tokens


def place_in_time(
    ctc_logits: np.ndarray, tokens: tuple[int, ...], blank_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last logit frame of each token, as CTC hears it; spread evenly where it cannot.

    ctc_logits: float32 [logit frames, pieces] of valid frames.
    """
    found = align(log_softmax(ctc_logits), tokens, blank_id)
    if found is not None:
        return found
    edges = np.linspace(0, len(ctc_logits), len(tokens) + 1).astype(np.int64)
    return edges[:-1], edges[1:]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Natural logarithms of the probabilities, along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def _zeros(facts: TensorFacts) -> np.ndarray:
    return facts.quantise(np.zeros(facts.shape, np.float32))


def real_values(stored: np.ndarray, facts: TensorFacts) -> np.ndarray:
    """float32 values of what a tensor stores."""
    values: Any = stored.astype(np.float32)
    return (
        values
        if facts.scale is None
        else (values - np.float32(facts.zero_point or 0)) * np.float32(facts.scale)
    )
