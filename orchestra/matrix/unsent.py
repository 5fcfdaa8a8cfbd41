"""What the hub is still to be told of: messages, contexts and issues of this memory, in the order they were written.

Each is one row beside its memory, written in the transaction that writes the memory, and removed when the hub has it.
The memory's uid is the idempotency key, so what is told twice is stored once. A row of a memory that is forgotten or
purged goes with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from orchestra.errors import MailboxFull
from orchestra.limits import OUTBOX_MESSAGES_MAX, UNSENT_AT_ONCE
from orchestra.memory import notebook
from orchestra.memory.database import Database
from orchestra.memory.entry import Entry
from orchestra.memory.models import Unsent
from orchestra.memory.store import Store, insert, update
from orchestra.memory.words import Kind

from .letters import note_sent
from .reports import is_told


@dataclass(frozen=True, slots=True)
class Item:
    """A memory the hub is to be told of. `rev` says which change of it this is; `base` as in `models.Unsent`."""

    number: int
    entry: Entry
    rev: int
    base: int | None
    error: str


def add(store: Store, entry: Entry, *, base: int | None = None, now_ms: int) -> Entry:
    """Write a new memory that the hub is to be told of; return it as it is stored.

    Raises:
        MailboxFull: if it is a message, and OUTBOX_MESSAGES_MAX wait already.
    """
    new = notebook.fresh(entry, now_ms=now_ms)

    def work(database: Database) -> Entry:
        (waits,) = database.all("SELECT count(*) FROM unsent")[0]
        if waits >= OUTBOX_MESSAGES_MAX and new.kind == Kind.MESSAGE:
            raise MailboxFull(
                f"{waits} messages wait for the hub, and no more are kept; see: orchestra memory message --outbox"
            )
        stored = replace(new, id=insert(database, new))
        queue(database, stored.id, base=base)
        return stored

    return store.write(work)


def add_issue(store: Store, entry: Entry, *, now_ms: int) -> Entry:
    """Write a new issue; others are told of it unless it is private."""
    if is_told(entry):
        return add(store, entry, now_ms=now_ms)
    return notebook.add(store, [entry], now_ms=now_ms)[0]


def close_issue(store: Store, id: int, *, fix: str = "", now_ms: int) -> Entry:
    """As `notebook.close_issue`; others are told unless it is private."""
    return notebook.close_issue(store, id, fix=fix, now_ms=now_ms, also=lambda database: queue_issue(database, id))


def queue_issue(database: Database, id: int) -> None:
    """Tell others of the new state of an issue, unless it is private. Inside `Store.write`."""
    if database.all("SELECT 1 FROM memory WHERE id = ? AND visibility <> 'private'", id):
        queue(database, id)


def queue(database: Database, memory: int, *, base: int | None = None) -> None:
    """Tell the hub of a memory, or again of one that changed. Inside `Store.write`."""
    database.all(
        "INSERT INTO unsent (memory, base) VALUES (?, ?) "
        "ON CONFLICT (memory) DO UPDATE SET rev = rev + 1, error = '', base = excluded.base",
        memory,
        base,
    )


def waiting(store: Store, *, after: int = 0) -> list[Item]:
    """Return what waits after that number, the oldest first; of many the first UNSENT_AT_ONCE."""
    rows = store.rows(
        "SELECT id, memory, rev, base, error FROM unsent WHERE id > ? ORDER BY id LIMIT ?", after, UNSENT_AT_ONCE
    )
    marks = ", ".join("?" * len(rows))
    entries = {each.id: each for each in store.entries(f"WHERE m.id IN ({marks})", *(row[1] for row in rows))}
    return [
        Item(number, entries[memory], rev, base, error)
        for number, memory, rev, base, error in rows
        if memory in entries  # else it was removed between the two reads
    ]


def count(store: Store) -> int:
    """Return how many memories wait."""
    return int(store.rows("SELECT count(*) FROM unsent")[0][0])


def was_sent(store: Store, item: Item, *, hub: str, seq: int, sender: str) -> None:
    """The hub has it, as `seq`; `sender` is who this matrix was when it was told."""

    def work(database: Database) -> None:
        database.all("DELETE FROM unsent WHERE memory = ? AND rev = ?", item.entry.id, item.rev)
        if item.entry.kind == Kind.ISSUE:
            return
        note_sent(database, item.entry, hub=hub, seq=seq)
        if item.entry.sender != sender:
            update(database, item.entry.id, sender=sender)

    store.write(work)


def was_refused(store: Store, item: Item, error: str) -> None:
    """The hub refused it; it is told again at the next meeting, since what is missing may be there by then."""

    def work(database: Database) -> None:
        Unsent.update(error=error).where(Unsent.memory == item.entry.id, Unsent.rev == item.rev).execute(database)

    store.write(work)


def drop(store: Store, memories: Iterable[int]) -> None:
    """Remove memories that are not to be told of after all, as if they had never been written."""
    notebook.purge(store, memories)
