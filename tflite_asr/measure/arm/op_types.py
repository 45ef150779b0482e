"""From a kernel's name to the kind of op that it serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def op_type(function: str) -> str:
    """The kind of op that a function of the runtime serves; the function's own name where that is not known."""
    return function


def count_by_op_type(functions: Mapping[str, int]) -> dict[str, int]:
    """Instructions by kind of op, most first."""
    counted: Counter[str] = Counter()
    for name, total in functions.items():
        counted[op_type(name)] += total
    return dict(counted.most_common())
