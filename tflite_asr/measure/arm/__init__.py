"""An ARM phone core without a phone: bundles under QEMU's user-mode emulation, their instructions counted."""

from tflite_asr.measure.arm.bundle import CoreRun, count_bundle
from tflite_asr.measure.arm.cores import CORES, Core, find_core
from tflite_asr.measure.arm.count import (
    InstructionCounts,
    OutputDifference,
    compare_outputs,
    count_instructions,
)
from tflite_asr.measure.arm.layout import cores_folder, prepare

__all__ = [
    "CORES",
    "Core",
    "CoreRun",
    "InstructionCounts",
    "OutputDifference",
    "compare_outputs",
    "cores_folder",
    "count_bundle",
    "count_instructions",
    "find_core",
    "prepare",
]
