"""Arm64 instructions as 32-bit words, and the smallest ELF file that runs them.

The words are written from the encoding tables of the Arm Architecture Reference Manual, with registers 0, 1, 2.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

ENTRY = 0x400078  # behind the ELF header and its one program header

DOT = {
    "sdot v0.4s, v1.16b, v2.16b": 0x4E829420,
    "udot v0.2s, v1.8b, v2.8b": 0x2E829420,
    "sdot v0.4s, v1.16b, v2.4b[0]": 0x4F82E020,
    "sdot v0.4s, v1.16b, v2.4b[3]": 0x4FA2E820,
    "udot v0.4s, v1.16b, v2.4b[0]": 0x6F82E020,
    "usdot v0.4s, v1.16b, v2.16b": 0x4E829C20,
    "usdot v0.4s, v1.16b, v2.4b[0]": 0x4F82F020,
    "sudot v0.4s, v1.16b, v2.4b[0]": 0x4F02F020,
    "smmla v0.4s, v1.16b, v2.16b": 0x4E82A420,
    "ummla v0.4s, v1.16b, v2.16b": 0x6E82A420,
    "usmmla v0.4s, v1.16b, v2.16b": 0x4E82AC20,
}
VECTOR = {
    "add v0.4s, v1.4s, v2.4s": 0x4EA28420,
    "fmla v0.4s, v1.4s, v2.4s": 0x4E22CC20,
    "fmla v0.4s, v1.4s, v2.s[0]": 0x4F821020,
    "smlal v0.4s, v1.4h, v2.h[0]": 0x0F422020,
    "sqrdmlah v0.4s, v1.4s, v2.4s": 0x6E828420,
    "bfdot v0.4s, v1.8h, v2.8h": 0x6E42FC20,
    "bfmmla v0.4s, v1.8h, v2.8h": 0x6E42EC20,
    "tbl v0.16b, {v1.16b}, v2.16b": 0x4E020020,
    "fadd s0, s1, s2": 0x1E222820,
}
MEMORY = {
    "ldr x0, [sp]": 0xF94003E0,
    "str w0, [sp]": 0xB90003E0,
    "ldp x0, x1, [sp]": 0xA94007E0,
    "ldr q0, [sp]": 0x3DC003E0,
    "str q0, [sp]": 0x3D8003E0,
    "ld1 {v0.16b}, [sp]": 0x4C4073E0,
    "ldxr x0, [sp]": 0xC85F7FE0,
}
OTHER = {
    "nop": 0xD503201F,
    "add x0, x1, x2": 0x8B020020,
    "madd x0, x1, x2, x3": 0x9B020C20,
    "movz x0, #1": 0xD2800020,
}


def movz(register: int, value: int) -> int:
    return 0xD2800000 | value << 5 | register


def mark(label: int) -> list[int]:
    """getpriority(0x5afe, label): four instructions, the last of which is the mark."""
    return [movz(8, 141), movz(0, 0x5AFE), movz(1, label), 0xD4000001]


def loop(times: int, body: Sequence[int]) -> list[int]:
    """`times` runs of the body, x9 counting down: 1 + times * (2 + the body's) instructions."""
    back = -(len(body) + 1)
    subs, branch = 0xF1000529, 0x54000001 | (back & 0x7FFFF) << 5
    return [movz(9, times), *body, subs, branch]


def write_elf(path: Path, words: Sequence[int]) -> Path:
    """A static arm64 program of these words, and an exit behind them."""
    code = struct.pack(f"<{len(words) + 3}I", *words, movz(8, 93), movz(0, 0), 0xD4000001)
    size = 120 + len(code)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, ENTRY, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    header += struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 0x1000)
    path.write_bytes(header + code)
    path.chmod(0o755)
    return path
