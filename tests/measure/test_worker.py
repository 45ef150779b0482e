"""A worker answers for its object, and a runtime that takes the process along leaves one line."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tflite_asr.errors import Finding, TfliteAsrError
from tflite_asr.measure.worker import Worker


class Bench:
    """Stands for what is measured; imported by the child by this module's name."""

    def __init__(self, start: int):
        if start < 0:
            raise TfliteAsrError(f"{start}: below zero; give more")
        self.sum = start

    def add(self, number: int) -> list[int]:
        print("a runtime's chatter on standard output")
        self.sum += number
        return [self.sum, os.getpid()]

    def find(self) -> None:
        raise Finding("something is broken")

    def abort(self) -> None:
        print("Check failed: rank == 4", file=sys.stderr, flush=True)
        os.abort()


def test_the_object_lives_in_a_process_of_its_own_from_call_to_call():
    with Worker("b", Bench, 3) as worker:
        assert worker.ask("add", 4)[0] == 7
        total, process = worker.ask("add", 1)
    assert total == 8
    assert process != os.getpid()


def test_its_errors_come_back_as_they_were():
    with pytest.raises(TfliteAsrError, match=r"^-1: below zero; give more$"):
        Worker("b", Bench, -1)
    with Worker("b", Bench, 0) as worker:
        with pytest.raises(Finding, match="something is broken"):
            worker.ask("find")
        assert worker.ask("add", 2)[0] == 2  # and the worker goes on


def test_an_abort_is_one_line_that_names_the_bundle_and_the_last_words():
    with Worker("build/int8", Bench, 0) as worker, pytest.raises(TfliteAsrError) as error:
        worker.ask("abort")
    assert str(error.value) == (
        f"build/int8: the runtime ended its process ({signal.SIGABRT.name}, last words "
        "'Check failed: rank == 4') in abort; try another --delegate"
    )


def test_closing_ends_the_child():
    worker = Worker("b", Bench, 0)
    _, process = worker.ask("add", 1)
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
