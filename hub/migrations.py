"""Numbered steps from an empty file to today's schema; `PRAGMA user_version` says how many were taken."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from peewee import SqliteDatabase

from orchestra.errors import StateFault

from . import models


def _all_tables(database: SqliteDatabase) -> None:
    """Make today's tables in an empty file; the steps are for files that have earlier ones."""
    database.create_tables(models.TABLES)
    models.Hub.create(boot=0, saved_seq=0, open_seq=0, removed=0, uid=_new_uid())


def _tokens(database: SqliteDatabase) -> None:
    database.create_tables([models.Token, models.TokenFloor])
    _execute(database, "ALTER TABLE hub ADD COLUMN uid TEXT NOT NULL DEFAULT ''")
    _execute(database, "UPDATE hub SET uid = ?", _new_uid())


def _failed_deliveries(database: SqliteDatabase) -> None:
    database.create_tables([models.FailedDelivery])
    _execute(database, "ALTER TABLE receipt ADD COLUMN generation INTEGER NOT NULL DEFAULT 0")


def _grants_of_reading(database: SqliteDatabase) -> None:
    """What went with no grant, or with being an operator, needs one now: nobody loses it by that."""
    for table, address in (("peer", "(SELECT text FROM address a WHERE a.id = peer.id)"), ("invite", "address")):
        _execute(database, f"UPDATE {table} SET grants = trim(grants || ' read:* receive') WHERE grants <> ''")
        is_operator = f"grants <> '' AND {address} GLOB 'operator/*'"
        _execute(database, f"UPDATE {table} SET grants = grants || ' manage observe' WHERE {is_operator}")
    _execute(database, "UPDATE peer SET grants = 'read:* receive' WHERE grants = ''")


def _next_key(database: SqliteDatabase) -> None:
    _execute(database, "ALTER TABLE hub ADD COLUMN next_key TEXT NOT NULL DEFAULT ''")
    _execute(database, "ALTER TABLE hub ADD COLUMN next_key_ms INTEGER NOT NULL DEFAULT 0")


def _execute(database: SqliteDatabase, sql: str, *params: object) -> None:
    database.execute_sql(sql, params)  # type: ignore[no-untyped-call]


def _new_uid() -> str:
    return secrets.token_hex(8)


STEPS: Final[tuple[Callable[[SqliteDatabase], None], ...]] = (
    _all_tables,
    _tokens,
    _failed_deliveries,
    _grants_of_reading,
    _next_key,
)


def migrate(database: SqliteDatabase) -> None:
    """Bring the schema up to date, each step in a transaction of its own.

    Raises:
        StateFault: if the file was written by a newer version, or between two releases.
    """
    version = database.pragma("user_version")
    if version > len(STEPS):
        raise StateFault(
            f"the database {database.database} is of version {version}, and this release knows up to {len(STEPS)}; "
            "upgrade agent-orchestra, or choose another folder with --state"
        )
    while version < len(STEPS):
        with database.atomic("IMMEDIATE"):
            STEPS[version](database)
            version = version + 1 if version else len(STEPS)
            database.pragma("user_version", version)
    _check_layout(database)


def _check_layout(database: SqliteDatabase) -> None:
    """Refuse a file whose tables are not today's: the store writes rows by the order of their columns."""
    for table in models.TABLES:
        name, expected = table._meta.table_name, list(table._meta.columns)
        found = [column.name for column in database.get_columns(name)]
        if found != expected:
            raise StateFault(
                f"the database {database.database} was made between two releases, and its table {name!r} is another "
                "than this one's; move the file away to start empty, or go back to the version that made it"
            )
