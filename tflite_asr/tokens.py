"""Alphabet and text: pieces, the blank, and the one rule by which every text is normalised."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tflite_asr.errors import TfliteAsrError

SPACE_MARK = "\u2581"  # SentencePiece's sign for a space: a file of pieces stays readable line by line
BLANK_MARK = "<blank>"

NORMALISATION = (
    "Unicode NFKD without accents; lower case; typographic apostrophes become '; digits are read one by one "
    "(7 -> seven, 0 -> zero); & becomes and; every other character outside a-z and ' becomes a space; runs of "
    "spaces become one"
)
_DIGITS = dict(zip("0123456789", "zero one two three four five six seven eight nine".split(), strict=True))


def normalise_text(text: str) -> str:
    """Text as references and hypotheses are compared: see `NORMALISATION`."""
    text = unicodedata.normalize("NFKD", text.replace("\u2019", "'").replace("\u02bc", "'").replace("`", "'"))
    text = "".join(c for c in text if not unicodedata.combining(c)).lower().replace("&", " and ")
    text = re.sub(r"[0-9]", lambda digit: f" {_DIGITS[digit.group()]} ", text)
    return " ".join(re.sub(r"[^a-z' ]", " ", text).split())


@dataclass(frozen=True)
class Tokens:
    """Output pieces of a model, in the order of its logits.

    Attributes:
        pieces: one string a logit; the space piece is " " (or a SentencePiece with its mark), the blank `<blank>`.
        blank_id: the index of CTC's blank.
    """

    pieces: tuple[str, ...]
    blank_id: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.blank_id < len(self.pieces):
            raise TfliteAsrError(
                f"blank id {self.blank_id} is outside the {len(self.pieces)} pieces; give 0 to {len(self.pieces) - 1}"
            )
        spelled: set[str] = set()
        for index, piece in enumerate(self.pieces):
            if not piece or set(piece) & {"\n", "\r"}:
                raise TfliteAsrError(
                    f"piece {index} is {piece!r}; a piece is at least one character on one line"
                )
            if (spelling := piece.replace(SPACE_MARK, " ")) in spelled:
                raise TfliteAsrError(f"piece {piece!r} stands twice in the token list; remove one")
            spelled.add(spelling)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, longest piece first.

        Raises:
            TfliteAsrError: a character that no piece spells.
        """
        ids, position = [], 0
        index = {p.replace(SPACE_MARK, " "): i for i, p in enumerate(self.pieces) if i != self.blank_id}
        longest = max(map(len, index), default=0)
        while position < len(text):
            for size in range(min(longest, len(text) - position), 0, -1):
                if (found := index.get(text[position : position + size])) is not None:
                    ids.append(found)
                    position += size
                    break
            else:
                raise TfliteAsrError(
                    f"character {text[position]!r} of {text!r} is outside the alphabet; normalise or mend the text"
                )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, blanks left out, spaces at both ends stripped."""
        kept = (self.pieces[i] for i in ids if i != self.blank_id)
        return " ".join("".join(kept).replace(SPACE_MARK, " ").split())

    def write(self, path: str | Path) -> None:
        """Write `piece id` a line."""
        Path(path).write_text(self.to_text(), encoding="utf-8")

    def to_text(self) -> str:
        """`piece id` a line, a space written as SentencePiece's mark."""
        return "".join(f"{p.replace(' ', SPACE_MARK)} {i}\n" for i, p in enumerate(self.pieces))

    @classmethod
    def read(cls, path: str | Path, blank_id: int | None = None) -> Tokens:
        """Read `piece id` a line; the blank is `blank_id`, or the piece `<blank>`.

        Raises:
            TfliteAsrError: a missing file, a broken line, ids that are not 0..n-1, or no blank.
        """
        path = Path(path)
        if not path.is_file():
            raise TfliteAsrError(f"{path}: no such token file; give one `piece id` a line")
        try:
            # Not splitlines: it would also cut at characters that may well be pieces.
            lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TfliteAsrError(f"{path}: is no UTF-8 text ({error}); give one `piece id` a line") from error
        pieces: dict[int, str] = {}
        for number, line in enumerate(lines, 1):
            piece, _, index = line.rpartition(" ")
            if not piece or not index.isdecimal():
                raise TfliteAsrError(f"{path}:{number}: {line!r} is not `piece id`; mend the line")
            if int(index) in pieces:
                raise TfliteAsrError(f"{path}:{number}: id {int(index)} stands twice; mend the line")
            pieces[int(index)] = piece
        if sorted(pieces) != list(range(len(pieces))):
            raise TfliteAsrError(f"{path}: ids must be 0 to {len(pieces) - 1}, each once; mend the file")
        ordered = tuple(" " if pieces[i] == SPACE_MARK else pieces[i] for i in range(len(pieces)))
        if blank_id is None:
            if BLANK_MARK not in ordered:
                raise TfliteAsrError(f"{path}: no piece {BLANK_MARK}; give the blank's id")
            blank_id = ordered.index(BLANK_MARK)
        try:
            return cls(ordered, blank_id)
        except TfliteAsrError as error:
            raise TfliteAsrError(f"{path}: {error}") from error


CHARACTERS = Tokens((BLANK_MARK, " ", "'", *"abcdefghijklmnopqrstuvwxyz"), blank_id=0)
