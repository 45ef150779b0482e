"""Which block is missed least."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tflite_asr.facts import ModelFacts
from tflite_asr.slim import least_useful_block, rank_blocks, slim
from tflite_asr.slim.outputs import divergence


def test_divergence_is_the_mean_over_frames_of_kl() -> None:
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(5), size=7) for _ in range(2))
    total = 0.0
    for frame in range(7):
        for piece in range(5):
            total += p[frame, piece] * np.log(p[frame, piece] / q[frame, piece])
    assert divergence(np.log(p), np.log(q)) == pytest.approx(total / 7, rel=1e-9)


def test_a_block_that_does_next_to_nothing_is_found(tiny: tuple[Any, ModelFacts]) -> None:
    model, facts = tiny
    lazy = keras.models.clone_model(model)
    lazy.set_weights(model.get_weights())
    for layer in lazy.layers:
        if not layer.name.startswith("encoder.block1."):
            continue
        for weight in layer.weights:
            if layer.name.endswith(("dense2", "pointwise2")) or weight.name in ("out_kernel", "out_bias"):
                weight.assign(np.asarray(weight) * 1e-3)
    # Block 0 ends in a norm already: without its own, block 1 leaves the stream as it found it.
    lazy, facts, _ = slim(lazy, facts, "encoder.block1.norm")
    clips = [
        np.random.default_rng(i).standard_normal((n, 80)).astype(np.float32) for i, n in enumerate((64, 48))
    ]
    done: list[tuple[int, int]] = []
    uses = rank_blocks(lazy, facts, clips, lambda a, b: done.append((a, b)))
    assert uses[0].path == "encoder.block1" == least_useful_block(lazy, facts, clips)
    assert uses[0].divergence < 0.1 * uses[1].divergence
    assert done[-1] == (2, 2)
