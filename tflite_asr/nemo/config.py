"""`model_config.yaml`: a section is read key by key, and a key that nobody read is refused by its name."""

from __future__ import annotations

import math
import reprlib
from contextlib import suppress
from typing import Any

import yaml

from tflite_asr.errors import TfliteAsrError
from tflite_asr.nemo.archive import CONFIG, Archive

TARGETS = ("EncDecCTCModel", "EncDecCTCModelBPE")
_REQUIRED = object()
_SHORT = reprlib.Repr()  # repr of a few aliases in YAML may be gigabytes
_SHORT.maxstring = _SHORT.maxother = 76
_SHORT.maxlevel = 3
_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    list: "a list",
    dict: "a table",
}


class Section:
    """One table of the config.

    Attributes:
        where: the archive and the table's path, for messages: `model.nemo: encoder`.
    """

    def __init__(self, values: dict[str, Any], file: str, path: str = "") -> None:
        self._values, self._file, self._path = values, file, path
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def written(self, key: str) -> bool:
        """Whether the key is there, null or not."""
        return key in self._values

    def value(self, key: str) -> Any:
        """What stands there, unread; None where nothing does."""
        return self._values.get(key)

    def refuse(self, key: str, mend: str) -> TfliteAsrError:
        """The error that names a key and its value: `raise section.refuse(key, "only regular can be imported")`."""
        return self._refusal(key, self._values.get(key), mend)

    def _refusal(self, key: Any, value: Any, mend: str) -> TfliteAsrError:
        shown = _SHORT.repr(value)
        shown = shown if len(shown) < 80 else f"{shown[:76]} ..."
        return TfliteAsrError(f"{self._file}: {self._path}{key} is {shown}; {mend}")

    def take(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        """The value of a key; `default` where it is not there or null.

        Raises:
            TfliteAsrError: a key that is missing and has no default, a value of another kind, or an interpolation.
        """
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            if default is _REQUIRED:
                raise TfliteAsrError(f"{self._file}: {self._path}{key} is missing; save the model with NeMo")
            return default
        if isinstance(value, str) and "${" in value:
            raise self.refuse(key, "resolve the config before it is saved")
        if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
            with suppress(ValueError, OverflowError):  # YAML 1.1 reads 1e-05 as a word
                value = float(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.refuse(key, f"{_KINDS[kind]} is expected")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.refuse(key, f"{_KINDS[kind]} is expected")
        return value

    def positive(self, key: str, kind: type, default: Any, most: float) -> Any:
        """A number above 0 and up to `most`.

        Raises:
            TfliteAsrError: as `take`, or another number.
        """
        value = self.take(key, kind, default)
        if not 0 < value <= most:
            raise self.refuse(key, f"a number above 0, up to {most:g}, is expected")
        return value

    def only(self, key: str, *allowed: Any) -> Any:
        """One of the values that can be imported, the first of which stands for a missing key."""
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            return allowed[0]
        if not any(value == each and (type(value) is type(each) or _number(value, each)) for each in allowed):
            known = " or ".join(
                str(each).lower() if isinstance(each, bool) else str(each) for each in allowed
            )
            raise self.refuse(key, f"only {known} can be imported")
        return value

    def ignore(self, *keys: str) -> None:
        """Keys that training alone reads, or that change no result."""
        self._read.update(keys)

    def done(self) -> None:
        """Refuse what was not read: it may change what the model computes. Null and false switch nothing on."""
        for key, value in self._values.items():
            if key not in self._read and value is not None and value is not False:
                mend = "it is not known here, and may change what the model computes"
                raise self._refusal(key, value, mend)

    def section(self, key: str) -> Section:
        """A table within; of the oldest configs the `params` of `cls`."""
        values = self.take(key, dict)
        if "cls" in values and isinstance(values.get("params"), dict):
            values = {"_target_": values["cls"], **values["params"]}
        return Section(values, self._file, f"{self._path}{key}.")

    def rows(self, key: str) -> list[Section]:
        """A list of tables within."""
        rows = self.take(key, list)
        if not rows or any(not isinstance(row, dict) for row in rows):
            raise self.refuse(key, "a list of tables is expected")
        return [Section(row, self._file, f"{self._path}{key}[{i}].") for i, row in enumerate(rows)]

    def target(self) -> str:
        """The last part of `_target_`: the class that NeMo builds."""
        return str(self.take("_target_", str)).rsplit(".", 1)[-1]


def _number(value: Any, allowed: Any) -> bool:
    return not isinstance(value, bool) and not isinstance(allowed, bool) and isinstance(value, (int, float))


def read_config(archive: Archive) -> Section:
    """The config of a CTC model.

    Raises:
        TfliteAsrError: no YAML, or a model that is no CTC model (transducers, hybrids, classifiers) or has adapters.
    """
    file = str(archive.path)
    try:
        values = yaml.safe_load(archive.config.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise TfliteAsrError(f"{file}: {CONFIG} is no YAML ({reason}); save the model again") from error
    if not isinstance(values, dict):
        raise TfliteAsrError(
            f"{file}: {CONFIG} holds {_SHORT.repr(values)}, which is no table; save the model again"
        )
    config = Section(values, file)
    if "target" in config:
        kind = str(config.take("target", str)).rsplit(".", 1)[-1]
        if kind not in TARGETS:
            raise config.refuse("target", f"only {' and '.join(TARGETS)} can be imported")
    for key in ("adapters", "joint", "aux_ctc"):
        if key in config:
            raise config.refuse(key, "only CTC models without adapters can be imported")
    return config
