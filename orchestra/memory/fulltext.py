"""The full-text index (FTS5): which columns it holds, how it is made, taken off and made anew.

It is a copy that triggers keep in step, inside the transaction that writes the row. A damaged index makes those
triggers fail, each in its own way (measured with SQLite 3.40: constraint failed, malformed, logic error, vtable
constructor failed), and would take the save with it. So the triggers can be taken off, which always works; a memory
without them is searched row by row until the index is made anew.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from peewee import DatabaseError

from .database import Database

# The names and order are part of the index: a change is a migration that ends with `rebuild`.
COLUMNS: Final = (
    "title", "tags", "body", "lesson", "prevention", "context", "repro", "fix", "wins", "challenges", "learnings",
    "next_steps", "category", "component", "branch", "commits", "sender",
)  # fmt: skip
TRIGGERS: Final = ("memory_added", "memory_changed", "memory_removed")

_INDEX: Final = (
    f"CREATE VIRTUAL TABLE memory_fts USING fts5({', '.join(COLUMNS)}, content='memory', content_rowid='id', "
    "tokenize='porter unicode61 remove_diacritics 2')"
)
_NEW: Final = ", ".join(f"new.{name}" for name in COLUMNS)
_OLD: Final = ", ".join(f"old.{name}" for name in COLUMNS)
_ADD: Final = f"INSERT INTO memory_fts(rowid, {', '.join(COLUMNS)}) VALUES (new.id, {_NEW});"
_REMOVE: Final = f"INSERT INTO memory_fts(memory_fts, rowid, {', '.join(COLUMNS)}) VALUES ('delete', old.id, {_OLD});"
_HOOKS: Final = (
    f"CREATE TRIGGER memory_added AFTER INSERT ON memory BEGIN {_ADD} END",
    f"CREATE TRIGGER memory_changed AFTER UPDATE OF {', '.join(COLUMNS)} ON memory BEGIN {_REMOVE} {_ADD} END",
    f"CREATE TRIGGER memory_removed AFTER DELETE ON memory BEGIN {_REMOVE} END",
)


def is_on(database: Database) -> bool:
    """Whether the triggers are there: without them the index is behind, and must not be asked."""
    sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND name IN (?, ?, ?)"
    return bool(database.all(sql, *TRIGGERS)[0][0] == len(TRIGGERS))


def is_of_today(database: Database) -> bool:
    """Whether the index has the columns and the tokenizer that this release wants; it may be damaged or taken off."""
    return database.all("SELECT sql FROM sqlite_schema WHERE name = 'memory_fts'") == [(_INDEX,)]


def take_off(database: Database) -> None:
    """Let writes go on without the index. Inside a transaction."""
    for name in TRIGGERS:
        database.all(f"DROP TRIGGER IF EXISTS {name}")


def make_anew(database: Database) -> None:
    """Remove what is left of the index, and make it from the rows. Inside a transaction."""
    take_off(database)
    _remove(database)
    database.all(_INDEX)
    for sql in _HOOKS:
        database.all(sql)
    database.all("INSERT INTO memory_fts(memory_fts) VALUES ('rebuild')")


def fault(database: Database) -> str:
    """Return what is wrong with the index, compared with the rows; empty if nothing is. Inside a transaction."""
    if not is_on(database):
        return "it was taken off because a save failed in it"
    try:
        database.all("INSERT INTO memory_fts(memory_fts, rank) VALUES ('integrity-check', 1)")
    except (DatabaseError, sqlite3.Error) as exc:
        return str(exc)
    return ""


def _remove(database: Database) -> None:
    """Drop the index, also one that SQLite can't open any more: then its parts are removed one by one."""
    names = [row[0] for row in database.all("SELECT name FROM sqlite_schema WHERE name GLOB 'memory_fts*'")]
    try:
        database.all("DROP TABLE IF EXISTS memory_fts")
    except (DatabaseError, sqlite3.Error):
        for name in names:
            if name != "memory_fts" and re.fullmatch(r"memory_fts_[a-z]+", name):
                database.all(f"DROP TABLE {name}")
        database.all("PRAGMA writable_schema = ON")
        try:
            database.all("DELETE FROM sqlite_schema WHERE name = 'memory_fts'")
        finally:
            database.all("PRAGMA writable_schema = RESET")
