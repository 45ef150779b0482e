"""`audit`: proves or finds."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command_line import run


def test_audit_proves_or_finds(tones: Path, feature_only: Path) -> None:
    result = run("audit", tones, "--json", "-")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["integer_only"] is True
    result = run("audit", feature_only, "--json", "-")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["integer_only"] is False
    assert "Traceback" not in result.output
    assert result.stderr.splitlines()[-1].startswith("error: ")
