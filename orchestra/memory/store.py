"""The file of a memory: one SQLite database that several processes of a matrix read and write at once.

Journal: WAL with synchronous=FULL. A reader never waits for a writer nor a writer for a reader, and what was
acknowledged survives a power cut for one fsync. SQLite before 3.51.3 can lose commits when one connection writes while
another moves the WAL into the file (sqlite.org/wal.html#walresetbug), and several processes are what a memory is for.
So whoever writes holds a lock file from BEGIN until after COMMIT, and SQLite only moves the WAL at the end of a COMMIT,
or when the last connection closes: never two at once. The lock is the kernel's (flock): a killed writer leaves none.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from peewee import PeeweeException

from orchestra.errors import MemoryDamaged, StorageFault
from orchestra.limits import MEMORY_WRITE_WAIT_S

from . import fulltext, migrations
from .database import Database
from .entry import COLUMNS, LISTS, Entry
from .models import Memory
from .place import make_folder

T = TypeVar("T")

_LOOK_S_MIN, _LOOK_S_MAX = 0.0005, 0.02
SELECTED: Final = ", ".join(f"m.{name}" for name in COLUMNS)
"""The columns of a `SELECT` from `memory m` that `entry_of_row` reads."""
# Literal, because peewee takes 0.6 ms to put this statement together, and SQLite 0.1 ms to run it.
_INSERT: Final = f"INSERT INTO memory ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_FAULTS: Final = (sqlite3.Error, PeeweeException, OSError)
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# How a damaged full-text index shows itself inside a save, measured with SQLite 3.40.
_INDEX_FAULTS: Final = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CONSTRAINT)
_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and do it again",
    sqlite3.SQLITE_IOERR: "the disk can't be written or read; see that it has space and is well",
    sqlite3.SQLITE_READONLY: "it can't be written; check its owner and the file system",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; check its owner and its folder's",
    sqlite3.SQLITE_BUSY: "another program holds it; close that one",
    sqlite3.SQLITE_LOCKED: "another program holds it; close that one",
}


class Store:
    """One connection to a memory. Use from one thread; close it, or use it as a context.

    The file is made by the first write: until then a read finds nothing. Where the file can't be written it is read
    all the same.

    Raises (all methods):
        StorageFault: if the disk is full or read-only, or another program holds the file; nothing was written.
        MemoryDamaged: if the file is damaged.
        StateFault: if a newer release wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: Database | None = None
        self._lock: int | None = None
        self._opened: tuple[int, int] | None = None
        """Which file is open: its device and inode. A repair puts another one in its place."""
        self.has_written = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def disconnect(self) -> None:
        """Close the connection; the next use opens it again."""
        if self._database is not None:
            with suppress(*_FAULTS):  # what was acknowledged is in the WAL, where whoever comes next finds it
                self._database.close()
            self._database = None

    @property
    def exists(self) -> bool:
        with self.told():
            return _identity(self.path) is not None

    @property
    def database(self) -> Database:
        """The connection, opened for reading at its first use."""
        with self.told():
            return self._current()

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a read."""
        with self.told():
            return self.database.all(sql, *params)

    def entries(self, rest: str, *params: Any) -> list[Entry]:
        """Return the memories that the rest of a SELECT from `memory m` finds."""
        return [entry_of_row(row) for row in self.rows(f"SELECT {SELECTED} FROM memory m {rest}", *params)]

    def write(self, work: Callable[[Database], T]) -> T:
        """Do `work` in one transaction, alone among the processes of this memory; it is on the disk on return.

        `work` may be called twice, so it must only touch the database. When it fails because the full-text index is
        damaged, the index is taken off and the work done without it.
        """
        with self.told(), self._alone():
            database = self._current(to_write=True)
            self.has_written = True
            try:
                with database.transaction_alone():
                    return work(database)
            except PeeweeException as exc:
                if _code(exc) not in _INDEX_FAULTS or not fulltext.is_on(database):
                    raise
                try:
                    with database.transaction_alone():
                        fulltext.take_off(database)
                        return work(database)
                except PeeweeException:
                    raise exc from None  # the index was not to blame

    def alone(self) -> AbstractContextManager[None]:
        """Keep every other writer out for the length of a `with`, for what is done to the file as a whole."""
        return self._alone()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what SQLite and the file system say into one of our errors, with advice."""
        try:
            yield
        except _FAULTS as exc:
            raise _fault(self.path, exc) from exc

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._lock is None:
            make_folder(self.path.parent)
            self._lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _take(self._lock, self.path)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _current(self, *, to_write: bool = False) -> Database:
        there = _identity(self.path)
        if self._database is None or there != self._opened or (to_write and there is None):
            self.disconnect()
            self._database = self._open(to_write=to_write)
            self._opened = _identity(self.path)
        return self._database

    def _open(self, *, to_write: bool) -> Database:
        if not to_write and not self.exists:
            database = Database(":memory:")
            migrations.migrate(database)
            return database
        if to_write:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = self._connected(to_write=to_write)
        try:
            if not migrations.is_current(database):
                with nullcontext() if to_write else self._alone():
                    database.pragma("journal_mode", "wal")
                    with database.transaction_alone():
                        migrations.migrate(database)
        except BaseException:
            database.close()
            raise
        return database

    def _connected(self, *, to_write: bool) -> Database:
        try:
            return _read_first(Database(str(self.path)))
        except PeeweeException as exc:
            wal = Path(f"{self.path}-wal")
            is_whole = not wal.exists() or wal.stat().st_size == 0
            if to_write or not is_whole or _code(exc) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
            # WAL wants to make a file beside it. Where that can't be, nobody writes, and the file alone is the truth.
            return _read_first(Database(f"file:{quote(str(self.path))}?immutable=1", uri=True))


def row_of(entry: Entry) -> dict[str, Any]:
    """Return the columns of a memory; the id is none where it has none yet."""
    row = {name: "\n".join(getattr(entry, name)) if name in LISTS else getattr(entry, name) for name in COLUMNS}
    return {**row, "id": entry.id or None}


def entry_of_row(row: tuple[Any, ...]) -> Entry:
    """Make a memory of a row of `SELECT` in the order of the columns."""
    named = zip(COLUMNS, row, strict=True)
    values: dict[str, Any] = {name: _items(value) if name in LISTS else value for name, value in named}
    return Entry(**values)


def insert(database: Database, entry: Entry) -> int:
    """Write a new memory; return its id. Inside `Store.write`."""
    return database.insert(_INSERT, *row_of(entry).values())


def update(database: Database, id: int, **values: Any) -> None:
    """Change some columns of a memory. Inside `Store.write`."""
    Memory.update(values).where(Memory.id == id).execute(database)


def _items(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _read_first(database: Database) -> Database:
    """Read something, because SQLite only then opens the file; close it where that fails."""
    try:
        database.all("SELECT count(*) FROM sqlite_schema")
    except PeeweeException:
        database.close()
        raise
    return database


def _take(lock: int, path: Path) -> None:
    """Take the lock of the writers; whoever has it is gone in a millisecond, so it is asked for again and again."""
    deadline, pause_s = time.monotonic() + MEMORY_WRITE_WAIT_S, _LOOK_S_MIN
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() > deadline:
                pid = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise StorageFault(
                    f"memory {path}: another process (the last to write was {pid}) has been writing for more than "
                    f"{MEMORY_WRITE_WAIT_S:.0f} s; end it if it hangs"
                ) from exc
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LOOK_S_MAX)
        else:
            with suppress(
                OSError
            ):  # only a hint for people; a full disk must not stop a write that may free some of it
                os.pwrite(lock, f"{os.getpid():<20}".encode(), 0)
            return


def _code(exc: BaseException) -> int:
    """Return SQLite's primary result code, or 0."""
    found = getattr(exc, "orig", exc)
    return int(getattr(found, "sqlite_errorcode", 0)) & 0xFF


def _fault(path: Path, exc: BaseException) -> StorageFault:
    code = _code(exc)
    if code in _DAMAGED:
        return MemoryDamaged(
            f"memory {path} is damaged ({_said(exc)}); run `orchestra memory doctor --fix`, which saves what can be "
            "read and keeps the damaged file"
        )
    advice = _ADVICE.get(code, "see docs/memory.md, or run `orchestra memory doctor`")
    return StorageFault(f"memory {path}: {_said(exc)}; {advice}")


def _said(exc: BaseException) -> str:
    if isinstance(exc, OSError):
        return (exc.strerror or str(exc)).lower()
    return str(getattr(exc, "orig", exc))
