"""`import`: a NeMo archive becomes a checkpoint."""

from __future__ import annotations

import json

import click

from tflite_asr.cli.options import JSON, OVERWRITE
from tflite_asr.cli.terminal import bar, show, write_json


@click.command(name="import")
@click.argument("archive", metavar="FILE.nemo")
@click.option("--out", required=True, metavar="FILE.keras")
@OVERWRITE
@JSON
def import_(archive: str, out: str, overwrite: bool, json_path: str | None) -> None:
    """Import a QuartzNet, Jasper or Conformer-CTC of NVIDIA NeMo: FILE.keras with FILE.toml beside it.

    Neither NeMo nor PyTorch is needed, and nothing in the archive is executed. What has no counterpart is refused by
    name.
    """
    from tflite_asr.nemo import import_nemo
    from tflite_asr.quantize.child import run_in_child
    from tflite_asr.report.table import key_value_table

    # In a child, so that what TensorFlow prints as it starts stays there.
    with bar() as tell:
        tell(f"read {archive}", 0.0)
        imported = run_in_child(import_nemo, archive, out, overwrite=overwrite, stage=f"import {archive}")
    sound, tokens = imported.frontend, imported.tokens
    pieces = len(tokens.pieces)
    kind = "characters" if all(len(p) == 1 for p in tokens.pieces[:-1]) else "SentencePieces"
    rows = [
        ("architecture", f"{imported.architecture}, subsampling {imported.subsampling}"),
        ("parameters", f"{imported.parameters:,}"),
        ("mapped", f"{imported.tensors} tensors, each one; none is left over"),
        ("tokens", f"{pieces - 1} {kind} and the blank, id {tokens.blank_id}"),
        (
            "front end",
            f"{sound.sample_rate} Hz, {sound.mels} mels, {1000 * sound.window_seconds:g} ms every "
            f"{1000 * sound.hop_seconds:g} ms, normalised {sound.normalise}",
        ),
    ]
    if sound.normalise == "per_feature":
        rows.append(("offline only", "per_feature normalisation looks at the whole utterance"))
    rows.append(("written by NeMo", imported.nemo_version or "of unknown version"))
    show(key_value_table(rows, out), json_path)
    write_json(json_path, json.dumps(imported.to_dict(), indent=1) + "\n")
