"""The command line: one click command a verb, heavy imports inside the command.

Exit codes: 0 on success, 1 on a finding (a failed audit, a broken bundle), 2 on wrong use or bad input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tflite_asr.errors import TfliteAsrError

console = Console()
notes = Console(stderr=True)


class _Commands(click.Group):
    """A group whose commands end in one clear line, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TfliteAsrError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(0)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            click.echo(
                f"error: {error.filename or ctx.info_name}: cannot be read or written ({reason})", err=True
            )
            sys.exit(TfliteAsrError.exit_code)


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="tflite-asr")
def main() -> None:
    """From a float Keras speech-recognition checkpoint to an integer-only TFLite bundle, without any data."""


def _write_json(path: str | None, text: str) -> None:
    if path is None:
        return
    if path == "-":
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise TfliteAsrError(f"{path}: cannot be written ({error.strerror}); choose another file") from error


def _show(table: Any, json_path: str | None) -> None:
    """Tables are for people; with `--json -` standard output belongs to the machine."""
    (notes if json_path == "-" else console).print(table)


@contextmanager
def _bar() -> Iterator[Callable[[str, float], None]]:
    """A progress bar fed with (stage, fraction done)."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task("start", total=1.0)
        yield lambda stage, fraction: progress.update(task, description=stage, completed=fraction)


@contextmanager
def _counter(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar fed with (done, all)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


JSON = click.option(
    "--json", "json_path", metavar="FILE", help="Write the result as JSON ('-': standard output)."
)
RUNTIMES = click.Choice(["litert", "tflite-runtime"])
RUNTIME = click.option("--runtime", type=RUNTIMES, default="litert", show_default=True)
DELEGATES = click.Choice(["xnnpack", "builtin", "reference"])
THREADS = click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an output that exists.")


@main.command()
@click.option(
    "--out", default="build/demo", show_default=True, help="Folder for the bundles and report.json."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the synthetic calibration.")
def demo(out: str, seed: int) -> None:
    """Run the main job on what the package ships: float, dynamic, zero-shot int8, and int8 with one block dropped."""
    from tflite_asr.demo import run_demo
    from tflite_asr.report.table import variants_table

    with _bar() as tell:
        variants = run_demo(Path(out), seed, tell)
    console.print(variants_table(variants, "conformer-ctc on the package's clips"))
    console.print(f"bundles and report.json are in {out}", highlight=False)


@main.command()
@JSON
def models(json_path: str | None) -> None:
    """List the shipped checkpoints."""
    from tflite_asr.facts import ModelFacts
    from tflite_asr.pipeline import shipped_models
    from tflite_asr.report.table import key_value_table

    found = {}
    for name, path in shipped_models().items():
        facts = ModelFacts.read(path)
        found[name] = {"file_bytes": path.stat().st_size, **(facts.extra if facts else {})}
    rows = [(name, f"{facts['file_bytes']:,} bytes") for name, facts in found.items()]
    _show(key_value_table(rows, "shipped checkpoints"), json_path)
    _write_json(json_path, json.dumps(found, indent=1) + "\n")


@main.command()
@click.argument("model")
@click.option("--out", required=True, help="Folder of the bundle.")
@click.option(
    "--drop", multiple=True, metavar="SPEC", help="Modules to leave out: encoder.block3, encoder.block*.ff1"
)
@click.option(
    "--scheme", default="int8", show_default=True, help="float32, dynamic_wi8_afp32, static_wi8_ai8 (int8)."
)
@click.option(
    "--calibration",
    default="synthetic",
    show_default=True,
    metavar="METHOD|MANIFEST",
    help="synthetic, noise, synthetic:published, or a manifest of real speech.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the synthetic inputs.")
@click.option("--budget-macs", type=float, help="Multiply-adds that synthesis may spend.")
@click.option(
    "--frontend", "frontend_file", metavar="TOML", help="Front end of a model without a .toml beside it."
)
@click.option("--tokens", "tokens_file", metavar="FILE", help="Tokens of such a model, `piece id` a line.")
@click.option("--blank-id", type=int, help="Id of the blank among them.")
@OVERWRITE
@JSON
def export(
    model: str,
    out: str,
    drop: tuple[str, ...],
    scheme: str,
    calibration: str,
    seed: int,
    budget_macs: float | None,
    frontend_file: str | None,
    tokens_file: str | None,
    blank_id: int | None,
    overwrite: bool,
    json_path: str | None,
) -> None:
    """Export MODEL (a .keras file or a shipped name) to a bundle."""
    from tflite_asr import pipeline
    from tflite_asr.audit import audit as run_audit
    from tflite_asr.report.table import key_value_table
    from tflite_asr.tokens import Tokens

    frontend = _read_frontend(frontend_file) if frontend_file else None
    tokens = Tokens.read(tokens_file, blank_id) if tokens_file else None
    if blank_id is not None and tokens is None:
        raise TfliteAsrError(f"--blank-id {blank_id}: says nothing without --tokens; give both")
    with _bar() as tell:
        bundle = pipeline.export(
            model,
            out,
            drop=drop,
            scheme=scheme,
            calibration=calibration,
            seed=seed,
            budget_macs=budget_macs,
            frontend=frontend,
            tokens=tokens,
            overwrite=overwrite,
            progress=tell,
        )
    report = run_audit(bundle.model_path, load=False)
    lacking = bundle.missing_for_speech()
    rows = [
        ("bundle", str(bundle.path)),
        ("scheme", bundle.info.scheme),
        ("model.tflite", f"{report.size_bytes:,} bytes"),
        ("integer-only", "yes" if report.integer_only else f"no: {report.offending[0]}"),
    ]
    if lacking:
        rows.append(("feature-only", f"without {' and '.join(lacking)}"))
    _show(key_value_table(rows, "exported"), json_path)
    result = {"bundle": str(bundle.path), "integer_only": report.integer_only, **bundle.info.to_dict()}
    _write_json(json_path, json.dumps(result, indent=1) + "\n")


def _read_frontend(path: str) -> Any:
    from tflite_asr.facts import read_toml
    from tflite_asr.frontend import FrontEnd

    values = read_toml(path)
    return FrontEnd.from_dict(values.get("frontend", values))


@main.command()
@click.argument("bundle")
@click.option(
    "--manifest", "-m", "manifests", multiple=True, required=True, help="NeMo manifest; may be repeated."
)
@RUNTIME
@click.option(
    "--delegate", "delegates", multiple=True, type=DELEGATES, default=["xnnpack"], show_default=True
)
@THREADS
@click.option(
    "--float", "float_bundle", metavar="BUNDLE", help="float32 bundle of the same model: SNR, agreement."
)
@click.option("--against", metavar="RUN.json", help="Paired difference to a run that evaluate --json wrote.")
@click.option("--hypotheses", metavar="FILE", help="Write every utterance with its transcript as JSON lines.")
@click.option("--limit", type=click.IntRange(1), help="Only the first utterances of each manifest.")
@JSON
def evaluate(
    bundle: str,
    manifests: tuple[str, ...],
    runtime: str,
    delegates: Sequence[str],
    threads: int,
    float_bundle: str | None,
    against: str | None,
    hypotheses: str | None,
    limit: int | None,
    json_path: str | None,
) -> None:
    """Measure WER, CER, fidelity and real-time factor of BUNDLE."""
    from tflite_asr.audit import audit as run_audit
    from tflite_asr.bundle import Bundle
    from tflite_asr.measure.evaluate import evaluate as run
    from tflite_asr.measure.evaluate import report, with_against
    from tflite_asr.report.table import evaluation_table, variants_table

    loaded = Bundle.load(bundle)
    proof = run_audit(loaded.model_path, load=False).integer_only
    evaluations = []
    for delegate in delegates:
        with _counter(f"{loaded.path.name}, {delegate}") as tell:
            evaluation = run(
                loaded,
                manifests,
                runtime=runtime,
                delegate=delegate,
                threads=threads,
                reference=float_bundle,
                limit=limit,
                integer_only=proof,
                progress=tell,
            )
        evaluations.append(with_against(evaluation, against) if against else evaluation)
    variants = [e.to_variant() for e in evaluations]
    _show(variants_table(variants, f"{loaded.path}: {', '.join(delegates)}"), json_path)
    for variant in variants:
        _show(evaluation_table(variant), json_path)
    if len(variants) > 1:
        wers = [v["wer"] for v in variants]
        _show(f"spread of WER between kernels: {100 * (max(wers) - min(wers)):.2f} points", json_path)
    if hypotheses:
        evaluations[0].write_hypotheses(hypotheses)
    _write_json(json_path, report(evaluations))


@main.command()
@click.argument("file")
@JSON
def audit(file: str, json_path: str | None) -> None:
    """Prove that FILE (a .tflite or a bundle) is integer-only; exit 1 where it is not."""
    from tflite_asr.audit import audit as run
    from tflite_asr.audit import require_integer_only
    from tflite_asr.bundle import Bundle
    from tflite_asr.report.table import key_value_table

    report = run(Bundle.load(file).model_path if Path(file).is_dir() else file)
    _show(key_value_table(report.rows(), file), json_path)
    _write_json(json_path, json.dumps(report.to_dict(), indent=1) + "\n")
    require_integer_only(report)


@main.command()
@click.argument("bundle")
@click.argument("audio", nargs=-1, required=True)
@RUNTIME
@click.option("--delegate", type=DELEGATES, default="xnnpack", show_default=True)
@THREADS
@click.option("--timestamps", is_flag=True, help="A line a word, with its start and end in seconds.")
@JSON
def transcribe(
    bundle: str,
    audio: tuple[str, ...],
    runtime: str,
    delegate: str,
    threads: int,
    timestamps: bool,
    json_path: str | None,
) -> None:
    """Transcribe AUDIO files ('-': standard input) with BUNDLE."""
    import io

    from tflite_asr.audio import read_audio
    from tflite_asr.runtime.transcriber import Transcriber

    transcriber = Transcriber(bundle, runtime, delegate, threads)
    results = []
    for name in audio:
        source: Any = io.BytesIO(sys.stdin.buffer.read()) if name == "-" else name
        transcript = transcriber.transcribe(read_audio(source, transcriber.frontend.sample_rate))
        words = [
            {"word": w.text, "start": round(w.start, 3), "end": round(w.end, 3)} for w in transcript.words
        ]
        results.append({"audio_filepath": name, "pred_text": transcript.text, "words": words})
        if json_path == "-":
            continue
        prefix = f"{name}: " if len(audio) > 1 else ""
        click.echo(f"{prefix}{transcript.text}")
        if timestamps:
            for word in words:
                click.echo(f"  {word['start']:8.2f} {word['end']:8.2f}  {word['word']}")
    _write_json(json_path, json.dumps(results, indent=1, ensure_ascii=False) + "\n")


@main.command()
@click.argument("recipe")
@click.option(
    "--manifest", "-m", "manifests", multiple=True, required=True, help="Training manifest; may be repeated."
)
@click.option("--dev", "-d", "dev", multiple=True, required=True, help="Dev manifest; may be repeated.")
@click.option(
    "--out", required=True, metavar="FILE.keras", help="Best checkpoint; state and history lie beside it."
)
@click.option("--cache", default="build/features", show_default=True, help="Folder of cached features.")
@JSON
def train(
    recipe: str, manifests: tuple[str, ...], dev: tuple[str, ...], out: str, cache: str, json_path: str | None
) -> None:
    """Train the model of RECIPE (TOML); the same command goes on where it was interrupted."""
    from tflite_asr.training.loop import train as run
    from tflite_asr.training.recipe import Recipe

    settings = Recipe.read(recipe)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task("features", total=None)

        def tell(p: Any) -> None:
            if p.stage == "dev":
                bar.console.print(
                    f"epoch {p.epoch}/{p.epochs}: loss {p.loss:.3f}, dev WER {100 * p.dev_wer:.2f} %"
                )
            name = f"epoch {p.epoch}/{p.epochs}, loss {p.loss:.3f}" if p.stage == "train" else p.stage
            bar.update(task, description=name, completed=p.step, total=p.steps)

        result = run(settings, manifests, dev, out, cache, tell)
    _write_json(json_path, json.dumps(result, indent=1) + "\n")


@main.command()
@click.argument("model")
@click.option(
    "--drop", multiple=True, required=True, metavar="SPEC", help="Modules to leave out; may be repeated."
)
@click.option("--out", required=True, metavar="FILE.keras")
@OVERWRITE
@JSON
def slim(model: str, drop: tuple[str, ...], out: str, overwrite: bool, json_path: str | None) -> None:
    """Write MODEL without some of its modules, e.g. --drop encoder.block3 --drop 'encoder.block*.ff1'."""
    from tflite_asr.pipeline import slim_checkpoint
    from tflite_asr.report.table import key_value_table

    saved = slim_checkpoint(model, out, drop, overwrite=overwrite)
    rows = [("dropped", ", ".join(saved["dropped"]))]
    for what in ("parameters", "macs"):
        before, after = saved[f"{what}_before"], saved[f"{what}_after"]
        name = "multiply-adds" if what == "macs" else what
        rows.append((name, f"{before:,} -> {after:,} ({100 * (after / before - 1):+.1f} %)"))
    _show(key_value_table(rows, out), json_path)
    _write_json(json_path, json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
