"""What of a model runs by itself on a phone: one signature a window each.

A CTC model is one entry. An encoder-decoder is two: what runs once an utterance, and what runs once a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts

if TYPE_CHECKING:
    import keras

ENCODE, DECODE_STEP = "encode", "decode_step"
HEARD = 10  # clips of the prior whose tokens are drawn
EVERY = 3  # of the drawn tokens one is kept with all that its step is fed
Feed = Sequence[np.ndarray]


@dataclass(frozen=True)
class Entry:
    """A Functional model with layers of its own.

    kind: its signatures are `<kind>_<frames>`; None where the inputs say (`convert.signature_name`).
    lengths: second axis of each input that has it open, at a number of feature frames; None where `convert` knows.
    feeds: what it meets when the whole model hears the prior's clips, one array an input; None for features and mask.
    """

    model: keras.Model
    kind: str | None = None
    lengths: Callable[[int], dict[str, int]] | None = None
    feeds: Callable[[], Iterable[Feed]] | None = None


def entries(model: Any, facts: ModelFacts | None) -> list[Entry]:
    """Those of a model as its author trains it.

    Raises:
        TfliteAsrError: an encoder-decoder without its facts.
    """
    from tflite_asr.models import FUNCTIONAL, config_class
    from tflite_asr.models.transformer import decode_step_of, encoder_of
    from tflite_asr.models.transformer_config import TransformerConfig, step_lengths

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

    step = _apart(decode_step_of(model, config))
    return [
        Entry(_apart(encoder_of(model, config)), ENCODE, frames_of),
        Entry(
            step,
            DECODE_STEP,
            lambda frames: step_lengths(config, frames),
            lambda: _steps_of_the_prior(model, config, facts, [tensor.name for tensor in step.inputs]),
        ),
    ]


def _steps_of_the_prior(
    model: keras.Model, config: Any, facts: ModelFacts, names: Sequence[str]
) -> Iterable[Feed]:
    """What the decoder's steps are fed, `names` in their order, while it draws tokens for clips of the prior."""
    from tflite_asr.models.spelling import BatchSpeller, sampler
    from tflite_asr.models.transformer import ctc_part
    from tflite_asr.synthesis.prior import prior_clips
    from tflite_asr.synthesis.shapes import model_inputs

    shape = model_inputs(ctc_part(model), facts)
    clips = [clip for some in prior_clips(shape, facts, seed=0) for clip in some][:HEARD]
    found: list[Feed] = []

    def keep(count: int, feeds: dict[str, np.ndarray]) -> None:
        if count % EVERY == 0:
            found.append([feeds[name].copy() for name in names])

    speller = BatchSpeller(model, config, traced=False)
    for length in dict.fromkeys(map(len, clips)):
        features, mask = shape.batch([clip for clip in clips if len(clip) == length])
        speller.spell(features, mask, facts.blank_id, sampler(0), watch=keep)
    return found


def _apart(model: keras.Model) -> Any:
    """The same with layers of its own: rules look at everything that reads what a layer gives, in whichever model."""
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
