"""What is done with memories: adding, validating, forgetting, closing. Each is one transaction, then it returns."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace

from orchestra.errors import BadOption, NotFound

from .database import Database
from .entry import Entry
from .models import Memory, Validation
from .store import Store, insert, update
from .words import Confidence, Kind, confidence_after


def add(store: Store, entries: Iterable[Entry], *, now_ms: int) -> list[Entry]:
    """Write new memories; return them as they are stored.

    Raises:
        BadOption, TooLarge: as `Entry.checked`.
        NotFound: if one supersedes a memory that is not there.
    """
    new = [fresh(entry, now_ms=now_ms) for entry in entries]

    def work(database: Database) -> list[Entry]:
        for entry in new:
            if entry.supersedes is not None:
                _kind_of(database, entry.supersedes)
        return [replace(entry, id=insert(database, entry)) for entry in new]

    return store.write(work)


def fresh(entry: Entry, *, now_ms: int) -> Entry:
    """Return a memory that was never stored, checked, with its time and a uid nobody else has."""
    return replace(entry, uid=secrets.token_hex(16), created_ms=now_ms, updated_ms=now_ms).checked()


def get(store: Store, ids: Iterable[int]) -> list[Entry]:
    """Return memories by their ids, in that order.

    Raises:
        NotFound: if one of them is not there.
    """
    found = []
    for id in dict.fromkeys(ids):
        entries = store.entries("WHERE m.id = ?", id)
        if not entries:
            raise _unknown(id)
        found += entries
    return found


def validate(store: Store, ids: Iterable[int], *, author: str, note: str = "", now_ms: int) -> list[Entry]:
    """Record that somebody found these learnings to be true; their confidence may rise.

    Raises:
        NotFound: if one is not there. BadOption: if one is no learning. None of them is changed then.
    """
    wanted = list(dict.fromkeys(ids))

    def work(database: Database) -> None:
        for id in wanted:
            if (kind := _kind_of(database, id)) != Kind.LEARNING:
                raise BadOption(f"#{id} is a {kind}; only learnings are validated")
            Validation.insert(memory=id, author=author, at_ms=now_ms, note=note).execute(database)
            rise(database, id, now_ms=now_ms)

    store.write(work)
    return get(store, wanted)


def rise(database: Database, id: int, *, now_ms: int) -> None:
    """Let the confidence of a learning follow its validations. Inside `Store.write`."""
    count = Validation.select().where(Validation.memory == id).count(database)
    (found,) = database.all("SELECT confidence FROM memory WHERE id = ?", id)[0]
    update(database, id, confidence=confidence_after(Confidence(found), validations=count), updated_ms=now_ms)


def validations(store: Store, id: int) -> list[tuple[str, int, str]]:
    """Return who validated a memory, when, and with which note; the oldest first."""
    sql = "SELECT author, at_ms, note FROM validation WHERE memory = ? ORDER BY at_ms, id"
    return [(author, at_ms, note) for author, at_ms, note in store.rows(sql, id)]


def validation_counts(store: Store, ids: Iterable[int]) -> dict[int, int]:
    """Return how often each of these memories was validated."""
    wanted = tuple(ids)
    marks = ", ".join("?" * len(wanted))
    return dict(store.rows(f"SELECT memory, count(*) FROM validation WHERE memory IN ({marks}) GROUP BY 1", *wanted))


def forget(store: Store, ids: Iterable[int], *, is_undone: bool = False, now_ms: int) -> list[Entry]:
    """Hide memories from every answer, or show them again; they stay in the file until they are purged.

    Raises:
        NotFound: if one of them is not there; none is changed then.
    """
    wanted = list(dict.fromkeys(ids))

    def work(database: Database) -> None:
        for id in wanted:
            _kind_of(database, id)
            update(database, id, forgotten_ms=None if is_undone else now_ms, updated_ms=now_ms)

    store.write(work)
    return get(store, wanted)


def close_issue(
    store: Store, id: int, *, fix: str = "", now_ms: int, also: Callable[[Database], None] = lambda database: None
) -> Entry:
    """Record that an issue is done with, and how; closing it again changes nothing but the fix.

    `also` is done in the same transaction.

    Raises:
        NotFound: if it is not there. BadOption: if it is no issue.
    """

    def work(database: Database) -> None:
        if (kind := _kind_of(database, id)) != Kind.ISSUE:
            raise BadOption(f"#{id} is a {kind}, not an issue")
        (closed_ms,) = database.all("SELECT closed_ms FROM memory WHERE id = ?", id)[0]
        values = {"closed_ms": closed_ms or now_ms, "updated_ms": now_ms, **({"fix": fix} if fix else {})}
        update(database, id, **values)
        also(database)

    if fix:
        fix = replace(Entry(title="a fix", kind=Kind.CONTEXT), fix=fix).checked().fix
    store.write(work)
    return get(store, [id])[0]


def purge(store: Store, ids: Iterable[int]) -> int:
    """Remove memories for good; return how many there were."""
    wanted = list(dict.fromkeys(ids))

    def work(database: Database) -> int:
        count = 0
        for id in wanted:
            Validation.delete().where(Validation.memory == id).execute(database)
            count += Memory.delete().where(Memory.id == id).execute(database)
        return count

    return store.write(work)


def _kind_of(database: Database, id: int) -> str:
    found = database.all("SELECT kind FROM memory WHERE id = ?", id)
    if not found:
        raise _unknown(id)
    return str(found[0][0])


def _unknown(id: int) -> NotFound:
    return NotFound(f"there is no memory #{id}; `orchestra memory list` shows what there is")
