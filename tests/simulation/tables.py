"""What the database holds, read after every commit: the facts that everything else is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from orchestra.hub.store import Store
from orchestra.stage import READ
from orchestra.task import TaskState


class MessageRow(NamedTuple):
    seq: int
    sender: str
    epoch: bytes
    n: int
    to: str
    kind: int
    rank: int
    body: bytes


class TaskRow(NamedTuple):
    seq: int
    state: str
    attempt: int
    lease: int
    holder: str
    generation: int
    result_n: int | None


_MESSAGES = """
    SELECT m.seq, s.text, o.epoch, m.n, r.text, m.kind, m.rank, m.body FROM message m JOIN origin o ON o.id = m.origin
    JOIN address s ON s.id = o.peer JOIN address r ON r.id = m.recipient WHERE m.seq > ? ORDER BY m.seq
"""
_TASKS = """
    SELECT t.seq, t.state, t.attempt, t.lease, coalesce(h.text, ''), t.generation, t.result_n
    FROM task t LEFT JOIN address h ON h.id = t.holder
"""


@dataclass(slots=True)
class Tables:
    """Attributes:
    messages: by seq; `all` has those too that retention removed, and `last_seq` is the highest there ever was.
    bodies: body → the seq under which it was first stored.
    owed: (address, seq) of every delivery, with whether it was delivered and left unread; `owed_before` is how they
        were at the commit before this one.
    dead: (address, seq) → reason.
    resent: seq of a message that was sent again → the dead letter (address, seq) that it was made of.
    read: (address, seq) that a receipt says was read or dealt with.
    tasks: by seq; `before` is how they were at the commit before this one.
    ends: seq of a task → the states in which it ever ended.
    failed: (seq of a task, lease) → the number of the result of an attempt that failed, and was not the last.
    entries: channel → the seqs of all that it ever had, in order; `kept` are those that it has now.
    """

    messages: dict[int, MessageRow] = field(default_factory=dict)
    last_seq: int = 0
    all: dict[int, MessageRow] = field(default_factory=dict)
    bodies: dict[bytes, int] = field(default_factory=dict)
    owed: dict[tuple[str, int], bool] = field(default_factory=dict)
    owed_before: dict[tuple[str, int], bool] = field(default_factory=dict)
    dead: dict[tuple[str, int], str] = field(default_factory=dict)
    resent: dict[int, tuple[str, int]] = field(default_factory=dict)
    read: set[tuple[str, int]] = field(default_factory=set)
    tasks: dict[int, TaskRow] = field(default_factory=dict)
    ends: dict[int, set[str]] = field(default_factory=dict)
    failed: dict[tuple[int, int], int] = field(default_factory=dict)
    failed_before: dict[tuple[int, int], int] = field(default_factory=dict)
    before: dict[int, TaskRow] = field(default_factory=dict)
    entries: dict[str, list[int]] = field(default_factory=dict)
    kept: dict[str, list[int]] = field(default_factory=dict)

    def refresh(self, store: Store, *, is_all: bool = False) -> None:
        """Read what may have changed. The log only grows, so only its end is read, unless `is_all`."""
        if is_all:
            self.messages = {}
        last = 0 if is_all else self.last_seq
        for row in map(MessageRow._make, store.rows(_MESSAGES, last)):
            self.messages[row.seq] = row
            self.bodies.setdefault(row.body, row.seq)
            self.all.setdefault(row.seq, row)
            self.last_seq = max(self.last_seq, row.seq)
        self.owed_before = self.owed
        self.owed = {
            (text, seq): delivered_ms is not None
            for text, seq, delivered_ms in store.rows(
                "SELECT a.text, d.seq, d.delivered_ms FROM delivery d JOIN address a ON a.id = d.recipient"
            )
        }
        self.dead = {
            (text, seq): reason
            for text, seq, reason in store.rows(
                "SELECT a.text, d.seq, d.reason FROM dead d JOIN address a ON a.id = d.recipient"
            )
        }
        self.resent = {
            resent: (text, seq)
            for text, seq, resent in store.rows(
                "SELECT a.text, d.seq, d.resent_seq FROM dead d JOIN address a ON a.id = d.recipient "
                "WHERE d.resent_seq IS NOT NULL"
            )
        }
        self.before = self.tasks
        self.tasks = {row.seq: row for row in map(TaskRow._make, store.rows(_TASKS))}
        for task in self.tasks.values():
            if TaskState(task.state).is_over:
                self.ends.setdefault(task.seq, set()).add(task.state)
        self.failed_before = self.failed
        self.failed = {
            (seq, lease): n
            for seq, lease, n in store.rows("SELECT task, lease, result_n FROM attempt WHERE result_n IS NOT NULL")
        }
        self.read = {
            (text, seq)
            for text, first, last in store.rows(
                "SELECT a.text, r.first_seq, r.last_seq FROM receipt r JOIN address a ON a.id = r.recipient "
                f"WHERE r.stage >= {READ}"
            )
            for seq in range(first, last + 1)
        }
        self.kept = {}
        for text, seq in store.rows(
            "SELECT a.text, e.seq FROM entry e JOIN address a ON a.id = e.channel ORDER BY e.channel, e.seq"
        ):
            self.kept.setdefault(text, []).append(seq)
            entries = self.entries.setdefault(text, [])
            if not entries or seq > entries[-1]:
                entries.append(seq)
