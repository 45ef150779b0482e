"""Numbers, ordinals and months in words, as `sentences.py` needs them."""

from __future__ import annotations

from vocabulary import words

DIGITS = words("zero one two three four five six seven eight nine")
TEENS = words("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")
MONTHS = words("january february march april may june july august september october november december")
WEEKDAYS = words("monday tuesday wednesday thursday friday saturday sunday")
TO_NINTH = words("first second third fourth fifth sixth seventh eighth ninth")
TO_TWENTIETH = words(
    """
    tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth
    twentieth
    """
)
ORDINALS = (
    *TO_NINTH,
    *TO_TWENTIETH,
    *(f"twenty {ordinal}" for ordinal in TO_NINTH),
    "thirtieth",
    "thirty first",
)


def below_hundred(n: int) -> str:
    """0..99 in words, 7 -> `seven`, 42 -> `forty two`."""
    if n < 20:
        return (DIGITS + TEENS)[n]
    return TENS[n // 10 - 2] + (f" {DIGITS[n % 10]}" if n % 10 else "")


def in_words(n: int, joiner: str = "") -> str:
    """0..999,999 in words; `joiner` (`and`) stands before the last two digits if given."""
    parts = []
    if n >= 1000:
        parts.append(in_words(n // 1000) + " thousand")
    if n % 1000 >= 100:
        parts.append(DIGITS[n % 1000 // 100] + " hundred")
    if n % 100 or not parts:
        parts += ([joiner] if parts and joiner else []) + [below_hundred(n % 100)]
    return " ".join(parts)
