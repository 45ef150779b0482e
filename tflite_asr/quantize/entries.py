"""What of a model runs by itself on a phone: one signature a window each.

A CTC model is one entry. An encoder-decoder is two: what runs once an utterance, and what runs once a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts

if TYPE_CHECKING:
    import keras

ENCODE, DECODE_STEP = "encode", "decode_step"


@dataclass(frozen=True)
class Entry:
    """A Functional model with layers of its own.

    kind: its signatures are `<kind>_<frames>`; None where the inputs say (`convert.signature_name`).
    lengths: second axis of each input that has it open, at a number of feature frames; None where `convert` knows.
    """

    model: keras.Model
    kind: str | None = None
    lengths: Callable[[int], dict[str, int]] | None = None


def entries(model: Any, facts: ModelFacts | None) -> list[Entry]:
    """Those of a model as its author trains it.

    Raises:
        TfliteAsrError: an encoder-decoder without its facts.
    """
    from tflite_asr.models import FUNCTIONAL, config_class
    from tflite_asr.models.transformer import TransformerConfig, decode_step_of, encoder_of, step_lengths

    name = model.name
    told = "tokens" in [tensor.name for tensor in model.inputs]
    if not (told and isinstance(model, FUNCTIONAL)):
        return [Entry(model)]
    if (
        facts is None
        or facts.architecture is None
        or config_class(facts.architecture) is not TransformerConfig
    ):
        raise TfliteAsrError(
            f"model {name!r}: takes tokens, and nothing says of what architecture it is; put its .toml beside it"
        )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.config.items()}
    config = TransformerConfig(**values)

    def frames_of(frames: int) -> dict[str, int]:
        return {"features": frames, "mask": -(-frames // config.subsampling)}

    return [
        Entry(_apart(encoder_of(model, config)), ENCODE, frames_of),
        Entry(
            _apart(decode_step_of(model, config)), DECODE_STEP, lambda frames: step_lengths(config, frames)
        ),
    ]


def _apart(model: keras.Model) -> Any:
    """The same with layers of its own: rules look at everything that reads what a layer gives, in whichever model."""
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
