"""The cores that can be emulated, as data: what QEMU is told, and the /proc/cpuinfo that LiteRT reads."""

from __future__ import annotations

from dataclasses import dataclass

from tflite_asr.errors import TfliteAsrError


@dataclass(frozen=True)
class Core:
    """One core.

    Attributes:
        name: as `--core` takes it.
        qemu_cpu: QEMU's -cpu. `max` computes wrong results with SME.
        part: Arm's part number, by which XNNPACK chooses kernels that are scheduled for a core.
        features: as Linux names them. They must be what qemu_cpu has: kernels are chosen by both.
    """

    name: str
    qemu_cpu: str
    part: int
    features: str

    def cpuinfo(self) -> str:
        """/proc/cpuinfo of a machine with one such core."""
        lines = {
            "processor": "0",
            "BogoMIPS": "49.15",
            "Features": self.features,
            "CPU implementer": "0x41",
            "CPU architecture": "8",
            "CPU variant": "0x1",
            "CPU part": f"{self.part:#05x}",
            "CPU revision": "0",
        }
        return "".join(f"{name}\t: {value}\n" for name, value in lines.items()) + "\n"


_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
_ARMV8_2 = f"{_ARMV8} atomics fphp asimdhp cpuid asimdrdm"

CORES = {
    core.name: core
    for core in (
        # The little core of most phones before 2021: no dot product.
        Core("cortex-a53", "cortex-a53", 0xD03, f"{_ARMV8} cpuid"),
        # The big core of 2019, and like the middle ones since: 8-bit dot products.
        Core("cortex-a76", "cortex-a76", 0xD0B, f"{_ARMV8_2} lrcpc dcpop asimddp"),
        # What phones have since 2022, 8-bit matrix products, as far as QEMU 7.2 has it: it knows no such core by name,
        # so this is all that it knows, without SVE, with the part number of a Cortex-A710.
        Core(
            "i8mm",
            "max,sve=off,sme=off,pauth=off",
            0xD47,
            f"{_ARMV8_2} jscvt fcma lrcpc dcpop sha3 asimddp sha512 asimdfhm flagm flagm2 frint i8mm bf16",
        ),
    )
}


def find_core(name: str) -> Core:
    """The core of that name.

    Raises:
        TfliteAsrError: lists the known ones.
    """
    if name not in CORES:
        raise TfliteAsrError(f"core {name!r} is unknown; give one of {', '.join(CORES)}")
    return CORES[name]
