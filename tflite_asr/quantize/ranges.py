"""Between which values each tensor lies: one artefact, whoever made it (calibration, low-bit training,
repair).

Keys are the stable names of `tflite_asr.quantize.naming`, which all windows of a model share, so one set
serves them all. Values are rounded as they enter: what follows is then the same, bit by bit, on every run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tflite_asr.errors import TfliteAsrError

_DIGITS = 6  # significant; summation order moves float32 activations in the seventh


def family(signature: str) -> str:
    """A signature's name without the window's length: `ctc` of `ctc_400`, `main` of `main`."""
    return signature.rsplit("_", 1)[0] if signature[-1:].isdigit() else signature


@dataclass(frozen=True)
class Range:
    """What one tensor's float values span.

    minimum, maximum: rounded to six significant digits. source: who found it, for example
    `calibration:min_max`. signature: of which function of the model, without the window length (`ctc`,
    `main`).
    """

    minimum: float
    maximum: float
    source: str = ""
    signature: str = ""

    def __post_init__(self) -> None:
        low, high = (float(f"{value:.{_DIGITS - 1}e}") for value in (self.minimum, self.maximum))
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise TfliteAsrError(
                f"range [{self.minimum}, {self.maximum}] from {self.source or 'nowhere'}: not a finite interval"
            )
        object.__setattr__(self, "minimum", low)
        object.__setattr__(self, "maximum", high)

    def union(self, other: Range) -> Range:
        """The smallest range that holds both; source and signature are this one's."""
        low, high = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        return Range(low, high, self.source, self.signature)


@dataclass(frozen=True)
class Ranges(Mapping[str, Range]):
    """Tensor name to range, in the order of names."""

    entries: Mapping[str, Range]

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", dict(sorted(self.entries.items())))

    def __getitem__(self, name: str) -> Range:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def to_json(self) -> str:
        """One line a tensor; `from_json` gives back an equal artefact."""
        lines = [
            f"  {json.dumps(name)}: {json.dumps([one.minimum, one.maximum, one.source, one.signature])}"
            for name, one in self.entries.items()
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """Raises TfliteAsrError where `text` is not what `to_json` writes."""
        try:
            return cls({name: Range(*values) for name, values in json.loads(text).items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise TfliteAsrError(
                f"ranges: not as to_json writes them ({' '.join(str(error).split())[:120]})"
            ) from error

    @property
    def sha256(self) -> str:
        """Of the JSON: equal ranges, equal digest."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
