"""What the quantiser must know of single ops, as data: who shares a scale, whose output scale is fixed,
what may be folded.

Read off TensorFlow 2.21 (`lite/kernels`, `compiler/mlir/lite/ir/tfl_ops.td`) and tried op by op on LiteRT
2.3.0's XNNPACK, builtin and reference kernels.
"""

from __future__ import annotations

# Ops whose int8 kernels only move or choose values: the output and these operands have one scale and zero
# point.
SAME_SCALE: dict[str, tuple[int, ...]] = {
    "AVERAGE_POOL_2D": (0,),
    "BROADCAST_TO": (0,),
    "EXPAND_DIMS": (0,),
    "GATHER": (0,),
    "GATHER_ND": (0,),
    "MAX_POOL_2D": (0,),
    "MINIMUM": (0, 1),
    "MIRROR_PAD": (0,),
    "PAD": (0,),
    "REDUCE_MAX": (0,),
    "REDUCE_MIN": (0,),
    "RESHAPE": (0,),
    "RESIZE_NEAREST_NEIGHBOR": (0,),
    "SLICE": (0,),
    "SPACE_TO_DEPTH": (0,),
    "SPLIT": (1,),
    "SPLIT_V": (0,),
    "SQUEEZE": (0,),
    "STRIDED_SLICE": (0,),
    "TRANSPOSE": (0,),
    "UNPACK": (0,),
}

# Ops whose int8 kernels have their output scale built in: the (minimum, maximum) that comes to it.
FIXED_OUTPUT: dict[str, tuple[float, float]] = {
    "LOGISTIC": (0.0, 255 / 256),
    "SOFTMAX": (0.0, 255 / 256),
    "TANH": (-1.0, 127 / 128),
}

# Ops that AI Edge Quantizer leaves in float between DEQUANTIZE and QUANTIZE although the runtime has them
# in int8. Not NEG: its int8 kernel negates the stored integers, whatever the zero point, and turns -128
# into -128.
FOLDABLE = frozenset(
    {
        "ABS",
        "ELU",
        "EXP",
        "EXPAND_DIMS",
        "LEAKY_RELU",
        "LOG",
        "MINIMUM",
        "REDUCE_MAX",
        "RELU6",
        "SPLIT_V",
        "SQUEEZE",
    }
)

# The op version that TensorFlow 2.21 writes where an activation is int8; ops that are not listed keep
# theirs. A version that is already higher (five dimensions, a newer option) stays. FULLY_CONNECTED without
# a bias is 5.
INT8_VERSIONS: dict[str, int] = {
    "ABS": 2,
    "ADD": 2,
    "ARG_MAX": 2,
    "AVERAGE_POOL_2D": 2,
    "BATCH_MATMUL": 2,
    "BROADCAST_TO": 3,
    "CAST": 3,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2,
    "EQUAL": 2,
    "EXP": 2,
    "FULLY_CONNECTED": 4,
    "GATHER": 2,
    "GELU": 2,
    "GREATER": 2,
    "LESS": 2,
    "LOG": 2,
    "LOGISTIC": 2,
    "LOG_SOFTMAX": 2,
    "MAXIMUM": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MINIMUM": 2,
    "MIRROR_PAD": 2,
    "MUL": 2,
    "NOT_EQUAL": 2,
    "PACK": 2,
    "PAD": 2,
    "PADV2": 2,
    "REDUCE_MAX": 2,
    "REDUCE_MIN": 2,
    "RELU": 2,
    "RELU6": 2,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "REVERSE_V2": 3,
    "RSQRT": 2,
    "SLICE": 2,
    "SOFTMAX": 2,
    "SPACE_TO_DEPTH": 2,
    "SPLIT": 2,
    "SQRT": 2,
    "SQUARED_DIFFERENCE": 2,
    "STRIDED_SLICE": 2,
    "SUB": 2,
    "SUM": 2,
    "TANH": 2,
    "TILE": 3,
    "TRANSPOSE": 2,
    "TRANSPOSE_CONV": 2,
    "UNPACK": 2,
}

# The version of a product of float activations by int8 weights (the dynamic scheme): with one scale, with one an output
# channel. A runtime that does not know the latter takes one scale for all: written as version 5, a dynamic
# FULLY_CONNECTED runs on tflite-runtime 2.14 and its logits are noise (0.7 dB from the float ones).
HYBRID_VERSIONS: dict[str, tuple[int, int]] = {
    "CONV_2D": (2, 5),
    "DEPTHWISE_CONV_2D": (4, 6),
    "FULLY_CONNECTED": (9, 12),
}
