"""A model rewritten, equal in float, into layers whose TFLite ops have fast integer kernels and leave nothing in float.

What needs no rule, because the converter already writes ops of the policy table (tests/lowering hold it): Dense
on any rank, Conv1D and Conv2D, gelu of both kinds (GELU), silu (LOGISTIC, MUL), the gated linear unit (SPLIT or
STRIDED_SLICE, LOGISTIC, MUL), softmax over the last axis, and batch norm, which it folds into the product
before it or writes as MUL, ADD.
"""

from __future__ import annotations

from tflite_asr.lowering.graph import lower

__all__ = ["lower"]
