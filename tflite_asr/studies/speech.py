"""Which speech a study calibrates on and which it judges by: never the same."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tflite_asr.errors import TfliteAsrError
from tflite_asr.manifest import Utterance, read_manifest, write_manifest
from tflite_asr.measure.evaluate import corpus_names
from tflite_asr.staging import plain_errors
from tflite_asr.tokens import Tokens

MOST_CLIPS = 48  # as many as `real_inputs` takes


@dataclass(frozen=True)
class Speech:
    """What is heard in a study.

    Attributes:
        corpora: name to the utterances that are evaluated.
        calibration: manifest of the real arm; None where no real arm was asked for.
        calibration_clips: utterances in it.
        note: where the calibration part comes from, in words.
    """

    corpora: dict[str, tuple[Utterance, ...]]
    calibration: Path | None
    calibration_clips: int
    note: str

    @property
    def utterances(self) -> list[tuple[str, Utterance]]:
        """(corpus, utterance) of all corpora, in their order."""
        return [(name, one) for name, some in self.corpora.items() for one in some]

    @property
    def sha256(self) -> str:
        """Of what is evaluated: texts and audio, by name and size."""
        rows = [
            [name, one.audio_filepath.name, one.audio_filepath.stat().st_size, one.text]
            for name, one in self.utterances
        ]
        return hashlib.sha256(repr(rows).encode()).hexdigest()


def divide(
    manifests: Sequence[str | Path],
    calibrate_on: str | Path | None,
    work: Path,
    *,
    tokens: Tokens | None = None,
    limit: int | None = None,
    seed: int = 0,
    real: bool = True,
) -> Speech:
    """Evaluation and calibration speech.

    Args:
        manifests: evaluated, each a corpus.
        calibrate_on: manifest of the real arm; None: a part of `manifests`, drawn by a hash of `seed` and each
            utterance's name, at most 48 clips and at most half of a corpus, is set aside for it.
        work: where such a part's manifest is written; made where it is not there.
        tokens: that the texts must be spelled with.
        limit: of each evaluated manifest, its first utterances only.
        seed: of the draw.
        real: whether a real arm is wanted at all.

    Raises:
        TfliteAsrError: no manifest, a broken one, a recording in both parts, or too few to divide.
    """
    paths = [Path(one) for one in manifests]
    if not paths:
        raise TfliteAsrError("no manifest to evaluate on; give at least one")
    corpora = {name: tuple(read_manifest(path, tokens)[:limit]) for path, name in corpus_names(paths).items()}
    if not real:
        return Speech(corpora, None, 0, "no real calibration")
    if calibrate_on is not None:
        given = read_manifest(calibrate_on)
        if both := _same_audio(given, [one for some in corpora.values() for one in some]):
            raise TfliteAsrError(
                f"{calibrate_on}: {both} is evaluated too; calibration must never see what it is judged by"
            )
        note = (
            f"real calibration on {min(len(given), MOST_CLIPS)} of {len(given)} clips of {Path(calibrate_on)}"
        )
        return Speech(corpora, Path(calibrate_on), len(given), note)
    return _split(corpora, paths, work, seed)


def _same_audio(these: Sequence[Utterance], those: Sequence[Utterance]) -> Path | None:
    """The first recording of these that is among those, by whichever path or name: the bytes decide."""
    sizes: dict[int, list[Path]] = {}
    for one in those:
        sizes.setdefault(one.audio_filepath.stat().st_size, []).append(one.audio_filepath)
    for path in sorted({one.audio_filepath for one in these}):
        alike = sizes.get(path.stat().st_size, [])
        if any(filecmp.cmp(path, other, shallow=False) for other in alike):
            return path
    return None


def _split(corpora: dict[str, tuple[Utterance, ...]], paths: Sequence[Path], work: Path, seed: int) -> Speech:
    folders = dict(zip(corpora, (path.absolute().parent for path in paths), strict=False))
    set_aside: list[Utterance] = []
    kept: dict[str, tuple[Utterance, ...]] = {}
    for name, some in corpora.items():

        def place(one: Utterance, name: str = name) -> str:
            key = f"{seed}:{name}:{os.path.relpath(one.audio_filepath, folders[name])}"
            return hashlib.sha256(key.encode()).hexdigest()

        drawn = sorted(some, key=place)[: min(MOST_CLIPS // len(corpora), len(some) // 2)]
        set_aside += [one for one in some if one in drawn]
        kept[name] = tuple(one for one in some if one not in drawn)
    if not set_aside:
        raise TfliteAsrError(
            f"{paths[0]}: too few utterances to set some aside for calibration; give --calibrate-on"
        )
    names = sorted(str(one.audio_filepath) for one in set_aside)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    manifest = work / f"set-aside-{digest}.jsonl"
    with plain_errors(work.parent):
        work.mkdir(parents=True, exist_ok=True)
    write_manifest(manifest, set_aside)
    note = (
        f"real calibration on {len(set_aside)} clips set aside from the manifests (hash of utterances, seed {seed}; "
        "speakers may be in both parts) and not evaluated"
    )
    return Speech(kept, manifest, len(set_aside), note)
