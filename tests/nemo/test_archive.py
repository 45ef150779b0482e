"""Archives, honest and hostile: what is read, and what is refused before anything is done with it."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from tests.nemo.archives import FIXTURES, members, tar_of
from tflite_asr.errors import TfliteAsrError
from tflite_asr.nemo.archive import CONFIG, WEIGHTS, read_archive

WHOLE = {CONFIG: b"a: 1\n", WEIGHTS: b"weights", "x_vocab.txt": b"one\n"}


def refusal(path: Path) -> str:
    with pytest.raises(TfliteAsrError) as caught:
        read_archive(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def special(name: str, kind: bytes, target: str = "") -> bytes:
    """A whole archive with one member that is no file."""
    out = io.BytesIO(tar_of(WHOLE))
    with tarfile.open(fileobj=out, mode="a") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["conformer", "fastconformer"])
def test_plain_and_gzipped_archives_are_read(kind: str) -> None:
    """As NeMo writes them: conformer.nemo is plain, fastconformer.nemo gzipped."""
    path = FIXTURES / f"{kind}.nemo"
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == (kind == "fastconformer")
    archive, files = read_archive(path), members(path)
    assert (archive.config, archive.weights) == (files.pop(CONFIG), files.pop(WEIGHTS))
    assert archive.others == files


@pytest.mark.parametrize("name", ["/etc/passwd", "../model_config.yaml", "a/../../b", "..", "a\\..\\b"])
def test_a_member_outside_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a.nemo", tar_of({**WHOLE, name: b"x"}))
    assert f"{name!r} lies outside the archive" in refusal(path)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, CONFIG),
        (tarfile.CHRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
    ids=["symbolic link", "hard link", "device", "pipe"],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, target: str) -> None:
    path = write(tmp_path / "a.nemo", special("vocab.txt", kind, target))
    assert "'vocab.txt' is a link or a device" in refusal(path)


@pytest.mark.parametrize("cut", [10, 600, 1100, 1600])
@pytest.mark.parametrize("compress", [False, True])
def test_a_truncated_archive_is_refused(tmp_path: Path, cut: int, compress: bool) -> None:
    data = tar_of({CONFIG: bytes(range(256)) * 2, WEIGHTS: b"w" * 700})
    data = gzip.compress(data)[: max(20, cut // 10)] if compress else data[:cut]
    message = refusal(write(tmp_path / "a.nemo", data))
    assert "is no whole .nemo archive" in message or "holds no model_weights.ckpt" in message


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip", b"x" * 2000])
def test_another_kind_of_file_is_refused(tmp_path: Path, data: bytes) -> None:
    assert "is no whole .nemo archive" in refusal(write(tmp_path / "a.nemo", data))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file; give a .nemo archive" in refusal(tmp_path / "none.nemo")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_config_and_weights_must_be_there_once(tmp_path: Path, name: str) -> None:
    without = {key: data for key, data in WHOLE.items() if key != name}
    assert f"holds no {name}" in refusal(write(tmp_path / "a.nemo", tar_of(without)))
    assert f"{name} stands twice" in refusal(
        write(tmp_path / "b.nemo", tar_of({**WHOLE, f"sub/{name}": b"x"}))
    )


def test_a_small_file_that_unpacks_to_much_is_refused_on_the_way(tmp_path: Path) -> None:
    """80 MB of zeros are 80 kB of gzip; twenty times its size and 16 MiB is as far as it is read."""
    zeros = {f"zeros{number}": bytes(8 << 20) for number in range(10)}
    path = write(tmp_path / "a.nemo", gzip.compress(tar_of({**WHOLE, **zeros})))
    assert path.stat().st_size < 200_000
    assert "unpacks to more than" in refusal(path)


@pytest.mark.parametrize("name", [WEIGHTS, "other.bin"])
@pytest.mark.parametrize(
    ("size", "message"),
    [(1 << 20, "is no whole .nemo archive"), (1 << 62, "claims 4,611,686,018,427,387,904")],
)
def test_a_member_that_claims_more_than_there_is_is_refused(
    tmp_path: Path, name: str, size: int, message: str
) -> None:
    """At once: a member that nobody wants would be read over, block by block."""
    info = tarfile.TarInfo(name)
    info.size = size
    data = tar_of({CONFIG: b"a: 1\n"}).rstrip(b"\0").ljust(1024, b"\0") + info.tobuf() + b"weights"
    assert message in refusal(write(tmp_path / "a.nemo", data))


def test_a_config_larger_than_any_config_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nemo", tar_of({CONFIG: b"#" * (17 << 20), WEIGHTS: b"w"}))
    assert "no config is larger" in refusal(path)


def test_thousands_of_members_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nemo", tar_of({**WHOLE, **{f"m{i}": b"" for i in range(1000)}}))
    assert "holds more than 1000 members" in refusal(path)


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read_archive(FIXTURES / "fastconformer.nemo")
    assert not list(tmp_path.iterdir())
