"""Archives for tests: the fixtures with a config, weights or members changed, and torch checkpoints made by hand."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tflite_asr.nemo.archive import CONFIG, WEIGHTS

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "nemo"
KINDS = ("conformer", "fastconformer", "quartznet", "jasper")
_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}


def members(path: Path) -> dict[str, bytes]:
    """Files of an archive, by base name."""
    with tarfile.open(path) as tar:
        files = [member for member in tar if member.isfile()]
        return {Path(member.name).name: tar.extractfile(member).read() for member in files}  # type: ignore[union-attr]


def tar_of(files: dict[str, bytes]) -> bytes:
    """A plain tar, members in order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def changed(
    kind: str,
    folder: Path,
    config: Callable[[dict[str, Any]], object] | None = None,
    weights: bytes | None = None,
) -> Path:
    """A fixture with its config changed in place by `config`, or with other weights."""
    files = members(FIXTURES / f"{kind}.nemo")
    values = yaml.safe_load(files[CONFIG])
    if config is not None:
        config(values)
    files[CONFIG] = yaml.safe_dump(values).encode()
    files[WEIGHTS] = weights or files[WEIGHTS]
    path = folder / "changed.nemo"
    path.write_bytes(gzip.compress(tar_of(files)))
    return path


def checkpoint(program: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    """The zip that torch.save writes, around any pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", program)
        for key, data in (storages or {}).items():
            archive.writestr(f"model/data/{key}", data)
        archive.writestr("model/version", "3\n")
    return out.getvalue()


def state_dict(tensors: dict[str, np.ndarray]) -> bytes:
    """A checkpoint of arrays, each in a storage of its own."""
    program, storages = b"\x80\x02}(", {}
    for key, (name, array) in enumerate(tensors.items()):
        strides = [step // array.itemsize for step in np.zeros(array.shape, array.dtype).strides]
        kind = _STORAGES[array.dtype.name]
        program += word(name) + tensor(kind, str(key), array.size, list(array.shape), strides)
        storages[str(key)] = array.tobytes()
    return checkpoint(program + b"u.", storages)


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def whole(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def tensor(kind: str, key: str, numbers: int, shape: list[int], strides: list[int], offset: int = 0) -> bytes:
    """Opcodes of one tensor: torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, False, {})."""
    storage = b"(" + word("storage") + b"ctorch\n" + kind.encode() + b"\n" + word(key) + word("cpu")
    storage += whole(numbers) + b"tQ"
    lists = b"".join(b"(" + b"".join(map(whole, each)) + b"t" for each in (shape, strides))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + whole(offset) + lists + b"\x89}tR"
