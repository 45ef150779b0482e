"""The bundle: a folder with a model, its front end, its tokens and the record that proves what is in it.

Written to a temporary sibling and renamed, so it is whole or absent; every byte is checked when it is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tflite_asr.errors import Finding, TfliteAsrError
from tflite_asr.frontend.config import FrontEnd
from tflite_asr.staging import move_into_place, plain_errors, probe, remove_stale, staging_folder
from tflite_asr.tokens import Tokens

SCHEMA_VERSION = "1.0"
INFO_FILE = "bundle.json"
MODEL_FILE = "model.tflite"
FRONTEND_FILE = "frontend.tflite"
TOKENS_FILE = "tokens.txt"
CARD_FILE = "README.md"
SAMPLES_FOLDER = "samples"
_NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class BundleInfo:
    """`bundle.json`, key by key.

    Attributes:
        name: of the checkpoint.
        scheme: full scheme name ("static_wi8_ai8").
        lowered: whether the graph was rewritten for integer kernels.
        drop: module paths that were dropped, as given.
        frontend: None in a feature-only bundle.
        subsampling: feature frames that become one logit frame.
        tokens: `{"file", "blank_id"}`, or None in a feature-only bundle.
        signatures: `{name: {"inputs": {tensor: {"shape", "dtype", "scale", "zero_point"}}, "outputs": ...}}`; scale
            and zero point only where the tensor is quantised.
        calibration: method, seed, budget and the digest of the ranges; None where nothing was calibrated.
        files: `{relative path: {"bytes", "sha256"}}` of every file but bundle.json; filled when written.
        made_with: versions of what made it.
        min_runtime: the TFLite release that both flatbuffers were written for, "2.14"; None for today's LiteRT.
        delegate: kernels of the model that its transcripts are made on, unless others are asked for.
        schema_version: "1.0".
    """

    name: str
    scheme: str
    lowered: bool = False
    drop: tuple[str, ...] = ()
    frontend: FrontEnd | None = None
    subsampling: int = 1
    tokens: dict[str, Any] | None = None
    signatures: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)
    min_runtime: str | None = None
    delegate: str = "xnnpack"
    schema_version: str = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Plain values in bundle.json's order."""
        values = asdict(self)
        values["drop"] = list(self.drop)
        values["frontend"] = self.frontend.to_dict() if self.frontend else None
        return {"schema_version": values.pop("schema_version"), **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = INFO_FILE) -> BundleInfo:
        """Inverse of `to_dict`; keys of a newer minor version are left aside.

        Raises:
            Finding: a newer major schema, or a missing or malformed key.
        """
        version = str(values.get("schema_version"))
        major, _, _ = version.partition(".")
        if not major.isdigit():
            raise Finding(f"{where}: schema_version is {version!r}, not a version; export the bundle again")
        if int(major) > int(SCHEMA_VERSION.partition(".")[0]):
            raise Finding(
                f"{where}: schema_version {version} is newer than {SCHEMA_VERSION}; install a newer tflite-asr"
            )
        known = {f.name for f in fields(cls)}
        try:
            kept = {key: value for key, value in values.items() if key in known}
            kept["drop"] = tuple(kept.get("drop", ()))
            kept["frontend"] = FrontEnd.from_dict(kept["frontend"]) if kept.get("frontend") else None
            return cls(**kept)
        except (TypeError, TfliteAsrError) as error:
            raise Finding(f"{where}: {error}; export the bundle again") from error


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose every byte was checked.

    Attributes:
        path: its folder.
        info: its bundle.json.
        tokens: None in a feature-only bundle.
    """

    path: Path
    info: BundleInfo
    tokens: Tokens | None

    @property
    def model_path(self) -> Path:
        return self.path / MODEL_FILE

    @property
    def frontend_path(self) -> Path:
        return self.path / FRONTEND_FILE

    @property
    def windows(self) -> dict[int, str]:
        """Window length in feature frames to the signature that gives CTC's logits, shortest first: `ctc_<frames>`, or
        `encode_<frames>` of an encoder-decoder."""
        return self._by_length("encode") or self._by_length("ctc")

    @property
    def lengths(self) -> dict[int, str]:
        """What can be timed: `windows`, and in a bundle that has none each signature by its frames, the second axis of
        `features` or of its first input, shortest first."""
        if self.windows:
            return self.windows
        found: dict[int, str] = {}
        for name, sides in self.info.signatures.items():
            inputs = sides["inputs"]
            shape = inputs.get("features", next(iter(inputs.values()), {})).get("shape", [])
            found.setdefault(int(shape[1]) if len(shape) > 1 else 1, name)
        return dict(sorted(found.items()))

    @property
    def decode_steps(self) -> dict[int, str]:
        """Window length to the signature of an encoder-decoder that spells what its window holds."""
        return self._by_length("decode_step")

    def _by_length(self, kind: str) -> dict[int, str]:
        found = {}
        for name in self.info.signatures:
            stem, _, frames = name.rpartition("_")
            if stem == kind and frames.isdigit():
                found[int(frames)] = name
        return dict(sorted(found.items()))

    def missing_for_speech(self) -> list[str]:
        """What a feature-only bundle lacks to turn audio into text; empty for a whole one."""
        lacking = []
        if self.info.frontend is None or not self.frontend_path.is_file():
            lacking.append(f"the front end ({FRONTEND_FILE})")
        if self.tokens is None:
            lacking.append(f"the tokens ({TOKENS_FILE})")
        if not self.windows:
            lacking.append("a signature ctc_<frames> or encode_<frames>")
        return lacking

    def require_speech(self) -> None:
        """Refuse a feature-only bundle.

        Raises:
            TfliteAsrError: names what is missing.
        """
        if lacking := self.missing_for_speech():
            raise TfliteAsrError(
                f"{self.path}: a feature-only bundle, without {' and '.join(lacking)}; export again with --frontend, "
                "--tokens and --blank-id, or a NAME.toml beside the model"
            )

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Open a bundle and check every size and digest.

        Raises:
            TfliteAsrError: no such folder.
            Finding: a newer schema; a file that is missing, extra or changed, bundle.json included.
        """
        path = Path(path)
        if not path.exists():
            raise TfliteAsrError(f"{path}: no such bundle; give the folder that export wrote")
        if not path.is_dir():
            raise TfliteAsrError(f"{path}: is a file; give the bundle's folder")
        info = _read_info(path / INFO_FILE)
        _check_files(path, info)
        tokens = None
        if info.tokens is not None:
            try:
                tokens = Tokens.read(path / str(info.tokens["file"]), int(info.tokens["blank_id"]))
            except (KeyError, ValueError, TfliteAsrError) as error:
                raise Finding(
                    f"{path / INFO_FILE}: tokens cannot be read ({error}); export the bundle again"
                ) from error
        return cls(path, info, tokens)


def check_output(out: str | Path, overwrite: bool = False) -> None:
    """Say now what `write_bundle` would say after the work is done.

    Raises:
        TfliteAsrError: `out` exists and may not be overwritten, is no bundle, or its parent cannot be written.
    """
    out = Path(out)
    if out.exists() or out.is_symlink():
        if not overwrite:
            raise TfliteAsrError(
                f"{out}: exists; choose another folder or allow overwriting it (--overwrite)"
            )
        if not out.is_dir() or (any(out.iterdir()) and not (out / INFO_FILE).is_file()):
            raise TfliteAsrError(f"{out}: is no bundle and will not be overwritten; choose another folder")
    parent = out.absolute().parent
    with plain_errors(out):
        parent.mkdir(parents=True, exist_ok=True)
        probe(parent)


Staged = Callable[[Bundle], Any]


def write_bundle(
    out: str | Path,
    info: BundleInfo,
    *,
    model: bytes,
    frontend: bytes | None = None,
    tokens: Tokens | None = None,
    card: str | Callable[[Bundle], str] = "",
    samples: Mapping[str, bytes] | Callable[[Bundle], Mapping[str, bytes]] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle whole, or leave nothing.

    Args:
        out: the folder to make; its parents are made too.
        info: everything but `files` and `tokens`, which are filled here.
        model, frontend: flatbuffers; no front end makes a feature-only bundle.
        tokens: the pieces; None makes a feature-only bundle.
        card: README.md, or a function of the staged bundle (model, front end and tokens in place) that gives it.
        samples: files of `samples/` by relative name, or a function of the staged bundle that gives them; called
            before `card`.
        overwrite: replace a bundle that is there.

    Raises:
        TfliteAsrError: `check_output`'s, or a disk that fills up; nothing half-written is left.
    """
    out = Path(out)
    check_output(out, overwrite)
    remove_stale(out)
    with plain_errors(out), staging_folder(out) as staging:
        contents: dict[str, bytes] = {MODEL_FILE: model}
        if frontend is not None:
            contents[FRONTEND_FILE] = frontend
        if tokens is not None:
            contents[TOKENS_FILE] = tokens.to_text().encode()
        info = replace(info, tokens={"file": TOKENS_FILE, "blank_id": tokens.blank_id} if tokens else None)
        written: dict[str, dict[str, Any]] = {}
        _write_files(staging, contents, written)
        staged = Bundle(staging, replace(info, files=written), tokens)
        given = samples(staged) if callable(samples) else samples or {}
        _write_files(staging, {f"{SAMPLES_FOLDER}/{name}": data for name, data in given.items()}, written)
        text = card(staged) if callable(card) else card
        _write_files(staging, {CARD_FILE: text.encode()}, written)
        info = replace(info, files=dict(sorted(written.items())))
        (staging / INFO_FILE).write_bytes(_seal(info))
        move_into_place(staging, out)
    return Bundle(out, info, tokens)


def _seal(info: BundleInfo) -> bytes:
    """bundle.json with its own digest in it, taken with 64 zeros in the digest's place."""
    text = json.dumps({**info.to_dict(), "self_sha256": _NO_DIGEST}, indent=1, ensure_ascii=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    head, _, tail = text.rpartition(_NO_DIGEST)
    return (head + digest + tail).encode()


def _read_info(path: Path) -> BundleInfo:
    if not path.is_file():
        raise Finding(f"{path}: is missing, so this is no bundle; export it again")
    data = path.read_bytes()
    try:
        values = json.loads(data)
        if not isinstance(values, dict):
            raise ValueError("not a JSON object")
    except ValueError as error:
        raise Finding(f"{path}: is not JSON ({error}); copy or export the bundle again") from error
    # The version first: a newer schema may seal its file in another way.
    info = BundleInfo.from_dict(values, str(path))
    digest = str(values.get("self_sha256", ""))
    head, found, tail = data.rpartition(digest.encode()) if len(digest) == 64 else (b"", b"", b"")
    if not found or hashlib.sha256(head + _NO_DIGEST.encode() + tail).hexdigest() != digest:
        raise Finding(f"{path}: was changed after it was written; copy or export the bundle again")
    return info


def _check_files(path: Path, info: BundleInfo) -> None:
    present = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_symlink() or not p.is_dir()}
    if MODEL_FILE not in info.files:
        raise Finding(f"{path / INFO_FILE}: lists no {MODEL_FILE}; export the bundle again")
    for name, facts in info.files.items():
        file = path / name
        if name not in present:
            raise Finding(f"{file}: is missing; copy or export the bundle again")
        if (size := file.stat().st_size) != facts.get("bytes"):
            raise Finding(
                f"{file}: has {size} bytes, not {facts.get('bytes')}; copy or export the bundle again"
            )
        if (digest := _digest(file)) != facts.get("sha256"):
            raise Finding(
                f"{file}: was changed (sha256 {digest[:12]}..., not {str(facts.get('sha256'))[:12]}...); "
                "copy or export the bundle again"
            )
    if extra := sorted(present - set(info.files) - {INFO_FILE}):
        raise Finding(f"{path / extra[0]}: is not part of the bundle; remove it")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write_files(folder: Path, contents: Mapping[str, bytes], written: dict[str, dict[str, Any]]) -> None:
    for name, data in contents.items():
        path = folder / name
        if folder.resolve() not in path.resolve().parents:
            raise TfliteAsrError(f"{name}: lies outside the bundle; give a relative name")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        written[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
