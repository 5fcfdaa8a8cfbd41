"""What was taken from a folder of the old protocol and is not answered, and what was answered lately: one small SQLite
file beside the folders, which every process that serves one of them shares.

A rollback journal, not WAL: several processes write it, and it is far from busy.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Final

from peewee import DatabaseError

from orchestra.errors import StorageFault
from orchestra.limits import FILES_KEPT_DAYS
from orchestra.memory.database import Database

from .oldfile import TaskId


class Way(StrEnum):
    """How a task goes: from a file to the hub, from a file to the agent beside the folder, from the hub to that agent,
    or from the hub to an old agent."""

    TO_HUB = "to hub"
    BY_FILE = "by file"
    BY_HUB = "by hub"
    TO_OLD = "to old agent"


class Step(StrEnum):
    """`claimed` by who runs it or hands it on; `stored` by the hub; `written`: its result is a draft on the disk;
    `answered`. One for an old agent is `written` as a draft, then `stored` in its folder, then `answered`."""

    CLAIMED = "claimed"
    STORED = "stored"
    WRITTEN = "written"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Claim:
    """One task of one folder.

    Attributes:
        folder: the name of the folder: the old agent's id.
        task: the old id, as text; `is_number` says that it was written as a number.
        key: the idempotency key of the file it came with; "" where it came from the hub.
        name: the name of that file; as bytes, for it may be any.
        prompt: the digest of its prompt.
        seq: its number at the hub, 0 where it has none; `address` is where it was sent to there.
        losses: how many lives of its agent it has outlived.
        result: the result file, where the same task may come again by another way.
    """

    folder: str
    task: str
    way: Way
    step: Step
    key: str = ""
    name: bytes = b""
    prompt: str = ""
    is_number: int = 0
    seq: int = 0
    address: str = ""
    losses: int = 0
    changed_ms: int = 0
    result: bytes = b""

    @property
    def old_id(self) -> TaskId:
        return int(self.task) if self.is_number else self.task

    @property
    def is_open(self) -> bool:
        return self.step is not Step.ANSWERED


_COLUMNS: Final = ", ".join(each.name for each in fields(Claim))
_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS claim (
        folder TEXT NOT NULL, task TEXT NOT NULL, way TEXT NOT NULL, step TEXT NOT NULL, key TEXT NOT NULL,
        name BLOB NOT NULL, prompt TEXT NOT NULL, is_number INTEGER NOT NULL, seq INTEGER NOT NULL,
        address TEXT NOT NULL, losses INTEGER NOT NULL, changed_ms INTEGER NOT NULL,
        result BLOB NOT NULL, PRIMARY KEY (folder, task)
    ) STRICT, WITHOUT ROWID
"""
_PUT: Final = f"INSERT OR REPLACE INTO claim ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
_DROP: Final = "DELETE FROM claim WHERE folder = ? AND task = ?"


class Claims:
    """The file at `path`. What is put within one turn of the event loop is one transaction.

    Raises:
        StorageFault: if it can't be opened, or, from what waits for a put, not be written.
    """

    def __init__(self, path: Path) -> None:
        logging.getLogger("peewee").setLevel(logging.INFO)  # it tells every statement, with the results in it
        self._path = path
        self._waiting: list[tuple[str, tuple[object, ...], asyncio.Future[None]]] = []
        with self._told():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._database = Database(str(path))
            self._database.all("PRAGMA journal_mode = TRUNCATE")
            self._database.all(_SCHEMA)

    def close(self) -> None:
        self._flush()
        self._database.close()

    def find(self, folder: str, task: str) -> Claim | None:
        """Return the claim of a task, as far as it is on the disk."""
        return next(self._read("folder = ? AND task = ?", folder, task), None)

    def open_of(self, way: Way) -> list[Claim]:
        """Return what went this way and is not answered."""
        return list(self._read("way = ? AND step <> ?", way, Step.ANSWERED))

    def minutes(self, folder: str, *, since_ms: int) -> list[int]:
        """Return how many tasks of files were answered in which minute since 1970: minute, count, minute, count, …"""
        sql = """
            SELECT changed_ms / 60000, count(*) FROM claim
            WHERE folder = ? AND way = ? AND step = ? AND changed_ms > ? GROUP BY 1 ORDER BY 1
        """
        with self._told():
            rows = self._database.all(sql, folder, str(Way.BY_FILE), str(Step.ANSWERED), since_ms)
        return [number for row in rows for number in row]

    async def put(self, claim: Claim) -> None:
        """Keep a claim in the place of the one that its task had; it is on the disk when this returns."""
        await self._soon(_PUT, tuple(_plain(getattr(claim, each.name)) for each in fields(Claim)))

    async def drop(self, claim: Claim) -> None:
        """Forget a claim."""
        await self._soon(_DROP, (claim.folder, claim.task))

    def prune(self, *, now_ms: int) -> None:
        """Forget what was answered long ago."""
        with self._told():
            before = now_ms - FILES_KEPT_DAYS * 86_400_000
            self._database.all("DELETE FROM claim WHERE step = ? AND changed_ms < ?", str(Step.ANSWERED), before)

    def _read(self, where: str, *params: object) -> Iterator[Claim]:
        with self._told():
            rows = self._database.all(f"SELECT {_COLUMNS} FROM claim WHERE {where}", *map(_plain, params))
        for folder, task, way, step, *rest in rows:
            yield Claim(folder, task, Way(way), Step(step), *rest)

    def _soon(self, sql: str, params: tuple[object, ...]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        kept = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((sql, params, kept))
        return kept

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            with self._told(), self._database.transaction_alone():
                for sql, params, _ in waiting:
                    self._database.all(sql, *params)
        except StorageFault as fault:
            for _, _, kept in waiting:
                if not kept.done():
                    kept.set_exception(fault)
                    kept.exception()  # marked as seen: whoever waits gets it, and nobody has to
            return
        for _, _, kept in waiting:
            if not kept.done():
                kept.set_result(None)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (DatabaseError, OSError) as exc:
            raise StorageFault(
                f"{self._path} can't be used: {exc}; where it is damaged, move it away, and drop what is not "
                "answered again: what the hub has is not run twice"
            ) from exc


def _plain(value: object) -> object:
    return str(value) if isinstance(value, StrEnum) else value


def claims_of(inbox: Path) -> Path:
    """Where the claims of the folders in `inbox` are."""
    return inbox / ".claims.db"
