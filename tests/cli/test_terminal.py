"""Progress where nobody watches: a plain line a stage, and a sign of life while one lasts."""

from __future__ import annotations

import pytest

from tflite_asr.cli import terminal


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its one element."""
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_each_stage_is_a_line_as_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.bar() as tell:
        for stage, fraction in (("lower", 0.1), ("lower", 0.2), ("quantise", 0.3), ("lower", 0.4)):
            tell(stage, fraction)
    captured = capsys.readouterr()
    assert captured.err == "lower\nquantise\n"
    assert captured.out == ""


def test_a_stage_that_lasts_tells_once_a_minute_how_far_it_is(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal.bar() as tell, terminal.counter("int8, xnnpack") as count:
        for seconds in range(0, 130, 10):
            clock[0] = float(seconds)
            tell("calibrate", seconds / 200)
            count(seconds, 200)
    assert capsys.readouterr().err.splitlines() == [
        "calibrate",
        "int8, xnnpack",
        "calibrate: 30%",
        "int8, xnnpack: 60 of 200",
        "calibrate: 60%",
        "int8, xnnpack: 120 of 200",
    ]


def test_no_work_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.bar(), terminal.counter("evaluate"):
        pass
    assert capsys.readouterr().err == ""
