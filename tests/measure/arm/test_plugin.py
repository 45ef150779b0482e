"""The counting plugin, on programs written word by word, of which every instruction is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.measure.arm.words import DOT, ENTRY, MEMORY, OTHER, VECTOR, loop, mark, write_elf
from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm.emulator import Emulator
from tflite_asr.measure.arm.layout import compile_plugin

SDOT, ADD, LDR = DOT["sdot v0.4s, v1.16b, v2.16b"], VECTOR["add v0.4s, v1.4s, v2.4s"], MEMORY["ldr x0, [sp]"]


def test_a_compiler_that_is_missing_is_one_line_that_says_what_to_install(tmp_path: Path):
    with pytest.raises(TfliteAsrError, match=r"^no-such-gcc is not installed.*apt-get install gcc") as told:
        compile_plugin(tmp_path / "plugin.so", "no-such-gcc")
    assert "\n" not in str(told.value)


def test_a_loop_is_counted_to_the_instruction(bare_core: Emulator, tmp_path: Path):
    program = write_elf(tmp_path / "loop", [*mark(1), *loop(1000, [SDOT, LDR, ADD]), *mark(2), *mark(3)])
    counted = bare_core.execute([str(program)], tmp_path)
    # The loop's own: its counter, and a subtraction and a branch each time; then the four of the mark.
    assert counted[2].sums() == {"total": 1 + 1000 * 5 + 4, "dot": 1000, "vector": 1000, "memory": 1000}
    assert counted[3].sums() == {"total": 4, "dot": 0, "vector": 0, "memory": 0}


def test_each_kind_of_instruction_falls_into_its_class(bare_core: Emulator, tmp_path: Path):
    kinds = {"dot": DOT, "vector": VECTOR, "memory": MEMORY, "other": OTHER}
    wanted = [(name, kind, word) for kind, words in kinds.items() for name, word in words.items()]
    program = mark(99)
    for label, (_, _, word) in enumerate(wanted, 100):
        program += [word, *mark(label)]
    counted = bare_core.execute([str(write_elf(tmp_path / "kinds", program))], tmp_path)
    for label, (name, kind, _) in enumerate(wanted, 100):
        sums = counted[label].sums()
        assert sums.pop("total") == 5, name
        assert sums == {c: int(c == kind) for c in ("dot", "vector", "memory")}, name


def test_runs_between_marks_of_one_label_are_added(bare_core: Emulator, tmp_path: Path):
    inference = [*mark(0), *loop(10, [SDOT]), *mark(1)]
    program = write_elf(tmp_path / "twice", [*inference, *loop(77, [ADD]), *inference])
    counted = bare_core.execute([str(program)], tmp_path)
    assert counted[1].sums() == {"total": 2 * (1 + 30 + 4), "dot": 20, "vector": 0, "memory": 0}


def test_a_block_stands_at_the_address_of_its_code(bare_core: Emulator, tmp_path: Path):
    program = write_elf(tmp_path / "loop", [*mark(0), *loop(50, [SDOT]), *mark(1)])
    blocks = bare_core.execute([str(program)], tmp_path)[1]
    body = ENTRY + 4 * (4 + 1)
    assert (
        blocks.counts[blocks.addresses == body].sum(axis=0)[0] == 49 * 3
    )  # the first time is part of what leads in


def test_a_program_that_fails_is_one_line(bare_core: Emulator, tmp_path: Path):
    program = write_elf(tmp_path / "bad", [0x00000000])  # not an instruction
    with pytest.raises(TfliteAsrError, match=r"^i8mm: the emulated program failed \(SIGILL") as told:
        bare_core.execute([str(program)], tmp_path)
    assert "\n" not in str(told.value)
