"""A child that dies is one clear line here, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.child import run_in_child


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not list(tmp_path.iterdir()), "the child left files behind"


def test_returns_what_the_function_returns():
    assert run_in_child(divmod, 17, 5) == (3, 2)


def test_runs_elsewhere():
    assert run_in_child(os.getpid) != os.getpid()


def test_silences_the_child(capfd):
    run_in_child(print, "hundreds of lines")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_an_abort_names_signal_stage_and_last_line():
    with pytest.raises(TfliteAsrError) as error:
        run_in_child(
            eval, "print('Check failed: rank', flush=True) or __import__('os').abort()", stage="convert"
        )
    message = str(error.value)
    assert "SIGABRT" in message
    assert message.startswith("convert: ")
    assert "Check failed: rank" in message
    assert "\n" not in message
    assert error.value.exit_code == 2


def test_a_kill_suggests_memory():
    with pytest.raises(TfliteAsrError, match=r"SIGKILL.*memory"):
        run_in_child(signal.raise_signal, signal.SIGKILL)


def test_a_silent_exit_is_an_error():
    with pytest.raises(TfliteAsrError, match="exit code 3 and no result"):
        run_in_child(os._exit, 3)


def test_an_exception_is_one_line():
    with pytest.raises(TfliteAsrError, match=r"^count: ValueError: invalid literal") as error:
        run_in_child(int, "two\nlines", stage="count")
    assert "\n" not in str(error.value)
    assert "Traceback" in str(error.value.__cause__)


def test_our_own_errors_pass_through():
    from tflite_asr.quantize.schemes import scheme

    with pytest.raises(TfliteAsrError, match="'int3': unknown"):
        run_in_child(scheme, "int3")


def test_what_the_child_leaves_where_temporary_files_go_goes_with_it():
    assert not os.path.exists(run_in_child(tempfile.mkdtemp))


def test_says_what_it_begins_before_the_child_says_anything():
    seen = []
    run_in_child(divmod, 17, 5, stage="open", progress=lambda stage, fraction: seen.append((stage, fraction)))
    assert seen == [("open", 0.0)]


def test_hands_progress_on():
    seen = []
    call = "__import__('tflite_asr.quantize.child', fromlist=['x']).report_progress('half way', 0.5)"
    run_in_child(eval, call, progress=lambda stage, fraction: seen.append((stage, fraction)))
    assert seen == [("half way", 0.5)]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupt_kills_the_child(request):
    # A background job of a shell starts with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    threading.Timer(1.0, signal.raise_signal, [signal.SIGINT]).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_in_child(time.sleep, 60)
    assert time.monotonic() - began < 20
    assert (
        subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "quantize.child"], check=False).returncode == 1
    )


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_child_goes_when_its_parent_is_killed(tmp_path):
    script = f"import tempfile; tempfile.tempdir = {str(tmp_path)!r}; import time\n"
    script += "from tflite_asr.quantize.child import run_in_child; run_in_child(time.sleep, 60)"
    parent = subprocess.Popen([sys.executable, "-c", script])
    assert _within(20, lambda: any(tmp_path.glob("*/progress")))
    parent.kill()
    parent.wait()
    assert _within(20, lambda: not any(tmp_path.iterdir())), "the orphan stayed"


def _within(seconds: float, condition) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.1)
    return condition()
