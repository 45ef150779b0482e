"""The chain: a checkpoint slimmed, given synthetic inputs, converted, quantised, proven and put into a bundle.

The only place that strings the rooms together. Whatever touches TensorFlow runs in a child process.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from tflite_asr.audit import AuditReport, audit
from tflite_asr.bundle import Bundle, BundleInfo, check_output, write_bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import FrontEnd
from tflite_asr.manifest import read_manifest
from tflite_asr.quantize.build import FlatbufferResult, build_flatbuffers
from tflite_asr.quantize.child import report_progress, run_in_child
from tflite_asr.quantize.schemes import Scheme
from tflite_asr.quantize.schemes import scheme as scheme_named
from tflite_asr.report.card import model_card
from tflite_asr.tokens import Tokens

Progress = Callable[[str, float], None]
CALIBRATIONS = ("synthetic", "noise", "synthetic:published")


@dataclass(frozen=True)
class Prepared:
    """A model ready to be converted.

    Attributes:
        keras_path: the (slimmed) model.
        facts: its facts; None for somebody's own model without any.
        drop: the specifications that were dropped.
        slimming: parameters and multiply-adds before and after; None where nothing was dropped.
        inputs: for calibration; None where no scheme asked for them.
        frontend: `frontend.tflite`; None where the model's front end is unknown.
    """

    keras_path: Path
    facts: ModelFacts | None
    drop: tuple[str, ...]
    slimming: dict[str, Any] | None
    inputs: Any
    frontend: bytes | None


def shipped_models() -> dict[str, Path]:
    """Checkpoints that the package ships, by name."""
    folder = Path(str(resources.files("tflite_asr") / "pretrained"))
    return {path.stem: path for path in sorted(folder.glob("*.keras"))}


def model_path(model: str | Path) -> Path:
    """The `.keras` file of a path or of a shipped checkpoint's name.

    Raises:
        TfliteAsrError: neither.
    """
    shipped = shipped_models()
    if str(model) in shipped:
        return shipped[str(model)]
    path = Path(model)
    if path.suffix == ".keras" and path.is_file():
        return path
    known = ", ".join(shipped) or "none"
    if not path.exists():
        raise TfliteAsrError(f"{model}: no such model; give a .keras file or a shipped checkpoint ({known})")
    raise TfliteAsrError(f"{model}: is no .keras file; save the model with model.save('NAME.keras')")


def export(
    model: str | Path,
    out: str | Path,
    *,
    drop: str | Sequence[str] = (),
    scheme: str = "int8",
    calibration: str | Path = "synthetic",
    seed: int = 0,
    budget_macs: float | None = None,
    frontend: FrontEnd | None = None,
    tokens: Tokens | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Export one checkpoint to one bundle.

    Args:
        model: a `.keras` file with its `.toml`, or the name of a shipped checkpoint.
        out: the bundle's folder.
        drop: modules to leave out (`tflite_asr.slim`).
        scheme: "float32", "dynamic_wi8_afp32", "static_wi8_ai8" (short: "int8").
        calibration: "synthetic", "noise", "synthetic:published", or a manifest of real speech.
        seed: of the synthetic inputs.
        budget_macs: multiply-adds that synthesis may spend; None for its default.
        frontend, tokens: for a model without a `.toml`; without either the bundle is feature-only.
        overwrite: replace a bundle that is there.
        progress: called with (stage, fraction done).

    Raises:
        TfliteAsrError: wrong input, or a step that failed; nothing half-written is left.
    """
    chosen = scheme_named(scheme)
    path = model_path(model)
    facts = facts_of(path, frontend, tokens)
    check_budget(seed, budget_macs)
    if chosen.needs_ranges:
        check_calibration(str(calibration), facts)
    check_output(out, overwrite)
    with prepared(
        path,
        facts,
        drop=_specs(drop),
        calibration=str(calibration) if chosen.needs_ranges else None,
        seed=seed,
        budget_macs=budget_macs,
        progress=span(progress, 0.0, 0.4),
    ) as ready:
        (result,) = convert(ready, [chosen], span(progress, 0.4, 0.95))
        return bundle_up(ready, result, out, overwrite)


def slim_checkpoint(
    model: str | Path, out: str | Path, drop: str | Sequence[str], *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a smaller checkpoint, `NAME.keras` with its `NAME.toml`; surviving weights are carried over exactly.

    Args:
        model: a `.keras` file with its `.toml`, or the name of a shipped checkpoint.
        out: the `.keras` file to write.
        drop: modules to leave out (`tflite_asr.slim`).
        overwrite: replace files that are there.

    Returns:
        Parameters and multiply-adds before and after (`tflite_asr.slim.SlimReport.to_dict`).

    Raises:
        TfliteAsrError: an unknown module path, or an output that exists or cannot be written.
    """
    path, out = model_path(model), Path(out)
    if out.suffix != ".keras":
        raise TfliteAsrError(f"{out}: is no .keras name; write to NAME.keras")
    for file in (out, ModelFacts.path_for(out)):
        if (file.exists() or file.is_symlink()) and not overwrite:
            raise TfliteAsrError(f"{file}: exists; choose another name or allow overwriting it (--overwrite)")
    specs = _specs(drop)
    if not specs:
        raise TfliteAsrError("drop: names no module; give --drop encoder.block3, say")
    facts = facts_of(path)
    with prepared(path, facts, drop=specs, calibration=None) as ready:
        assert ready.slimming is not None  # something was dropped
        assert ready.facts is not None  # slimming refuses a model without facts
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as beside:
                staged = Path(shutil.copyfile(ready.keras_path, Path(beside) / out.name))
                replace(ready.facts, name=out.stem).write(staged).replace(ModelFacts.path_for(out))
                staged.replace(out)
        except OSError as error:
            raise TfliteAsrError(
                f"{out}: cannot be written ({error.strerror}); choose another folder"
            ) from error
        return ready.slimming


def _specs(drop: str | Sequence[str]) -> tuple[str, ...]:
    """Those that name something."""
    return tuple(one for one in ((drop,) if isinstance(drop, str) else drop) if one.strip(" ,"))


def facts_of(path: Path, frontend: FrontEnd | None = None, tokens: Tokens | None = None) -> ModelFacts | None:
    """The facts beside a model, `frontend` and `tokens` in the place of theirs; None where there are none at all.

    Raises:
        TfliteAsrError: broken facts.
    """
    facts = ModelFacts.read(path)
    if facts is not None:
        return replace(facts, frontend=frontend or facts.frontend, tokens=tokens or facts.tokens)
    return ModelFacts(path.stem, frontend=frontend, tokens=tokens) if frontend or tokens else None


def span(progress: Progress | None, start: float, end: float) -> Progress | None:
    """The same progress, as a part of a longer one."""
    if progress is None:
        return None
    return lambda stage, fraction: progress(stage, start + (end - start) * fraction)


@contextmanager
def prepared(
    path: Path,
    facts: ModelFacts | None,
    *,
    drop: tuple[str, ...] = (),
    calibration: str | None = "synthetic",
    seed: int = 0,
    budget_macs: float | None = None,
    progress: Progress | None = None,
) -> Iterator[Prepared]:
    """Slim a model, make its calibration inputs and its front end; all of it goes with the context.

    calibration: as `export` takes it; None where no scheme needs ranges.
    """
    with workspace() as folder:
        settings = (facts, folder, drop, calibration, seed, budget_macs)
        yield run_in_child(prepare, path, *settings, stage="open the model", progress=progress)


@contextmanager
def workspace() -> Iterator[Path]:
    """A temporary folder for models on their way."""
    folder = Path(tempfile.mkdtemp(prefix="tflite_asr-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def prepare(
    path: Path,
    facts: ModelFacts | None,
    folder: Path,
    drop: tuple[str, ...],
    calibration: str | None,
    seed: int,
    budget_macs: float | None,
) -> Prepared:
    """What `prepared` yields, made in `folder`; wants TensorFlow, so run it in a child."""
    import tflite_asr.lowering  # noqa: F401  its layers are then known, and a lowered model opens too
    from tflite_asr.frontend.graph import frontend_flatbuffers
    from tflite_asr.models import load_model
    from tflite_asr.quantize.windows import merge

    report_progress("open the model", 0.0)
    model = load_model(path)
    keras_path, slimming = path, None
    if drop:
        from tflite_asr.slim import slim

        report_progress("slim", 0.1)
        model, facts, saved = slim(model, facts, drop)
        keras_path, slimming = folder / "model.keras", saved.to_dict()
        model.save(keras_path)
    inputs = None
    if calibration is not None:
        stage = f"calibration inputs: {calibration}"
        inputs = calibration_inputs(
            model, facts, calibration, seed, budget_macs, lambda f: report_progress(stage, 0.2 + 0.6 * f)
        )
    report_progress("front end", 0.8)
    sound = merge(frontend_flatbuffers(facts.frontend, facts.windows)) if facts and facts.frontend else None
    return Prepared(keras_path, facts, drop, slimming, inputs, sound)


def check_budget(seed: int, budget_macs: float | None) -> None:
    """Say what is wrong with the numbers of a synthesis before TensorFlow is started.

    Raises:
        TfliteAsrError: a seed below 0; a budget below 0, infinite or no number.
    """
    if seed < 0:
        raise TfliteAsrError(f"seed {seed}: give 0 or more")
    if budget_macs is not None and not 0 <= budget_macs < math.inf:
        raise TfliteAsrError(f"budget of {budget_macs:g} multiply-adds: give 0 or more, 3e11 say")


def check_calibration(calibration: str, facts: ModelFacts | None) -> None:
    """Say what is wrong with a choice of calibration before TensorFlow is started.

    Raises:
        TfliteAsrError: neither a method nor a manifest; a manifest with a broken line, or for a model whose front
            end is unknown.
    """
    if calibration in CALIBRATIONS:
        return
    if not Path(calibration).is_file():
        raise TfliteAsrError(
            f"calibration {calibration!r}: give {', '.join(CALIBRATIONS)}, or a manifest of real speech that exists"
        )
    if facts is None or facts.frontend is None:
        raise TfliteAsrError(
            f"calibration {calibration}: real speech needs the model's front end; give --frontend or write its .toml"
        )
    read_manifest(calibration)


def calibration_inputs(
    model: Any,
    facts: ModelFacts | None,
    calibration: str,
    seed: int = 0,
    budget_macs: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> Any:
    """`SyntheticInputs` by one of `CALIBRATIONS`, or real ones from a manifest; raises as `check_calibration`."""
    from tflite_asr.synthesis.real import real_inputs
    from tflite_asr.synthesis.synthesize import DEFAULT_BUDGET_MACS, synthesize

    check_calibration(calibration, facts)
    if facts is not None and calibration not in CALIBRATIONS:
        return real_inputs(calibration, facts, seed=seed)
    budget = DEFAULT_BUDGET_MACS if budget_macs is None else budget_macs
    return synthesize(model, facts, calibration, seed, budget, progress)


def convert(
    ready: Prepared, schemes: Sequence[Scheme], progress: Progress | None = None
) -> list[FlatbufferResult]:
    """One flatbuffer a scheme, from the same model and inputs."""
    return build_flatbuffers(
        ready.keras_path,
        ready.facts.windows if ready.facts else ModelFacts("").windows,
        schemes,
        ready.inputs.features if ready.inputs is not None else None,
        subsampling=ready.facts.subsampling if ready.facts else 1,
        progress=progress,
    )


def bundle_up(ready: Prepared, result: FlatbufferResult, out: str | Path, overwrite: bool = False) -> Bundle:
    """Write the bundle of one flatbuffer, with sample transcripts and the audit in its card."""
    facts = ready.facts
    calibration = None
    if result.ranges is not None:
        calibration = {
            **(ready.inputs.provenance() if ready.inputs else {}),
            "ranges_sha256": result.ranges.sha256,
        }
    info = BundleInfo(
        name=facts.name if facts else ready.keras_path.stem,
        scheme=result.scheme,
        lowered=result.lowered,
        drop=ready.drop,
        frontend=facts.frontend if facts else None,
        subsampling=facts.subsampling if facts else 1,
        signatures=result.signatures,
        calibration=calibration,
        made_with={"tflite_asr": metadata.version("tflite-asr"), **result.made_with},
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
    """Two clips of the package with the transcripts that this bundle gives them on LiteRT with XNNPACK, one thread."""
    if staged.missing_for_speech():
        return {}
    import json

    from tflite_asr.runtime.transcriber import Transcriber

    transcriber = Transcriber(staged, "litert", "xnnpack", 1)
    files: dict[str, bytes] = {}
    lines = []
    for path in demo_clips()[:2]:
        transcript = transcriber.transcribe(path)
        files[path.name] = path.read_bytes()
        lines.append({"audio_filepath": path.name, "pred_text": transcript.text})
    kernels = {"runtime": "litert", "delegate": "xnnpack", "threads": 1}
    files["expected.json"] = (json.dumps({**kernels, "transcripts": lines}, indent=1) + "\n").encode()
    return files


def demo_manifest() -> Path:
    """The manifest of the clips that the package ships."""
    return Path(str(resources.files("tflite_asr") / "pretrained" / "demo" / "demo.jsonl"))


def demo_clips() -> list[Path]:
    """The package's clips."""
    return sorted(demo_manifest().parent.glob("*.ogg"))
