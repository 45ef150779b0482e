"""What becomes an integer, and of how many bits: the named quantisation schemes.

The grammar of a name is AI Edge Quantizer's, `<when>_w<weights>_a<activations>`:

- `float32`: nothing is quantised.
- `<when>`: `dynamic`, activations stay float in the file and the runtime quantises them as it runs; or `static`, their
  ranges are fixed beforehand, which needs calibration.
- `<weights>` and `<activations>`: `i` and a number of bits for integers, `fp32` for float. `wi8` is one scale for each
  output channel, symmetric; `ai8` is one scale and one zero point for each tensor.

`int8` is short for `static_wi8_ai8`. That a file is integer-only is a property that `tflite_asr.audit`
proves, never a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tflite_asr.errors import TfliteAsrError

When = Literal["never", "dynamic", "static"]


@dataclass(frozen=True)
class Scheme:
    """One way to quantise a model.

    name: as the grammar above spells it. when: at which moment activations meet their scale.
    weight_bits, activation_bits: None where the values stay float32.
    lowered: whether the model is rewritten into ops with fast integer kernels first.
    """

    name: str
    when: When
    weight_bits: int | None = None
    activation_bits: int | None = None

    @property
    def needs_ranges(self) -> bool:
        """Whether calibration must come first."""
        return self.when == "static"

    @property
    def lowered(self) -> bool:
        """Float schemes keep the model as its author wrote it; integer ones rewrite it."""
        return self.when == "static"


SCHEMES: dict[str, Scheme] = {
    one.name: one
    for one in (
        Scheme("float32", "never"),
        Scheme("dynamic_wi8_afp32", "dynamic", weight_bits=8),
        Scheme("static_wi8_ai8", "static", weight_bits=8, activation_bits=8),
    )
}
SHORT_NAMES: dict[str, str] = {"int8": "static_wi8_ai8"}


def scheme(name: str | Scheme) -> Scheme:
    """The scheme called `name` (or the one short for it). Raises TfliteAsrError, naming the known ones."""
    if isinstance(name, Scheme):
        return name
    try:
        return SCHEMES[SHORT_NAMES.get(name, name)]
    except KeyError:
        known = ", ".join([*SCHEMES, *(f"{short} (= {full})" for short, full in SHORT_NAMES.items())])
        raise TfliteAsrError(f"scheme {name!r}: unknown; the known ones are {known}") from None
