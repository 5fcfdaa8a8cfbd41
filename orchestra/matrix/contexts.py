"""What everybody should know, as this memory knows it: copies of the hub's `channel/context`, with their history.

Each version is a memory of kind `context` that supersedes the one before. What is set while the hub is away waits in
the outbox with the version it was made from, so that nobody's newer one is overwritten by it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestra.errors import BadOption
from orchestra.limits import ENTRY_NAME_CHARS_MAX
from orchestra.memory import notebook
from orchestra.memory.database import Database
from orchestra.memory.entry import Entry
from orchestra.memory.store import Store, insert
from orchestra.memory.words import Kind

from .letters import note_sent
from .unsent import queue

_NEWEST = (
    "WHERE m.kind = 'context' AND m.title = ? AND m.forgotten_ms IS NULL "
    "AND NOT EXISTS (SELECT 1 FROM memory newer WHERE newer.supersedes = m.id) ORDER BY m.id DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Known:
    """The newest that this memory knows of a name. `version`: at the hub; 0 as long as it waits to be said there."""

    entry: Entry
    version: int
    error: str


def newest(store: Store, name: str, *, hub: str) -> Known | None:
    """Return what this memory knows of a name, or None."""
    found = store.entries(_NEWEST, name)
    if not found:
        return None
    (entry,) = found
    waits = store.rows("SELECT error FROM unsent WHERE memory = ?", entry.id)
    seqs = store.rows("SELECT max(seq) FROM letter WHERE memory = ? AND hub = ?", entry.id, hub)
    return Known(entry, seqs[0][0] or 0, waits[0][0] if waits else "")


def set_later(
    store: Store, name: str, text: str, *, uid: str, author: str, project: str, hub: str, now_ms: int
) -> Entry:
    """Keep a new value, to be published when the hub is there under the key `uid`; it replaces one that waits.

    Raises:
        BadOption, TooLarge: if it can't be kept.
    """
    new = replace(notebook.fresh(_entry(name, text, author=author, project=project), now_ms=now_ms), uid=uid)

    def work(database: Database) -> Entry:
        before = database.all(f"SELECT m.id FROM memory m {_NEWEST}", name)
        base, supersedes = 0, None
        if before:
            supersedes = before[0][0]
            waits = database.all("SELECT base FROM unsent WHERE memory = ?", supersedes)
            known = database.all("SELECT max(seq) FROM letter WHERE memory = ? AND hub = ?", supersedes, hub)
            base = waits[0][0] if waits else known[0][0] or 0
            database.all("DELETE FROM unsent WHERE memory = ?", supersedes)
        entry = replace(new, supersedes=supersedes)
        stored = replace(entry, id=insert(database, entry))
        queue(database, stored.id, base=base)
        return stored

    return store.write(work)


def keep(store: Store, name: str, text: str, *, version: int, author: str, project: str, hub: str, now_ms: int) -> None:
    """Keep a copy of what the hub holds under a name. What waits to be published stays the newest here."""
    if store.rows("SELECT 1 FROM letter WHERE hub = ? AND seq = ?", hub, version):
        return
    new = notebook.fresh(_entry(name, text, author=author, project=project), now_ms=now_ms)

    def work(database: Database) -> None:
        before = database.all(f"SELECT m.id FROM memory m {_NEWEST}", name)
        if before and database.all("SELECT 1 FROM unsent WHERE memory = ?", before[0][0]):
            return
        entry = replace(new, supersedes=before[0][0] if before else None)
        note_sent(database, replace(entry, id=insert(database, entry)), hub=hub, seq=version)

    store.write(work)


def _entry(name: str, text: str, *, author: str, project: str) -> Entry:
    if name != " ".join(name.split()) or not 0 < len(name) <= ENTRY_NAME_CHARS_MAX:
        raise BadOption(f"a name is 1 to {ENTRY_NAME_CHARS_MAX} characters on one line, single spaces between words")
    return Entry(kind=Kind.CONTEXT, title=name, body=text, author=author, project=project)
