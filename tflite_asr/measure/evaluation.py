"""What an evaluation found: every utterance, the scores of all of them, JSON, and the difference to another run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.bundle import Bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.manifest import Utterance
from tflite_asr.measure.footprint import Footprint
from tflite_asr.measure.wer import (
    ErrorCounts,
    PairedDifference,
    bootstrap_interval,
    character_errors,
    paired_difference,
    word_errors,
)
from tflite_asr.runtime import StageSeconds
from tflite_asr.runtime.spelling import Spelling
from tflite_asr.tokens import NORMALISATION


@dataclass(frozen=True)
class Result:
    """One utterance, recognised.

    Attributes:
        manifest: the file that lists it.
        utterance: its record.
        pred_text: normalised.
        audio_seconds: real audio read.
        seconds: by stage.
        snr_db, agreeing_frames, frames: against the float logits; None where none were given.
    """

    manifest: Path
    utterance: Utterance
    pred_text: str
    audio_seconds: float
    seconds: StageSeconds
    snr_db: float | None = None
    agreeing_frames: int | None = None
    frames: int | None = None

    @property
    def key(self) -> str:
        """What names the utterance in any run over the same corpus: audio path relative to its manifest."""
        return os.path.relpath(self.utterance.audio_filepath, self.manifest.absolute().parent)

    def to_dict(self) -> dict[str, Any]:
        """NeMo's keys, and what was measured."""
        row = {
            "audio_filepath": self.key,
            "duration": self.utterance.duration,
            "text": self.utterance.text,
            "pred_text": self.pred_text,
            "seconds": round(self.seconds.total, 6),
        }
        return row if self.snr_db is None else {**row, "snr_db": round(self.snr_db, 2)}


@dataclass(frozen=True)
class Scores:
    """Pooled numbers of some utterances: a corpus, or all of them.

    Attributes:
        wer, cer: fractions; `words` and `characters` hold the counts behind them.
        snr_db: mean over utterances; argmax_agreement: share of all frames; None without float logits.
        rtf: seconds of front end, model and decoding over seconds of real audio; rtf_parts: each apart.
        latency_ms: p50 and p95 over utterances.
    """

    utterances: int
    audio_seconds: float
    wer: float
    wer_ci95: tuple[float, float]
    cer: float
    cer_ci95: tuple[float, float]
    words: dict[str, int]
    characters: dict[str, int]
    snr_db: float | None
    argmax_agreement: float | None
    rtf: float
    rtf_parts: dict[str, float]
    latency_ms: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "wer_ci95": list(self.wer_ci95), "cer_ci95": list(self.cer_ci95)}


@dataclass(frozen=True)
class Evaluation:
    """One bundle on one set of kernels, on one or more manifests.

    Attributes:
        bundle: loaded.
        runtime, delegate, threads: what ran it.
        results: every utterance, in the manifests' order.
        pooled, corpora: scores of all of them, and by manifest.
        bootstrap_seed: of the intervals.
        footprint: None where it was not asked for.
        integer_only: the audit's verdict on model.tflite.
        against: paired difference to another run, where one was given.
        spelling: what decoded, and how.
    """

    bundle: Bundle
    runtime: str
    delegate: str
    threads: int
    results: tuple[Result, ...]
    pooled: Scores
    corpora: dict[str, Scores]
    bootstrap_seed: int
    integer_only: bool
    footprint: Footprint | None = None
    against: dict[str, Any] | None = None
    spelling: Spelling = field(default_factory=lambda: Spelling("ctc"))

    @property
    def words(self) -> ErrorCounts:
        """Word edits of every utterance."""
        return _words(self.results)

    def to_variant(self) -> dict[str, Any]:
        """One entry of `variants` in report.json and of `evaluate --json`."""
        info = self.bundle.info
        scores = self.pooled.to_dict()
        return {
            "scheme": info.scheme,
            "drop": list(info.drop),
            "bundle": str(self.bundle.path),
            "model_bytes": info.files["model.tflite"]["bytes"],
            "integer_only": self.integer_only,
            "lowered": info.lowered,
            **scores,
            "runtime": self.runtime,
            "threads": self.threads,
            "delegate": self.delegate,
            "decoder": self.spelling.decoder,
            "beam": self.spelling.beam,
            "calibration": info.calibration.get("method") if info.calibration else None,
            "seed": info.calibration.get("seed") if info.calibration else None,
            "load_seconds": self.footprint.load_seconds if self.footprint else None,
            "resident_bytes": self.footprint.resident_bytes if self.footprint else None,
            "peak_memory_bytes": self.footprint.peak_bytes if self.footprint else None,
            "bootstrap_seed": self.bootstrap_seed,
            "corpora": {name: scores.to_dict() for name, scores in self.corpora.items()},
            "against": self.against,
            "hypotheses": [result.to_dict() for result in self.results],
        }

    def to_json(self) -> str:
        """What `evaluate --json` writes."""
        return report([self])

    def write_hypotheses(self, path: str | Path) -> None:
        """NeMo's JSON lines with `pred_text`, audio paths relative to the file written."""
        folder = Path(path).absolute().parent
        with Path(path).open("w", encoding="utf-8") as out:
            for result in self.results:
                audio = os.path.relpath(result.utterance.audio_filepath, folder)
                row = {**result.utterance.extra, **result.to_dict(), "audio_filepath": audio}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def report(evaluations: Sequence[Evaluation]) -> str:
    """The JSON of several evaluations: `{"normalisation", "variants": [...]}`."""
    variants = [evaluation.to_variant() for evaluation in evaluations]
    return (
        json.dumps({"normalisation": NORMALISATION, "variants": variants}, indent=1, ensure_ascii=False)
        + "\n"
    )


def scores(results: Sequence[Result], seed: int) -> Scores:
    """The pooled numbers of some results, one or more; seed: of the bootstrap.

    Raises:
        TfliteAsrError: texts that are all empty.
    """
    words, characters = _words(results), character_errors(*_texts(results))
    if not words.units.sum():
        raise TfliteAsrError(
            f"{results[0].manifest}: every text is empty; give transcripts to measure against"
        )
    audio = sum(r.audio_seconds for r in results)
    parts = {
        stage: sum(getattr(r.seconds, stage) for r in results) / audio
        for stage in ("frontend", "model", "decode")
    }
    p50, p95 = np.percentile([1000 * r.seconds.total for r in results], [50, 95])
    snrs = [r.snr_db for r in results if r.snr_db is not None]
    agreeing = sum(r.agreeing_frames or 0 for r in results)
    return Scores(
        utterances=len(results),
        audio_seconds=audio,
        wer=words.rate,
        wer_ci95=bootstrap_interval(words, seed),
        cer=characters.rate,
        cer_ci95=bootstrap_interval(characters, seed),
        words=words.totals(),
        characters=characters.totals(),
        snr_db=float(np.mean(snrs)) if snrs else None,
        argmax_agreement=agreeing / sum(r.frames or 0 for r in results) if snrs else None,
        rtf=sum(parts.values()),
        rtf_parts=parts,
        latency_ms={"p50": float(p50), "p95": float(p95)},
    )


def compare(this: Evaluation, that: Evaluation, seed: int = 0) -> PairedDifference:
    """WER of `this` minus `that`, over the same utterances.

    Raises:
        TfliteAsrError: runs over different utterances.
    """
    _same_utterances([r.key for r in this.results], [r.key for r in that.results], str(that.bundle.path))
    return paired_difference(this.words, that.words, seed)


@dataclass(frozen=True)
class Run:
    """An earlier evaluation, as `evaluate --json` or a report has it.

    path: the file. keys, texts, hypotheses: one an utterance, in its order. scheme, drop: of its bundle.
    """

    path: Path
    keys: list[str]
    texts: list[str]
    hypotheses: list[str]
    scheme: str
    drop: list[str]

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """The first variant of the file: in a report that is float32.

        Raises:
            TfliteAsrError: a file that is no such run.
        """
        path = Path(path)
        if not path.is_file():
            raise TfliteAsrError(f"{path}: no such run; give a file that evaluate --json wrote")
        try:
            variant = json.loads(path.read_text(encoding="utf-8"))["variants"][0]
            rows = variant["hypotheses"]
            keys, texts = [row["audio_filepath"] for row in rows], [row["text"] for row in rows]
            hypotheses = [row["pred_text"] for row in rows]
            return cls(path, keys, texts, hypotheses, variant["scheme"], variant["drop"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise TfliteAsrError(
                f"{path}: is no run with hypotheses ({type(error).__name__}: {error}); "
                "give a file that evaluate --json wrote"
            ) from error


def with_against(evaluation: Evaluation, run: Run | str | Path, seed: int = 0) -> Evaluation:
    """The same evaluation with the paired difference to an earlier run.

    Raises:
        TfliteAsrError: a file that is no such run, or a run over other utterances.
    """
    other = run if isinstance(run, Run) else Run.read(run)
    _same_utterances([r.key for r in evaluation.results], other.keys, str(other.path))
    difference = paired_difference(evaluation.words, word_errors(other.texts, other.hypotheses), seed)
    facts = {"run": str(other.path), "scheme": other.scheme, "drop": other.drop}
    return replace(evaluation, against={**facts, "wer": difference.to_dict()})


def _texts(results: Sequence[Result]) -> tuple[list[str], list[str]]:
    return [r.utterance.text for r in results], [r.pred_text for r in results]


def _words(results: Sequence[Result]) -> ErrorCounts:
    return word_errors(*_texts(results))


def _same_utterances(these: Sequence[str], those: Sequence[str], where: str) -> None:
    if list(these) == list(those):
        return
    stranger = next((k for k in these if k not in set(those)), None) or next(
        (k for k in those if k not in set(these)), "the order"
    )
    raise TfliteAsrError(
        f"{where}: is over other utterances ({len(those)} against {len(these)}; {stranger} is not in both); "
        "evaluate both on the same manifests"
    )
