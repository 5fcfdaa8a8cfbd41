"""Looking after the file of a memory: is it whole, and saving what can be read when it is not."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from peewee import Model, PeeweeException

from orchestra.errors import MemoryDamaged, OrchestraError, StorageFault
from orchestra.limits import MEMORY_NUMBER_MAX

from . import fulltext
from .database import Database
from .entry import COLUMNS
from .models import TABLES, Memory
from .store import Store, entry_of_row, insert

_CAREFUL_TRIES: Final = 2000  # of ids in a row that can't be read; then the steps grow, since a page holds far fewer
_BESIDE: Final = tuple(model for model in TABLES if model is not Memory)
_TRIES_MAX: Final = 20_000  # then the rest is given up: 120,000 ids in a row can't be read


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` is empty when it is well."""

    what: str
    is_well: bool
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Salvage:
    """What was saved from a damaged file, and where that file is kept. `lost`: ids known to be unreadable."""

    saved: int
    lost: int
    kept: Path


def check(store: Store) -> list[Finding]:
    """Look at the file, its structure and its full-text index; changes nothing."""
    if not store.exists:
        return [Finding(f"{store.path} does not exist yet; the first thing you save makes it", is_well=True)]
    try:
        found = [row[0] for row in store.rows("PRAGMA integrity_check(10)")]
        count = store.rows("SELECT count(*) FROM memory")[0][0]
    except MemoryDamaged as exc:
        return [Finding(str(exc), is_well=False, advice="orchestra memory doctor --fix")]
    except OrchestraError as exc:
        return [Finding(str(exc), is_well=False)]
    if found != ["ok"] and not _is_only_index(found):
        what = f"memory {store.path} is damaged: {'; '.join(found[:3])}"
        return [Finding(what, is_well=False, advice="orchestra memory doctor --fix")]
    findings = [Finding(f"{store.path} is whole, with {count:,} rows", is_well=True)]
    try:
        wrong = _index_fault(store)
    except StorageFault as exc:
        return [*findings, Finding(str(exc), is_well=False)]
    if wrong:
        what = f"the full-text index is damaged ({wrong}); everything is saved, and found row by row"
        return [*findings, Finding(what, is_well=False, advice="orchestra memory reindex")]
    return [*findings, Finding("the full-text index agrees with the rows", is_well=True)]


def reindex(store: Store) -> int:
    """Make the full-text index anew from the rows; return how many there are."""

    def work(database: Database) -> int:
        fulltext.make_anew(database)
        return int(database.all("SELECT count(*) FROM memory")[0][0])

    return store.write(work)


def salvage(store: Store, *, now_s: float) -> Salvage:
    """Put a new file with all that can be read in the place of a damaged one, and keep that beside it.

    Nobody else writes meanwhile. Killed at any moment it leaves either the old file or the new one, and the copy.
    """
    path = store.path
    kept = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now_s))}")
    with store.told(), store.alone():
        store.disconnect()
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copy2(f"{path}{suffix}", f"{kept}{suffix}")
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            copy, new = Path(folder) / "copy.db", Path(folder) / "new.db"
            for suffix in ("", "-wal"):
                with suppress(FileNotFoundError):
                    shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
            saved, lost = _copy_rows(copy, new)
            # A journal of the old file must never meet the new one; the copy has it.
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{path}{suffix}").unlink()
            new.replace(path)
    return Salvage(saved, lost, kept)


def _index_fault(store: Store) -> str:
    """Ask SQLite to compare the index with the rows; that wants the right to write, though it writes nothing."""
    return store.write(fulltext.fault)


def _is_only_index(found: list[str]) -> bool:
    return all("memory_fts" in line for line in found)


def _copy_rows(old: Path, new: Path) -> tuple[int, int]:
    """Write every row of `old` that can be read into a new memory; return how many, and how many could not."""
    target = Store(new)
    saved = lost = 0
    try:
        source = sqlite3.connect(old)
        try:
            memories, unread = _readable(source, f"SELECT {', '.join(COLUMNS)} FROM memory")
            beside = {model: _readable(source, f"SELECT {_columns(model)} FROM {_name(model)}")[0] for model in _BESIDE}
        finally:
            source.close()
        lost = unread

        def work(database: Database) -> tuple[int, int]:
            good = bad = 0
            for row in memories:
                try:
                    entry = entry_of_row(row).checked()
                    insert(database, entry)
                    good += 1
                except (OrchestraError, PeeweeException, ValueError, TypeError, AttributeError):
                    bad += 1
            for model, rows in beside.items():
                for row in rows:
                    with suppress(PeeweeException):
                        values = dict(zip(_columns(model).split(", "), row, strict=True))
                        model.insert(values).execute(database)
            return good, bad

        saved, bad = target.write(work)
        lost += bad
    finally:
        target.close()
        for name in (f"{new}-wal", f"{new}-shm", new.with_suffix(".lock")):
            with suppress(FileNotFoundError):
                Path(name).unlink()
    return saved, lost


def _name(model: type[Model]) -> str:
    return str(model._meta.table_name)


def _columns(model: type[Model]) -> str:
    return ", ".join(model._meta.fields)


def _readable(source: sqlite3.Connection, select: str) -> tuple[list[tuple[Any, ...]], int]:
    """Walk a table by id, stepping over what can't be read; return the rows, and how many ids were stepped over."""
    rows: list[tuple[Any, ...]] = []
    last, unread, tries, begin = 0, 0, 0, 0
    end = _highest_id(source)
    while last < end and tries < _TRIES_MAX:
        try:
            row = source.execute(f"{select} WHERE id > ? ORDER BY id LIMIT 1", (last,)).fetchone()
        except sqlite3.DatabaseError as exc:
            if getattr(exc, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
                break  # no database, or no such table
            last += 1 + tries // _CAREFUL_TRIES
            tries += 1
            continue
        if row is None:
            break
        unread += last - begin
        rows.append(row)
        last = begin = row[0]
        tries = 0
    return rows, unread + (last - begin if end < MEMORY_NUMBER_MAX else 0)


def _highest_id(source: sqlite3.Connection) -> int:
    """Return the highest id that a row ever had, so that the walk knows where it may end."""
    try:
        (last,) = source.execute("SELECT seq FROM sqlite_sequence WHERE name = 'memory'").fetchone()
        highest = int(last)
    except (sqlite3.DatabaseError, TypeError, ValueError):
        return MEMORY_NUMBER_MAX
    for model in _BESIDE:
        with suppress(sqlite3.DatabaseError, TypeError, ValueError):  # an earlier release had no such table
            (last,) = source.execute(f"SELECT coalesce(max(id), 0) FROM {_name(model)}").fetchone()
            highest = max(highest, int(last))
    return highest
