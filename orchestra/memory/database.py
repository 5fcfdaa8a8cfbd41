"""One connection to SQLite, through peewee, that gives rows as tuples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from peewee import SqliteDatabase

_BUSY_S: Final = 5.0  # for a program that is not ours and holds SQLite's own locks
_CACHE_KIB: Final = 16 * 1024


class Database(SqliteDatabase):
    """A connection that is open. `name` is a path, a `file:` address with `uri`, or `:memory:`."""

    def __init__(self, name: str, *, uri: bool = False) -> None:
        pragmas = {
            "busy_timeout": int(_BUSY_S * 1000),
            "synchronous": 2,  # FULL
            "cache_size": -_CACHE_KIB,
            "temp_store": 2,  # in memory
        }
        super().__init__(name, pragmas=pragmas, timeout=_BUSY_S, uri=uri)
        self.connect()

    def all(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement; return its rows."""
        return list(self.execute_sql(sql, params))  # type: ignore[no-untyped-call]

    def insert(self, sql: str, *params: Any) -> int:
        """Run one INSERT; return the id of its row."""
        return int(self.execute_sql(sql, params).lastrowid)  # type: ignore[no-untyped-call]

    @contextmanager
    def transaction_alone(self) -> Iterator[None]:
        """Do what is inside in one transaction that has the right to write from its begin; all of it or nothing.

        Not peewee's own: SQLite itself rolls back where the disk is full, and a second rollback would hide why.
        """
        self.all("BEGIN IMMEDIATE")
        try:
            yield
            self.all("COMMIT")
        except BaseException:
            if self.connection().in_transaction:  # type: ignore[no-untyped-call]
                self.all("ROLLBACK")
            raise
