"""One bundle on real speech: error rates with intervals, fidelity to float, speed, and every hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tflite_asr.audio import read_audio
from tflite_asr.audit import audit
from tflite_asr.bundle import Bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.manifest import Utterance, read_manifest
from tflite_asr.measure.evaluation import Evaluation, Result, scores
from tflite_asr.measure.fidelity import argmax_agreement, dequantise, snr_db
from tflite_asr.measure.footprint import footprint
from tflite_asr.runtime import Transcriber
from tflite_asr.runtime.spelling import Spelling
from tflite_asr.tokens import Tokens, normalise_text

Progress = Callable[[int, int], None]
ReferenceLogits = Mapping[Path, np.ndarray]


def evaluate(
    bundle: Bundle | str | Path,
    manifests: str | Path | Sequence[str | Path],
    *,
    runtime: str = "litert",
    delegate: str | None = None,
    threads: int = 1,
    spelling: Spelling | None = None,
    reference: Bundle | str | Path | ReferenceLogits | None = None,
    limit: int | None = None,
    seed: int = 0,
    measure_footprint: bool = True,
    integer_only: bool | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Recognise every utterance of the manifests and measure.

    Args:
        bundle: what to evaluate.
        manifests: one or more; every line is checked before any audio is read.
        runtime, delegate, threads, spelling: as `Transcriber` takes them.
        reference: the float bundle of the same model, or its logits (`reference_logits`), for SNR and
            agreement.
        limit: of each manifest, its first utterances only.
        seed: of the bootstrap.
        measure_footprint: load time and memory, in a process of its own.
        integer_only: the audit's verdict where the caller has it; otherwise it is asked here.
        progress: called with (done, all) after each utterance.

    Raises:
        TfliteAsrError: a feature-only bundle, a broken manifest or audio file, or another runtime's trouble.
        Finding: a broken bundle.
    """
    transcriber = Transcriber(bundle, runtime, delegate, threads, spelling)
    utterances = utterances_of(manifests, transcriber.tokens, limit)
    float_side: Transcriber | ReferenceLogits | None
    if isinstance(reference, (Bundle, str, Path)):
        float_side = _float_side(reference, runtime, delegate, threads)
    else:
        float_side = reference
    transcriber.warm_up()
    results = recognise(transcriber, utterances, float_side, progress)
    verdict = integer_only
    if verdict is None:
        verdict = audit(transcriber.bundle.model_path, load=False).integer_only
    names = corpus_names([manifest for manifest, _ in utterances])
    by_corpus = {name: [r for r in results if r.manifest == path] for path, name in names.items()}
    return Evaluation(
        bundle=transcriber.bundle,
        runtime=runtime,
        delegate=transcriber.delegate,
        threads=threads,
        spelling=transcriber.spelling,
        results=tuple(results),
        pooled=scores(results, seed),
        corpora={name: scores(rows, seed) for name, rows in by_corpus.items()},
        bootstrap_seed=seed,
        footprint=footprint(transcriber.bundle.path, runtime, delegate, threads)
        if measure_footprint
        else None,
        integer_only=verdict,
    )


def recognise(
    transcriber: Transcriber,
    utterances: Sequence[tuple[Path, Utterance]],
    reference: Transcriber | ReferenceLogits | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """What a bundle hears in each utterance, and how far its logits lie from the float ones where those are given.

    Args:
        utterances: (the manifest that lists it, the record) each.
        reference: the float bundle, loaded, or its logits.
        progress: called with (done, all) after each.

    Raises:
        TfliteAsrError: an audio file that cannot be read, or of which there are no float logits.
    """
    results = []
    for done, (manifest, utterance) in enumerate(utterances, 1):
        audio = read_audio(utterance.audio_filepath, transcriber.frontend.sample_rate)
        recognition = transcriber.recognise(audio)
        text = normalise_text(recognition.transcript.text)
        result = Result(manifest, utterance, text, recognition.audio_seconds, recognition.seconds)
        expected = None
        if isinstance(reference, Transcriber):
            expected = reference.logits(audio)
        elif reference is not None:
            expected = _looked_up(reference, utterance)
        if expected is not None and len(expected):
            result = _with_fidelity(result, transcriber, recognition.logits, expected)
        results.append(result)
        if progress:
            progress(done, len(utterances))
    return results


def reference_logits(
    bundle: Bundle | str | Path,
    manifests: str | Path | Sequence[str | Path],
    *,
    runtime: str = "litert",
    delegate: str | None = None,
    threads: int = 1,
    limit: int | None = None,
    progress: Progress | None = None,
) -> dict[Path, np.ndarray]:
    """A float bundle's logits by audio file, to hand to several `evaluate`s; raises as `evaluate`."""
    transcriber = _float_side(bundle, runtime, delegate, threads)
    utterances = utterances_of(manifests, transcriber.tokens, limit)
    logits = {}
    for done, (_, utterance) in enumerate(utterances, 1):
        logits[utterance.audio_filepath] = transcriber.logits(utterance.audio_filepath)
        if progress:
            progress(done, len(utterances))
    return logits


def _float_side(bundle: Bundle | str | Path, runtime: str, delegate: str | None, threads: int) -> Transcriber:
    """The float bundle that others are held against; TfliteAsrError where it is quantised."""
    transcriber = Transcriber(bundle, runtime, delegate, threads)
    if transcriber.logits_facts.scale is not None:
        raise TfliteAsrError(
            f"{transcriber.bundle.path}: is {transcriber.bundle.info.scheme}, no float reference; "
            "give the float32 export"
        )
    return transcriber


def utterances_of(
    manifests: str | Path | Sequence[str | Path], tokens: Tokens | None = None, limit: int | None = None
) -> list[tuple[Path, Utterance]]:
    """The first `limit` records of each manifest, with the manifest that lists them.

    Raises:
        TfliteAsrError: no manifest, or what `read_manifest` raises.
    """
    paths = [manifests] if isinstance(manifests, (str, Path)) else list(manifests)
    if not paths:
        raise TfliteAsrError("no manifest to evaluate on; give at least one")
    return [(Path(p), u) for p in paths for u in read_manifest(p, tokens)[:limit]]


def _looked_up(reference: ReferenceLogits, utterance: Utterance) -> np.ndarray:
    try:
        return reference[utterance.audio_filepath]
    except KeyError:
        raise TfliteAsrError(
            f"{utterance.audio_filepath}: no float logits of it; make them from the same manifests"
        ) from None


def _with_fidelity(
    result: Result, transcriber: Transcriber, logits: np.ndarray, expected: np.ndarray
) -> Result:
    facts = transcriber.logits_facts
    real = dequantise(logits, facts.scale, facts.zero_point)
    agreeing, frames = argmax_agreement(expected, real)
    return replace(result, snr_db=snr_db(expected, real), agreeing_frames=agreeing, frames=frames)


def corpus_names(manifests: Sequence[Path]) -> dict[Path, str]:
    """Folder and stem (`an4/test`) for each manifest: short, and unlike the path the same on every machine."""
    names: dict[Path, str] = {}
    for path in dict.fromkeys(manifests):
        name = f"{path.absolute().parent.name}/{path.stem}"
        names[path] = name if name not in names.values() else str(path)
    return names
