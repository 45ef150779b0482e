"""Lays out what an emulated core needs in one folder, and changes nothing else of the machine.

Debian's arm64 packages for a Python 3.11, the arm64 wheels of LiteRT, QEMU's user-mode emulator and the compiled
plugin. Packages come through the machine's own `apt-get` and `pip` as they are configured (with PIP_NO_INDEX and
PIP_FIND_LINKS pip takes wheels from a folder), under an apt state of their own, and are unpacked, not installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.arm.cores import CORES
from tflite_asr.staging import move_into_place, plain_errors, remove_stale, scratch_folder, staging_folder

FOLDER_VARIABLE = "TFLITE_ASR_CORES"
RECORD_FILE = "prepared.json"
LAYOUT = 1  # of the folder; raised when what this file makes of the packages changes
PLUGIN_SOURCE = Path(__file__).with_name("plugin.c")
GUEST_SOURCE = Path(__file__).with_name("guest.py")
Progress = Callable[[str, float], None]

PYTHON = "3.11"
# The interpreter and the libraries that it, NumPy and LiteRT load.
PYTHON_PACKAGES = (
    "python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3 "
    "libffi8 libbz2-1.0 liblzma5 libuuid1 libcrypt1"
).split()
# The emulator and every library that it loads but libc.
QEMU_PACKAGES = (
    "qemu-user libcapstone4 liburing2 libnuma1 libglib2.0-0 libpcre2-8-0 libgnutls30 libp11-kit0 libidn2-0 "
    "libunistring2 libtasn1-6 libnettle8 libhogweed6 libgmp10 libffi8 zlib1g libgcc-s1"
).split()
RUNTIME = "ai-edge-litert==2.3.0"
WHEELS = (
    RUNTIME,
    "backports.strenum==1.2.8",
    "flatbuffers==25.12.19",
    "ml-dtypes==0.6.0",
    "numpy==2.3.5",
    "protobuf==7.36.2",
    "tqdm==4.70.1",
    "typing-extensions==4.16.0",
)
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
COMPILE = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fvisibility=hidden")


def cores_folder() -> Path:
    """Where cores are prepared unless said otherwise: $TFLITE_ASR_CORES, or a folder in the user's cache."""
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tflite-asr" / "cores"


def fingerprint() -> str:
    """What a prepared folder depends on; another fingerprint means another version."""
    parts = [str(LAYOUT), PLUGIN_SOURCE.read_text(), *PYTHON_PACKAGES, *QEMU_PACKAGES, *WHEELS, *COMPILE]
    parts += [f"{core.name} {core.qemu_cpu} {core.cpuinfo()}" for core in CORES.values()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a prepared folder: `{"fingerprint", "qemu", "qemu_libraries", "qemu_version", "runtime"}`.

    Raises:
        TfliteAsrError: not prepared, or by another version; names the command that mends it.
    """
    mend = f"run tflite-asr prepare-core --dir {folder}"
    if folder == cores_folder():
        mend = "run tflite-asr prepare-core"
    file = folder / RECORD_FILE
    if not file.is_file():
        raise TfliteAsrError(f"{folder}: no emulated core is prepared there; {mend}")
    try:
        record = json.loads(file.read_text())
        found = record["fingerprint"]
    except (ValueError, KeyError, TypeError):
        found = "no fingerprint"
    if found != fingerprint():
        raise TfliteAsrError(
            f"{folder}: prepared by another version of tflite-asr ({found}, not {fingerprint()}); {mend}"
        )
    return dict(record)


def prepare(folder: Path | None = None, progress: Progress | None = None) -> Path:
    """Lay out all cores in `folder` (default: `cores_folder()`); one that is already right is left as it is.

    The work is done in a temporary sibling that is renamed at the end, so the folder is whole or as it was.

    Raises:
        TfliteAsrError: a tool that is missing, with the package that brings it; a package that apt or pip does not
            give; an emulator that does not run the self-check.
    """
    folder = (folder or cores_folder()).absolute()
    tell = progress or (lambda stage, fraction: None)
    if folder.exists():
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / RECORD_FILE).is_file()):
            raise TfliteAsrError(
                f"{folder}: is no folder of emulated cores and will not be replaced; choose another"
            )
        try:
            read_record(folder)
        except TfliteAsrError:
            pass
        else:
            return folder
    _check_tools()
    with plain_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(folder)
        with staging_folder(folder) as staging, scratch_folder() as fetched:
            _lay_out(staging, fetched, tell)
            move_into_place(staging, folder)
    tell("done", 1.0)
    return folder


def compile_plugin(out: Path, compiler: str = "gcc") -> Path:
    """The plugin as a shared library, at `out`.

    Raises:
        TfliteAsrError: no compiler, or its first complaint.
    """
    if not shutil.which(compiler):
        raise TfliteAsrError(
            f"{compiler} is not installed, which compiles the counting plugin; apt-get install gcc libc6-dev"
        )
    _run([compiler, *COMPILE, str(PLUGIN_SOURCE), "-o", str(out)], "the counting plugin does not compile")
    return out


def _check_tools() -> None:
    if not sys.platform.startswith("linux"):
        raise TfliteAsrError(
            f"an emulated core needs Debian 12 on Linux, and this is {sys.platform}; use such a machine or container"
        )
    needed = {
        "gcc": "apt-get install gcc libc6-dev",
        "apt-get": "use Debian 12, or a container of it",
        "dpkg-deb": "use Debian 12, or a container of it",
    }
    for tool, mend in needed.items():
        if not shutil.which(tool):
            raise TfliteAsrError(f"{tool} is not installed, which preparing an emulated core needs; {mend}")


def _lay_out(new: Path, fetched: Path, tell: Progress) -> None:
    compile_plugin(new / "plugin.so")
    host_qemu = shutil.which("qemu-aarch64")
    record: dict[str, Any] = {
        "fingerprint": fingerprint(),
        "runtime": RUNTIME,
        "qemu": host_qemu,
        "qemu_libraries": [],
    }
    tell("package lists", 0.05)
    with ThreadPoolExecutor(max_workers=1) as beside:  # pip waits for the network while apt reads its lists
        wheels = beside.submit(_wheels, fetched / "wheels", new / "site")
        host = _run(["dpkg", "--print-architecture"], "dpkg does not run").strip()
        wanted = [(package, "arm64") for package in PYTHON_PACKAGES]
        wanted += [] if host_qemu else [(package, host) for package in QEMU_PACKAGES]
        packages = _download(fetched, wanted, lambda: tell("arm64 Python and emulator", 0.3))
        tell("unpacking", 0.5)
        _unpack(packages[: len(PYTHON_PACKAGES)], new / "sysroot")
        shutil.rmtree(new / "sysroot/usr/share", ignore_errors=True)  # documentation
        if not host_qemu:
            _unpack(packages[len(PYTHON_PACKAGES) :], fetched / "qemu-user")
            record |= _keep_emulator(fetched / "qemu-user", new / "qemu")
        tell("LiteRT for arm64", 0.6)
        wheels.result()
    for core in CORES.values():
        _core_root(new, core.name, core.cpuinfo())
    tell("self-check", 0.7)
    _self_check(new, record)
    (new / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")


def _keep_emulator(unpacked: Path, into: Path) -> dict[str, Any]:
    """Of Debian's packages, the one emulator and the libraries; what the record says of them."""
    into.mkdir()
    shutil.move(unpacked / "usr/bin/qemu-aarch64", into)
    folders = [path for path in sorted(unpacked.glob("**/*-linux-gnu")) if path.is_dir()]
    for number, folder in enumerate(folders):
        shutil.move(folder, into / f"lib{number}")
    libraries = [f"{into.name}/lib{number}" for number in range(len(folders))]
    return {"qemu": f"{into.name}/qemu-aarch64", "qemu_libraries": libraries}


def _download(fetched: Path, wanted: Sequence[tuple[str, str]], listed: Callable[[], None]) -> list[Path]:
    """The packages as files, one for each (package, architecture), by an apt-get with lists and status of its own."""
    state, into = fetched / "apt", fetched / "packages"
    for folder in (state / "lists/partial", state / "cache/archives/partial", into):
        folder.mkdir(parents=True)
    architectures = list(dict.fromkeys(architecture for _, architecture in wanted))
    options = {
        "APT::Architecture": architectures[0],
        "APT::Sandbox::User": "root",
        "Dir::State::Lists": str(state / "lists"),
        "Dir::Cache": str(state / "cache"),
        "Dir::State::status": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::PDiffs": "false",
    }
    apt = ["apt-get", "-qq"]
    for name, value in options.items():
        apt += ["-o", f"{name}={value}"]
    for architecture in architectures:
        apt += ["-o", f"APT::Architectures::={architecture}"]
    _run([*apt, "update"], "apt-get cannot fetch the package lists; check the network and apt's sources")
    listed()
    complaint = "apt-get does not give the packages, which are Debian 12's; use it, or a container of it"
    _run([*apt, "download", *(":".join(pair) for pair in wanted)], complaint, cwd=into)
    found = [sorted(into.glob(f"{package}_*_{architecture}.deb")) for package, architecture in wanted]
    if not all(found):
        raise TfliteAsrError(f"{complaint} (no {wanted[found.index([])][0]})")
    return [files[0] for files in found]


def _unpack(packages: Iterable[Path], into: Path) -> None:
    for package in packages:
        _run(["dpkg-deb", "-x", str(package), str(into)], f"{package.name} cannot be unpacked")


def _wheels(fetched: Path, site: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        PYTHON,
        "--dest",
        str(fetched),
    ]
    for platform in PLATFORMS:
        command += ["--platform", f"{platform}_aarch64"]
    _run([*command, *WHEELS], "pip does not give the arm64 wheels; check the network and pip's configuration")
    for wheel in sorted(fetched.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def _core_root(new: Path, name: str, cpuinfo: str) -> None:
    """The root that a core sees: the common sysroot, its own /proc/cpuinfo, one processor."""
    root = new / "roots" / name
    (root / "proc").mkdir(parents=True)
    (root / "proc" / "cpuinfo").write_text(cpuinfo)
    processors = root / "sys" / "devices" / "system" / "cpu"
    processors.mkdir(parents=True)
    for file in ("possible", "present", "online"):
        (processors / file).write_text("0\n")
    for path in (new / "sysroot").iterdir():
        (root / path.name).symlink_to(Path("..", "..", "sysroot", path.name))


def _self_check(new: Path, record: dict[str, Any]) -> None:
    """Import LiteRT on one core and see the plugin's mark; leaves the byte code of what was imported behind."""
    from tflite_asr.measure.arm.emulator import Emulator

    emulator = Emulator(new, next(iter(CORES)), record)
    record["qemu_version"] = emulator.qemu_version()
    try:
        emulator.run([], write_bytecode=True)
    except TfliteAsrError as error:
        raise TfliteAsrError(
            f"QEMU {record['qemu_version']} does not run the self-check, Debian 12's qemu-user 7.2 does ({error})"
        ) from error


def _run(command: Sequence[str], complaint: str, cwd: Path | None = None) -> str:
    """The standard output of a command; its last line of complaint where it fails."""
    plain = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=plain, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise TfliteAsrError(f"{command[0]}: cannot be run ({error.strerror}); {complaint}") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        said = next(
            (line for line in lines if line.startswith(("E:", "ERROR:")) or "error:" in line), lines[-1]
        )
        raise TfliteAsrError(f"{complaint} ({said.strip()})")
    return done.stdout
