"""The messages of a matrix, in its memory: what was sent and what came by any route, each once.

A message that came has the uid `hub:HUB:SEQ`, one that was sent here a random one, which is also its idempotency key at
the hub. The table `letter` says which memory the hub knows under which seq.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orchestra.errors import BadOption
from orchestra.limits import (
    LIST_ROWS_MAX,
    MEMORY_LIST_ROWS_MAX,
    MEMORY_NUMBER_MAX,
    MEMORY_TEXT_CHARS_MAX,
    MEMORY_TITLE_CHARS_MAX,
)
from orchestra.memory import notebook
from orchestra.memory.database import Database
from orchestra.memory.entry import Entry, one_line, shortened, storable
from orchestra.memory.models import Memory
from orchestra.memory.store import SELECTED, Store, entry_of_row, insert, update
from orchestra.memory.words import Kind

if TYPE_CHECKING:
    from orchestra.conversation import Message

_IS_RECEIVED: Final = "m.kind = 'message' AND m.forgotten_ms IS NULL AND (m.sender <> ? OR m.recipient = ?)"
_TAKEN: Final = (
    "INSERT INTO mailbox (hub, seq) VALUES (?, ?) ON CONFLICT (hub) DO UPDATE SET seq = max(seq, excluded.seq)"
)


def written(text: str, *, sender: str, to: str, project: str, thread: str = "", author: str = "", now_ms: int) -> Entry:
    """Return a message that is to be sent. Who wrote it has read it.

    Raises:
        BadOption: if there is no text.
    """
    title, body = _parts(text)
    if not title:
        raise BadOption("a message needs a text")
    return Entry(
        kind=Kind.MESSAGE,
        title=title,
        body=body,
        sender=sender,
        recipient=to,
        thread=thread,
        project=project,
        author=author,
        read_ms=now_ms,
    )


def fitting(text: str, rest: str) -> str:
    """Return any text as one that a memory can hold; where it is cut, `rest` says where the rest is."""
    text = text.strip() or "(empty)"
    end = f"\n(cut here; {rest})"
    return text if len(text) <= MEMORY_TEXT_CHARS_MAX else shortened(text, MEMORY_TEXT_CHARS_MAX - len(end)) + end


def text_of(entry: Entry) -> str:
    """Return the whole text of a message."""
    return entry.body or entry.title


def take_in(
    store: Store, messages: Iterable[Message], *, hub: str, me: str, project: str, up_to: int = 0, now_ms: int
) -> list[int]:
    """Store messages that came from a hub; return the ids of those that are new here.

    `up_to`: these, and those that were stored before, are all that wait up to this seq.
    """
    found = [(message, _entry_of(message, hub=hub, project=project, now_ms=now_ms)) for message in messages]

    def work(database: Database) -> list[int]:
        new = []
        for message, entry in found:
            known = database.all("SELECT memory FROM letter WHERE hub = ? AND seq = ?", hub, message.seq)
            if known:
                if message.sender == me:
                    _is_to_itself(database, known[0][0])
                continue
            same = database.all("SELECT id FROM memory WHERE uid = ?", entry.uid)  # it came with an import
            memory = same[0][0] if same else insert(database, entry)
            _add_letter(database, hub, message.seq, memory, is_told=False)
            if not same:
                new.append(memory)
        if up_to:
            database.all(_TAKEN, hub, up_to)
        return new

    return store.write(work) if found else []


def note_sent(database: Database, entry: Entry, *, hub: str, seq: int) -> None:
    """The hub knows a memory of this matrix as `seq`. Inside `Store.write`."""
    known = database.all("SELECT memory FROM letter WHERE hub = ? AND seq = ?", hub, seq)
    if not known:
        _add_letter(database, hub, seq, entry.id, is_told=True)
    elif known[0][0] != entry.id:  # to itself, and it came back before this was noted
        Memory.delete().where(Memory.id == known[0][0]).execute(database)
        database.all("UPDATE letter SET memory = ?, is_told = 1 WHERE hub = ? AND seq = ?", entry.id, hub, seq)
        _is_to_itself(database, entry.id)


def keep_sent(store: Store, entry: Entry, *, hub: str, seq: int, now_ms: int) -> None:
    """Store a message that was sent already by other ways than the outbox."""
    new = notebook.fresh(entry, now_ms=now_ms)

    def work(database: Database) -> None:
        if not database.all("SELECT 1 FROM letter WHERE hub = ? AND seq = ?", hub, seq):
            note_sent(database, replace(new, id=insert(database, new)), hub=hub, seq=seq)

    store.write(work)


def inbox(store: Store, *, me: str, only_unread: bool = False, with_sent: bool = False, limit: int) -> list[Entry]:
    """Return messages, the newest first: those that came, and with `with_sent` those that were sent."""
    where, values = ("m.kind = 'message' AND m.forgotten_ms IS NULL", ()) if with_sent else (_IS_RECEIVED, (me, me))
    if only_unread:
        where += " AND m.read_ms IS NULL"
    return store.entries(f"WHERE {where} ORDER BY m.created_ms DESC, m.id DESC LIMIT ?", *values, limit)


def look(store: Store, *, me: str, since_ms: int, limit: int) -> tuple[list[Entry], int]:
    """Return what came since then or is unread, the newest first, and how many are unread, shown or not.

    Both are read by one statement, because others write meanwhile.
    """
    unread = f"SELECT count(*) FROM memory m WHERE {_IS_RECEIVED} AND m.read_ms IS NULL"
    where = f"{_IS_RECEIVED} AND (m.read_ms IS NULL OR m.created_ms >= ?)"
    sql = f"SELECT {SELECTED}, ({unread}) FROM memory m WHERE {where} ORDER BY m.created_ms DESC, m.id DESC LIMIT ?"
    rows = store.rows(sql, me, me, me, me, since_ms, limit)
    return [entry_of_row(row[:-1]) for row in rows], int(rows[0][-1]) if rows else 0


def unread_count(store: Store) -> int:
    sql = "SELECT count(*) FROM memory WHERE kind = 'message' AND forgotten_ms IS NULL AND read_ms IS NULL"
    return int(store.rows(sql)[0][0])


def mark_read(store: Store, ids: Iterable[int], *, now_ms: int) -> list[Entry]:
    """Say that messages were read; return them as they were before.

    Raises:
        NotFound: if one is not there. BadOption: if one is no message.
    """
    entries = notebook.get(store, ids)
    for entry in entries:
        if entry.kind != Kind.MESSAGE:
            raise BadOption(f"#{entry.id} is a {entry.kind}, not a message; see: orchestra memory message --inbox")

    def work(database: Database) -> None:
        for entry in entries:
            if entry.read_ms is None:
                update(database, entry.id, read_ms=now_ms)

    if any(entry.read_ms is None for entry in entries):
        store.write(work)
    return entries


def clear(store: Store, *, me: str, now_ms: int) -> int:
    """Empty the inbox: what came is read and forgotten; return how many there were."""

    def work(database: Database) -> int:
        ids = [id for (id,) in database.all(f"SELECT m.id FROM memory m WHERE {_IS_RECEIVED}", me, me)]
        for id in ids:
            sql = "UPDATE memory SET read_ms = coalesce(read_ms, ?), forgotten_ms = ? WHERE id = ?"
            database.all(sql, now_ms, now_ms, id)
        return len(ids)

    return store.write(work)


def seq_of(store: Store, id: int, *, hub: str) -> int | None:
    """Return what a hub calls a message, or None if it does not know it."""
    rows = store.rows("SELECT seq FROM letter WHERE memory = ? AND hub = ?", id, hub)
    return int(rows[0][0]) if rows else None


# What the hub and this memory tell each other of reading.


def untold(store: Store, *, hub: str) -> list[int]:
    """Return the seqs of messages that were read, forgotten or removed here, which the hub does not know yet."""
    rows = store.rows(
        "SELECT l.seq FROM letter l LEFT JOIN memory m ON m.id = l.memory WHERE l.hub = ? AND l.is_told = 0 "
        "AND (m.id IS NULL OR m.read_ms IS NOT NULL OR m.forgotten_ms IS NOT NULL) ORDER BY l.seq LIMIT ?",
        hub,
        LIST_ROWS_MAX,
    )
    return [seq for (seq,) in rows]


def were_told(store: Store, seqs: list[int], *, hub: str) -> None:
    """The hub knows that these were read."""

    def work(database: Database) -> None:
        for seq in seqs:
            database.all("UPDATE letter SET is_told = 1 WHERE hub = ? AND seq = ?", hub, seq)

    store.write(work)


def unread_seqs(store: Store, *, hub: str) -> list[int]:
    """Return the newest of the messages of this hub that nobody has read here, the oldest of them first."""
    rows = store.rows(
        "SELECT l.seq FROM letter l JOIN memory m ON m.id = l.memory WHERE l.hub = ? AND l.is_told = 0 "
        "AND m.read_ms IS NULL AND m.forgotten_ms IS NULL ORDER BY l.seq DESC LIMIT ?",
        hub,
        MEMORY_LIST_ROWS_MAX,
    )
    return sorted(seq for (seq,) in rows)


def were_read_elsewhere(store: Store, seqs: list[int], *, hub: str, now_ms: int) -> None:
    """The hub says that these were read: by another program of this matrix."""

    def work(database: Database) -> None:
        for seq in seqs:
            sql = "UPDATE memory SET read_ms = ? WHERE read_ms IS NULL AND id = "
            database.all(f"{sql}(SELECT memory FROM letter WHERE hub = ? AND seq = ?)", now_ms, hub, seq)
            database.all("UPDATE letter SET is_told = 1 WHERE hub = ? AND seq = ?", hub, seq)

    store.write(work)


def taken_up_to(store: Store, *, hub: str) -> int:
    """Return the seq up to which all messages of this hub were taken in."""
    rows = store.rows("SELECT seq FROM mailbox WHERE hub = ?", hub)
    return int(rows[0][0]) if rows else 0


def _parts(text: str) -> tuple[str, str]:
    """Return the title of a text, and the whole of it where the title does not say it all."""
    whole = storable(text).strip()
    title = shortened(one_line(whole), MEMORY_TITLE_CHARS_MAX)
    return title, "" if title == whole else whole


def _entry_of(message: Message, *, hub: str, project: str, now_ms: int) -> Entry:
    text = "(sealed for a key that is not here)" if message.is_sealed else message.text
    rest = f"the hub has all {len(message.body)} bytes of message {message.seq}"
    title, body = _parts(fitting(text, rest))
    return Entry(
        kind=Kind.MESSAGE,
        uid=f"hub:{hub}:{message.seq}",
        title=title,
        body=body,
        sender=message.sender,
        recipient=message.to,
        thread=str(message.options.get("thread", "")),
        project=project,
        created_ms=min(message.time_ms, MEMORY_NUMBER_MAX),
        updated_ms=now_ms,
    ).checked()


def _add_letter(database: Database, hub: str, seq: int, memory: int, *, is_told: bool) -> None:
    sql = "INSERT INTO letter (hub, seq, memory, is_told) VALUES (?, ?, ?, ?)"
    database.all(sql, hub, seq, memory, int(is_told))


def _is_to_itself(database: Database, memory: int) -> None:
    """Let a message of this matrix to itself be unread, once: others of its processes are to see it."""
    if database.all("SELECT 1 FROM letter WHERE memory = ? AND is_told = 1", memory):
        database.all("UPDATE letter SET is_told = 0 WHERE memory = ?", memory)
        update(database, memory, read_ms=None)
