"""AudioToMelSpectrogramPreprocessor as a `FrontEnd`.

What NeMo 3.0.0 computes, whichever version wrote the archive: half an FFT of zeros on both sides (before 2.0 the audio
was mirrored there), samples // hop frames (one more before), and no dither, which is for training.
"""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.frontend import FrontEnd, mel_filters
from tflite_asr.frontend.log_mel import analysis_window
from tflite_asr.nemo.config import Section
from tflite_asr.nemo.tensors import Tensors

_MOST_RATE, _MOST_SAMPLES = 768_000, 1 << 20


def front_end(section: Section) -> FrontEnd:
    """The front end of a `preprocessor` section.

    Raises:
        TfliteAsrError: a setting that `FrontEnd` cannot express, by name.
    """
    if section.target() != "AudioToMelSpectrogramPreprocessor":
        raise section.refuse("_target_", "only AudioToMelSpectrogramPreprocessor can be imported")
    rate = section.positive("sample_rate", int, 16000, _MOST_RATE)
    window, hop = (
        _samples(section, samples, seconds, default, rate)
        for samples, seconds, default in (
            ("n_window_size", "window_size", 0.02),
            ("n_window_stride", "window_stride", 0.01),
        )
    )
    section.ignore("window_size", "window_stride")
    section.only("window", "hann")
    section.only("log", True)
    section.only("log_zero_guard_type", "add")
    section.only("mag_power", 2.0)
    section.only("mel_norm", "slaney")
    section.only("frame_splicing", 1)
    section.only("exact_pad", False)
    # Padding is masked; narrow-band augmentation and dither are for training; the rest is NeMo's past.
    section.ignore("dither", "pad_to", "pad_value", "rng", "nb_augmentation_prob", "nb_max_freq")
    section.ignore("use_torchaudio", "stft_conv", "stft_exact_pad", "int_values", "max_duration", "use_grads")
    mels = section.take("features", int, 64)
    normalise, mean, std = _normalisation(section, mels)
    frontend = FrontEnd(
        sample_rate=rate,
        window_seconds=window / rate,
        hop_seconds=hop / rate,
        fft_size=section.positive("n_fft", int, 2 ** math.ceil(math.log2(window)), _MOST_SAMPLES),
        window="hann_symmetric",
        centre=True,
        drop_last=True,
        preemphasis=_preemphasis(section),
        log_guard=_guard(section),
        mels=mels,
        low_hz=section.take("lowfreq", float, 0.0),
        high_hz=section.take("highfreq", float, 0.0),
        normalise=normalise,
        mean=mean,
        std=std,
    )
    section.done()
    return frontend


def _samples(section: Section, samples: str, seconds: str, default: float, rate: int) -> int:
    """A length in samples, which stands in samples or in seconds."""
    if section.take(samples, int, 0):
        return int(section.positive(samples, int, 0, _MOST_SAMPLES))
    count = int(section.positive(seconds, float, default, _MOST_SAMPLES / rate) * rate)
    if not count:
        raise section.refuse(seconds, "a sample at the least is expected")
    return count


def _preemphasis(section: Section) -> float:
    """NeMo's default is .97; null, written out, switches it off."""
    written_out = section.written("preemph") and "preemph" not in section
    return float(section.take("preemph", float, 0.0 if written_out else 0.97))


def _guard(section: Section) -> float:
    """A number, or one of the two names that NeMo gives to numbers of float32."""
    words = {"tiny": float(np.finfo(np.float32).tiny), "eps": float(np.finfo(np.float32).eps)}
    word = section.value("log_zero_guard_value")
    if isinstance(word, str) and word in words:
        section.ignore("log_zero_guard_value")
        return words[word]
    return float(section.take("log_zero_guard_value", float, 2.0**-24))


def _normalisation(section: Section, mels: int) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    value = section.value("normalize")
    section.ignore("normalize")
    if value == "per_feature" or not section.written("normalize"):
        return "per_feature", (), ()
    if not value or value == "NA":
        return "none", (), ()
    if isinstance(value, dict) and set(value) == {"fixed_mean", "fixed_std"}:
        with suppress(ValueError, TypeError):
            mean, std = (tuple(map(float, np.ravel(value[key]))) for key in ("fixed_mean", "fixed_std"))
            if len(mean) == len(std) == mels and np.isfinite([*mean, *std]).all():
                return "fixed", mean, std
    raise section.refuse(
        "normalize", "only per_feature, none, or one fixed_mean and fixed_std a mel can be imported"
    )


def check_tables(frontend: FrontEnd, tensors: Tensors, where: str) -> None:
    """Where the checkpoint stores NeMo's window and filter bank, they must be those of the front end.

    Raises:
        TfliteAsrError: a table that differs: the config does not say how the features were made.
    """
    expected = {"window": analysis_window(frontend), "fb": mel_filters(frontend).T[None]}
    for name, ours in expected.items():
        theirs = tensors.find(f"preprocessor.featurizer.{name}")
        if theirs is None:
            continue
        close = theirs.shape == ours.shape and np.abs(theirs - ours).max() <= 1e-5 * np.abs(ours).max()
        if not close:  # NaN is not close
            raise TfliteAsrError(
                f"{where}: preprocessor.featurizer.{name} is not what the preprocessor's config gives; "
                "the front end cannot be imported"
            )
