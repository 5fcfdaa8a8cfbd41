"""One folder of the old protocol's files, held open: everything in it is reached through its descriptor, never by a
path that somebody could bend meanwhile."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from orchestra.errors import BadFile
from orchestra.limits import FILES_KEPT_DAYS, FILES_KEPT_MAX

from .trust import Trust

TAKEN: Final = ".taken"
REFUSED: Final = ".refused"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """Use it as a context: `with Folder(path, trust) as folder:`.

    Raises (on entering):
        FileNotFoundError: if it is not there.
        BadFile: if it is a link or no folder.
    """

    def __init__(self, path: Path, trust: Trust) -> None:
        self.path = path
        self._trust = trust
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            self._fd = os.open(self.path, _DIRECTORY)
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise BadFile(f"{self.path} is a link, or can't be opened as a folder ({exc.strerror})") from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def names(self, *, match: Callable[[str], bool] = lambda name: True) -> list[str]:
        """Return the files that are meant, in the order in which the old agents take them: by their bytes."""
        names = os.listdir(self._fd)  # noqa: PTH208
        found = (name for name in names if name.endswith(".json") and not name.startswith("."))
        return sorted(filter(match, found), key=os.fsencode)

    def state_of(self, name: str) -> tuple[int, int, int]:
        """Return what changes when somebody writes the file."""
        found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        return found.st_ino, found.st_size, found.st_mtime_ns

    def read(self, name: str) -> bytes:
        """Return what is in a file, if it can be trusted.

        Raises:
            FileNotFoundError: if it has gone.
            UnfinishedFile, BadFile: as `Trust` says, or if it can't be read.
        """
        here = os.fstat(self._fd)
        self._trust.check_folder(mode=here.st_mode, uid=here.st_uid, name=str(self.path))
        self._check(os.stat(name, dir_fd=self._fd, follow_symlinks=False))
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise BadFile(f"it can't be read: {exc.strerror}") from exc
        with open(descriptor, "rb") as file:  # noqa: PTH123
            self._check(os.fstat(descriptor))  # it may be another one by now
            data = file.read(self._trust.bytes_max + 1)
        if len(data) > self._trust.bytes_max:
            raise BadFile(f"it has more than {self._trust.bytes_max} bytes, which is the limit")
        return data

    def _check(self, found: os.stat_result) -> None:
        self._trust.check_file(mode=found.st_mode, uid=found.st_uid, links=found.st_nlink, size=found.st_size)

    def take(self, name: str, *, is_it: Callable[[bytes], bool] = lambda data: True) -> None:
        """Put a file away that was dealt with; one that has gone already is none the worse.

        `is_it` is asked about its content: its writer may have put another task under its name meanwhile, which stays.
        """
        with suppress(FileNotFoundError):
            kept = self._move(name, TAKEN)
            with suppress(BadFile), Folder(self.path / TAKEN, self._trust) as taken:
                if not is_it(taken.read(kept)) and not self.has(name):
                    os.rename(kept, name, src_dir_fd=taken._fd, dst_dir_fd=self._fd)

    def refuse(self, name: str, reason: str) -> None:
        """Put a file away that is not taken, with a file beside it that says why."""
        with suppress(FileNotFoundError):
            self._move(name, REFUSED, reason=reason)

    def drop(self, name: str) -> bool:
        """Remove a file; return whether it was there."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        return True

    def has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def write_draft(self, draft: str, data: bytes) -> None:
        """Write a file under a name that nobody looks for, and see that it is on the disk. `publish` comes next."""
        self.drop(draft)
        descriptor = os.open(draft, _NEW, 0o666, dir_fd=self._fd)
        with open(descriptor, "wb") as file:  # noqa: PTH123
            if self._trust.owner != self._trust.reader == 0:
                os.fchown(descriptor, self._trust.owner, -1)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.fsync(self._fd)

    def publish(self, draft: str, name: str) -> bool:
        """Give a draft its name, which is one step for everybody; return whether it was still there."""
        try:
            os.rename(draft, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except FileNotFoundError:
            return False
        os.fsync(self._fd)
        return True

    def prune(self) -> None:
        """Remove what was put away long ago, or is more than is kept."""
        for place in (TAKEN, REFUSED):
            with suppress(FileNotFoundError, BadFile), Folder(self.path / place, self._trust) as kept:
                kept._prune()

    def _prune(self) -> None:
        aged: list[tuple[float, str]] = []
        for name in os.listdir(self._fd):  # noqa: PTH208
            with suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode):
                    aged.append((found.st_ctime, name))  # which the move set
        aged.sort()
        oldest = time.time() - FILES_KEPT_DAYS * 86_400
        surplus = len(aged) - FILES_KEPT_MAX
        for number, (moved, name) in enumerate(aged):
            if moved >= oldest and number >= surplus:
                return
            self.drop(name)

    def _move(self, name: str, place: str, *, reason: str | None = None) -> str:
        """Move a file to `place`; return what it is called there."""
        with suppress(FileExistsError):
            os.mkdir(place, 0o700, dir_fd=self._fd)
        there = os.open(place, _DIRECTORY, dir_fd=self._fd)
        try:
            found = os.fstat(there)
            self._trust.check_folder(mode=found.st_mode, uid=found.st_uid, name=f"{self.path}/{place}")
            kept = _free_name(there, name)
            if reason is not None:
                descriptor = os.open(f"{kept}.reason", _NEW, 0o600, dir_fd=there)
                with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
                    file.write(f"{reason}\n")
            os.rename(name, kept, src_dir_fd=self._fd, dst_dir_fd=there)
            return kept
        finally:
            os.close(there)


def _free_name(folder: int, name: str) -> str:
    """Return `name`, or with a number before its ending where a file of that name was put away before."""
    taken = set(os.listdir(folder))
    stem = name.removesuffix(".json")
    free, number = name, 1
    while free in taken or f"{free}.reason" in taken:
        number += 1
        free = f"{stem}.{number}.json"
    return free
