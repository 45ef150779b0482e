"""A Keras model as int8 is made of it: lowered, its residual streams equalised by inputs drawn from the prior.

How far the channels of a stream reach is asked of the model on the clips of one seed, so that a model gives one graph,
whatever it is calibrated on afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts

if TYPE_CHECKING:
    import keras


def lowered(
    model: keras.Model,
    subsampling: int = 1,
    facts: ModelFacts | None = None,
    feeds: Iterable[Sequence[np.ndarray]] | None = None,
) -> keras.Model:
    """`lower`ed, with streams equalised by what it meets on the prior's clips, where these fit the model's inputs.

    subsampling: feature frames that become one frame of `mask`. facts: of the model; without them there is no babble
    among the clips. feeds: what it meets, one array an input, where that is not features and mask. Raises as `lower`.
    """
    from tflite_asr.lowering import lower

    return lower(model, _probes(model, subsampling, facts) if feeds is None else feeds)


def _probes(model: keras.Model, subsampling: int, facts: ModelFacts | None) -> Iterator[list[np.ndarray]]:
    from tflite_asr.synthesis.prior import prior_clips
    from tflite_asr.synthesis.shapes import model_inputs

    try:
        shape = replace(model_inputs(model, facts), subsampling=subsampling)
        batches = prior_clips(shape, facts, seed=0)
    except TfliteAsrError:
        return  # no synthetic input fits: it is lowered as it is
    for clip in (clip for batch in batches for clip in batch):
        yield shape.batch([clip])
