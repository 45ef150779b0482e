"""`evaluate`: what a bundle hears, and how fast."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tflite_asr.cli.options import BEAM, DECODER, DELEGATES, DELEGATES_HELP, JSON, RUNTIME, THREADS
from tflite_asr.cli.terminal import counter, show, write_json


@click.command()
@click.argument("bundle")
@click.option(
    "--manifest", "-m", "manifests", multiple=True, required=True, help="NeMo manifest; may be repeated."
)
@RUNTIME
@click.option(
    "--delegate", "delegates", multiple=True, type=DELEGATES, help=f"May be repeated.  {DELEGATES_HELP}"
)
@THREADS
@DECODER
@BEAM
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
    decoder: str | None,
    beam: int,
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
    from tflite_asr.measure.evaluation import Run, report, with_against
    from tflite_asr.report.table import evaluation_table, variants_table
    from tflite_asr.runtime.spelling import wanted_spelling

    loaded = Bundle.load(bundle)
    earlier = Run.read(against) if against else None
    proof = run_audit(loaded.model_path, load=False).integer_only
    evaluations = []
    asked, delegates = bool(delegates), delegates or [loaded.info.delegate]
    for delegate in delegates:
        with counter(f"{loaded.path.name}, {delegate}") as tell:
            evaluation = run(
                loaded,
                manifests,
                runtime=runtime,
                delegate=delegate if asked else None,
                threads=threads,
                spelling=wanted_spelling(decoder, beam),
                reference=float_bundle,
                limit=limit,
                integer_only=proof,
                progress=tell,
            )
        evaluations.append(with_against(evaluation, earlier) if earlier else evaluation)
    variants = [e.to_variant() for e in evaluations]
    show(variants_table(variants, f"{loaded.path}: {', '.join(delegates)}"), json_path)
    for variant in variants:
        show(evaluation_table(variant), json_path)
    if len(variants) > 1:
        wers = [v["wer"] for v in variants]
        show(f"spread of WER between kernels: {100 * (max(wers) - min(wers)):.2f} points", json_path)
    if hypotheses:
        evaluations[0].write_hypotheses(hypotheses)
    write_json(json_path, report(evaluations))
