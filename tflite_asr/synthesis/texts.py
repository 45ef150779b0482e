"""Clips moved until an encoder-decoder spells given texts from them. TensorFlow only.

On clips of the prior a decoder has nothing to attend to and goes by the tokens before alone, so that what it says shows
what its own modules do, and not what it hears by. Moved so, it hears: `speech-transformer` goes from 1.4 to 1.8 nats a
token to .1 to .2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tflite_asr.synthesis.refine import Recipe, arguments_of, deterministic_ops, refine

TOWARD_TEXT = Recipe(rate=0.05, steps=60, pull=0.0, patience=60)


def spelling_measure_of(model: Any, end_id: int) -> Any:
    """As `refine.measure_of`, of an encoder-decoder: its loss is nats a token, the end among them, of the labels."""
    import tensorflow as tf

    @tf.function(input_signature=arguments_of((None, model.inputs[0].shape[-1])), autograph=False)
    def measure(
        features: Any, start: Any, mask: Any, pull: Any, labels: Any, lengths: Any
    ) -> tuple[Any, ...]:
        edge = tf.fill((tf.shape(labels)[0], 1), end_id)
        said = tf.sequence_mask(lengths, tf.shape(labels)[1])
        labels = tf.where(said, labels, end_id)
        valid = tf.sequence_mask(lengths + 1, tf.shape(labels)[1] + 1, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(features)
            before = tf.concat([edge, labels], axis=1)
            logits = tf.cast(model([features, mask, before], training=False)[1], tf.float32)
            after = tf.concat([labels, edge], axis=1)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(after, logits)
            nats = tf.reduce_sum(each * valid) / tf.reduce_sum(valid)
            distance = tf.reduce_mean(tf.square(features - start))
            loss = nats + pull * distance
        return loss, tf.constant(0.0), distance, nats, tape.gradient(loss, features)

    return measure


def toward_texts(
    model: Any,
    clips: Sequence[np.ndarray],
    texts: Sequence[Sequence[int]],
    end_id: int,
    subsampling: int,
    recipe: Recipe = TOWARD_TEXT,
) -> list[np.ndarray]:
    """Each clip moved until the decoder finds its text likely, those of one length together.

    Args:
        model: as `tflite_asr.models.transformer.build_transformer` makes it; frozen.
        clips: float32 [frames, mels], of whole logit frames.
        texts: tokens of each, without the end.
        end_id: of start and end.
        subsampling: feature frames that become one logit frame.
        recipe: how.
    """
    moved = list(clips)
    with deterministic_ops():
        measure = spelling_measure_of(model, end_id)
        for length in dict.fromkeys(map(len, clips)):
            places = [place for place, clip in enumerate(clips) if len(clip) == length]
            mask = np.ones((len(places), length // subsampling), np.float32)
            labels = [np.asarray(texts[place], np.int32) for place in places]
            found = refine(measure, [clips[place] for place in places], mask, recipe, labels=labels)
            for place, clip in zip(places, found, strict=True):
                moved[place] = clip
    return moved
