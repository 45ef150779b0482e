"""Which function a block belongs to, against binutils' nm on a library compiled here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm.emulator import Blocks, Mapped, read_counts, read_maps
from tflite_asr.measure.arm.symbols import count_by_function, demangle, read_symbols

# $x marks code and $d data inside a function of an arm64 library; here in one of any machine that has gcc.
SOURCE = r"""
int first(int a) { __asm__("\"$x\":"); return a + 1; }
int second(int a) { return a * 3; }
__asm__("\"$d\":");
static int __attribute__((noinline, used)) hidden(int a) { return a - 7; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc") or not shutil.which("nm"):
        pytest.skip("gcc and nm, which this is checked with, are not installed")
    folder = tmp_path_factory.mktemp("library")
    (folder / "three.c").write_text(SOURCE)
    out = folder / "libthree.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O0", str(folder / "three.c"), "-o", str(out)], check=True)
    return out


@pytest.fixture(scope="module")
def addresses(library: Path) -> dict[str, int]:
    listed = subprocess.run(["nm", "--defined-only", library], capture_output=True, text=True, check=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return {name: int(address, 16) for address, _, name in rows}


def test_functions_stand_where_nm_finds_them(library: Path, addresses: dict[str, int]):
    symbols = read_symbols(library)
    for name in ("first", "second", "hidden"):
        assert symbols.find(addresses[name]) == name
        assert symbols.find(addresses[name] + 1) == name


def test_marks_of_code_and_data_are_no_functions(library: Path, addresses: dict[str, int]):
    assert addresses["first"] <= addresses["$x"] < addresses["second"]
    symbols = read_symbols(library)
    assert symbols.find(addresses["$x"]) == "first"
    assert not [name for name in symbols.names if name.startswith("$")]


def test_an_address_before_every_function_belongs_to_none(library: Path):
    assert read_symbols(library).find(0) is None


def test_instructions_go_to_the_function_or_to_the_file(library: Path, addresses: dict[str, int]):
    base = 0x5500000000
    at = [base + addresses["second"], base + addresses["second"] + 4, base + addresses["hidden"], base, 0x10]
    blocks = Blocks(np.array(at, np.uint64), np.array([[n, 0, 0, 0] for n in (10, 5, 3, 2, 1)]))
    counted = count_by_function(blocks, [Mapped(str(library), base, base + 0x10000)])
    assert counted == {"second": 15, "hidden": 3, "[libthree.so]": 2, "[elsewhere]": 1}
    assert list(counted) == ["second", "hidden", "[libthree.so]", "[elsewhere]"]


def test_a_file_that_is_no_library_is_named(tmp_path: Path):
    (tmp_path / "text").write_text("not a library")
    with pytest.raises(TfliteAsrError, match="no 64-bit little-endian ELF file"):
        read_symbols(tmp_path / "text")


@pytest.mark.skipif(not shutil.which("c++filt"), reason="c++filt (binutils) is not installed")
def test_names_of_cplusplus_are_readable():
    mangled = "_ZN3ruy21Kernel8bitNeonDotprodERKNS_16KernelParams8bitILi8ELi8EEE"
    readable = demangle([mangled, "xnn_plain_c"])
    assert readable[mangled] == "ruy::Kernel8bitNeonDotprod(ruy::KernelParams8bit<8, 8> const&)"
    assert readable["xnn_plain_c"] == "xnn_plain_c"


def test_a_memory_map_gives_each_file_one_span():
    text = """\
5500000000-55002ee000 r--p 00000000 fe:00 1 /site/lib one.so
55002fd000-5500b2d000 r-xp 002ed000 fe:00 1 /site/lib one.so
5500c00000-5500c10000 rw-p 00000000 00:00 0
5500d00000-5500d10000 r-xp 00000000 fe:00 2 /lib/two.so
7ffe000000-7ffe001000 rw-p 00000000 00:00 0 [stack]
"""
    assert read_maps(text) == [
        Mapped("/site/lib one.so", 0x5500000000, 0x5500B2D000),
        Mapped("/lib/two.so", 0x5500D00000, 0x5500D10000),
    ]


def test_a_mark_without_blocks_counts_nothing(tmp_path: Path):
    (tmp_path / "counts.txt").write_text("mark 4\nmark 5\nff 3 10 1 2 3\n")
    counted = read_counts(tmp_path / "counts.txt")
    assert counted[4].sums()["total"] == 0
    assert counted[5].sums() == {"total": 30, "dot": 3, "vector": 6, "memory": 9}
