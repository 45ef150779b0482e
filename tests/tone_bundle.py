"""A recogniser of whistled letters, weights set by hand: real bundles for the tests in a second, with known
answers.

Each letter is a pure tone at the middle of a mel band of its own, 80 ms long, 80 ms of silence after it; a
space is a tone too. A letter's logit is the mean of its band over a logit frame's four feature frames, the
blank's is zero.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from tflite_asr.bundle import Bundle, BundleInfo, write_bundle
from tflite_asr.frontend import FrontEnd
from tflite_asr.tokens import Tokens

FRONTEND = FrontEnd(normalise="fixed", mean=(-9.0,) * 80, std=(4.0,) * 80)
TOKENS = Tokens(("<blank>", " ", "a", "b", "c", "d", "e", "f"), blank_id=0)
WINDOWS = (100, 200, 400)
SUBSAMPLING = 4
BAND_STEP, FIRST_BAND = 8, 10
TONE_SECONDS = 0.08


def bands() -> dict[str, int]:
    """Mel band of each piece but the blank."""
    return {piece: FIRST_BAND + BAND_STEP * i for i, piece in enumerate(TOKENS.pieces[1:])}


def hertz(band: int) -> float:
    """Middle of a mel band: Slaney's scale, linear below 1 kHz, 27 steps to a factor of 6.4 above."""
    mel = (band + 1) * (15 + 27 * np.log(8) / np.log(6.4)) / 81
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def whistle(text: str, lead: float = 0.1, pause: float = TONE_SECONDS, tail: float = 0.1) -> np.ndarray:
    """The audio of a text: float32 [samples]. lead, pause, tail: seconds of silence before, between and after."""
    rate = FRONTEND.sample_rate
    time = np.arange(round(TONE_SECONDS * rate)) / rate
    silence = [np.zeros(round(seconds * rate)) for seconds in (lead, pause, tail)]
    parts = [silence[0]]
    for letter in text:
        parts += [0.3 * np.sin(2 * np.pi * hertz(bands()[letter]) * time) * np.hanning(len(time)), silence[1]]
    return np.concatenate([*parts, silence[2]]).astype(np.float32)


def _weights() -> np.ndarray:
    weights = np.zeros((80, len(TOKENS.pieces)), np.float32)
    for index, band in enumerate(bands().values(), 1):
        weights[band - 1 : band + 2, index] = 1 / 3
    return weights


@lru_cache(maxsize=2)
def flatbuffers(integer: bool) -> tuple[bytes, bytes]:
    """model.tflite and frontend.tflite, all windows."""
    import tensorflow as tf

    from tflite_asr.quantize.windows import merge

    def convert(frames: int) -> bytes:
        logit_frames = frames // SUBSAMPLING

        def logits(features, mask):
            means = tf.reduce_mean(tf.reshape(features, (logit_frames, SUBSAMPLING, 80)), axis=1)
            return {"logits": (tf.matmul(means, _weights()) * tf.reshape(mask, (-1, 1)))[None]}

        function = tf.function(logits).get_concrete_function(
            features=tf.TensorSpec((1, frames, 80)), mask=tf.TensorSpec((1, logit_frames))
        )
        with tempfile.TemporaryDirectory() as folder:
            name = f"ctc_{frames}"
            tf.saved_model.save(tf.Module(), folder, signatures={name: function})
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[name])
            if integer:
                # The same extremes in every window, so that all share their scales.
                def examples():
                    for value in (-2.5, 2.5):
                        features = np.full((1, frames, 80), value, np.float32)
                        yield name, {"features": features, "mask": np.ones((1, logit_frames), np.float32)}
                        yield name, {"features": features, "mask": np.zeros((1, logit_frames), np.float32)}

                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = examples
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = converter.inference_output_type = tf.int8
            return converter.convert()

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        return merge([convert(frames) for frames in WINDOWS]), _frontend()


@lru_cache(maxsize=1)
def _frontend() -> bytes:
    from tflite_asr.frontend.graph import frontend_flatbuffers
    from tflite_asr.quantize.windows import merge

    return merge(frontend_flatbuffers(FRONTEND, WINDOWS))


def write_tone_bundle(out: Path, integer: bool, feature_only: bool = False) -> Bundle:
    """A bundle of the recogniser."""
    from tflite_asr.runtime import open_interpreter

    model, frontend = flatbuffers(integer)
    info = BundleInfo(
        name="tones",
        scheme="static_wi8_ai8" if integer else "float32",
        lowered=integer,
        frontend=None if feature_only else FRONTEND,
        subsampling=SUBSAMPLING,
        signatures={name: s.to_dict() for name, s in open_interpreter(model).signatures.items()},
        calibration={"method": "synthetic", "seed": 0} if integer else None,
    )
    parts = {} if feature_only else {"frontend": frontend, "tokens": TOKENS}
    return write_bundle(out, info, model=model, **parts)
