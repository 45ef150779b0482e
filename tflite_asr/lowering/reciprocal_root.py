"""1 / sqrt(x) as exp(-log(x) / 2).

LiteRT computes each value of an int8 RSQRT by Newton's iteration: 78 ns or 355 A76 instructions, where LOG and EXP look
theirs up in tables of bytes: .6 ns or 10. A Conformer takes nine such roots a frame and block.

AI Edge Quantizer leaves LOG and EXP in float; the finishing pass folds them (policy.py).
"""

from __future__ import annotations

from typing import Any

from keras import ops


def reciprocal_root(x: Any) -> Any:
    """x ** -0.5, of the same shape; x: float32, above 0."""
    return ops.exp(ops.log(x) * -0.5)
