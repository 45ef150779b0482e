"""`slim`: a checkpoint without some of its modules; `slim study` asks which."""

from __future__ import annotations

import json
import shlex
import sys

import click

from tflite_asr.cli.options import JSON, OVERWRITE, writable
from tflite_asr.cli.terminal import bar, show, write_json
from tflite_asr.errors import Finding


class _StudyOrDrop(click.Group):
    """`slim study MODEL` is a command of its own; every other first word is a MODEL to drop modules of."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["drop", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_StudyOrDrop)
def slim() -> None:
    """Leave modules out: `slim MODEL --drop SPEC --out FILE.keras`; `slim study MODEL` asks which.

    SPEC is a module path such as encoder.block3, encoder.block4-5 or 'encoder.block*.ff1', or one of positions,
    norms, batch_norms, biases.
    """


@slim.command()
@click.argument("model")
@click.option(
    "--drop", multiple=True, required=True, metavar="SPEC", help="Modules to leave out; may be repeated."
)
@click.option("--out", required=True, metavar="FILE.keras")
@OVERWRITE
@JSON
def drop(model: str, drop: tuple[str, ...], out: str, overwrite: bool, json_path: str | None) -> None:
    """Write MODEL without some of its modules, e.g. --drop encoder.block3 --drop 'encoder.block*.ff1'."""
    from tflite_asr.pipeline import slim_checkpoint
    from tflite_asr.report.table import key_value_table

    saved = slim_checkpoint(model, out, drop, overwrite=overwrite)
    rows = [("dropped", ", ".join(saved["dropped"]))]
    for what in ("parameters", "macs"):
        before, after = saved[f"{what}_before"], saved[f"{what}_after"]
        name = "multiply-adds" if what == "macs" else what
        rows.append((name, f"{before:,} -> {after:,} ({100 * (after / before - 1):+.1f} %)"))
    show(key_value_table(rows, out), json_path)
    write_json(json_path, json.dumps(saved, indent=1) + "\n")


@slim.command()
@click.argument("model")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    help="Keeps what is done and every candidate; the same command goes on.",
)
@click.option(
    "--dev", "-d", "dev", multiple=True, metavar="MANIFEST", help="Real speech to judge by; may be repeated."
)
@click.option("--limit", type=click.IntRange(1), help="Only the first utterances of each dev manifest.")
@click.option(
    "--modules",
    multiple=True,
    metavar="SPEC",
    help="What may go; may be repeated. Default: every module.",
)
@click.option(
    "--target-params", type=float, metavar="X", help="Parameters to be left: 0.7 of them, or 700000."
)
@click.option("--target-macs", type=float, metavar="X", help="Multiply-adds to be left, likewise.")
@click.option(
    "--max-wer-rise", type=float, metavar="POINTS", help="Stop where dev WER is so far above the control's."
)
@click.option(
    "--score",
    type=click.Choice(["kl", "wer"]),
    default="kl",
    show_default=True,
    help="Damage of a drop: divergence on synthetic inputs, or dev WER.",
)
@click.option(
    "--rank-wer/--no-rank-wer",
    default=True,
    show_default=True,
    help="Whether the dev speech ranks too, or judges the drops alone.",
)
@click.option(
    "--recover",
    type=click.Choice(["distil", "finetune", "none"]),
    default="distil",
    show_default=True,
    help="After each drop: from the full model on synthetic inputs, or on speech.",
)
@click.option("--manifest", "-m", "manifests", multiple=True, help="Speech to fine-tune on; may be repeated.")
@click.option("--recipe", metavar="TOML", help="Batches, augmentation and losses of fine-tuning.")
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True, help="Of each recovery.")
@click.option(
    "--last-steps",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of one more recovery when the target is met.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Modules to drop before each recovery.",
)
@click.option(
    "--rate", type=float, default=3e-4, show_default=True, help="Highest learning rate of a recovery."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--cache", default="build/features", show_default=True, help="Folder of cached features.")
@click.option(
    "--plot",
    "plot_path",
    metavar="FILE",
    callback=writable,
    help="Draw cost against WER or KL: PNG, PDF or SVG.",
)
@click.option(
    "--markdown",
    "markdown_path",
    metavar="FILE",
    callback=writable,
    help="Write the table of modules as a page.",
)
@JSON
def study(
    model: str,
    out: str,
    dev: tuple[str, ...],
    limit: int | None,
    modules: tuple[str, ...],
    target_params: float | None,
    target_macs: float | None,
    max_wer_rise: float | None,
    score: str,
    rank_wer: bool,
    recover: str,
    manifests: tuple[str, ...],
    recipe: str | None,
    steps: int,
    last_steps: int,
    at_once: int,
    rate: float,
    seed: int,
    cache: str,
    plot_path: str | None,
    markdown_path: str | None,
    json_path: str | None,
) -> None:
    """Rank MODEL's modules by what they are missed; under a target, drop one after the other, with recovery."""
    from tflite_asr.report.slim_table import ENDS, sentences, study_tables
    from tflite_asr.studies.slim import slim_study as run
    from tflite_asr.synthesis.plot import check_plot

    if plot_path:
        check_plot(plot_path)
    with bar() as tell:
        found = run(
            model,
            out,
            dev=dev,
            limit=limit,
            modules=modules,
            target_params=target_params,
            target_macs=target_macs,
            max_wer_rise=max_wer_rise,
            score=score,
            rank_wer=rank_wer,
            recover=recover,
            manifests=manifests,
            recipe=recipe,
            steps=steps,
            last_steps=last_steps,
            at_once=at_once,
            rate=rate,
            seed=seed,
            cache=cache,
            progress=tell,
        ).to_dict()
    for table in study_tables(found):
        show(table, json_path)
    for line in sentences(found):
        show(line, json_path)
    if plot_path:
        from tflite_asr.report.slim_plot import save

        save(found, plot_path)
    if markdown_path:
        from tflite_asr.report.slim_markdown import page

        write_json(markdown_path, page(found, _command()))
    write_json(json_path, json.dumps(found, indent=1) + "\n")
    if found["ended"] in ("wer", "nothing left") and (target_params or target_macs):
        raise Finding(f"{out}: {ENDS[found['ended']]}; allow more, or give a larger target")


def _command() -> str:
    """The command line as it was given, without what it wrote besides the page."""
    words, given = iter(sys.argv[1:]), ["tflite-asr"]
    for word in words:
        if word in ("--plot", "--json"):
            next(words, None)
        elif not word.startswith(("--plot=", "--json=")):
            given.append(word)
    return shlex.join(given)
