"""What was measured, as people read it: every peer has a line, a refusal has its reason."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from benchmarks.side_by_side.table import markdown, rich_table, sheets


def row(title: str, seconds: float = 4.0, **changed: Any) -> dict[str, Any]:
    """A peer that ran."""
    measured = {
        "latency_ms": {"min": 1.0, "median": 2.0, "p95": 3.0},
        "ratio": {"value": 0.5, "low": 0.4, "high": 0.6},
    }
    corpus = {"snr_db": 27.04, "argmax_agreement": 0.987, "wer": 0.1234}
    return {
        "title": title,
        "window_seconds": seconds,
        "status": "measured",
        "refusal": None,
        "bytes": 1_000_000,
        "integer_only": True,
        "latency": {"1": measured},
        "corpora": {"an4/dev": corpus},
        "instructions_per_audio_second": None,
        **changed,
    }


def refused(title: str, reason: str) -> dict[str, Any]:
    return row(
        title,
        status="refused",
        refusal=reason,
        bytes=None,
        integer_only=None,
        latency={},
        corpora={},
    )


def test_a_refusing_peer_keeps_its_line_and_the_reason_stands_below() -> None:
    (sheet,) = sheets([row("Quick"), refused("Picky", "it aborted (SIGABRT)")])
    assert [len(line) for line in sheet.cells] == [len(sheet.headings)] * 2
    assert sheet.cells[0] == [
        "Quick",
        "1,000,000",
        "yes",
        "1.00",
        "2.00",
        "0.50 (0.40-0.60)",
        "27.0, 98.7",
        "12.34",
    ]
    assert sheet.cells[1] == ["Picky", *["-"] * 7]
    assert sheet.refusals == ["Picky: refused, it aborted (SIGABRT)"]
    assert "Picky: refused, it aborted (SIGABRT)" in markdown(sheet)


def test_markdown_has_as_many_cells_in_every_line() -> None:
    (sheet,) = sheets([row("Quick"), refused("Picky", "no")])
    lines = [line for line in markdown(sheet).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(sheet.headings) + 1}


def test_each_window_has_a_table_and_instructions_a_column_where_they_were_counted() -> None:
    counted = {"core": "cortex-a76", "total": 2_500_000.0}
    first, second = sheets(
        [row("Quick", 16.0), row("Quick", 4.0, instructions_per_audio_second=counted), row("Slow", 4.0)]
    )
    assert first.title == "16 s window, 1 thread"
    assert not any("cortex" in heading for heading in first.headings)
    assert "cortex-a76" in second.headings[-1]
    assert [line[-1] for line in second.cells] == ["2.5", "-"]


def test_random_weights_have_no_word_error_rate() -> None:
    (sheet,) = sheets([row("Quick", corpora={"synthetic": {"snr_db": 20.0, "argmax_agreement": 1.0}})])
    assert not any("WER" in heading for heading in sheet.headings)


def test_the_terminal_shows_reasons_too() -> None:
    (sheet,) = sheets([row("Quick"), refused("Picky", "no such kernel")])
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(rich_table(sheet, "model"))
    assert "Picky: refused, no such kernel" in console.export_text()
