"""A prepared model converted under each scheme, and each flatbuffer put into a bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from tflite_asr.audit import AuditReport, audit
from tflite_asr.bundle import FRONTEND_FILE, Bundle, BundleInfo, write_bundle
from tflite_asr.facts import ModelFacts
from tflite_asr.measure.walk import walk
from tflite_asr.pipeline.model_files import FLATBUFFER, demo_clips
from tflite_asr.pipeline.preparation import Prepared, Progress
from tflite_asr.quantize.build import FlatbufferResult, build_flatbuffers, build_given
from tflite_asr.quantize.older import require_runtime
from tflite_asr.quantize.schemes import Scheme
from tflite_asr.quantize.trained import Trained
from tflite_asr.report.card import model_card


def convert(
    ready: Prepared,
    schemes: Sequence[Scheme],
    progress: Progress | None = None,
    min_runtime: str | None = None,
    calibrator: str = "min_max",
    repair: bool = False,
    trained: Trained | None = None,
) -> list[FlatbufferResult]:
    """One flatbuffer a scheme, from the same model and inputs. min_runtime, calibrator, repair: as `export` takes
    them. trained: what its `qat` holds, for a `.keras`."""
    settings: dict[str, Any] = {
        "calibrator": calibrator,
        "repair": walk if repair else None,
        "min_runtime": min_runtime,
        "progress": progress,
    }
    inputs = ready.inputs.features if ready.inputs is not None else None
    if ready.path.suffix == FLATBUFFER:
        speech = ready.facts is not None and None not in (ready.facts.frontend, ready.facts.tokens)
        return build_given(ready.path, schemes, inputs, speech=speech, **settings)
    return build_flatbuffers(
        ready.path,
        ready.facts.windows if ready.facts else ModelFacts("").windows,
        schemes,
        inputs,
        subsampling=ready.facts.subsampling if ready.facts else 1,
        **settings,
        trained=trained,
        facts=ready.facts,
    )


def bundle_up(
    ready: Prepared,
    result: FlatbufferResult,
    out: str | Path,
    overwrite: bool = False,
    min_runtime: str | None = None,
) -> Bundle:
    """Write the bundle of one flatbuffer, with sample transcripts and the audit in its card.

    Raises TfliteAsrError where `min_runtime` lacks an op of the front end.
    """
    facts = ready.facts
    if min_runtime and ready.frontend is not None:
        require_runtime(ready.frontend, min_runtime, FRONTEND_FILE)
    calibration = None
    if result.ranges is not None:
        calibration = {
            **(ready.inputs.provenance() if ready.inputs else {}),
            **result.calibrated,
            "ranges_sha256": result.ranges.sha256,
        }
    info = BundleInfo(
        name=facts.name if facts else ready.path.stem,
        scheme=result.scheme,
        lowered=result.lowered,
        drop=ready.drop,
        frontend=facts.frontend if facts else None,
        subsampling=facts.subsampling if facts else 1,
        signatures=result.signatures,
        calibration=calibration,
        made_with={"tflite_asr": metadata.version("tflite-asr"), **result.made_with},
        min_runtime=min_runtime,
        # Where activations are integers, only the builtin kernels of old and new runtimes give the same ones.
        delegate="builtin" if min_runtime and calibration is not None else "xnnpack",
    )
    report = audit(result.data, load=False)
    return write_bundle(
        out,
        info,
        model=result.data,
        frontend=ready.frontend,
        tokens=facts.tokens if facts else None,
        samples=sample_files,
        card=lambda staged: _card(staged, report, ready.slimming),
        overwrite=overwrite,
    )


def _card(staged: Bundle, report: AuditReport, slimming: dict[str, Any] | None) -> str:
    return model_card(staged.info, report, slimming)


def sample_files(staged: Bundle) -> dict[str, bytes]:
    """Two clips of the package with the transcripts that this bundle gives them on LiteRT, on one thread."""
    if staged.missing_for_speech():
        return {}
    from tflite_asr.runtime.transcriber import Transcriber

    transcriber = Transcriber(staged, "litert", threads=1)
    files: dict[str, bytes] = {}
    lines = []
    for path in demo_clips()[:2]:
        transcript = transcriber.transcribe(path)
        files[path.name] = path.read_bytes()
        lines.append({"audio_filepath": path.name, "pred_text": transcript.text})
    kernels = {"runtime": "litert", "delegate": transcriber.delegate, "threads": 1}
    files["expected.json"] = (json.dumps({**kernels, "transcripts": lines}, indent=1) + "\n").encode()
    return files
