"""Text: one rule of normalisation, and pieces that spell it there and back."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tflite_asr.errors import TfliteAsrError
from tflite_asr.tokens import BLANK_MARK, CHARACTERS, NORMALISATION, Tokens, normalise_text

# A piece of a file may hold any character but a line's end; the space's mark stands for a space.
PIECES = st.lists(
    st.text(
        st.characters(exclude_characters="\n\r\u2581", exclude_categories=["Cs"]), min_size=1, max_size=4
    ),
    min_size=1,
    max_size=20,
    unique=True,
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("Café Zoë naïve", "cafe zoe naive"),
        ("don\u2019t \u02bcem rock`n roll", "don't 'em rock'n roll"),
        ("call 407", "call four zero seven"),
        ("B2B", "b two b"),
        ("salt & pepper", "salt and pepper"),
        ("R&B", "r and b"),
        ("  many \t\n spaces  ", "many spaces"),
        ("re-enter the co\u00adop", "re enter the co op"),
        ("\ufb01ne \u00bd x\u00b2", "fine one two x two"),
        ("\u0414\u0430 \u4f60", ""),
        ("...", ""),
        ("", ""),
    ],
)
def test_text_is_normalised_by_the_stated_rule(raw: str, expected: str) -> None:
    assert normalise_text(raw) == expected


def test_the_rule_is_stated_for_the_reader() -> None:
    for word in ("accents", "lower case", "apostrophes", "digits", "&"):
        assert word in NORMALISATION


@given(st.text())
def test_whatever_is_normalised_is_spelled_by_the_characters_and_stays_as_it_is(raw: str) -> None:
    text = normalise_text(raw)
    assert set(text) <= set(string.ascii_lowercase + "' ")
    assert normalise_text(text) == text
    assert CHARACTERS.decode(CHARACTERS.encode(text)) == text


def test_the_characters_are_blank_space_apostrophe_and_the_alphabet() -> None:
    assert CHARACTERS.blank_id == 0
    assert len(CHARACTERS.pieces) == 29
    assert CHARACTERS.encode("a b'z") == [3, 1, 4, 2, 28]
    assert CHARACTERS.decode([0, 3, 0, 0, 1, 4]) == "a b"


def test_the_longest_piece_is_taken_first() -> None:
    tokens = Tokens((BLANK_MARK, "a", "ab", "abc", "c", "\u2581a"))
    assert tokens.encode("abcab a") == [3, 2, 5]
    assert tokens.decode([3, 2, 5]) == "abcab a"


def test_the_blank_is_never_spelled() -> None:
    tokens = Tokens((BLANK_MARK, *"<blank>"), blank_id=0)
    assert 0 not in tokens.encode("<blank>")


@given(PIECES, st.data())
def test_ids_of_a_text_spell_that_text(pieces: list[str], data: st.DataObject) -> None:
    tokens = Tokens((BLANK_MARK, *(p for p in pieces if p != BLANK_MARK)))
    text = "".join(data.draw(st.lists(st.sampled_from([*tokens.pieces[1:], ""]), max_size=8)))
    try:
        ids = tokens.encode(text)
    except TfliteAsrError:
        return  # longest first may paint itself into a corner; then it says so
    assert "".join(tokens.pieces[i] for i in ids) == text
    assert tokens.decode(ids) == " ".join(text.split())


@given(pieces=PIECES)
def test_a_file_gives_the_pieces_back(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]) -> None:
    path = tmp_path_factory.mktemp("tokens") / "tokens.txt"
    tokens = Tokens(
        (*(p for p in pieces if p != BLANK_MARK and (p == " " or " " not in p)), BLANK_MARK), blank_id=0
    )
    tokens.write(path)
    assert Tokens.read(path, blank_id=0) == tokens


def test_a_file_has_a_piece_and_its_id_a_line(tmp_path: Path) -> None:
    CHARACTERS.write(tmp_path / "tokens.txt")
    lines = (tmp_path / "tokens.txt").read_text(encoding="utf-8").split("\n")
    assert lines[:4] == ["<blank> 0", "\u2581 1", "' 2", "a 3"]
    assert Tokens.read(tmp_path / "tokens.txt") == CHARACTERS


def test_a_file_of_windows_and_in_any_order_reads_alike(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_bytes("\ufeffb 2\r\n\u2581 1\r\n<blank> 0\r\n".encode())
    assert Tokens.read(tmp_path / "tokens.txt") == Tokens((BLANK_MARK, " ", "b"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: '' is not `piece id`"),
        (b"a\n", ":1: 'a' is not `piece id`"),
        (b"<blank> 0\nb x\n", ":2: 'b x' is not `piece id`"),
        ("<blank> 0\nb \u00b2\n".encode(), ":2: 'b \u00b2' is not `piece id`"),
        (b"<blank> 0\n 1\n", ":2: ' 1' is not `piece id`"),
        (b"<blank> 0\na 2\n", "ids must be 0 to 1, each once"),
        (b"<blank> 0\na 1\nb 1\n", ":3: id 1 stands twice"),
        (b"a 0\nb 1\n", "no piece <blank>; give the blank's id"),
        (b"<blank> 0\na 1\na 2\n", "piece 'a' stands twice"),
        (b"\xff\xfe\x00", "is no UTF-8 text"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(content)
    with pytest.raises(TfliteAsrError) as caught:
        Tokens.read(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TfliteAsrError, match="no such token file"):
        Tokens.read(tmp_path / "tokens.txt")


@pytest.mark.parametrize("blank_id", [-1, 2, 99])
def test_a_blank_outside_the_pieces_is_refused(tmp_path: Path, blank_id: int) -> None:
    with pytest.raises(TfliteAsrError, match=f"blank id {blank_id} is outside the 2 pieces"):
        Tokens(("a", "b"), blank_id)
    (tmp_path / "tokens.txt").write_text("a 0\nb 1\n")
    with pytest.raises(TfliteAsrError, match=r"tokens\.txt: blank id"):
        Tokens.read(tmp_path / "tokens.txt", blank_id)


@pytest.mark.parametrize("pieces", [("a", "b", "a"), (" ", "\u2581"), ("", "a"), ("a\nb", "c")])
def test_pieces_that_cannot_be_told_apart_are_refused(pieces: tuple[str, ...]) -> None:
    with pytest.raises(TfliteAsrError, match="piece"):
        Tokens(pieces)


@pytest.mark.parametrize(
    ("tokens", "text"), [(CHARACTERS, "na\u00efve"), (CHARACTERS, "A"), (Tokens((BLANK_MARK,)), "a")]
)
def test_a_character_outside_the_alphabet_is_named(tokens: Tokens, text: str) -> None:
    with pytest.raises(TfliteAsrError, match="is outside the alphabet"):
        tokens.encode(text)
