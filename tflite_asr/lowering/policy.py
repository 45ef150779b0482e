"""What a lowered model may be made of, as data: op x type x runtime, who makes it integer, whether it is fast.

Every row is built, quantised, loaded and run in tests/lowering/test_policy.py; every lowered model in the tests
holds no other op. Measured on 400 x 144 activations, one thread of an x86-64 with VNNI: a fast row costs no
more in int8 than its float32 twin on XNNPACK, give or take a few microseconds; a slow one up to 400 times it.
"""

from __future__ import annotations

from dataclasses import dataclass

LITERT = "ai-edge-litert 2.3.0"
XNNPACK, BUILTIN = "xnnpack", "builtin"


@dataclass(frozen=True)
class OpPolicy:
    """One row.

    op: TFLite's name. types: of the activations it reads and writes. made_by: "quantizer" where AI Edge
    Quantizer takes it to int8, "finish" where it leaves it in float and the finishing pass folds it, "itself"
    where it reads and writes no float.
    kernels: those of the runtime that it was run on. fast: see the module. why: what the rules use it for, or
    avoid it for.
    """

    op: str
    made_by: str = "quantizer"
    fast: bool = True
    types: tuple[str, ...] = ("int8",)
    runtime: str = LITERT
    kernels: tuple[str, ...] = (XNNPACK, BUILTIN)
    why: str = ""


_ROWS = (
    # Products
    OpPolicy(
        "FULLY_CONNECTED", why="Dense, and per head the products of attention, whose filter is no constant"
    ),
    OpPolicy("CONV_2D", why="Conv1D and Conv2D"),
    OpPolicy("DEPTHWISE_CONV_2D", why="at most 25 taps"),
    OpPolicy(
        "BATCH_MATMUL",
        fast=False,
        why="22 ms where FULLY_CONNECTED per head takes 2: only in what no rule knows",
    ),
    # Element by element
    OpPolicy("ADD"),
    OpPolicy("SUB"),
    OpPolicy("MUL"),
    OpPolicy("LOGISTIC", why="silu, gated linear unit; output scale 1/256"),
    OpPolicy("TANH"),
    OpPolicy("GELU"),
    OpPolicy("ELU", made_by="finish", why="the exponentials of attention"),
    OpPolicy("EXP", made_by="finish", why="reciprocal roots"),
    OpPolicy(
        "LOG",
        made_by="finish",
        why="reciprocal roots; for TFLite 2.14, which lacks it, quantize/older.py writes its table",
    ),
    OpPolicy("RSQRT", fast=False, why="78 ns a value where LOG and EXP take .6"),
    OpPolicy("ABS", made_by="finish"),
    OpPolicy("LEAKY_RELU", made_by="finish"),
    OpPolicy("MINIMUM", made_by="finish"),
    OpPolicy("RELU", fast=False, why=".34 ms on its own; as the end of another op it is free"),
    OpPolicy("RELU6", made_by="finish", fast=False),
    OpPolicy("SQUARED_DIFFERENCE", fast=False, why=".37 ms where SUB and MUL take .01"),
    OpPolicy("DIV", fast=False, why="20 ms on 4 x 400 x 400"),
    OpPolicy("SQRT", fast=False),
    OpPolicy("HARD_SWISH", fast=False),
    # Along an axis
    OpPolicy("MEAN"),
    OpPolicy("SUM", why="wrong in the reference kernels; the rules take MEAN times the count"),
    OpPolicy("REDUCE_MIN"),
    OpPolicy("REDUCE_MAX", made_by="finish", why="attention"),
    OpPolicy(
        "SOFTMAX",
        fast=False,
        why="1.2 ms on 4 x 400 x 400 where the one written out takes .3; output scale 1/256",
    ),
    OpPolicy("AVERAGE_POOL_2D"),
    OpPolicy("MAX_POOL_2D"),
    # Moving values
    OpPolicy("RESHAPE"),
    OpPolicy("TRANSPOSE"),
    OpPolicy("PAD"),
    OpPolicy("SPLIT"),
    OpPolicy("SLICE"),
    OpPolicy("STRIDED_SLICE"),
    OpPolicy("CONCATENATION"),
    OpPolicy("PACK"),
    OpPolicy("QUANTIZE", made_by="itself", why="from one int8 scale to another, where ops must share one"),
    # Masks
    OpPolicy("SELECT_V2", types=("bool", "int8"), why="a bool mask as numbers; CAST stays in float"),
    OpPolicy("NOT_EQUAL", types=("int8", "bool")),
    OpPolicy("EQUAL", types=("int8", "bool")),
    OpPolicy("LOGICAL_AND", made_by="itself", types=("bool",)),
)

POLICY: dict[str, OpPolicy] = {row.op: row for row in _ROWS}
