"""Vectors beside the memories they belong to: which are to be made, which are there, which changed since.

`to_embed` is filled by triggers in the writer's own transaction, so no way of writing can forget it. `vector` keeps
each one with its model's name; `seq` numbers the changes, and the index follows that number. A row without a vector
says that its memory is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from orchestra.limits import EMBED_TRIES_MAX

from .database import Database
from .entry import Entry
from .filters import Filters
from .store import Store

_NEXT: Final = "(SELECT coalesce(max(seq), 0) + 1 FROM vector)"
_CURRENT: Final = "v.vec IS NOT NULL AND v.memory NOT IN (SELECT memory FROM to_embed)"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A memory that has no vector of its present text. `rev` counts its changes."""

    id: int
    rev: int


@dataclass(frozen=True, slots=True)
class Made:
    """A vector for a memory that waits."""

    waiting: Waiting
    vector: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """A vector that is new, or (none) that is gone, under its number."""

    seq: int
    id: int
    vector: bytes | None


def text_of(entry: Entry) -> str:
    """Return what the vector of a memory is made of; the model reads its first 1,000 characters or so."""
    return f"{entry.text()}\n{entry.context}".strip()


def waiting(store: Store, *, count_max: int) -> list[Waiting]:
    """Return memories whose vector is to be made, those that were tried least first."""
    # Joined, so that a row whose memory is gone (it can't be, but files are edited) is not taken up for ever.
    sql = (
        "SELECT e.memory, e.rev FROM to_embed e JOIN memory m ON m.id = e.memory "
        "WHERE e.tries < ? ORDER BY e.tries, e.memory LIMIT ?"
    )
    return [Waiting(*row) for row in store.rows(sql, EMBED_TRIES_MAX, count_max)]


def keep(store: Store, made: Iterable[Made], *, model: str) -> None:
    """Store vectors; a memory that changed meanwhile goes on waiting, and one that is gone gets none."""
    rows = list(made)

    def work(database: Database) -> None:
        for each in rows:
            found = database.all(
                "SELECT 1 FROM to_embed WHERE memory = ? AND rev = ?", each.waiting.id, each.waiting.rev
            )
            if found:
                database.all(
                    f"INSERT OR REPLACE INTO vector (memory, seq, model, vec) VALUES (?, {_NEXT}, ?, ?)",
                    each.waiting.id, model, each.vector,
                )  # fmt: skip
                database.all("DELETE FROM to_embed WHERE memory = ?", each.waiting.id)

    store.write(work)


def refuse(store: Store, rows: Iterable[Waiting], error: str) -> None:
    """Record that no vector could be made, and why."""
    refused = list(rows)

    def work(database: Database) -> None:
        for each in refused:
            sql = "UPDATE to_embed SET tries = tries + 1, error = ? WHERE memory = ? AND rev = ?"
            database.all(sql, error, each.id, each.rev)

    store.write(work)


def mark_others(store: Store, *, model: str) -> int:
    """Let those wait that have a vector of another model, or none; return how many they are."""
    where = (
        "FROM memory m LEFT JOIN vector v ON v.memory = m.id "
        "WHERE (v.memory IS NULL OR v.vec IS NULL OR v.model <> ?) AND m.id NOT IN (SELECT memory FROM to_embed)"
    )
    if not store.exists or store.rows(f"SELECT 1 {where} LIMIT 1", model) == []:
        return 0

    def work(database: Database) -> int:
        return len(
            database.all(
                f"INSERT INTO to_embed (memory, queued_ms) SELECT m.id, m.updated_ms {where} RETURNING memory", model
            )
        )

    return store.write(work)


def try_again(store: Store, *, is_all: bool) -> None:
    """Forget earlier failures; with `is_all` also every vector, and the numbers of the changes begin anew."""

    def work(database: Database) -> None:
        database.all("UPDATE to_embed SET tries = 0, error = '' WHERE tries > 0")
        if is_all:
            database.all("DELETE FROM vector")
            database.all(
                "INSERT INTO to_embed (memory, queued_ms) SELECT id, updated_ms FROM memory WHERE true "
                "ON CONFLICT (memory) DO UPDATE SET rev = rev + 1"
            )

    store.write(work)


def changes(store: Store, *, after: int, model: str, count_max: int) -> list[Change]:
    """Return what changed after that number, in order."""
    sql = "SELECT seq, memory, vec FROM vector WHERE seq > ? AND (model = ? OR vec IS NULL) ORDER BY seq LIMIT ?"
    return [Change(*row) for row in store.rows(sql, after, model, count_max)]


def count_after(store: Store, *, after: int, model: str) -> int:
    return int(
        store.rows("SELECT count(*) FROM vector WHERE seq > ? AND (model = ? OR vec IS NULL)", after, model)[0][0]
    )


def count_until(store: Store, *, until: int, model: str) -> int:
    """Return how many vectors an index holds that followed until that number."""
    return int(
        store.rows("SELECT count(*) FROM vector WHERE seq <= ? AND model = ? AND vec IS NOT NULL", until, model)[0][0]
    )


def some(store: Store, *, until: int, model: str, count_max: int) -> list[tuple[int, bytes]]:
    """Return vectors drawn by chance, with their ids; all of them where they are no more than `count_max`."""
    sql = "SELECT memory FROM vector WHERE seq <= ? AND model = ? AND vec IS NOT NULL ORDER BY random() LIMIT ?"
    ids = json.dumps([id for (id,) in store.rows(sql, until, model, count_max)])
    return store.rows("SELECT memory, vec FROM vector WHERE memory IN (SELECT value FROM json_each(?))", ids)


def chosen(
    store: Store, filters: Filters, *, model: str, among: Iterable[int] | None = None
) -> list[tuple[int, bytes]]:
    """Return the current vectors, with their ids, of the memories that the filters let through."""
    where, values = filters.where()
    if among is not None:
        where += " AND m.id IN (SELECT value FROM json_each(?))"
        values = [*values, json.dumps(list(among))]
    found = "SELECT v.memory, v.vec FROM memory m JOIN vector v ON v.memory = m.id"
    sql = f"{found} WHERE {where} AND v.model = ? AND {_CURRENT}"
    return store.rows(sql, *values, model)


def fresh(store: Store, ids: Iterable[int]) -> set[int]:
    """Return which of these memories wait for their vector."""
    sql = "SELECT memory FROM to_embed WHERE memory IN (SELECT value FROM json_each(?))"
    return {id for (id,) in store.rows(sql, json.dumps(list(ids)))}


def count_waiting(store: Store) -> int:
    return int(store.rows("SELECT count(*) FROM to_embed")[0][0])


def dimensions(store: Store, *, model: str) -> int:
    """Return how many numbers the vectors of this model have here; 0 if there are none."""
    found = store.rows("SELECT length(vec) FROM vector WHERE model = ? AND vec IS NOT NULL LIMIT 1", model)
    return int(found[0][0]) // 4 if found else 0


def of(store: Store, ids: Iterable[int], *, model: str) -> dict[int, bytes]:
    """Return the vectors of these memories that are of their present text."""
    sql = (
        "SELECT v.memory, v.vec FROM vector v WHERE v.memory IN (SELECT value FROM json_each(?)) "
        f"AND v.model = ? AND {_CURRENT}"
    )
    return dict(store.rows(sql, json.dumps(list(ids)), model))


def facts(store: Store) -> dict[str, Any]:
    """Return how many vectors there are of which model, how many are to be made, and which could not be."""
    models = dict(store.rows("SELECT model, count(*) FROM vector WHERE vec IS NOT NULL GROUP BY model ORDER BY 2 DESC"))
    waiting, oldest = store.rows("SELECT count(*), min(queued_ms) FROM to_embed")[0]
    failing = store.rows(
        "SELECT memory, error FROM to_embed WHERE tries >= ? ORDER BY memory LIMIT 100", EMBED_TRIES_MAX
    )
    return {
        "vectors": models,
        "waiting": waiting,
        "oldest_waiting_ms": oldest,
        "failing": [{"id": id, "error": error} for id, error in failing],
    }
