"""News: what was committed since the last look, as those who watch the feed are told of it. Pure.

Made from the rows of the commits, so nothing is told that a crash could take back, and the rules that made the rows
know nothing of it. Of each kind the newest are kept; of one task, or one peer, only how it stands now.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, TypeVar

from orchestra.job import title_of
from orchestra.limits import FEED_NEWS_MAX, FEED_TEXT_CHARS
from orchestra.stage import STAGES
from orchestra.wire import TASK

from . import presence
from .board import Board
from .hubstate import HubState
from .roster import Peer
from .turn import TaskRow, Writes
from .unpack import unpack

_HEAD_BYTES: Final = 1000  # of a body, from which its line is made
_TAIL_BYTES: Final = 4 * FEED_TEXT_CHARS  # of output: as many characters, whatever they are
_QUEUES_TOLD: Final = 16  # of one peer
_RUNNER_CHARS: Final = 32
OPTIONS_TOLD: Final = ("entry", "reply_to", "resend_of", "sealed")

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class News:
    """What is to be told next. `is_cut` says that there was more than is kept."""

    def __init__(self, state: HubState, board: Board) -> None:
        self._state = state
        self._board = board
        self.clear()

    def clear(self) -> None:
        self.is_cut = False
        self._sent: deque[dict[str, Any]] = deque()
        self._tasks: dict[int, TaskRow] = {}
        self._progress: dict[int, bytes] = {}
        self._receipts: deque[list[int]] = deque()
        self._dead: dict[tuple[int, int], dict[str, Any]] = {}
        self._peers: dict[str, Peer] = {}
        self._has_keys = False

    def __bool__(self) -> bool:
        kinds = (self._sent, self._tasks, self._progress, self._receipts, self._dead, self._peers, self._has_keys)
        return any(kinds)

    def take(self, writes: Writes) -> None:
        """Take in what was committed."""
        self._append(self._sent, [self._heading(row, writes) for row in writes.messages[-FEED_NEWS_MAX:]])
        self.is_cut |= len(writes.messages) > FEED_NEWS_MAX
        for seq, row in writes.tasks.items():
            self._put(self._tasks, seq, row)
        self._append(self._receipts, writes.receipts)
        texts = self._state.texts
        for seq, recipient, reason, at_ms in writes.dead:
            facts = {"seq": seq, "recipient": texts[recipient], "at_ms": at_ms, "reason": reason, "closed_by": ""}
            self._put(self._dead, (seq, recipient), facts)
        for (seq, recipient), (at_ms, by, resent_seq) in writes.dead_closed.items():
            facts = {"seq": seq, "recipient": texts[recipient], "at_ms": at_ms, "closed_by": texts[by]}
            self._put(self._dead, (seq, recipient), {**facts, "resent_seq": resent_seq or 0})
        self._has_keys |= bool(writes.audit)
        for seq in writes.revived:
            self._put(self._dead, (seq, 0), {"seq": seq, "recipient": "", "at_ms": 0, "closed_by": "task.retry"})

    def take_progress(self, seq: int, data: bytes) -> None:
        """A task put out `data`; the end of it is told."""
        tail = data[-_TAIL_BYTES:]
        if len(tail) < _TAIL_BYTES:
            tail = (self._progress.get(seq, b"") + tail)[-_TAIL_BYTES:]
        self._put(self._progress, seq, tail)

    def take_peer(self, peer: Peer) -> None:
        """`peer` came, went, or said that it is away."""
        self._put(self._peers, peer.text, peer)

    def tell(self) -> dict[str, Any]:
        """Return all of it by kind, and forget it."""
        told = {
            "is_cut": self.is_cut,
            "sent": list(self._sent),
            "tasks": [self._task(row) for row in self._tasks.values()],
            "progress": [{"seq": seq, "text": _tail(data)} for seq, data in self._progress.items()],
            "receipts": [self._receipt(run) for run in self._receipts],
            "dead": list(self._dead.values()),
            "peers": [told_of(peer) for peer in self._peers.values()],
            "keys": self._has_keys,
        }
        self.clear()
        return {name: value for name, value in told.items() if value}

    def _heading(self, row: tuple[Any, ...], writes: Writes) -> dict[str, Any]:
        seq, origin_id, _, recipient, kind, rank, sent_ms, packed, body = row
        origin = self._state.unsaved.get(origin_id) or writes.origins[origin_id]
        options = unpack(packed) or {}
        return {
            "seq": seq,
            "is_task": kind == TASK,
            "from": self._state.texts[origin.peer_id],
            "to": self._state.texts[recipient],
            "sent_ms": sent_ms,
            "rank": rank,
            "bytes": len(body),
            "text": line_of(kind, body, options),
            **{name: options[name] for name in OPTIONS_TOLD if name in options},
        }

    def _task(self, row: TaskRow) -> dict[str, Any]:
        task = self._board.tasks.get(row.seq)
        if task is not None:
            facts = task.facts()
            facts["question"] = str(facts.get("question", ""))[:FEED_TEXT_CHARS]
            facts["blockers"] = len(task.extras.blockers) if task.extras else 0
            return {**facts, "is_stopping": task.cancel_why is not None}
        report = unpack(row.report) or {}
        return {
            "seq": row.seq,
            "state": row.state,
            "attempt": row.attempt,
            "agent": self._state.texts[row.holder] if row.holder else "",
            "updated_ms": row.updated_ms,
            "text": str(report.get("text", ""))[:FEED_TEXT_CHARS],
        }

    def _receipt(self, run: list[int]) -> dict[str, Any]:
        recipient, stage, first_seq, last_seq, at_ms, *_ = run
        texts = self._state.texts
        told = {"recipient": texts[recipient], "stage": STAGES[stage], "at_ms": at_ms}
        return {**told, "first_seq": first_seq, "last_seq": last_seq}

    def _append(self, queue: deque[_Value], values: list[_Value]) -> None:
        queue.extend(values)
        while len(queue) > FEED_NEWS_MAX:
            queue.popleft()
            self.is_cut = True

    def _put(self, kept: dict[_Key, _Value], key: _Key, value: _Value) -> None:
        kept.pop(key, None)
        kept[key] = value
        if len(kept) > FEED_NEWS_MAX:
            del kept[next(iter(kept))]
            self.is_cut = True


def told_of(peer: Peer) -> dict[str, Any]:
    """Return where a peer stands, what it serves and with what, and what it has to do."""
    queues = {queue for session in peer.sessions for queue in session.queues}
    runners = {session.about["runner"][:_RUNNER_CHARS] for session in peer.sessions if "runner" in session.about}
    return {
        **presence.facts(peer),
        "generation": peer.generation,
        "queues": sorted(queues)[:_QUEUES_TOLD],
        "runners": sorted(runners)[:_QUEUES_TOLD],
        "load": load_of(peer),
    }


def load_of(peer: Peer) -> list[int]:
    """Return how many tasks a peer has, how many it takes at once, how many messages wait and are unread, and its place
    in `presence.WAKES`."""
    busy = sum(len(session.tasks) for session in peer.sessions)
    slots = sum(session.slots for session in peer.sessions)
    wake = presence.WAKES.index(presence.wake_of(peer))
    return [busy, slots, peer.mailbox.waiting, peer.mailbox.count, wake]


def line_of(kind: int, body: bytes, options: dict[str, Any]) -> str:
    """Return what a message says, or a task asks for, in one line; nothing of what is sealed."""
    if options.get("sealed"):
        return ""
    head = body[:_HEAD_BYTES]
    text = title_of(head) if kind == TASK else " ".join(head.decode("utf-8", "replace").split())
    return text[:FEED_TEXT_CHARS]


def _tail(data: bytes) -> str:
    return data.decode("utf-8", "replace")[-FEED_TEXT_CHARS:]
