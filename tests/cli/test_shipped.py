"""`models`: with --json - standard output is the machine's."""

from __future__ import annotations

import json

from tests.cli.command_line import run


def test_models_json_is_all_of_standard_output() -> None:
    result = run("models", "--json", "-")
    assert result.exit_code == 0
    assert isinstance(json.loads(result.stdout), dict)
