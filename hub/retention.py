"""Retention: what is over is kept for a time and then removed, in slices that no turn notices.

It reads through the function it is given, and gives the rows to delete; nothing here writes. One *run* sweeps the
tables one after the other, each with a place of its own at which the next slice goes on, so that no query ever walks
a whole table. Kept are: what somebody is owed or has not read, tasks that are not over, dead letters for a time of
their own, and the newest entry of each name in a channel.

Where the database is larger than it may be, what is over goes before its time, the oldest first. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from orchestra.limits import (
    MIB,
    ORIGIN_KEPT_DAYS,
    RETENTION_FLOOR_S,
    RETENTION_REST_S,
    RETENTION_STEP_BYTES,
    RETENTION_STEP_ROWS,
)
from orchestra.task import OVER
from orchestra.wire import INT_MAX, TASK

from .channel import Channel

Rows = Callable[..., Generator[tuple[Any, ...], None, None]]
"""Reads the database: SQL and its parameters to rows."""

_DAY_MS: Final = 86_400_000
_OVER: Final = frozenset(state.value for state in OVER)
_REST_SHARE: Final = 9  # of ten parts of time, one is spent in runs at most
_ORIGIN_ROWS: Final = 64  # origins looked at in one slice
_ORIGIN_SEARCH_ROWS: Final = 64  # messages looked at to see whether an origin has any left; more: it stays

_LOG: Final = """
    SELECT m.seq, m.recipient, m.rank, m.kind, m.sent_ms, length(m.body) + coalesce(length(t.output), 0),
    t.state, t.updated_ms, e.seq, e.name, EXISTS (SELECT 1 FROM dead x WHERE x.seq = m.seq),
    EXISTS (SELECT 1 FROM delivery d WHERE d.recipient = m.recipient AND d.rank = m.rank AND d.seq = m.seq),
    (SELECT at_ms FROM receipt r WHERE r.recipient = m.recipient AND r.stage = 2 AND r.first_seq <= m.seq
     ORDER BY r.first_seq DESC LIMIT 1),
    (SELECT at_ms FROM receipt r WHERE r.recipient = m.recipient AND r.stage = 3 AND r.first_seq <= m.seq
     ORDER BY r.first_seq DESC LIMIT 1)
    FROM message m LEFT JOIN task t ON t.seq = m.seq LEFT JOIN entry e ON e.channel = m.recipient AND e.seq = m.seq
    WHERE m.seq > ? AND m.seq <= (SELECT saved_seq FROM hub) ORDER BY m.seq LIMIT ?
"""
_OWED: Final = "SELECT 1 FROM delivery WHERE recipient = ? AND rank = ? AND seq = ?"
_ENTRIES: Final = """
    SELECT e.seq, m.sent_ms, length(m.body) FROM entry e JOIN message m ON m.seq = e.seq
    WHERE e.channel = ? AND e.seq > ? AND e.name IS NULL AND e.seq <= (SELECT saved_seq FROM hub)
    ORDER BY e.seq LIMIT ?
"""
_DEAD: Final = """
    SELECT seq, recipient, at_ms, closed_ms FROM dead WHERE (seq, recipient) > (?, ?) ORDER BY seq, recipient LIMIT ?
"""
_RECEIPTS: Final = """
    SELECT recipient, stage, first_seq, at_ms,
    EXISTS (SELECT 1 FROM message WHERE seq BETWEEN first_seq AND last_seq) FROM receipt
    WHERE (recipient, stage, first_seq) > (?, ?, ?) ORDER BY recipient, stage, first_seq LIMIT ?
"""
_ORIGINS: Final = "SELECT id, peer, epoch, first_seq, last_seq, used_ms FROM origin WHERE id > ? ORDER BY id LIMIT ?"
_SENT: Final = """
    SELECT count(*), coalesce(max(origin = ?), 0) FROM
    (SELECT origin FROM message WHERE seq > ? AND seq <= ? LIMIT ?)
"""


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of what is over is kept.

    Attributes:
        days: finished tasks, messages that nobody is owed any more, their receipts, and entries of channels.
        dead_days: dead letters.
        channel_entries: of one channel; the oldest go first.
        mib: the size of the database above which what is over goes before its time, the oldest first.
    """

    days: int = 30
    dead_days: int = 90
    channel_entries: int = 100_000
    mib: int = 4096


@dataclass(slots=True)
class Removal:
    """Rows to delete in one transaction."""

    messages: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    """Seqs: all of a task goes, with what was asked."""
    entries: list[tuple[int, int]] = field(default_factory=list)
    """(channel, seq)."""
    dead: list[tuple[int, int]] = field(default_factory=list)
    """(seq, recipient)."""
    receipts: list[tuple[int, int, int]] = field(default_factory=list)
    """(recipient, stage, first seq)."""
    origins: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(id, peer, epoch)."""

    def counts(self) -> Counter[str]:
        """How many of each; names without any are left out."""
        return +Counter(
            messages=len(self.messages),
            tasks=len(self.tasks),
            entries=len(self.entries),
            dead=len(self.dead),
            receipts=len(self.receipts),
            origins=len(self.origins),
        )


@dataclass(frozen=True, slots=True)
class View:
    """What memory knows that a slice needs.

    Attributes:
        everyone: the id of the address `*`; 0 if nobody ever broadcast.
        owed: the ids of those to whom a broadcast may still be owed.
        channels: all of them.
        origins: the ids of those whose clients may still send.
    """

    everyone: int
    owed: Callable[[], list[int]]
    channels: Iterable[Channel]
    origins: Callable[[], set[int]]


class Retention:
    """Where the sweeps are. `ended` counts what the last run removed, once it is over; `total` all since the start."""

    def __init__(self, keep: Keep, rows: Rows, used_bytes: Callable[[], int]) -> None:
        """Args:
        rows: reads the database.
        used_bytes: how much of the file holds data.
        """
        self.total: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._keep = keep
        self._rows = rows
        self._used_bytes = used_bytes
        self._run: Counter[str] = Counter()
        self._began_ms = 0
        self._rest_until_ms = 0
        self._sweeps = (self._log, self._entries, self._dead, self._receipts, self._origins)
        self._sweep = 0
        self._place: tuple[int, ...] = ()

    @property
    def is_over_size(self) -> bool:
        return self._used_bytes() > self._keep.mib * MIB

    def step(self, view: View, *, now_ms: int, at_ms: int) -> Removal | None:
        """Return the next slice to remove; None while there is nothing to do until later.

        A slice may be empty: it looked at as many rows as it may. `removed` has to be told of it.
        """
        if at_ms < self._rest_until_ms:
            return None
        if self._sweep == 0 and not self._place:
            self._began_ms = at_ms
        removal = Removal()
        place = self._sweeps[self._sweep](view, removal, now_ms)
        if place is None:
            self._place = ()
            self._sweep = (self._sweep + 1) % len(self._sweeps)
            if self._sweep == 0:
                self.rest(at_ms)
        else:
            self._place = place
        return removal

    def removed(self, removal: Removal) -> None:
        """These rows are deleted."""
        counts = removal.counts()
        self.total += counts
        self._run += counts
        if self._sweep == 0 and not self._place:
            self.ended, self._run = self._run, Counter()

    def rest(self, at_ms: int) -> None:
        """Do nothing for a while: the longer the run took, the longer, since much that is kept is walked each time."""
        took_ms = at_ms - self._began_ms
        self._rest_until_ms = at_ms + max(int(RETENTION_REST_S * 1000), _REST_SHARE * took_ms)

    # The sweeps. Each returns the place where its next slice goes on, or None at its end.

    def _log(self, view: View, removal: Removal, now_ms: int) -> tuple[int, ...] | None:
        """Messages and tasks, with their entries in channels."""
        cutoff_ms = self._cutoff(now_ms, self._keep.days)
        (after,) = self._place or (0,)
        looked, size = 0, 0
        owed: list[int] | None = None
        with closing(self._rows(_LOG, after, RETENTION_STEP_ROWS)) as rows:
            for row in rows:
                seq, recipient, rank, kind, sent_ms, row_bytes, state, updated_ms, entry, name, is_dead, is_owed = row[
                    :12
                ]
                if cutoff_ms < sent_ms <= now_ms:
                    return None  # all that follow are younger still; a time in the future says nothing
                after = seq
                looked += 1
                if kind == TASK:
                    is_kept = state is not None and (state not in _OVER or updated_ms > cutoff_ms)
                else:  # the nearest receipts before it may be of others: then it stays a little longer
                    is_kept = is_owed or name is not None or max(row[12] or 0, row[13] or 0, sent_ms) > cutoff_ms
                if is_kept or is_dead:
                    continue
                if recipient == view.everyone:
                    owed = view.owed() if owed is None else owed
                    looked += len(owed)
                    if any(True for each in owed for _ in self._rows(_OWED, each, rank, seq)):
                        continue
                (removal.tasks if kind == TASK else removal.messages).append(seq)
                if entry is not None:
                    removal.entries.append((recipient, seq))
                size += row_bytes
                if size >= RETENTION_STEP_BYTES or looked >= RETENTION_STEP_ROWS:
                    return (after,)
        return (after,) if looked >= RETENTION_STEP_ROWS else None

    def _entries(self, view: View, removal: Removal, now_ms: int) -> tuple[int, ...] | None:
        """What is too much for a channel. The message itself stays for as long as its sender might repeat it."""
        done, after = self._place or (0, 0)
        channels = (each for each in view.channels if each.id >= done and each.count > self._keep.channel_entries)
        channel = min(channels, key=lambda each: each.id, default=None)
        if channel is None:
            return None
        after = after if channel.id == done else 0
        excess = min(channel.count - self._keep.channel_entries, RETENTION_STEP_ROWS)
        size = 0
        with closing(self._rows(_ENTRIES, channel.id, after, excess)) as rows:
            for seq, sent_ms, row_bytes in rows:
                removal.entries.append((channel.id, seq))
                if sent_ms <= now_ms - RETENTION_FLOOR_S * 1000:
                    removal.messages.append(seq)
                    size += row_bytes
                if size >= RETENTION_STEP_BYTES:
                    break
        if not removal.entries:  # the rest of it are the newest of their names
            return (channel.id + 1, 0)
        return (channel.id, removal.entries[-1][1])

    def _dead(self, view: View, removal: Removal, now_ms: int) -> tuple[int, ...] | None:
        """Dead letters; their messages go in a later run. One that was dropped or sent again is like any message."""
        cutoff_ms = self._cutoff(now_ms, self._keep.dead_days)
        closed_cutoff_ms = self._cutoff(now_ms, self._keep.days)
        place = self._place or (0, 0)
        looked = 0
        for seq, recipient, at_ms, closed_ms in self._rows(_DEAD, *place, RETENTION_STEP_ROWS):
            looked += 1
            place = (seq, recipient)
            if at_ms <= cutoff_ms or (closed_ms is not None and closed_ms <= closed_cutoff_ms):
                removal.dead.append(place)
        return place if looked == RETENTION_STEP_ROWS else None

    def _receipts(self, view: View, removal: Removal, now_ms: int) -> tuple[int, ...] | None:
        """Receipts of messages that are gone. Those of one recipient and stage are in the order of their time."""
        cutoff_ms = self._cutoff(now_ms, self._keep.days)
        place: tuple[int, ...] = self._place or (0, 0, 0)
        looked = 0
        with closing(self._rows(_RECEIPTS, *place, RETENTION_STEP_ROWS)) as rows:
            for recipient, stage, first_seq, at_ms, is_of_use in rows:
                looked += 1
                if cutoff_ms < at_ms <= now_ms:
                    return (recipient, stage, INT_MAX)  # go on with the next recipient or stage
                place = (recipient, stage, first_seq)
                if not is_of_use:
                    removal.receipts.append((recipient, stage, first_seq))
        return place if looked == RETENTION_STEP_ROWS else None

    def _origins(self, view: View, removal: Removal, now_ms: int) -> tuple[int, ...] | None:
        """Lives of clients that do not come back, and of whose sends nothing is left."""
        (after,) = self._place or (0,)
        busy = view.origins()
        looked = 0
        for number, peer, epoch, first_seq, last_seq, used_ms in list(self._rows(_ORIGINS, after, _ORIGIN_ROWS)):
            looked += 1
            after = number
            if number in busy or used_ms > now_ms - ORIGIN_KEPT_DAYS * _DAY_MS:
                continue
            [(found, is_used)] = self._rows(_SENT, number, first_seq, last_seq, _ORIGIN_SEARCH_ROWS)
            if not is_used and found < _ORIGIN_SEARCH_ROWS:
                removal.origins.append((number, peer, epoch))
        return (after,) if looked == _ORIGIN_ROWS else None

    def _cutoff(self, now_ms: int, days: int) -> int:
        """What was over by then may go."""
        if self.is_over_size:
            return now_ms - int(RETENTION_FLOOR_S * 1000)
        return now_ms - days * _DAY_MS
