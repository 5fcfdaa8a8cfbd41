"""Numbered steps from an empty file to today's schema; `PRAGMA user_version` says how many were taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from peewee import SqliteDatabase

from orchestra.errors import StateFault

from . import models


def _first_tables(database: SqliteDatabase) -> None:
    database.create_tables(models.TABLES)
    models.Hub.create(boot=0, saved_seq=0, open_seq=0, removed=0)


STEPS: Final[tuple[Callable[[SqliteDatabase], None], ...]] = (_first_tables,)


def migrate(database: SqliteDatabase) -> None:
    """Bring the schema up to date, each step in a transaction of its own.

    Raises:
        StateFault: if the file was written by a newer version.
    """
    version = database.pragma("user_version")
    if version > len(STEPS):
        raise StateFault(
            f"the database {database.database} is of version {version}, and this release knows up to {len(STEPS)}; "
            "upgrade agent-orchestra, or choose another folder with --state"
        )
    for number in range(version, len(STEPS)):
        with database.atomic("IMMEDIATE"):
            STEPS[number](database)
            database.pragma("user_version", number + 1)
