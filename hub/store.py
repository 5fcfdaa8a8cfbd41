"""The store: one SQLite file, one connection that writes, one transaction per turn.

Everything takes and gives batches. The hot path is a few prepared statements through peewee's connection
(about 15 µs a row where a model's `create` takes 100); the rest of the package sees rows only as tuples.

One process holds the file: a lock file keeps a second hub out, and SQLite's exclusive mode everybody else, which also
saves the system calls that sharing would cost each commit (20 µs). SQLite before 3.51.3 can lose commits when two
connections write and checkpoint the same WAL (sqlite.org/wal.html#walresetbug), so there is never a second one.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple
from pathlib import Path
from typing import IO, Any, Final, Literal

from peewee import DatabaseError, PeeweeException, SqliteDatabase

from orchestra.audit import Entry
from orchestra.errors import Damaged, OrchestraError, StateFault, StorageFault, is_full
from orchestra.limits import FOLLOWER_BYTES_MAX, ORIGIN_KEPT_DAYS, RETENTION_STEP_PAGES
from orchestra.task import TaskState
from orchestra.terms import read_terms

from . import models, receipts
from .board import Extras, Task
from .channel import Channel, Newest
from .enrolment import Invite
from .migrations import migrate
from .retention import Removal
from .roster import Origin, Peer
from .snapshot import KnownPeer, Snapshot
from .tokens import Token
from .turn import Fetch, SentKey, Writes
from .unpack import unpack

Durability = Literal["full", "fast"]

_SYNCHRONOUS: Final = {"full": 2, "fast": 1}  # FULL survives a power cut, NORMAL any crash of a process
_CACHE_KIB: Final = 64 * 1024
_FREE_SHARE: Final = 10  # one page in so many may be unused: new rows fill it
_TASK_TABLES: Final = (("task", "seq"), ("attempt", "task"), ("checkpoint", "task"))

_MESSAGE: Final = "INSERT INTO message VALUES (?,?,?,?,?,?,?,?,?)"
_DELIVERY: Final = "INSERT INTO delivery VALUES (?,?,?,0,NULL)"
_SETTLED: Final = "DELETE FROM delivery WHERE recipient=? AND rank=? AND seq=?"
_ATTEMPT: Final = "UPDATE delivery SET attempt=? WHERE recipient=? AND rank=? AND seq=?"
_SEND_KEY: Final = "INSERT INTO send_key VALUES (?,?,?,?)"
_SENT_UNDER: Final = """
    SELECT k.seq, k.at_ms, m.kind, r.text FROM send_key k JOIN message m ON m.seq = k.seq
    JOIN address r ON r.id = m.recipient WHERE k.peer = ? AND k.key = ?
"""
_REPLY: Final = "INSERT INTO reply VALUES (?,?)"
_EXPIRY: Final = "INSERT INTO expiry VALUES (?,?,?)"
_EXPIRED: Final = "DELETE FROM expiry WHERE at_ms=? AND seq=? AND recipient=?"
_DELIVERED: Final = "UPDATE delivery SET delivered_ms=? WHERE recipient=? AND rank=? AND seq=?"
_RECEIPT: Final = (
    "INSERT INTO receipt VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET last_seq=max(last_seq, excluded.last_seq)"
)
_FAILED_DELIVERY: Final = "INSERT OR REPLACE INTO failed_delivery VALUES (?,?,?,?,?,?,?)"  # a crash counts anew
_ORIGIN: Final = (
    "INSERT INTO origin VALUES (?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE "
    "SET last_n=excluded.last_n, last_seq=excluded.last_seq, used_ms=excluded.used_ms"
)
_TASK: Final = f"INSERT OR REPLACE INTO task VALUES ({','.join('?' * 17)})"
_TASK_ATTEMPT: Final = f"INSERT OR REPLACE INTO attempt VALUES ({','.join('?' * 13)})"
_LATE: Final = """
    UPDATE attempt SET late_ms=?, late_outcome=?
    WHERE task=? AND lease=? AND holder=? AND result_n IS NULL AND late_ms IS NULL
"""
_CHECKPOINT: Final = "INSERT OR REPLACE INTO checkpoint VALUES (?,?,?,?)"
_NO_CHECKPOINT: Final = "DELETE FROM checkpoint WHERE task=?"
_REVIVED: Final = "DELETE FROM dead WHERE seq=?"
_CHANNEL: Final = "INSERT INTO channel VALUES (?,?,?,?,0)"
_ENTRY: Final = "INSERT INTO entry VALUES (?,?,?)"
_OVERWRITTEN: Final = "DELETE FROM entry WHERE channel=? AND seq=?"
_CURSOR: Final = "INSERT INTO cursor VALUES (?,?,?,?,?)"
_SEEN: Final = "UPDATE cursor SET seq=?, updated_ms=? WHERE peer=? AND channel=? AND name=?"
_FORGOTTEN: Final = "DELETE FROM cursor WHERE peer=? AND channel=? AND name=?"
_DEAD: Final = "INSERT OR IGNORE INTO dead VALUES (?,?,?,?,NULL,NULL,NULL)"
_DEAD_CLOSED: Final = "UPDATE dead SET closed_ms=?, closed_by=?, resent_seq=? WHERE seq=? AND recipient=?"
_ADDRESS: Final = "INSERT INTO address VALUES (?,?)"
_PEER: Final = "INSERT OR REPLACE INTO peer VALUES (?,?,?,?,?,?,?,?)"
_KEY: Final = "INSERT OR IGNORE INTO key VALUES (?,?,?,NULL)"
_KEY_END: Final = "UPDATE key SET until_ms=? WHERE public=?"
_REVOKED: Final = "DELETE FROM key WHERE public=?"
_INVITE: Final = "INSERT OR REPLACE INTO invite VALUES (?,?,?,?,?,?,?)"
_ISSUED: Final = "INSERT OR REPLACE INTO token VALUES (?,?,?,?,?,?,?)"
_ISSUED_OVER: Final = "DELETE FROM token WHERE id=?"
_FLOOR: Final = "INSERT OR REPLACE INTO token_floor VALUES (?,?)"
_AUDIT: Final = "INSERT INTO audit VALUES (?,?,?,?,?,?,?)"
_INVITE_OVER: Final = "DELETE FROM invite WHERE public=?"

_LETTERS: Final = """
    SELECT m.seq, d.rank, d.attempt, s.text, r.text, m.sent_ms, m.options, m.body
    FROM delivery d JOIN message m ON m.seq = d.seq JOIN origin o ON o.id = m.origin
    JOIN address s ON s.id = o.peer JOIN address r ON r.id = m.recipient
    WHERE d.recipient = ? AND (d.rank, d.seq) > (?, ?) AND d.delivered_ms IS NULL ORDER BY d.rank, d.seq LIMIT ?
"""
_ENTRIES: Final = """
    SELECT m.seq, m.rank, 0, s.text, r.text, m.sent_ms, m.options, m.body
    FROM entry e JOIN message m ON m.seq = e.seq JOIN origin o ON o.id = m.origin
    JOIN address s ON s.id = o.peer JOIN address r ON r.id = m.recipient
    WHERE e.channel = ? AND e.seq > ? ORDER BY e.seq LIMIT ?
"""
_CHANNELS: Final = """
    SELECT c.id, a.text, c.mode, c.made_by, c.made_ms, c.trimmed_seq, coalesce(e.last_seq, 0), coalesce(e.count, 0)
    FROM channel c JOIN address a ON a.id = c.id LEFT JOIN
    (SELECT channel, max(seq) AS last_seq, count(*) AS count FROM entry GROUP BY channel) e ON e.channel = c.id
"""
_NEWEST: Final = """
    SELECT e.channel, e.name, e.seq, s.text FROM entry e JOIN message m ON m.seq = e.seq
    JOIN origin o ON o.id = m.origin JOIN address s ON s.id = o.peer WHERE e.name IS NOT NULL
"""
_ORIGINS: Final = """
    SELECT id, peer, epoch, last_n, first_seq, last_seq FROM origin
    WHERE used_ms > ? OR id IN (SELECT origin FROM message WHERE seq > (SELECT saved_seq FROM hub))
"""
_SENT_SINCE: Final = """
    SELECT origin, max(n), max(seq) FROM message WHERE seq > (SELECT saved_seq FROM hub) GROUP BY origin
"""
_TASKS: Final = """
    SELECT t.seq, t.rank, s.text, r.text, t.recipient, m.sent_ms, m.options, m.body, t.state, t.extras, c.data,
           t.attempt, t.losses, t.lease, t.holder, t.generation, t.session, t.began_ms, t.updated_ms, t.cancel_why
    FROM task t JOIN message m ON m.seq = t.seq JOIN origin o ON o.id = m.origin
    JOIN address s ON s.id = o.peer JOIN address r ON r.id = t.recipient LEFT JOIN checkpoint c ON c.task = t.seq
"""
_OPEN: Final = ", ".join(f"'{state}'" for state in TaskState if not state.is_over)
_OPEN_TASKS: Final = f"{_TASKS} WHERE t.seq >= (SELECT open_seq FROM hub) AND t.state IN ({_OPEN}) ORDER BY t.seq"
_TASK_ENDS: Final = """
    SELECT t.seq, t.state, s.text FROM task t JOIN message m ON m.seq = t.seq
    JOIN origin o ON o.id = m.origin JOIN address s ON s.id = o.peer WHERE t.seq
"""


class Store:
    """The hub's database. Use from one thread; `close` when done.

    Raises (all methods):
        StorageFault: if the disk is full, read-only or damaged; nothing of the batch was written.
    """

    def __init__(self, path: Path, *, durability: Durability = "full") -> None:
        """Open or make the file, and lock it.

        Raises:
            StateFault: if another hub has it, or a newer version wrote it.
        """
        self._lock = _lock(path.with_suffix(".lock"))
        try:
            with _told(path):
                self.database = SqliteDatabase(
                    str(path),
                    pragmas={
                        "locking_mode": "exclusive",
                        "auto_vacuum": 2,
                        "journal_mode": "wal",
                        "synchronous": _SYNCHRONOUS[durability],
                        "cache_size": -_CACHE_KIB,
                        "temp_store": 2,
                        "busy_timeout": 0,
                    },
                    isolation_level=None,
                    timeout=0,
                )
                models.database.initialize(self.database)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
                self.database.connect()
                migrate(self.database)
        except OrchestraError:
            self.database.close()
            self._lock.close()
            raise
        self._path = path
        self._connection: sqlite3.Connection = self.database.connection()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the file; the WAL is folded in."""
        self.database.close()
        self._lock.close()

    def count_boot(self) -> int:
        """Count this start of the hub, and return how many there were."""
        with _told(self._path), self.database.atomic("IMMEDIATE"):
            self._all("UPDATE hub SET boot = boot + 1")
            return int(self._all("SELECT boot FROM hub")[0][0])

    def load(self, *, now_ms: int) -> Snapshot:
        """Return what the decider must know. Reads only, so that it works on a full disk."""
        with _told(self._path), self.database.atomic():
            origins, unsaved = self._origins(now_ms)
            return Snapshot(
                # The newest rows may have been removed, and their numbers must not come again.
                last_seq=self._all("SELECT max(saved_seq, (SELECT coalesce(max(seq), 0) FROM message)) FROM hub")[0][0],
                addresses=dict(self._all("SELECT id, text FROM address")),
                peers={row[0]: _known(row, now_ms) for row in self._all("SELECT * FROM peer")},
                origins=origins,
                unsaved=unsaved,
                last_origin=self._all("SELECT coalesce(max(id), 0) FROM origin")[0][0],
                unread={
                    row[0]: (row[1], row[2])
                    for row in self._all(
                        "SELECT recipient, count(*), count(delivered_ms) FROM delivery GROUP BY recipient"
                    )
                },
                tasks=[_task(row) for row in self._all(_OPEN_TASKS)],
                channels=self._channels(),
                cursors={row[:3]: row[3] for row in self._all("SELECT * FROM cursor")},
                keys=dict(self._all("SELECT k.public, a.text FROM key k JOIN address a ON a.id = k.peer")),
                key_ends=dict(self._all("SELECT public, until_ms FROM key WHERE until_ms IS NOT NULL")),
                audit=next((Entry(*row) for row in self._all("SELECT * FROM audit ORDER BY n DESC LIMIT 1")), None),
                next_key=self._all("SELECT next_key, next_key_ms FROM hub")[0],
                hub_uid=self._all("SELECT uid FROM hub")[0][0],
                tokens=[Token(*row) for row in self._all("SELECT * FROM token")],
                token_floors=dict(self._all("SELECT peer, before_ms FROM token_floor")),
                invites=[Invite(*row) for row in self._all("SELECT * FROM invite")],
            )

    def _origins(self, now_ms: int) -> tuple[list[Origin], list[Origin]]:
        """Return the origins, brought up to date from the messages that came since they were saved, and which were."""
        rows = self._all(_ORIGINS, now_ms - ORIGIN_KEPT_DAYS * 86_400_000)
        origins = {row[0]: Origin(*row) for row in rows}
        unsaved = []
        for number, last_n, last_seq in self._all(_SENT_SINCE):
            origins[number].last_n, origins[number].last_seq = last_n, last_seq
            unsaved.append(origins[number])
        return list(origins.values()), unsaved

    def _channels(self) -> list[Channel]:
        """Return the channels, with the newest entry of each name."""
        channels = {row[0]: Channel(*row) for row in self._all(_CHANNELS)}
        for number, name, seq, sender in self._all(_NEWEST):
            channels[number].newest[name] = Newest(seq, sender)
        return list(channels.values())

    def commit(self, writes: Writes, *, now_ms: int) -> None:
        """Write one turn: all of it or nothing."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                many = connection.executemany
                if writes.addresses:
                    many(_ADDRESS, writes.addresses)
                if writes.peers:
                    many(_PEER, [_peer_row(peer) for peer in writes.peers.values()])
                if writes.keys:
                    many(_KEY, writes.keys)
                if writes.key_ends:
                    many(_KEY_END, [(until_ms, public) for public, until_ms in writes.key_ends.items()])
                if writes.revoked:
                    many(_REVOKED, [(public,) for public in writes.revoked])
                if writes.audit:
                    many(_AUDIT, [astuple(each) for each in writes.audit])
                if writes.invites:
                    many(_INVITE, [astuple(each) for each in writes.invites.values() if each is not None])
                    many(_INVITE_OVER, [(public,) for public, each in writes.invites.items() if each is None])
                if writes.tokens:
                    many(_ISSUED, [astuple(each) for each in writes.tokens.values() if each is not None])
                    many(_ISSUED_OVER, [(name,) for name, each in writes.tokens.items() if each is None])
                if writes.next_key is not None:
                    connection.execute("UPDATE hub SET next_key = ?, next_key_ms = ?", writes.next_key)
                if writes.token_floors:
                    many(_FLOOR, writes.token_floors.items())
                if writes.origins:
                    many(
                        _ORIGIN,
                        [
                            (o.id, o.peer_id, o.epoch, o.last_n, o.first_seq, o.last_seq, now_ms)
                            for o in writes.origins.values()
                        ],
                    )
                if writes.saved:
                    connection.execute("UPDATE hub SET saved_seq = ?, open_seq = ?", writes.saved)
                if writes.messages:
                    many(_MESSAGE, writes.messages)
                if writes.send_keys:
                    many(_SEND_KEY, [(*key, sent.seq, sent.at_ms) for key, sent in writes.send_keys.items()])
                if writes.replies:
                    many(_REPLY, writes.replies)
                if writes.expiries:
                    many(_EXPIRY, writes.expiries)
                if writes.expired:
                    many(_EXPIRED, writes.expired)
                if writes.deliveries:
                    many(_DELIVERY, writes.deliveries)
                if writes.attempts:
                    many(_ATTEMPT, writes.attempts)
                if writes.delivered:
                    many(_DELIVERED, writes.delivered)
                if writes.failed_deliveries:
                    many(_FAILED_DELIVERY, writes.failed_deliveries)
                if writes.receipts:
                    many(_RECEIPT, writes.receipts)
                if writes.settled:
                    many(_SETTLED, writes.settled)
                if writes.channels:
                    many(_CHANNEL, writes.channels)
                if writes.entries:
                    many(_ENTRY, writes.entries)
                if writes.overwritten:
                    many(_OVERWRITTEN, writes.overwritten)
                if writes.forgotten:
                    many(_FORGOTTEN, writes.forgotten)
                if writes.cursors:
                    many(_CURSOR, [(*key, *place) for key, place in writes.cursors.items()])
                if writes.seen:
                    many(_SEEN, [(*place, *key) for key, place in writes.seen.items()])
                if writes.tasks:
                    many(_TASK, writes.tasks.values())
                if writes.task_attempts:
                    many(_TASK_ATTEMPT, writes.task_attempts)
                if writes.late_results:
                    many(_LATE, writes.late_results)
                if writes.checkpoints:
                    many(_CHECKPOINT, [row for row in writes.checkpoints.values() if row is not None])
                    many(_NO_CHECKPOINT, [(seq,) for seq, row in writes.checkpoints.items() if row is None])
                if writes.revived:
                    many(_REVIVED, [(seq,) for seq in writes.revived])
                if writes.dead:
                    many(_DEAD, writes.dead)
                if writes.dead_closed:
                    many(_DEAD_CLOSED, [(*how, *which) for which, how in writes.dead_closed.items()])
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except _FAULTS as exc:
            raise _told_fault(self._path, exc) from exc

    def remove(self, removal: Removal) -> None:
        """Delete one slice of what is over: all of it or nothing."""
        with _told(self._path), self.database.atomic("IMMEDIATE"):
            many = self._connection.executemany
            gone = [(seq,) for seq in (*removal.messages, *removal.tasks)]
            for table in ("message", "failed_delivery", "send_key", "reply"):
                many(f"DELETE FROM {table} WHERE seq = ?", gone)
            for table, column in _TASK_TABLES:
                many(f"DELETE FROM {table} WHERE {column} = ?", [(seq,) for seq in removal.tasks])
            many("DELETE FROM entry WHERE channel = ? AND seq = ?", removal.entries)
            many("UPDATE channel SET trimmed_seq = max(trimmed_seq, ?2) WHERE id = ?1", removal.entries)
            many("DELETE FROM dead WHERE seq = ? AND recipient = ?", removal.dead)
            many("DELETE FROM receipt WHERE recipient = ? AND stage = ? AND first_seq = ?", removal.receipts)
            many("DELETE FROM origin WHERE id = ?", [(number,) for number, _, _ in removal.origins])
            self._all("UPDATE hub SET removed = removed + ?", len(removal.messages) + len(removal.tasks))

    def shrink(self) -> bool:
        """Give a few unused pages back to the file system; False if there are too few to care."""
        with _told(self._path):
            pages, free = self._all("SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count")[
                0
            ]
            if free <= max(RETENTION_STEP_PAGES, pages // _FREE_SHARE):
                return False
            self._all(f"PRAGMA incremental_vacuum({RETENTION_STEP_PAGES})")
            return True

    def used_bytes(self) -> int:
        """Return how much of the file holds data; what was removed and not written over does not count."""
        sql = """
            SELECT (page_count - freelist_count) * page_size
            FROM pragma_page_count, pragma_freelist_count, pragma_page_size
        """
        with _told(self._path):
            return int(self._all(sql)[0][0])

    def fetch(self, fetch: Fetch) -> list[Any]:
        """Return the rows a `Fetch` asks for, in order."""
        with _told(self._path):
            if fetch.what == "mail":
                return [receipts.mail(self.rows, fetch.recipient, seq) for seq in fetch.params["seqs"]]
            if fetch.what == "watch":
                return [found for seq in fetch.params["seqs"] if (found := receipts.message(self.rows, seq))]
            if fetch.what == "expired":
                return [
                    (at_ms, recipient, receipts.mail(self.rows, recipient, seq))
                    for at_ms, seq, recipient in self._all(
                        "SELECT * FROM expiry ORDER BY at_ms LIMIT ?", fetch.rows_max
                    )
                ]
            if fetch.what == "dead":
                return [receipts.dead_letter(self.rows, seq) for seq in fetch.params["seqs"]]
            if fetch.what == "mailbox":
                rows = self._all(_LETTERS, fetch.recipient, *fetch.after, fetch.rows_max)
            else:
                rows = self._page(_ENTRIES, fetch.recipient, fetch.after[1], fetch.rows_max)
            return [(*row[:6], unpack(row[6]), row[7]) for row in rows]

    def _page(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Return rows until their last columns, the bodies, are as much as one follower may have on its way."""
        rows: list[tuple[Any, ...]] = []
        size = 0
        with closing(self._connection.execute(sql, params)) as cursor:
            for row in cursor:
                rows.append(row)
                size += len(row[-1])
                if size >= FOLLOWER_BYTES_MAX:
                    break
        return rows

    def task(self, seq: int) -> tuple[Task, dict[str, Any], int | None] | None:
        """Return a task as it was committed, with the report and the number of its result."""
        with _told(self._path):
            for row in self._all(f"{_TASKS} WHERE t.seq = ?", seq):
                [(report, result_n)] = self._all("SELECT report, result_n FROM task WHERE seq = ?", seq)
                return _task(row), unpack(report) or {}, result_n
        return None

    def message(self, seq: int) -> dict[str, Any] | None:
        """Return a message or task as it was committed, with where it is for each recipient."""
        with _told(self._path):
            return receipts.message(self.rows, seq)

    def heading(self, seq: int, reader: int) -> dict[str, Any] | None:
        """Return who wrote a message or task to whom, and whether it is for `reader`."""
        with _told(self._path):
            return receipts.heading(self.rows, seq, reader)

    def sent_under(self, peer: int, key: str) -> SentKey | None:
        """Return what `peer` sent under an idempotency key."""
        with _told(self._path):
            rows = self._all(_SENT_UNDER, peer, key)
        return SentKey(*rows[0]) if rows else None

    def task_ends(self, seqs: Iterable[int]) -> dict[int, tuple[TaskState, str]]:
        """Return the state and the sender of each of these that is a task, as they were committed."""
        wanted = list(seqs)
        with _told(self._path):
            rows = self._all(f"{_TASK_ENDS} IN ({','.join('?' * len(wanted))})", *wanted)
        return {seq: (TaskState(state), sender) for seq, state, sender in rows}

    def sizes(self) -> dict[str, int]:
        """Return the bytes of the database file, of the data in it, and of its WAL."""
        return {
            "database_bytes": self._path.stat().st_size,
            "used_bytes": self.used_bytes(),
            "wal_bytes": wal.stat().st_size if (wal := Path(f"{self._path}-wal")).exists() else 0,
        }

    def rows(self, sql: str, *params: Any) -> Generator[tuple[Any, ...], None, None]:
        """Give the rows of a read, one at a time."""
        with _told(self._path):
            yield from self._connection.execute(sql, params)

    def _all(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(sql, params))


def _peer_row(peer: Peer) -> tuple[Any, ...]:
    is_connected = bool(peer.sessions) if peer.since_ms else None
    grants = None if peer.grants is None else " ".join(peer.grants)
    return peer.id, peer.generation, peer.epoch, peer.seen_ms, is_connected, peer.away_ms, peer.away_text, grants


def _known(row: tuple[Any, ...], now_ms: int) -> KnownPeer:
    _, generation, epoch, seen_ms, is_connected, away_ms, away_text, grants = row
    # Who was connected when the hub ended is gone since, as far as this hub can tell, it started.
    since_ms = now_ms if is_connected else 0 if is_connected is None else seen_ms
    given = None if grants is None else tuple(grants.split())
    return KnownPeer(generation, epoch, seen_ms, since_ms, away_ms, away_text, given)


def _task(row: Iterable[Any]) -> Task:
    seq, rank, sender, to, recipient, sent_ms, options, body, state, extras, checkpoint, *rest = row
    task = Task(seq, rank, sender, to, recipient, sent_ms, unpack(options), body, TaskState(state))
    (
        task.attempt,
        task.losses,
        task.lease,
        task.holder,
        task.generation,
        task.session,
        task.began_ms,
        task.updated_ms,
        task.cancel_why,
    ) = rest
    if extras is not None or checkpoint is not None:
        task.extras = Extras(terms=read_terms(task.options or {}), checkpoint=checkpoint)
        task.extras.read(unpack(extras) or {})
    return task


def _lock(path: Path) -> IO[str]:
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as exc:
        if is_full(exc):
            raise _told_fault(path, exc) from exc
        raise StateFault(f"{path} can't be written: {exc.strerror}; choose another folder with --state") from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.seek(0)
        pid = file.read().strip() or "unknown"
        file.close()
        raise StateFault(
            f"a hub is running with this state folder (process {pid}); use it, or choose another with --state"
        ) from exc
    with suppress(OSError):  # on a full disk the lock holds all the same, and the database tells of it
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
    return file


_FAULTS: Final = (sqlite3.Error, PeeweeException, DatabaseError, OSError)
_ADVICE: Final = (
    ("full", "the disk is full; free some space, the hub goes on by itself"),
    ("no space left", "free some space"),
    ("quota", "free some space"),
    ("readonly", "the file can't be written; check its owner and the file system"),
    ("read-only file system", "the file can't be written; mount it writable, or choose another folder with --state"),
    ("permission denied", "the file can't be written; check its owner and its mode"),
    ("unable to open", "the file can't be opened; check its owner and the folder's"),
    ("malformed", "the file is damaged; restore a backup, or move it away to start empty"),
    ("not a database", "the file is no database; move it away to start empty"),
    ("locked", "another program holds the file; close it"),
)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into a StorageFault with advice."""
    try:
        yield
    except _FAULTS as exc:
        raise _told_fault(path, exc) from exc


def _told_fault(path: Path, exc: Exception) -> StorageFault:
    text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    advice = next((advice for word, advice in _ADVICE if word in text.lower()), "see the operations guide")
    fault = Damaged if any(word in text.lower() for word in ("malformed", "not a database")) else StorageFault
    return fault(f"database {path}: {text}; {advice}")
