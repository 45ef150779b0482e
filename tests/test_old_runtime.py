"""Bundles on tflite-runtime 2.14, in an environment of its own with NumPy 1, LiteRT and TensorFlow absent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import flatbuffers
import pytest

from tests.environments import install, packaged_manifest, run
from tests.tiny_checkpoint import write_tiny_checkpoint
from tflite_asr.bundle import Bundle, write_bundle
from tflite_asr.flatbuffer import BUILTIN_OPS
from tflite_asr.manifest import read_manifest
from tflite_asr.pipeline import export
from tflite_asr.releases import age, first_release
from tflite_asr.runtime.transcriber import Transcriber

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime 2.14.0 ends at Python 3.11"),
]

# Run there: every file of a folder is opened in a process of its own, since an op without its options may abort.
PROBE = """
import json, os, sys
from pathlib import Path
from tflite_runtime.interpreter import Interpreter
lacking = []
for path in sorted(Path(sys.argv[1]).iterdir()):
    child = os.fork()
    if child == 0:
        try:
            Interpreter(model_path=str(path))
        except ValueError as error:
            os._exit(3 if "Didn't find op" in str(error) or "out of range" in str(error) else 0)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3:
        lacking.append(path.name)
print(json.dumps(lacking))
"""


@pytest.fixture(scope="module")
def old(wheel: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment."""
    constraints = repository / "constraints-tflite-runtime.txt"
    return install(wheel, "[tflite-runtime]", tmp_path_factory.mktemp("old") / "venv", constraints)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def one_op_file(op: str, version: int) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    number = BUILTIN_OPS.index(op)
    graph = schema.SubGraphT([], [], [], [schema.OperatorT(0, [], [])])
    codes = [schema.OperatorCodeT(min(number, 127), None, version, number)]
    builder = flatbuffers.Builder(256)
    builder.Finish(schema.ModelT(3, codes, [graph], None, [schema.BufferT()]).Pack(builder), b"TFL3")
    return bytes(builder.Output())


def hears(environment: Path, bundle: Path, manifest: Path, folder: Path) -> list[str]:
    """The transcripts that `evaluate --runtime tflite-runtime` gives there."""
    options = ["--manifest", str(manifest), "--runtime", "tflite-runtime", "--hypotheses", "said.jsonl"]
    evaluated = run(environment, "tflite-asr", "evaluate", str(bundle), *options, cwd=folder)
    assert evaluated.returncode == 0, evaluated.stderr
    return [json.loads(line)["pred_text"] for line in (folder / "said.jsonl").read_text().splitlines()]


def test_the_environment_has_neither_litert_nor_tensorflow_and_says_so_in_one_line(
    old: Path, int8_bundle: Bundle, tmp_path: Path
) -> None:
    found = run(old, "python", "-c", "import numpy; print(numpy.__version__); help('modules')", cwd=tmp_path)
    version, *modules = found.stdout.split()
    assert version.startswith("1.")
    assert {"ai_edge_litert", "keras", "tensorflow"}.isdisjoint(modules)
    refused = run(
        old, "tflite-asr", "transcribe", str(int8_bundle.path), "a.wav", "--runtime", "litert", cwd=tmp_path
    )
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert "tflite-asr[litert]" in line
    assert "tflite-asr[tflite-runtime]" in line


def test_the_runtime_knows_the_ops_that_the_table_gives_to_2_14_and_no_others(
    old: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    newer = set()
    for op in BUILTIN_OPS:
        if op in ("CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"):
            continue
        for version in range(1, 14):
            name = f"{op}.{version}"
            (folder / name).write_bytes(one_op_file(op, version))
            first = first_release(op, version)
            if first is None or age(first) > (2, 14):
                newer.add(name)
    probed = run(old, "python", "-c", PROBE, str(folder), cwd=tmp_path)
    assert probed.returncode == 0, probed.stderr
    assert set(json.loads(probed.stdout)) == newer


@pytest.mark.parametrize("scheme", ["int8", "float32"])
def test_a_bundle_made_for_it_says_there_what_it_says_here(
    old: Path, checkpoint: Path, demo_manifest: Path, tmp_path: Path, scheme: str
) -> None:
    """A random model: its texts mean nothing, and every rounding shows in them."""
    bundle = export(
        checkpoint, tmp_path / "bundle", scheme=scheme, calibration="noise", min_runtime="2.14"
    ).path
    here = Transcriber(bundle)
    assert here.bundle.info.min_runtime == "2.14"
    assert here.delegate == ("builtin" if scheme == "int8" else "xnnpack")
    expected = [here.transcribe(row.audio_filepath).text for row in read_manifest(demo_manifest)]
    said = hears(old, bundle, packaged_manifest(old), tmp_path)
    differing = sum(one != other for one, other in zip(said, expected, strict=True))
    assert any(expected)
    assert differing <= 0.1 * len(expected)


def test_a_file_for_todays_runtime_is_refused_there_in_one_line(
    old: Path, int8_bundle: Bundle, tmp_path: Path
) -> None:
    front = int8_bundle.frontend_path.read_bytes()
    written = write_bundle(
        tmp_path / "new",
        int8_bundle.info,
        model=one_op_file("LOG", 2),
        frontend=front,
        tokens=int8_bundle.tokens,
    )
    options = ["--manifest", str(packaged_manifest(old)), "--runtime", "tflite-runtime"]
    refused = run(old, "tflite-asr", "evaluate", str(written.path), *options, cwd=tmp_path)
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert "'LOG' version '2'" in line


def test_the_shipped_conformer_is_heard_alike_on_99_of_100_clips_of_real_speech(
    old: Path, speech_data: Path, tmp_path: Path
) -> None:
    bundle = export("conformer-ctc", tmp_path / "int8", min_runtime="2.14").path
    manifest = speech_data / "an4" / "test.jsonl"
    here = Transcriber(bundle)
    expected = [here.transcribe(row.audio_filepath).text for row in read_manifest(manifest)]
    said = hears(old, bundle, manifest, tmp_path)
    assert len(expected) == 130
    assert sum(one == other for one, other in zip(said, expected, strict=True)) >= 129
