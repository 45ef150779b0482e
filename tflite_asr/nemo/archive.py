"""A `.nemo` archive: a tar, gzipped or plain, whose few members are read into memory and never onto the disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from tflite_asr.errors import TfliteAsrError

CONFIG = "model_config.yaml"
WEIGHTS = "model_weights.ckpt"
_GZIP = b"\x1f\x8b"
_MEMBERS = 1000
# What an honest archive holds: weights hardly compress (float32 to about 93 %).
_BYTES = 8 << 30
_EXPANSION = 20
_SMALL = 16 << 20  # bytes: a config, a tokenizer


@dataclass(frozen=True)
class Archive:
    """What `.nemo` archives hold that matters here.

    Attributes:
        path: the file, for messages.
        config: `model_config.yaml`.
        weights: `model_weights.ckpt`.
        others: further small members (tokenizers), by base name.
    """

    path: Path
    config: bytes
    weights: bytes
    others: dict[str, bytes]


def read_archive(path: str | Path) -> Archive:
    """The members of an archive.

    Raises:
        TfliteAsrError: no such file, no tar, a truncated or damaged one; a member whose path leaves the archive, that
            is no plain file or that stands twice; more bytes than the file can honestly hold; no config or weights.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise TfliteAsrError(f"{path}: {what}; give a .nemo archive")
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP
            file.seek(0)
            stream: Any = gzip.GzipFile(fileobj=file) if compressed else file
            bounded = _Bounded(stream, path, min(_BYTES, _SMALL + _EXPANSION * path.stat().st_size))
            members = _members(bounded, path)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, UnicodeError, ValueError) as error:
        raise TfliteAsrError(
            f"{path}: is no whole .nemo archive ({' '.join(str(error).split())}); fetch or save it again"
        ) from error
    for name in (CONFIG, WEIGHTS):
        if name not in members:
            held = f", only {', '.join(sorted(members))}" if members else ""
            raise TfliteAsrError(f"{path}: holds no {name}{held}; save the model with save_to")
    return Archive(path, members.pop(CONFIG), members.pop(WEIGHTS), members)


def _members(stream: _Bounded, path: Path) -> dict[str, bytes]:
    """Plain files by base name; those beside the weights that are larger than a tokenizer are not kept."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar:
        for count, member in enumerate(tar, 1):
            if count > _MEMBERS:
                raise TfliteAsrError(
                    f"{path}: holds more than {_MEMBERS} members; a .nemo archive has a handful"
                )
            if not 0 <= member.size <= stream.most:  # a stream is read through, even over what does not exist
                raise TfliteAsrError(
                    f"{path}: member {member.name!r} claims {member.size:,} bytes, which no .nemo archive of this size "
                    "holds; do not trust the file"
                )
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
                raise TfliteAsrError(
                    f"{path}: member {member.name!r} lies outside the archive; do not trust the file"
                )
            if member.isdir():
                continue
            if not member.isreg():
                raise TfliteAsrError(
                    f"{path}: member {member.name!r} is a link or a device; do not trust the file"
                )
            if name.name != WEIGHTS and member.size > _SMALL:
                if name.name == CONFIG:
                    raise TfliteAsrError(
                        f"{path}: {CONFIG} is {member.size:,} bytes; no config is larger than {_SMALL:,}"
                    )
                continue
            if name.name in found:
                raise TfliteAsrError(f"{path}: {name.name} stands twice; save the model again")
            held = tar.extractfile(member)
            assert held is not None  # it is a regular file
            data = held.read()
            if len(data) != member.size:
                raise tarfile.ReadError(f"{name.name} ends early")
            found[name.name] = data
    return found


class _Bounded(io.RawIOBase):
    """A stream that gives no more than so many bytes: a small file that unpacks to gigabytes is refused on the way."""

    def __init__(self, stream: Any, path: Path, most: int) -> None:
        self._stream, self._path, self._left, self.most = stream, path, most, most

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._left + 1 if size is None or size < 0 else min(size, self._left + 1)
        data = self._stream.read(wanted)
        self._left -= len(data)
        if self._left < 0:
            raise TfliteAsrError(
                f"{self._path}: unpacks to more than {self.most:,} bytes, which no .nemo archive of its size does; "
                "do not trust the file"
            )
        return data
