"""Every peer's file, made in a process of its own and kept: what is there and still right is not made again.

A peer that cannot be made is a result too, with the one line that says why. It is tried again at the next run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import tflite_asr
from benchmarks.side_by_side import makers
from benchmarks.side_by_side.checkpoint import digest
from benchmarks.side_by_side.makers import Ingredients, Peer
from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.child import run_in_child

Progress = Callable[[str], None]
# The rooms of this package that decide what it makes of a checkpoint.
ROOMS = ("lowering", "models", "quantize", "synthesis")


@dataclass(frozen=True)
class Built:
    """What came of making one peer.

    Attributes:
        peer: its name.
        file: the file's name in the folder; None where it refused.
        refusal: why, in one line; None where it was made.
        fingerprint: SHA-256 of all that it was made from.
        notes: what its maker had to say.
    """

    peer: str
    file: str | None
    refusal: str | None
    fingerprint: str
    notes: dict[str, Any] = field(default_factory=dict)


def build_all(
    peers: Sequence[Peer], given: Ingredients, folder: Path, progress: Progress = lambda line: None
) -> dict[str, Built]:
    """Make every peer, in order.

    Args:
        peers: each behind those that it takes.
        given: the ingredients; `taken` is filled in here.
        folder: holds `NAME.tflite` or `NAME.onnx` and `NAME.json` for each; kept for the next run.
        progress: told what is being done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done: dict[str, Built] = {}
    for peer in peers:
        done[peer.name] = _build(peer, given, folder, done, progress)
    return done


def _build(peer: Peer, given: Ingredients, folder: Path, done: dict[str, Built], progress: Progress) -> Built:
    missing = next((name for name in peer.takes if name not in done or done[name].refusal), None)
    if missing is not None:
        return Built(peer.name, None, f"is made from {missing}, which there is none of", "")
    absent = [name for name, version in versions(peer.packages).items() if version == "absent"]
    if absent:
        reason = f"{', '.join(absent)} not installed; make peers, or pip install 'tflite-asr[peers]'"
        return Built(peer.name, None, reason, "")
    taken = {name: folder / str(done[name].file) for name in peer.takes}
    mark = fingerprint(peer, replace(given, taken=taken))
    record = folder / f"{peer.name}.json"
    kept = _kept(record)
    if kept is not None and kept.fingerprint == mark and kept.file and (folder / kept.file).is_file():
        progress(f"{peer.title}: made before")
        return kept
    progress(f"{peer.title}: being made")
    target = folder / f"{peer.name}{peer.suffix}"
    target.unlink(missing_ok=True)
    try:
        data, notes = run_in_child(peer.make, replace(given, taken=taken), stage=f"make {peer.name}")
    except TfliteAsrError as error:
        built = Built(peer.name, None, one_line(error), mark)
    else:
        partial = folder / f".{target.name}"
        partial.write_bytes(data)
        partial.replace(target)
        built = Built(peer.name, target.name, None, mark, notes)
    record.write_text(json.dumps(asdict(built), indent=1) + "\n", encoding="utf-8")
    progress(f"{peer.title}: {'made' if built.refusal is None else f'refused, {built.refusal}'}")
    return built


def fingerprint(peer: Peer, given: Ingredients) -> str:
    """What decides a peer's file: checkpoint, window, clips, what it takes, versions and sources."""
    parts = [
        peer.name,
        digest(given.keras_path),
        given.frames,
        given.subsampling,
        digest(given.clips) if peer.calibrated else "",
        {name: digest(path) for name, path in given.taken.items()},
        versions(peer.packages),
        digest(Path(makers.__file__), Path(makers.__file__).with_name("onnx_graph.py")),
        digest(*(Path(tflite_asr.__file__).with_name(room) for room in ROOMS)) if peer.own else "",
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Package to version; "absent" where it is not installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def one_line(error: BaseException) -> str:
    """The message, in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]


def _kept(record: Path) -> Built | None:
    try:
        return Built(**json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
