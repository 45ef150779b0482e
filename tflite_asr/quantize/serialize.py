"""A TFLite flatbuffer to Python objects and back, in as few bytes as the format allows.

The objects are the schema's own (`ai_edge_litert.schema_py_generated`). Flatbuffer tables may share what
they point to, and readers never notice: writing stores every equal vector, string and table once, whichever
subgraph it belongs to. A second window of a model then costs little more than its list of tensors. Same
objects in, same bytes out.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_asr.errors import TfliteAsrError

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # of constant data, as the schema's force_align asks
_DTYPES = {"zeroPoint": np.int64, "scale": np.float32, "min": np.float32, "max": np.float32}


def read_model(data: bytes) -> Any:
    """The `ModelT` in `data`. Constant data that lies behind the flatbuffer's root (`buffer.offset`, as AI
    Edge Quantizer writes it for large models) is brought inside, as uint8 arrays.

    Raises TfliteAsrError where `data` is no TFLite flatbuffer.
    """
    if data[4:8] != _IDENTIFIER:
        raise TfliteAsrError(
            f"{len(data)} bytes that begin with {bytes(data[:8])!r}: not a TFLite flatbuffer"
        )
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
        buffer.data = (
            None if buffer.data is None or len(buffer.data) == 0 else np.asarray(buffer.data, np.uint8)
        )
    return model


def write_model(model: Any) -> bytes:
    """The flatbuffer of a `ModelT`, equal parts stored once. `model` is not changed, and may be written
    again."""
    builder = _SharingBuilder(1 << 20)
    offset = _Shared(model, {}).Pack(builder)
    builder.Finish(offset, file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def signature_names(model: Any) -> list[str]:
    """The names of a model's signatures, in the file's order."""
    return [text(one.signatureKey) for one in model.signatureDefs or []]


def text(name: bytes | str | None) -> str:
    """A schema string, which reads as bytes, None where absent, as str."""
    return name.decode("utf-8") if isinstance(name, bytes) else name or ""


class _SharingBuilder(flatbuffers.Builder):
    """A builder that returns the place of an equal vector or string where it already wrote one.

    Windows have the same operators, so they share even the list of them: a vector of tables is equal to
    another where it leads to the same places.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[Any, ...], int] = {}
        self._start = 0
        self._targets: list[int] | None = None  # of the vector of tables being written, None outside of one

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        self._start, self._targets = self.Offset(), []
        return int(super().StartVector(elemSize, numElems, alignment))

    def PrependUOffsetTRelative(self, off: int) -> None:
        if self._targets is not None:
            self._targets.append(off)
        super().PrependUOffsetTRelative(off)

    def EndVector(self, *args: Any) -> int:
        targets, self._targets = self._targets, None
        place = int(super().EndVector(*args))
        if not targets:
            return place
        key = ("tables", *targets)
        if key in self._written:
            self.head = len(self.Bytes) - self._start  # take the copy back
        return self._written.setdefault(key, place)

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = (x.dtype.str, x.shape, x.tobytes())
        if key not in self._written:
            if x.dtype == np.uint8 and len(x) >= _ALIGNMENT // 4:
                self._written[key] = self._create_aligned(x)
            else:
                self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]

    def CreateString(self, s: bytes | str, encoding: str = "utf-8", errors: str = "strict") -> int:
        key = ("string", s.encode() if isinstance(s, str) else bytes(s))
        if key not in self._written:
            self._written[key] = super().CreateString(s, encoding, errors)
        return self._written[key]

    def _create_aligned(self, x: np.ndarray) -> int:
        self.StartVector(1, len(x), _ALIGNMENT)
        self.head -= len(x)
        self.Bytes[self.head : self.head + len(x)] = x.tobytes()
        self.vectorNumElems = len(x)
        return int(self.EndVector())


class _Shared:
    """A table that packs itself once per content: stands in for a schema object inside another's `Pack`."""

    def __init__(self, table: Any, offsets: dict[Any, int]) -> None:
        self._offsets = offsets
        self._table: Any = object.__new__(type(table))
        key: list[Any] = [type(table).__name__]
        for name, value in vars(table).items():
            stored, part = self._prepare(name, value)
            setattr(self._table, name, stored)
            key.append(part)
        self.key = tuple(key)

    def _prepare(self, name: str, value: Any) -> tuple[Any, Any]:
        """A field as `Pack` should see it, and what tells it from another."""
        if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
            return value, value
        if isinstance(value, (list, tuple)) and value and hasattr(value[0], "Pack"):
            tables = [_Shared(one, self._offsets) for one in value]
            return tables, tuple(one.key for one in tables)
        if isinstance(value, (list, tuple, np.ndarray)):
            array = np.asarray(value, None if isinstance(value, np.ndarray) else _DTYPES.get(name, np.int32))
            return array, (array.dtype.str, array.tobytes())
        table = _Shared(value, self._offsets)
        return table, table.key

    def Pack(self, builder: flatbuffers.Builder) -> int:
        if self.key not in self._offsets:
            self._offsets[self.key] = self._table.Pack(builder)
        return self._offsets[self.key]
