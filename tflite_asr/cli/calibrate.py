"""`calibrate`: `calibrate synthesize` makes inputs from a model alone; `calibrate compare` asks what they are worth."""

from __future__ import annotations

import json

import click

from tflite_asr.cli.options import JSON, OVERWRITE, writable
from tflite_asr.cli.terminal import bar, show, write_json
from tflite_asr.errors import TfliteAsrError


@click.group()
def calibrate() -> None:
    """Calibration inputs, and what they are worth."""


@calibrate.command()
@click.argument("model")
@click.option("--out", required=True, metavar="FILE.npz", help="The inputs; export --calibration takes them.")
@click.option(
    "--method",
    default="synthetic",
    show_default=True,
    help="synthetic, noise, synthetic:published, synthetic:labels.",
)
@click.option("--seed", default=0, show_default=True)
@click.option("--budget-macs", type=float, help="Multiply-adds that refinement may spend.")
@click.option(
    "--plot",
    "plot_path",
    metavar="FILE",
    callback=writable,
    help="Draw log-mels and the curve: PNG, PDF or SVG.",
)
@click.option("--against", metavar="MANIFEST", help="Real speech, drawn beside them.")
@OVERWRITE
@JSON
def synthesize(
    model: str,
    out: str,
    method: str,
    seed: int,
    budget_macs: float | None,
    plot_path: str | None,
    against: str | None,
    overwrite: bool,
    json_path: str | None,
) -> None:
    """Make calibration inputs from MODEL alone; an interrupted run goes on after the last whole batch in
    FILE.npz.part."""
    from tflite_asr.pipeline import calibration_inputs, facts_of, model_path, synthesize_inputs
    from tflite_asr.pipeline.preparation import CALIBRATIONS, check_calibration
    from tflite_asr.report.table import key_value_table
    from tflite_asr.synthesis.plot import check_plot, plot

    if against and not plot_path:
        raise TfliteAsrError(f"--against {against}: is drawn, so it says nothing without --plot; give both")
    if against in CALIBRATIONS:
        raise TfliteAsrError(f"--against {against}: is no real speech; give a manifest")
    path = model_path(model)
    facts, real = facts_of(path), None
    if plot_path:
        check_plot(plot_path)
    if against:
        check_calibration(against, facts, path)
        real = calibration_inputs(None, facts, against, seed)
    with bar() as tell:
        made = synthesize_inputs(
            path,
            out,
            method=method,
            seed=seed,
            budget_macs=budget_macs,
            overwrite=overwrite,
            progress=tell,
        )
    if plot_path:
        hop = facts.frontend.hop_seconds if facts and facts.frontend else 0.01
        plot(made, plot_path, seconds_per_frame=hop, against=real)
    losses = [record["loss"] for record in made.curve if record["batch"] == 0]
    rows = [(name.replace("_", " "), f"{value}") for name, value in made.provenance().items()]
    rows += [("loss, first batch", f"{losses[0]:.4g} to {min(losses):.4g}")] if losses else []
    show(key_value_table([("inputs", out), *rows], "synthesized"), json_path)
    result = {"inputs": out, **made.provenance(), "curve": made.curve}
    write_json(json_path, json.dumps(result, indent=1) + "\n")


@calibrate.command()
@click.argument("model")
@click.option(
    "--manifest",
    "-m",
    "manifests",
    multiple=True,
    required=True,
    help="Real speech to judge by; may be repeated.",
)
@click.option(
    "--calibrate-on",
    metavar="MANIFEST",
    help="Real speech that calibrates the real arm. Without it at most 48 clips of the manifests are set aside.",
)
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="NAME",
    help="noise, synthetic:published, synthetic, synthetic:labels, real; may be repeated. Default: all.",
)
@click.option(
    "--calibrator",
    "calibrators",
    multiple=True,
    metavar="NAME",
    help="May be repeated; auto chooses one. Default: all others.",
)
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--budget-macs", type=float, help="Multiply-adds that synthesis may spend.")
@click.option(
    "--published-budget-macs", type=float, help="The same for synthetic:published, which takes far more."
)
@click.option("--limit", type=click.IntRange(1), help="Only the first utterances of each manifest.")
@click.option(
    "--work",
    default="build/calibration",
    show_default=True,
    metavar="DIR",
    help="Keeps what is done; the next run goes on from there.",
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Arms at a time.")
@click.option(
    "--html", "html_path", metavar="FILE", callback=writable, help="Write a page with tables and plots."
)
@click.option(
    "--plot",
    "plot_path",
    metavar="FILE",
    callback=writable,
    help="Write the plots alone: PNG, PDF or SVG.",
)
@JSON
def compare(
    model: str,
    manifests: tuple[str, ...],
    calibrate_on: str | None,
    arms: tuple[str, ...],
    calibrators: tuple[str, ...],
    seeds: int,
    budget_macs: float | None,
    published_budget_macs: float | None,
    limit: int | None,
    work: str,
    jobs: int,
    html_path: str | None,
    plot_path: str | None,
    json_path: str | None,
) -> None:
    """Calibrate MODEL on noise, on synthetic inputs and on real speech, and show what each costs."""
    from tflite_asr.report.calibration_page import check_page, page
    from tflite_asr.report.calibration_plot import save
    from tflite_asr.report.calibration_table import comparison_tables
    from tflite_asr.studies.calibration import ARMS
    from tflite_asr.studies.calibration import compare as run
    from tflite_asr.synthesis.plot import check_plot

    if plot_path:
        check_plot(plot_path)
    if html_path:
        check_page()
    with bar() as tell:
        study = run(
            model,
            manifests,
            calibrate_on=calibrate_on,
            arms=arms or ARMS,
            calibrators=calibrators,
            seeds=seeds,
            budget_macs=budget_macs,
            published_budget_macs=published_budget_macs,
            limit=limit,
            work=work,
            jobs=jobs,
            progress=tell,
        ).to_dict()
    for table in comparison_tables(study):
        show(table, json_path)
    for line in (*study["notes"], *study["verdicts"]):
        show(line, json_path)
    write_json(json_path, json.dumps(study, indent=1) + "\n")
    if html_path:
        write_json(html_path, page(study))
    if plot_path:
        save(study, plot_path)
