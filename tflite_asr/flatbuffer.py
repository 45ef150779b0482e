"""Reads a TFLite flatbuffer without a runtime and without trusting it: every offset is checked before it is
followed.

Only what an audit and a bundle need is read. The format is small (https://flatbuffers.dev/internals) and
the schema's field numbers never change, so they stand here as data: the base installation needs neither a
runtime nor generated classes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from tflite_asr.errors import Finding, TfliteAsrError

Part = TypeVar("Part")

TENSOR_TYPES = (
    "FLOAT32 FLOAT16 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT64 COMPLEX128 UINT64 "
    "RESOURCE VARIANT UINT32 UINT16 INT4 BFLOAT16 INT2 UINT4 FLOAT8_E4M3FN FLOAT8_E5M2"
).split()
BUILTIN_OPS = (
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE "
    "EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D "
    "LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 "
    "RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM "
    "EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND "
    "TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN "
    "EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX "
    "MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV "
    "SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT "
    "REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV "
    "REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU "
    "SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU "
    "REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE "
    "NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL "
    "PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS "
    "HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE "
    "READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM "
    "MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX "
    "UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT "
    "STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM "
    "STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM "
    "STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS "
    "STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM "
    "STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT "
    "STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT "
    "STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA "
    "STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER "
    "STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE "
    "STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE"
).split()
_NUMPY = {
    "FLOAT32": "float32",
    "INT32": "int32",
    "INT64": "int64",
    "INT16": "int16",
    "INT8": "int8",
    "UINT8": "uint8",
}
_LOW_PLACEHOLDER = 127  # op codes above it stand in a second field
_MOST_TABLES = 1_000_000  # as many as the runtime's own verifier follows


@dataclass(frozen=True)
class Tensor:
    """shape: as the file says, -1 where `open_shape`. type: of TENSOR_TYPES. buffer: index of its constant
    data, 0 for none. scale: float32 [channels or 1 or 0]; zero_point: int64, as long."""

    name: str
    shape: tuple[int, ...]
    type: str
    buffer: int
    scale: np.ndarray
    zero_point: np.ndarray
    open_shape: bool

    def describe(self) -> dict[str, Any]:
        """Shape and dtype, and the scale and zero point of a tensor quantised as a whole, as bundle.json
        has them."""
        plain: dict[str, Any] = {"shape": list(self.shape), "dtype": _NUMPY.get(self.type, self.type.lower())}
        if len(self.scale) == 1:
            plain |= {"scale": float(self.scale[0]), "zero_point": int(self.zero_point[0])}
        return plain


@dataclass(frozen=True)
class Operator:
    """name: of BUILTIN_OPS, or a custom op's own (`custom`). inputs, outputs: tensor indices, -1 where one
    is left out."""

    name: str
    version: int
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Subgraph:
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class Signature:
    """inputs, outputs: name to tensor index in the subgraph."""

    name: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class Model:
    """buffers: start and bytes of the constant data of each. spans: start of a vector to (what it holds,
    its bytes): each place once, however many tables share it."""

    size: int
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    buffers: tuple[tuple[int, int], ...]
    spans: dict[int, tuple[str, int]] = field(repr=False)


def read_flatbuffer(data: bytes, where: str = "model") -> Model:
    """The model in `data`. Raises one line that begins with `where`: TfliteAsrError where it is no TFLite
    flatbuffer, Finding where it is a damaged one."""
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise TfliteAsrError(
            f"{where}: not a TFLite flatbuffer ({len(data)} bytes, no TFL3 mark); give a .tflite file"
        )
    try:
        return _Reader(data).model()
    except (_Damaged, struct.error, ValueError, IndexError, OverflowError) as error:
        raise Finding(f"{where}: damaged flatbuffer ({error}); export it again") from error


class _Damaged(Exception):
    """An offset or index that leads nowhere."""


class _Reader:
    """Field numbers below are the schema's: a field's place in its table's vtable is 4 + 2 * its number."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.tables = 0
        self.spans: dict[int, tuple[str, int]] = {}

    def model(self) -> Model:
        root = self.follow(0)
        codes = self.each(root, 1, self.code)
        subgraphs = self.each(root, 2, lambda at: self.subgraph(at, codes))
        buffers = self.each(root, 4, self.buffer)
        signatures = self.each(root, 7, self.signature)
        self.vector(root, 3, "B", "names")
        if not subgraphs:
            raise _Damaged("no subgraph")
        for graph in subgraphs:
            for tensor in graph.tensors:
                if tensor.buffer >= max(1, len(buffers)):
                    raise _Damaged(f"buffer {tensor.buffer} of {len(buffers)}")
            for operator in graph.operators:
                for index in (*operator.inputs, *operator.outputs):
                    if not -1 <= index < len(graph.tensors):
                        raise _Damaged(f"tensor {index} of {len(graph.tensors)}")
        for one in signatures:
            if one.subgraph >= len(subgraphs):
                raise _Damaged(f"subgraph {one.subgraph} of {len(subgraphs)}")
            count = len(subgraphs[one.subgraph].tensors)
            if any(index >= count for index in (*one.inputs.values(), *one.outputs.values())):
                raise _Damaged(f"signature {one.name!r} names a tensor beyond {count}")
        return Model(len(self.data), subgraphs, signatures, buffers, self.spans)

    def code(self, at: int) -> tuple[str, int, bool]:
        """Name, version, whether custom."""
        number = max(self.scalar(at, 0, "<b", 0), self.scalar(at, 3, "<i", 0))
        name = BUILTIN_OPS[number] if 0 <= number < len(BUILTIN_OPS) else f"BUILTIN_{number}"
        custom = name == "CUSTOM"
        return (self.string(at, 1) or "CUSTOM" if custom else name), self.scalar(at, 2, "<i", 1), custom

    def subgraph(self, at: int, codes: tuple[tuple[str, int, bool], ...]) -> Subgraph:
        def operator(at: int) -> Operator:
            code = self.scalar(at, 0, "<I", 0)
            if code >= len(codes):
                raise _Damaged(f"op code {code} of {len(codes)}")
            name, version, custom = codes[code]
            return Operator(name, version, custom, self.integers(at, 1), self.integers(at, 2))

        self.vector(at, 4, "B", "names")
        return Subgraph(self.each(at, 0, self.tensor), self.each(at, 3, operator))

    def tensor(self, at: int) -> Tensor:
        number = self.scalar(at, 1, "<b", 0)
        shape, signature = self.integers(at, 0), self.integers(at, 7)
        quantisation = self.table(at, 4)
        scale, zero_point = np.zeros(0, np.float32), np.zeros(0, np.int64)
        if quantisation is not None:
            scale = self.vector(quantisation, 2, "<f4", "scales")
            zero_point = self.vector(quantisation, 3, "<i8", "zero_points")
            if len(scale) and len(zero_point) not in (1, len(scale)):
                raise _Damaged(f"{len(scale)} scales and {len(zero_point)} zero points")
        kind = TENSOR_TYPES[number] if 0 <= number < len(TENSOR_TYPES) else f"TYPE_{number}"
        return Tensor(
            self.string(at, 3),
            signature if -1 in signature else shape,
            kind,
            self.scalar(at, 2, "<I", 0),
            scale,
            zero_point,
            any(size < 0 for size in (*shape, *signature)),
        )

    def buffer(self, at: int) -> tuple[int, int]:
        offset, size = self.scalar(at, 1, "<Q", 0), self.scalar(at, 2, "<Q", 0)
        if offset > 1:  # data behind the flatbuffer's root
            if offset + size > len(self.data):
                raise _Damaged(f"constant data at {offset} + {size} of {len(self.data)} bytes")
            self.spans[offset] = ("constants", size)
            return int(offset), int(size)
        size = len(self.vector(at, 0, "u1", "constants"))
        return (self.follow(self.place(at, 0)) + 4 if size else 0), size

    def signature(self, at: int) -> Signature:
        def item(at: int) -> tuple[str, int]:
            return self.string(at, 0), self.scalar(at, 1, "<I", 0)

        inputs, outputs = dict(self.each(at, 0, item)), dict(self.each(at, 1, item))
        return Signature(self.string(at, 2), self.scalar(at, 4, "<I", 0), inputs, outputs)

    def at(self, start: int, size: int) -> None:
        if start < 0 or start + size > len(self.data):
            raise _Damaged(f"{size} bytes at {start} of {len(self.data)}")

    def number(self, code: str, start: int) -> Any:
        self.at(start, struct.calcsize(code))
        return struct.unpack_from(code, self.data, start)[0]

    def follow(self, start: int) -> int:
        return int(start + self.number("<I", start))

    def place(self, table: int, field_number: int) -> int:
        """Where a field lies, 0 where the table has it not."""
        vtable = table - self.number("<i", table)
        slot = 4 + 2 * field_number
        if slot >= self.number("<H", vtable):
            return 0
        offset = self.number("<H", vtable + slot)
        return table + offset if offset else 0

    def scalar(self, table: int, field_number: int, code: str, default: int) -> Any:
        start = self.place(table, field_number)
        return self.number(code, start) if start else default

    def table(self, table: int, field_number: int) -> int | None:
        start = self.place(table, field_number)
        return self.follow(start) if start else None

    def vector(self, table: int, field_number: int, dtype: str, kind: str = "") -> np.ndarray:
        start = self.place(table, field_number)
        if not start:
            return np.zeros(0, dtype)
        start = self.follow(start)
        count, width = self.number("<I", start), np.dtype(dtype).itemsize
        self.at(start + 4, count * width)
        if kind:
            self.spans[start + 4] = (kind, count * width)
        return np.frombuffer(self.data, dtype, count, start + 4)

    def integers(self, table: int, field_number: int) -> tuple[int, ...]:
        return tuple(self.vector(table, field_number, "<i4").tolist())

    def string(self, table: int, field_number: int) -> str:
        return self.vector(table, field_number, "u1", "names").tobytes().decode("utf-8", "replace")

    def each(self, table: int, field_number: int, read: Callable[[int], Part]) -> tuple[Part, ...]:
        """What `read` makes of each table in a vector of tables."""
        start = self.place(table, field_number)
        if not start:
            return ()
        start = self.follow(start)
        count = self.number("<I", start)
        self.at(start + 4, 4 * count)
        self.tables += count
        if self.tables > _MOST_TABLES:
            raise _Damaged(f"more than {_MOST_TABLES} tables")
        return tuple(read(self.follow(start + 4 + 4 * index)) for index in range(count))
