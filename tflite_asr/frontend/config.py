"""What a front end is: every number that decides a feature, in one frozen config."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from tflite_asr.errors import TfliteAsrError

_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    bool: "true or false",
    tuple: "a list of numbers",
}


@dataclass(frozen=True)
class FrontEnd:
    """Log-mel front end.

    Attributes:
        sample_rate: Hz.
        window_seconds, hop_seconds: analysis window and step.
        fft_size: points of the Fourier transform; the window is padded with zeros at its end (or, with `centre`,
            on both sides, as librosa does).
        window: "hann" (periodic) or "hann_symmetric" (NeMo's).
        centre: pad half an FFT of zeros on both sides (imported models); shipped models do not, so that a stream and a
            whole file give the same numbers.
        drop_last: with `centre`, leave out the frame whose centre is the end of the audio, as NeMo does.
        preemphasis: coefficient a of y[t] = x[t] - a x[t-1]; 0 switches it off. Where a recording is laid into a longer
            array, it goes on as x[end] a^k, which pre-emphasis turns into silence; zeros would leave a click.
        log_guard: added to a mel's energy before the natural logarithm. log(1e-8) = -18.4 is the 3rd percentile of a
            quiet corpus (an4, median level -31 dBFS), and keeps digital silence from stretching the range.
        mel_scale: "slaney" (librosa's default, area-normalised) or "htk".
        mels, low_hz, high_hz: number of bands and their span; high_hz 0 means half the sample rate.
        normalise: "fixed" (per-mel constants), "per_feature" (mean and deviation over valid frames: offline only)
            or "none".
        mean, std: per-mel constants of "fixed", in natural-log units.
    """

    sample_rate: int = 16000
    window_seconds: float = 0.025
    hop_seconds: float = 0.01
    fft_size: int = 512
    window: str = "hann"
    centre: bool = False
    drop_last: bool = False
    preemphasis: float = 0.0
    log_guard: float = 1e-8
    mel_scale: str = "slaney"
    mels: int = 80
    low_hz: float = 0.0
    high_hz: float = 0.0
    normalise: str = "none"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        choices = {
            "window": ("hann", "hann_symmetric"),
            "mel_scale": ("slaney", "htk"),
            "normalise": ("fixed", "per_feature", "none"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise TfliteAsrError(
                    f"front end: {name} is {getattr(self, name)!r}; give one of {', '.join(allowed)}"
                )
        self._check_numbers()
        if self.drop_last and not self.centre:
            raise TfliteAsrError("front end: drop_last says nothing without centre; leave it out")
        if self.normalise == "fixed" and not (len(self.mean) == len(self.std) == self.mels):
            raise TfliteAsrError(
                f"front end: normalise = fixed needs {self.mels} means and deviations, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if self.window_samples > self.fft_size:
            raise TfliteAsrError(
                f"front end: a window of {self.window_samples} samples does not fit fft_size {self.fft_size}; raise it"
            )

    def _check_numbers(self) -> None:
        for name in ("sample_rate", "window_samples", "hop_samples", "fft_size", "log_guard", "mels"):
            if not 0 < getattr(self, name) < math.inf:
                raise TfliteAsrError(f"front end: {name} is {getattr(self, name)!r}; give a number above 0")
        if not 0 <= self.low_hz < self.top_hz <= self.sample_rate / 2:
            raise TfliteAsrError(
                f"front end: bands from {self.low_hz} to {self.top_hz} Hz do not lie within 0 to "
                f"{self.sample_rate / 2} Hz; mend low_hz or high_hz"
            )
        if any(not math.isfinite(mean) for mean in self.mean) or any(
            not 0 < std < math.inf for std in self.std
        ):
            raise TfliteAsrError("front end: a mean is no number or a std is not above 0; measure them again")

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        return round(self.hop_seconds * self.sample_rate)

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give: only whole windows count unless centred."""
        if self.centre:
            return samples // self.hop_samples + (0 if self.drop_last else 1)
        return 0 if samples < self.window_samples else 1 + (samples - self.window_samples) // self.hop_samples

    def samples(self, frames: int) -> int:
        """The fewest samples that give `frames` frames."""
        if self.centre:
            return (frames - (0 if self.drop_last else 1)) * self.hop_samples
        return (frames - 1) * self.hop_samples + self.window_samples

    def reach(self, frames: int) -> int:
        """Samples that `frames` frames look at, the first being the first of the audio; centred frames look on."""
        return max((frames - 1) * self.hop_samples + self.window_samples - self.samples_before, 0)

    @property
    def samples_before(self) -> int:
        """Samples before the first that the first frame's window covers: 0 unless centred."""
        if not self.centre:
            return 0
        return self.fft_size // 2 - (self.fft_size - self.window_samples) // 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML and JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FrontEnd:
        """Inverse of `to_dict`.

        Raises:
            TfliteAsrError: an unknown key (the known ones are listed) or a value of the wrong type.
        """
        known = {f.name: type(f.default) for f in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise TfliteAsrError(
                f"front end: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}"
            )
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        for name, value in given.items():
            kind = known[name]
            fits = type(value) is kind or (kind is float and type(value) is int)
            if not fits or (kind is tuple and any(type(v) not in (int, float) for v in value)):
                raise TfliteAsrError(f"front end: {name} is {value!r}; give {_KINDS[kind]}")
        return cls(**given)

    @property
    def top_hz(self) -> float:
        return self.high_hz or self.sample_rate / 2

    @property
    def seconds_per_frame(self) -> float:
        return self.hop_samples / self.sample_rate if self.sample_rate else math.nan
