"""Which function a block of code belongs to: the symbol tables of the arm64 libraries, read without a tool."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm.emulator import Blocks, Mapped

_SECTION = np.dtype(
    {
        "names": ["kind", "offset", "size", "link"],
        "formats": ["<u4", "<u8", "<u8", "<u4"],
        "offsets": [4, 24, 32, 40],
        "itemsize": 64,
    }
)
_SYMBOL = np.dtype(
    {
        "names": ["name", "info", "section", "value", "size"],
        "formats": ["<u4", "u1", "<u2", "<u8", "<u8"],
        "offsets": [0, 4, 6, 8, 16],
        "itemsize": 24,
    }
)
_SYMBOL_TABLES = (2, 11)  # SHT_SYMTAB, SHT_DYNSYM
_FUNCTIONS = (2, 10)  # STT_FUNC, STT_GNU_IFUNC: not the mapping symbols $x and $d that mark code and data


@dataclass(frozen=True)
class Symbols:
    """A library's functions, sorted by address.

    Attributes:
        addresses, sizes: uint64 [functions], as linked; size 0 where the table has none.
        names: as the linker has them.
    """

    addresses: np.ndarray
    sizes: np.ndarray
    names: tuple[str, ...]

    def find(self, address: int) -> str | None:
        """The function that holds an address, None between functions."""
        index = int(np.searchsorted(self.addresses, np.uint64(address), side="right")) - 1
        if index < 0:
            return None
        size = int(self.sizes[index])
        inside = size == 0 or address < int(self.addresses[index]) + size
        return self.names[index] if inside else None


@lru_cache(maxsize=32)
def read_symbols(path: Path) -> Symbols:
    """The functions of a little-endian 64-bit ELF file, from both of its symbol tables where it has them.

    Raises:
        TfliteAsrError: no such file.
    """
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise TfliteAsrError(f"{path}: is no 64-bit little-endian ELF file; prepare the core again")
    start, count = int(np.frombuffer(data, "<u8", 1, 0x28)[0]), int(np.frombuffer(data, "<u2", 1, 0x3C)[0])
    sections = np.frombuffer(data, _SECTION, count, start)
    found: dict[int, tuple[int, str]] = {}
    for table in sections[np.isin(sections["kind"], _SYMBOL_TABLES)]:
        symbols = np.frombuffer(data, _SYMBOL, int(table["size"]) // _SYMBOL.itemsize, int(table["offset"]))
        strings = int(sections[table["link"]]["offset"])
        chosen = symbols[np.isin(symbols["info"] & 15, _FUNCTIONS) & (symbols["section"] != 0)]
        for symbol in chosen:
            at = strings + int(symbol["name"])
            name = data[at : data.index(b"\0", at)].decode("utf-8", "replace")
            found.setdefault(int(symbol["value"]), (int(symbol["size"]), name))
    ordered = sorted(found)
    return Symbols(
        np.array(ordered, np.uint64),
        np.array([found[address][0] for address in ordered], np.uint64),
        tuple(found[address][1] for address in ordered),
    )


def count_by_function(blocks: Blocks, maps: Sequence[Mapped]) -> dict[str, int]:
    """Instructions of each function, most first; `[library]` where a library names no function there."""
    counted: Counter[str] = Counter()
    for address, total in zip(blocks.addresses.tolist(), blocks.counts[:, 0].tolist(), strict=True):
        counted[_name(address, maps)] += total
    readable = demangle(counted)
    merged: Counter[str] = Counter()
    for name, total in counted.items():
        merged[readable[name]] += total
    return dict(merged.most_common())


def _name(address: int, maps: Sequence[Mapped]) -> str:
    for mapped in maps:
        if mapped.base <= address < mapped.end:
            path = Path(mapped.path)
            found = read_symbols(path).find(address - mapped.base) if path.is_file() else None
            return found or f"[{path.name}]"
    return "[elsewhere]"


def demangle(names: Iterable[str]) -> dict[str, str]:
    """C++ names as they are written in source, by binutils' c++filt; unchanged where that is not installed."""
    wanted = list(names)
    if not shutil.which("c++filt") or not any(name.startswith("_Z") for name in wanted):
        return {name: name for name in wanted}
    done = subprocess.run(["c++filt"], input="\n".join(wanted), capture_output=True, text=True)
    plain = done.stdout.split("\n")
    return (
        dict(zip(wanted, plain, strict=True))
        if len(plain) == len(wanted)
        else {name: name for name in wanted}
    )
