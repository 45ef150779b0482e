"""`audit`: the integer-only proof."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tflite_asr.cli.options import JSON
from tflite_asr.cli.terminal import show, write_json


@click.command()
@click.argument("file")
@JSON
def audit(file: str, json_path: str | None) -> None:
    """Prove that FILE (a .tflite or a bundle) is integer-only; exit 1 where it is not."""
    from tflite_asr.audit import audit as run
    from tflite_asr.audit import require_integer_only
    from tflite_asr.bundle import Bundle
    from tflite_asr.report.table import key_value_table

    report = run(Bundle.load(file).model_path if Path(file).is_dir() else file)
    show(key_value_table(report.rows(), file), json_path)
    write_json(json_path, json.dumps(report.to_dict(), indent=1) + "\n")
    require_integer_only(report)
