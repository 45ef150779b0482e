"""From a kernel's name to the kind of op that it serves, as far as the name says it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

# The first rule that is found in a function's name. Upper case is the TFLite op; where several ops share a kernel, the
# words say what it does. XNNPACK names its kernels <type>_<kind>_..._ukernel__<instruction set>; KleidiAI's begin with
# kai_, ruy's and TFLite's own are C++.
MATRIX_PRODUCT = "matrix product (FULLY_CONNECTED, BATCH_MATMUL, 1x1 CONV_2D)"
PACKING = "packing and quantising a product's operands"
DISPATCH = "dispatch"
REST = "C library and what else no op is known of"
_RULES = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"^xnn_\w*igemm\w*_ukernel", "CONV_2D"),
        (r"^xnn_\w*(dwconv|dwconv2d)\w*_ukernel", "DEPTHWISE_CONV_2D"),
        (r"[dD]epthwise_?[cC]onv", "DEPTHWISE_CONV_2D"),
        (
            r"packw|pack_lh|_packq|kai_\w*pack|ruy::Pack|PackImpl|ruy::RunPack|AsymmetricQuantizeFloats",
            PACKING,
        ),
        (r"_qd8_asymmetric_quantization_params|^xnn_\w+_rminmax", PACKING),
        (r"^xnn_\w*(gemm|spmm)\w*_ukernel|^kai_\w*matmul|ruy::Kernel", MATRIX_PRODUCT),
        (r"^xnn_\w*(raddstoreexpminusmax|raddexpminusmax)|floating_point_softmax|[sS]oftmax", "SOFTMAX"),
        (r"^xnn_\w+_vsigmoid|ops::builtin::activations::Sigmoid|::Logistic", "LOGISTIC"),
        (r"^xnn_\w+_vtanh|::Tanh", "TANH"),
        (r"^xnn_x8_lut", "table look-up (LOGISTIC, TANH, ... of 8 bits)"),
        (r"^xnn_\w+_v(add|addc|sub|subc|rsubc)_", "ADD, SUB"),
        (r"^xnn_\w+_v(mul|mulc)_", "MUL"),
        (r"^xnn_\w+_v(div|divc|rdivc)_", "DIV"),
        (r"^xnn_\w+_vsqrdiff", "SQUARED_DIFFERENCE"),
        (r"^xnn_\w+_v(max|maxc|min|minc|clamp|relu|cmul)_", "MAXIMUM, MINIMUM, RELU"),
        (r"^xnn_\w+_vcvt|ConvertOp", "QUANTIZE, DEQUANTIZE"),
        (r"^xnn_\w+_(rsum|rdsum|rsum2|rdsum2)_", "SUM, MEAN"),
        (r"^xnn_\w+_(rmax|rdmax|rmin|rdmin)_", "REDUCE_MAX, SOFTMAX"),
        (r"^xnn_\w+_transpose", "TRANSPOSE"),
        (r"^xnn_xx_(pad|fill)_|^xnn_compute_pad", "PAD"),
        (r"^xnn_xx_copy_", "copies"),
        (r"InvSqrt|[rR]sqrt", "RSQRT"),
        (r"elementwise::.*LogEval", "LOG"),
        (r"elementwise::.*EvalImpl", "RSQRT"),
        (r"optimized_integer_ops::FullyConnected", "FULLY_CONNECTED"),
        (r"cpu_backend_gemm::(detail::\w+::)?\w*Gem[mv]|CustomGemv", MATRIX_PRODUCT),
        (r"(^|[^:\w])(xnn_(compute|invoke|run|subgraph|runtime|operator)|pthreadpool_)", DISPATCH),
        (
            r"^ruy::|[ <]ruy::|^tflite::(Subgraph|xnnpack|cpu_backend_gemm|RuntimeShape|CpuBackendContext)",
            DISPATCH,
        ),
        (r"^tflite::(Get\w+\(|interpreter_wrapper|internal|telemetry|ArenaPlanner)", DISPATCH),
        (r"^(__)?pthread_|^cpuinfo_|^clock_gettime|pybind11", DISPATCH),
    )
)
_UNARY = re.compile(r"^xnn_\w+?_v(sqrt|rsqrt|log|exp|neg|abs|elu|hswish|gelu|cos|sin|sqr)_")
_UNARY_OPS = {"sqr": "SQUARE", "hswish": "HARD_SWISH"}
_BUILTIN = re.compile(r"tflite::ops::builtin::(?!elementwise|activations)(\w+)::")


def op_type(function: str) -> str:
    """The kind of op that a function of the runtime serves; `REST` where its name does not say it."""
    if unary := _UNARY.search(function):
        return _UNARY_OPS.get(unary[1], unary[1].upper())
    for pattern, kind in _RULES:
        if pattern.search(function):
            return kind
    if builtin := _BUILTIN.search(function):
        return builtin[1].upper()
    return REST


def count_by_op_type(functions: Mapping[str, int]) -> dict[str, int]:
    """Instructions by kind of op, most first."""
    counted: Counter[str] = Counter()
    for name, total in functions.items():
        counted[op_type(name)] += total
    return dict(counted.most_common())
