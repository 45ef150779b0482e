"""The command line: help, exit codes, one line for every fault; with --json - standard output is the machine's."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.tone_bundle import whistle, write_tone_bundle
from tflite_asr.bundle import Bundle
from tflite_asr.cli import main
from tflite_asr.manifest import Utterance, write_manifest

COMMANDS = sorted(main.commands)


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], input=stdin, catch_exceptions=False)


def fault(*arguments: object, code: int = 2) -> str:
    """The one line that a command ends in."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert lines[-1].startswith("error: ")
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    return lines[-1].removeprefix("error: ")


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 bundle that spells whistles."""
    return write_tone_bundle(tmp_path_factory.mktemp("tones") / "int8", integer=True).path


@pytest.fixture(scope="module")
def feature_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_bundle(tmp_path_factory.mktemp("tones") / "bare", integer=False, feature_only=True).path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", whistle("abc"), 16000)
    return tmp_path / "a.wav"


@pytest.fixture
def manifest(wav: Path, tmp_path: Path) -> Path:
    write_manifest(tmp_path / "m.jsonl", [Utterance(wav, 1.0, "abc"), Utterance(wav, 1.0, "abd")])
    return tmp_path / "m.jsonl"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {command}")
    assert "--help" in result.stdout


def test_the_help_lists_every_command_of_the_walk_through() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in ("demo", "models", "export", "evaluate", "audit", "transcribe", "train", "slim"):
        assert f"\n  {command} " in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert version("tflite-asr") in run("--version").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("export",),
        ("export", "m.keras", "--out", "d", "--nonsense"),
        ("evaluate", "b", "--manifest", "m", "--delegate", "gpu"),
        ("evaluate", "b", "--manifest", "m", "--threads", "0"),
        ("transcribe", "b"),
    ],
)
def test_wrong_use_ends_in_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


# --- transcribe, audit, evaluate: what works


def test_transcribe_prints_the_text(tones: Path, wav: Path) -> None:
    result = run("transcribe", tones, wav)
    assert result.exit_code == 0
    assert result.stdout == "abc\n"


def test_transcribe_reads_standard_input(tones: Path, wav: Path) -> None:
    assert run("transcribe", tones, "-", stdin=wav.read_bytes()).stdout == "abc\n"


def test_transcribe_gives_word_times(tones: Path, wav: Path) -> None:
    lines = run("transcribe", tones, wav, "--timestamps").stdout.splitlines()
    start, end, word = lines[1].split()
    assert (lines[0], word) == ("abc", "abc")
    assert 0.0 <= float(start) < float(end) <= 0.8


def test_transcribe_json_is_all_of_standard_output(tones: Path, wav: Path) -> None:
    result = run("transcribe", tones, wav, wav, "--json", "-")
    (one, two) = json.loads(result.stdout)
    assert one == two
    assert one["pred_text"] == "abc"
    assert one["audio_filepath"] == str(wav)
    assert one["words"][0]["word"] == "abc"


def test_audit_proves_or_finds(tones: Path, feature_only: Path) -> None:
    result = run("audit", tones, "--json", "-")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["integer_only"] is True
    result = run("audit", feature_only, "--json", "-")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["integer_only"] is False
    assert "Traceback" not in result.output
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_evaluate_json_has_the_agreed_keys(tones: Path, manifest: Path, tmp_path: Path) -> None:
    hypotheses = tmp_path / "h.jsonl"
    result = run("evaluate", tones, "-m", manifest, "--json", "-", "--hypotheses", hypotheses)
    assert result.exit_code == 0, result.output
    (variant,) = json.loads(result.stdout)["variants"]
    assert set(variant) >= {
        *(
            "scheme",
            "drop",
            "bundle",
            "model_bytes",
            "integer_only",
            "lowered",
            "utterances",
            "audio_seconds",
        ),
        *("wer", "wer_ci95", "cer", "snr_db", "argmax_agreement", "rtf", "latency_ms", "threads", "delegate"),
        *("calibration", "seed"),
    }
    assert variant["wer"] == 0.5
    assert variant["integer_only"] is True
    assert [json.loads(line)["pred_text"] for line in hypotheses.read_text().splitlines()] == ["abc", "abc"]


def test_evaluate_against_itself_differs_by_nothing(tones: Path, manifest: Path, tmp_path: Path) -> None:
    run("evaluate", tones, "-m", manifest, "--json", tmp_path / "run.json")
    result = run("evaluate", tones, "-m", manifest, "--against", tmp_path / "run.json", "--json", "-")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)


def test_models_json_is_all_of_standard_output() -> None:
    result = run("models", "--json", "-")
    assert result.exit_code == 0
    assert isinstance(json.loads(result.stdout), dict)


def test_export_and_slim_from_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    result = run("slim", checkpoint, "--drop", "encoder.block1", "--out", tmp_path / "s.keras", "--json", "-")
    assert result.exit_code == 0, result.output
    saved = json.loads(result.stdout)
    assert saved["parameters_after"] < saved["parameters_before"]
    result = run(
        "export", tmp_path / "s.keras", "--out", tmp_path / "b", "--scheme", "float32", "--json", "-"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["scheme"] == "float32"
    assert Bundle.load(tmp_path / "b").info.name == "s"
    clip = Path(__file__).parent.parent / "tflite_asr" / "pretrained" / "demo" / "demo00.ogg"
    assert run("transcribe", tmp_path / "b", clip).exit_code == 0


# --- one line for every fault


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert "nonsense: no such model; give a .keras file or a shipped checkpoint" in fault(
        "export", "nonsense", "--out", tmp_path / "b"
    )
    assert "no such model" in fault("export", tmp_path / "gone.keras", "--out", tmp_path / "b")
    (tmp_path / "a.h5").touch()
    assert "is no .keras file" in fault("export", tmp_path / "a.h5", "--out", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_damaged_model(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.keras").write_bytes(checkpoint.read_bytes()[:5000])
    shutil.copy(checkpoint.with_suffix(".toml"), tmp_path / "cut.toml")
    message = fault("export", tmp_path / "cut.keras", "--out", tmp_path / "b", "--scheme", "float32")
    assert message.startswith(f"{tmp_path}/cut.keras: is damaged")
    assert not (tmp_path / "b").exists()


def test_an_unknown_module_path_lists_the_valid_ones(checkpoint: Path, tmp_path: Path) -> None:
    message = fault("slim", checkpoint, "--drop", "encoder.block7", "--out", tmp_path / "s.keras")
    assert "encoder.block7" in message
    assert "encoder.block1" in message.split("encoder.block7", 1)[1]
    assert not (tmp_path / "s.keras").exists()


def test_facts_that_are_broken(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint, tmp_path / "m.keras")
    (tmp_path / "m.toml").write_text("name = 'm'\ncolour = 'red'\n")
    message = fault("export", tmp_path / "m.keras", "--out", tmp_path / "b", "--scheme", "float32")
    assert "m.toml: unknown key 'colour'" in message


@pytest.mark.parametrize("command", ["export", "slim"])
def test_an_output_that_exists_is_kept(checkpoint: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / ("there" if command == "export" else "there.keras")
    out.mkdir() if command == "export" else out.write_bytes(b"mine")
    drop = ("--drop", "encoder.block1") if command == "slim" else ()
    assert "exists; choose another" in fault(command, checkpoint, "--out", out, *drop)
    assert out.is_dir() or out.read_bytes() == b"mine"


def test_an_output_that_cannot_be_written(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "b: cannot be written (" in fault("export", checkpoint, "--out", tmp_path / "file" / "b")
    if os.geteuid():  # root writes anywhere
        tmp_path.chmod(0o500)
        assert "cannot be written (permission denied)" in fault("export", checkpoint, "--out", tmp_path / "b")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--scheme", "int5", "int5"),
        ("--blank-id", "0", "says nothing without --tokens"),
        ("--tokens", "gone.txt", "gone.txt: no such token file"),
        ("--frontend", "gone.toml", "gone.toml: cannot be read"),
    ],
)
def test_an_export_option_that_cannot_be(
    checkpoint: Path, tmp_path: Path, option: str, value: str, message: str
) -> None:
    assert message in fault("export", checkpoint, "--out", tmp_path / "b", option, value)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "m.jsonl:2: is not JSON"),
        ('{"audio_filepath": "gone.wav", "duration": 1, "text": "a"}', "m.jsonl:2: audio file"),
        ('{"audio_filepath": "a.wav", "duration": 1, "text": "\u043f"}', "m.jsonl:2: character '\u043f'"),
        ('{"audio_filepath": "a.wav", "text": "a"}', "m.jsonl:2: duration is None"),
    ],
)
def test_a_broken_manifest_is_named_by_its_line(tones: Path, manifest: Path, line: str, message: str) -> None:
    lines = manifest.read_text().splitlines()
    manifest.write_text(f"{lines[0]}\n{line}\n", encoding="utf-8")
    assert message in fault("evaluate", tones, "-m", manifest)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such audio file"),
        (b"", "is empty (0 bytes)"),
        (b"hello, I am no sound at all, believe me", "cannot be read as audio"),
        ("cut", "is cut short"),
        ("nan", "is NaN or infinite"),
        ("none", "holds no samples"),
    ],
)
def test_bad_audio(tones: Path, tmp_path: Path, content: bytes | str | None, message: str) -> None:
    path = tmp_path / "bad.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        soundfile.write(path, whistle("abc"), 16000)
        path.write_bytes(path.read_bytes()[:3000])
    elif content is not None:
        samples = np.full(800, np.nan, np.float32) if content == "nan" else np.zeros(0, np.float32)
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    assert message in fault("transcribe", tones, path)


def test_bad_audio_on_standard_input(tones: Path) -> None:
    result = run("transcribe", tones, "-", stdin=b"no sound")
    assert result.exit_code == 2
    assert "error: <stream>: cannot be read as audio" in result.stderr


def test_a_feature_only_bundle_cannot_hear(feature_only: Path, wav: Path, manifest: Path) -> None:
    for arguments in (("transcribe", feature_only, wav), ("evaluate", feature_only, "-m", manifest)):
        message = fault(*arguments)
        assert "feature-only" in message
        assert "the front end" in message
        assert "the tokens" in message


def test_a_bundle_that_is_not_there(tmp_path: Path, wav: Path) -> None:
    assert "no such bundle" in fault("transcribe", tmp_path / "gone", wav)
    assert "is a file" in fault("transcribe", wav, wav)


@pytest.mark.parametrize("name", ["model.tflite", "frontend.tflite", "tokens.txt", "bundle.json"])
@pytest.mark.parametrize("change", ["changed", "missing", "extra"])
def test_a_broken_bundle_is_a_finding(tones: Path, wav: Path, tmp_path: Path, name: str, change: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tones, copy)
    data = bytearray((copy / name).read_bytes())
    if change == "changed":
        data[len(data) // 2] ^= 1
    (copy / name).write_bytes(
        bytes(data[:-1] if change == "missing" else data + b" " if change == "extra" else data)
    )
    for arguments in (("transcribe", copy, wav), ("audit", copy)):
        assert name in fault(*arguments, code=1)


def test_a_newer_schema_is_refused(tones: Path, wav: Path, tmp_path: Path) -> None:
    shutil.copytree(tones, tmp_path / "copy")
    info = json.loads((tmp_path / "copy" / "bundle.json").read_text())
    (tmp_path / "copy" / "bundle.json").write_text(json.dumps({**info, "schema_version": "2.0"}))
    assert "schema_version 2.0 is newer" in fault("transcribe", tmp_path / "copy", wav, code=1)


@pytest.mark.parametrize(
    ("runtime", "package"), [("litert", "ai_edge_litert"), ("tflite-runtime", "tflite_runtime")]
)
def test_a_runtime_that_is_not_installed_names_both_extras(
    tones: Path, wav: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, package: str
) -> None:
    for name in (package, f"{package}.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)  # None there makes an import fail
    message = fault("transcribe", tones, wav, "--runtime", runtime)
    assert message.startswith(f"runtime {runtime} is not installed")
    assert "tflite-asr[litert]" in message
    assert "tflite-asr[tflite-runtime]" in message


def test_results_that_cannot_be_written(tones: Path, manifest: Path, wav: Path) -> None:
    below = wav / "below"
    assert "cannot be written" in fault("transcribe", tones, wav, "--json", below)
    assert f"{below}: cannot be" in fault("evaluate", tones, "-m", manifest, "--hypotheses", below)
    (wav.parent / "r.toml").write_text("size = 'tiny'\n")
    assert f"{below}: cannot be" in fault(
        "train", wav.parent / "r.toml", "-m", manifest, "-d", manifest, "--out", below / "m.keras"
    )


def test_a_run_to_compare_with_that_is_none(tones: Path, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert "run.json" in fault("evaluate", tones, "-m", manifest, "--against", tmp_path / "run.json")
    assert "gone.json" in fault("evaluate", tones, "-m", manifest, "--against", tmp_path / "gone.json")


def test_training_says_what_is_wrong_with_its_recipe(manifest: Path, tmp_path: Path) -> None:
    arguments = ("-m", manifest, "-d", manifest, "--out", tmp_path / "m.keras", "--cache", tmp_path / "cache")
    assert "gone.toml: cannot be read" in fault("train", tmp_path / "gone.toml", *arguments)
    (tmp_path / "r.toml").write_text("epoch = 3\n")
    assert "unknown key 'epoch'; known are" in fault("train", tmp_path / "r.toml", *arguments)
    (tmp_path / "r.toml").write_text("size = 'XXL'\n")
    assert "size 'XXL' is unknown" in fault("train", tmp_path / "r.toml", *arguments)
    (tmp_path / "r.toml").write_text("size = 'tiny'\n")
    assert "gone.jsonl: no such manifest" in fault(
        "train", tmp_path / "r.toml", "-m", "gone.jsonl", "-d", manifest, "--out", tmp_path / "m.keras"
    )


def test_a_reader_that_leaves_early_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from tflite_asr import pipeline

    def broken() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(pipeline, "shipped_models", broken)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert CliRunner().invoke(main, ["models"]).exit_code == 0
