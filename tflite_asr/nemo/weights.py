"""PyTorch checkpoints without PyTorch: a pickle that may name a handful of globals, and storages beside it.

A checkpoint that `torch.save` writes is a zip: `NAME/data.pkl` is a pickle of tensors, each a view of a storage whose
bytes lie in `NAME/data/KEY`. A pickle can call anything it names. Here it may name what a dict of tensors needs and
nothing else, its opcodes are looked through before it runs, and every view is checked against its storage.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError

_PICKLE_BYTES = 64 << 20
_MEMO = 1 << 22  # entries: an index beyond would make the unpickler allocate up to it
_DIMENSIONS = 8
_OPCODES = frozenset(
    "PROTO STOP MARK POP POP_MARK FRAME MEMOIZE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 DICT LIST "
    "APPEND APPENDS SETITEM SETITEMS NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE "
    "SHORT_BINUNICODE BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID".split()
)
# Storage class to the dtype of its bytes; bfloat16, the upper half of a float32, has none in NumPy.
_STORAGES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


@dataclass(frozen=True)
class _Storage:
    """One storage: the dtype of its numbers and how many there are."""

    dtype: str
    data: bytes

    @property
    def numbers(self) -> int:
        return len(self.data) // (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)


@dataclass(frozen=True)
class _StorageKind:
    dtype: str


def read_weights(data: bytes, where: str) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint by name: float32 (half, bfloat16 and double too), or whole numbers as stored.

    Args:
        data: the checkpoint, in the zip format of PyTorch 1.6 and later.
        where: the file, for messages.

    Raises:
        TfliteAsrError: another format; a global that a dict of tensors has no need of, named; a tensor that reaches
            beyond its storage; anything but a dict of tensors; a damaged file.
    """
    if not zipfile.is_zipfile(io.BytesIO(data)):
        if data[:1] == b"\x80":
            raise TfliteAsrError(
                f"{where}: is in the format of PyTorch before 1.6; load it and torch.save it again"
            )
        raise TfliteAsrError(f"{where}: is no PyTorch checkpoint; save the model again")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read(archive, len(data), where)
    except TfliteAsrError:
        raise
    except Exception as error:  # a damaged pickle raises nearly every class there is
        reason = " ".join(str(error).split())[:160]
        raise TfliteAsrError(
            f"{where}: is damaged ({type(error).__name__}: {reason}); save the model again"
        ) from error


def _read(archive: zipfile.ZipFile, size: int, where: str) -> dict[str, np.ndarray]:
    infos = {info.filename: info for info in archive.infolist()}
    if sum(info.file_size for info in infos.values()) > size:
        raise TfliteAsrError(f"{where}: claims more bytes than it has; do not trust the file")
    pickles = [name for name in infos if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise TfliteAsrError(
            f"{where}: holds {len(pickles)} data.pkl; a checkpoint of torch.save has exactly one"
        )
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in infos and archive.read(f"{folder}byteorder") != b"little":
        raise TfliteAsrError(f"{where}: was saved on a big-endian machine; save it on another")
    if infos[pickles[0]].file_size > _PICKLE_BYTES:
        raise TfliteAsrError(
            f"{where}: its pickle is larger than {_PICKLE_BYTES:,} bytes; it is no state dict"
        )
    program = archive.read(pickles[0])
    _look_through(program, where)
    state = _Unpickler(program, archive, folder, where).load()
    if not isinstance(state, dict) or not state:
        raise TfliteAsrError(
            f"{where}: holds a {type(state).__name__}, not a dict of tensors; save a state dict"
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise TfliteAsrError(
                f"{where}: {name!r} is a {type(value).__name__}, not a tensor; save a state dict"
            )
    return dict(state)


def _look_through(program: bytes, where: str) -> None:
    """Refuse opcodes that no dict of tensors needs, before any is carried out."""
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name not in _OPCODES:
            raise TfliteAsrError(
                f"{where}: its pickle uses {opcode.name}, which no state dict needs; do not trust the file"
            )
        if "PUT" in opcode.name and argument is not None and argument > _MEMO:
            raise TfliteAsrError(f"{where}: its pickle claims {argument:,} objects; do not trust the file")


class _Unpickler(pickle.Unpickler):
    """Finds the globals of a dict of tensors, and refuses every other by name."""

    def __init__(self, program: bytes, archive: zipfile.ZipFile, folder: str, where: str) -> None:
        super().__init__(io.BytesIO(program))
        self._archive, self._folder, self._where = archive, folder, where
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if module == "torch" and name in _STORAGES:
            return _StorageKind(_STORAGES[name])
        if (module, name) not in known:
            raise TfliteAsrError(
                f"{self._where}: its pickle names {module}.{name}, which no state dict needs; do not trust the file"
            )
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage: ("storage", kind, key, location, numbers)."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise TfliteAsrError(f"{self._where}: its pickle refers to no storage; save the model again")
        _, kind, key, _, numbers = pid
        if not isinstance(kind, _StorageKind) or not isinstance(key, str) or not key.isalnum():
            raise TfliteAsrError(
                f"{self._where}: its pickle refers to a storage {key!r} of no known kind; save it again"
            )
        if key not in self._storages:
            try:
                data = self._archive.read(f"{self._folder}data/{key}")
            except KeyError:
                raise TfliteAsrError(
                    f"{self._where}: storage {key} is missing; save the model again"
                ) from None
            self._storages[key] = _Storage(kind.dtype, data)
        storage = self._storages[key]
        if storage.dtype != kind.dtype or storage.numbers != numbers:
            raise TfliteAsrError(
                f"{self._where}: storage {key} holds {storage.numbers} numbers, its pickle says {numbers}; "
                "save the model again"
            )
        return storage

    def _tensor(
        self, storage: Any, offset: Any, shape: Any, strides: Any, _gradient: Any = None, *_hooks: Any
    ) -> np.ndarray:
        """torch._utils._rebuild_tensor_v2: a view of a storage, here a copy of it."""
        whole = all(
            isinstance(each, tuple)
            and len(each) <= _DIMENSIONS
            and all(type(n) is int and n >= 0 for n in each)
            for each in (shape, strides, (offset,))
        )
        if not isinstance(storage, _Storage) or not whole or len(shape) != len(strides):
            raise TfliteAsrError(f"{self._where}: a tensor of shape {shape!r} is malformed; save it again")
        count = int(np.prod(shape, dtype=object)) if shape else 1
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if count else 0
        if count > storage.numbers or last >= max(storage.numbers, 1):
            raise TfliteAsrError(
                f"{self._where}: a tensor of shape {shape!r} reaches beyond its storage of {storage.numbers} numbers; "
                "do not trust the file"
            )
        return _numbers(storage, offset, shape, strides)


def _parameter(tensor: Any, _gradient: Any = None, *_hooks: Any) -> Any:
    """torch._utils._rebuild_parameter: the tensor itself."""
    return tensor


def _numbers(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    half = storage.dtype == "bfloat16"
    flat = np.frombuffer(storage.data, "<u2" if half else storage.dtype)
    if 0 in shape:
        view = np.zeros(shape, flat.dtype)
    else:
        steps = [step * flat.itemsize for step in strides]
        view = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)
    if half:
        return (view.astype(np.uint32) << 16).view(np.float32)
    return view.astype(np.float32) if view.dtype.kind == "f" else view.copy()
