"""A model's facts, which travel beside it: `NAME.toml` next to `NAME.keras`."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import tomli_w

from tflite_asr.errors import TfliteAsrError
from tflite_asr.frontend import FrontEnd
from tflite_asr.tokens import Tokens

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = {
    "architecture",
    "config",
    "extra",
    "frontend",
    "name",
    "schema_version",
    "subsampling",
    "tokens",
    "windows_seconds",
}


def check_checkpoint_output(out: Path, overwrite: bool) -> None:
    """Say before any work what stands in the way of writing a checkpoint.

    Raises:
        TfliteAsrError: `out` is no `.keras` name, or it or its `.toml` exists and may not be overwritten.
    """
    if out.suffix != ".keras":
        raise TfliteAsrError(f"{out}: is no .keras name; write to NAME.keras")
    for file in (out, ModelFacts.path_for(out)):
        if (file.exists() or file.is_symlink()) and not overwrite:
            raise TfliteAsrError(f"{file}: exists; choose another name or allow overwriting it (--overwrite)")


@dataclass(frozen=True)
class ModelFacts:
    """What a checkpoint's weights do not say.

    Attributes:
        name: the checkpoint's name.
        architecture, config: enough to rebuild the model with `tflite_asr.models.build`; None and {} where unknown.
        frontend, tokens: None where unknown: the bundle is then feature-only.
        subsampling: feature frames that become one logit frame.
        windows_seconds: static lengths to export.
        extra: where the model comes from (recipe, result), shown in the model card.
    """

    name: str
    architecture: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    frontend: FrontEnd | None = None
    tokens: Tokens | None = None
    subsampling: int = 1
    windows_seconds: tuple[float, ...] = (2, 4, 8, 16)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.subsampling) is not int or self.subsampling < 1:
            raise TfliteAsrError(f"subsampling is {self.subsampling!r}; give a whole number, 1 or more")
        if not self.windows_seconds or any(
            type(s) not in (int, float) or not 0 < s < math.inf for s in self.windows_seconds
        ):
            raise TfliteAsrError(
                f"windows_seconds is {list(self.windows_seconds)}; give seconds above 0, one or more"
            )

    @property
    def windows(self) -> tuple[int, ...]:
        """Window lengths in feature frames."""
        hop = self.frontend.hop_seconds if self.frontend else 0.01
        return tuple(round(seconds / hop) for seconds in self.windows_seconds)

    @property
    def blank_id(self) -> int:
        """CTC's blank, with which an encoder-decoder's tokens begin and end; 0 where tokens are unknown."""
        return self.tokens.blank_id if self.tokens is not None else 0

    @staticmethod
    def path_for(keras_path: str | Path) -> Path:
        return Path(keras_path).with_suffix(".toml")

    def write(self, keras_path: str | Path) -> Path:
        """Write `NAME.toml` beside the model."""
        values: dict[str, Any] = {"schema_version": "1.0", "name": self.name, "subsampling": self.subsampling}
        values["windows_seconds"] = list(self.windows_seconds)
        if self.architecture:
            values["architecture"] = self.architecture
            values["config"] = _plain(self.config)
        if self.frontend:
            values["frontend"] = self.frontend.to_dict()
        if self.tokens:
            values["tokens"] = {"pieces": list(self.tokens.pieces), "blank_id": self.tokens.blank_id}
        if self.extra:
            values["extra"] = _plain(self.extra)
        path = self.path_for(keras_path)
        path.write_text(tomli_w.dumps(values), encoding="utf-8")
        return path

    @classmethod
    def read(cls, keras_path: str | Path) -> ModelFacts | None:
        """Facts beside a model, or None where there is no such file.

        Raises:
            TfliteAsrError: a file that is no TOML, a newer schema, an unknown or missing key.
        """
        path = cls.path_for(keras_path)
        if not path.is_file():
            return None
        values = read_toml(path)
        if unknown := sorted(set(values) - _KEYS):
            raise TfliteAsrError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
        version = str(values.get("schema_version", "1.0"))
        if not version.split(".")[0].isdecimal():
            raise TfliteAsrError(f"{path}: schema_version is {version!r}; write 1.0")
        if int(version.split(".")[0]) > 1:
            raise TfliteAsrError(
                f"{path}: schema_version {version} is newer than 1.0; install a newer tflite_asr"
            )
        tokens = values.get("tokens")
        try:
            return cls(
                name=values["name"],
                architecture=values.get("architecture"),
                config=values.get("config", {}),
                frontend=FrontEnd.from_dict(values["frontend"]) if "frontend" in values else None,
                tokens=Tokens(tuple(tokens["pieces"]), tokens["blank_id"]) if tokens else None,
                subsampling=values.get("subsampling", 1),
                windows_seconds=tuple(values.get("windows_seconds", (2, 4, 8, 16))),
                extra=values.get("extra", {}),
            )
        except KeyError as error:
            raise TfliteAsrError(f"{path}: {error} is missing; add it") from error
        except (TypeError, AttributeError) as error:
            raise TfliteAsrError(f"{path}: a value is malformed ({error}); mend it") from error
        except TfliteAsrError as error:
            raise TfliteAsrError(f"{path}: {error}") from error


def read_toml(path: str | Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        TfliteAsrError: a file that is missing or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TfliteAsrError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TfliteAsrError(f"{path}: is not TOML ({error}); mend the file") from error


def _plain(value: Any) -> Any:
    """Dataclasses, tuples and None as TOML knows them: None is left out."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
