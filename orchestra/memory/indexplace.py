"""What lies beside the file of a memory for its index: all of it can be thrown away."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestra.errors import IndexFault
from orchestra.limits import INDEX_SET_ASIDE_MAX, INDEXER_LOG_BYTES_MAX

_GLANCE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class IndexPlace:
    """The paths for the memory in the file `memory`, such as `memory.db`.

    memory.index/       ChromaDB's folder, with meta.json and a lock that its process holds
    memory.index.bad-…  those that were set aside
    memory.index.lock   held by who owns the vectors and the index, with its process id
    memory.index.start  held for a process that is started, until it has the lock
    memory.index.sock   where that process is asked
    memory.index.json   what it says of itself, for when nobody can be asked
    memory.index.log    what ChromaDB and the process print
    """

    memory: Path

    @property
    def folder(self) -> Path:
        return self.memory.with_suffix(".index")

    @property
    def socket(self) -> Path:
        return self.memory.with_suffix(".index.sock")

    @property
    def state(self) -> Path:
        return self.memory.with_suffix(".index.json")

    @property
    def log(self) -> Path:
        return self.memory.with_suffix(".index.log")

    @property
    def lock(self) -> Path:
        return self.memory.with_suffix(".index.lock")

    @property
    def starting(self) -> Path:
        return self.memory.with_suffix(".index.start")

    @property
    def meta(self) -> Path:
        return self.folder / "meta.json"

    @property
    def begun(self) -> Path:
        """There while an index that a person asked for is not finished: then it is gone on with."""
        return self.folder / "begun"

    def set_aside(self) -> list[Path]:
        """Put the index out of the way under another name, and return those that are kept, the newest last.

        Raises:
            IndexFault: if it can't be moved.
        """
        try:
            if self.folder.exists():
                name = f"{self.folder.name}.bad-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
                self.folder.rename(self.folder.with_name(name))
        except OSError as exc:
            raise IndexFault(f"{self.folder} can't be set aside: {exc.strerror}") from exc
        kept = self.aside()
        for old in kept[:-INDEX_SET_ASIDE_MAX]:
            shutil.rmtree(old, ignore_errors=True)
        return kept[-INDEX_SET_ASIDE_MAX:]

    def aside(self) -> list[Path]:
        """Return the indexes that were set aside, the newest last."""
        return sorted(self.folder.parent.glob(f"{self.folder.name}.bad-*"), key=lambda path: path.name)

    def throw_away(self) -> None:
        """Remove the index, for good.

        Raises:
            IndexFault: if it can't be removed.
        """
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
        except OSError as exc:
            raise IndexFault(f"{self.folder} can't be removed: {exc.strerror}") from exc

    def bytes(self) -> int:
        """Return how much the index takes on the disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Lock:
    """The kernel's lock on a file, for the life of this object. The process that has it writes its id there.

    Raises:
        BlockingIOError: if another process has it.
        OSError: if the file can't be made.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = open_own(path, os.O_RDWR)
        try:
            self._take()
            os.pwrite(self.descriptor, f"{os.getpid():<20}".encode(), 0)
        except BaseException:
            os.close(self.descriptor)
            raise

    def close(self) -> None:
        os.close(self.descriptor)

    def _take(self) -> None:
        """Take it; who only looks who has it (`holder`) has it for an instant."""
        deadline = time.monotonic() + _GLANCE_S
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_GLANCE_S / 20)
            else:
                return


def open_own(path: Path, flags: int) -> int:
    """Open a file of ours, or make it, readable by this user alone. A link that came with a clone is not followed.

    Raises:
        OSError: if it can't be opened, or is a link.
    """
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def open_log(path: Path) -> int:
    """Open the log to write at its end; one that is too long is begun anew.

    Raises:
        OSError: as `open_own`.
    """
    log = open_own(path, os.O_WRONLY | os.O_APPEND)
    if os.fstat(log).st_size > INDEXER_LOG_BYTES_MAX:
        os.ftruncate(log, 0)
    return log


def holder(path: Path) -> int:
    """Return the id of the process that holds this lock; 0 if none does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or 0)
    else:
        return 0
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file of ours holds; nothing if it is missing or damaged, since it can be made anew."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a file of ours, whole or not at all.

    Raises:
        OSError: if it can't be written.
    """
    draft = path.with_name(f"{path.name}.new")
    with os.fdopen(open_own(draft, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:
        file.write(json.dumps(facts))
    draft.replace(path)
