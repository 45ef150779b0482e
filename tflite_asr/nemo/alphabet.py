"""The pieces of a CTC decoder: characters, or a SentencePiece vocabulary; NeMo puts the blank behind them."""

from __future__ import annotations

from collections.abc import Iterator

from tflite_asr.errors import TfliteAsrError
from tflite_asr.nemo.archive import Archive
from tflite_asr.nemo.config import Section
from tflite_asr.tokens import BLANK_MARK, Tokens

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BYTE_PIECE = 6  # SentencePiece's type of pieces such as <0x0A>


def read_tokens(config: Section, decoder: Section, archive: Archive) -> Tokens:
    """The pieces in the order of the logits, the blank last.

    A SentencePiece model in the archive says what they are; the config's vocabulary must then say the same.

    Raises:
        TfliteAsrError: another kind of tokenizer, no vocabulary, or two that differ.
    """
    vocabulary = decoder.take("vocabulary", list, [])
    if wrong := [piece for piece in vocabulary if not isinstance(piece, str)]:
        raise TfliteAsrError(f"{archive.path}: decoder.vocabulary holds {wrong[0]!r}; a piece is a string")
    pieces = list(vocabulary)
    if "tokenizer" in config:
        tokenizer = config.section("tokenizer")
        tokenizer.only("type", "bpe")
        stored = sentence_pieces(_model(tokenizer, archive), str(archive.path))
        if pieces and pieces != stored:
            raise TfliteAsrError(
                f"{archive.path}: decoder.vocabulary and the tokenizer differ; save the model again"
            )
        pieces = stored
    elif "labels" in config and pieces and config.take("labels", list) != pieces:
        raise TfliteAsrError(f"{archive.path}: labels and decoder.vocabulary differ; save the model again")
    classes = decoder.take("num_classes", int, -1)
    if not pieces or classes not in (-1, len(pieces)):
        raise decoder.refuse("num_classes", f"the vocabulary has {len(pieces)} pieces")
    try:
        return Tokens((*pieces, BLANK_MARK), blank_id=len(pieces))
    except TfliteAsrError as error:
        raise TfliteAsrError(f"{archive.path}: decoder.vocabulary: {error}") from error


def _model(tokenizer: Section, archive: Archive) -> bytes:
    """The SentencePiece model that the config names (`nemo:HASH_tokenizer.model`)."""
    name = tokenizer.take("model_path", str).removeprefix("nemo:").rsplit("/", 1)[-1]
    if name not in archive.others:
        raise tokenizer.refuse("model_path", "the archive holds no such file")
    return archive.others[name]


def sentence_pieces(data: bytes, where: str) -> list[str]:
    """The pieces of a SentencePiece model, a protobuf: field 1 a piece, in it field 1 its string, 3 its type.

    Raises:
        TfliteAsrError: another kind of file, or pieces that are bytes, which no text can be joined from.
    """
    pieces = []
    try:
        for number, value in _fields(data):
            if number == 1 and isinstance(value, bytes):
                piece = dict(_fields(value))
                text = piece[1]
                assert isinstance(text, bytes)
                if piece.get(3) == _BYTE_PIECE:
                    raise TfliteAsrError(
                        f"{where}: tokenizer piece {text.decode()!r} is a byte (byte_fallback), which is not supported"
                    )
                pieces.append(text.decode("utf-8"))
    except (IndexError, KeyError, ValueError, AssertionError) as error:
        raise TfliteAsrError(f"{where}: its tokenizer is no SentencePiece model; save it again") from error
    return pieces


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protobuf message; IndexError or ValueError where it is none."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    while position < len(data):
        number, kind = divmod(varint(), 8)
        if kind == _VARINT:
            yield number, varint()
            continue
        if kind not in (_FIXED64, _BYTES, _FIXED32):
            raise ValueError(f"wire type {kind}")
        size = varint() if kind == _BYTES else 8 if kind == _FIXED64 else 4
        if position + size > len(data):
            raise IndexError("a field beyond the end")
        yield number, data[position : position + size]
        position += size
