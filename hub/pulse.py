"""The pulse of the hub: what happened in a second, how long it took, and what waits. Pure.

Latencies are in whole milliseconds, as the rows have them: from when a message was stored until its recipient
confirmed it, from when a task was stored until an agent had it, and until it was completed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import islice
from typing import Any, Final

from orchestra.limits import FEED_LOADS_MAX, FEED_NEWS_MAX, FEED_SAMPLES_MAX
from orchestra.stage import READ
from orchestra.task import TaskState
from orchestra.wire import TASK

from .board import Board
from .hubstate import HubState
from .news import load_of
from .turn import Writes

_COMMITS_KEPT: Final = 4096  # whose time of sending is remembered
_LINES_TOLD: Final = 100  # addresses that tasks wait for, the fullest
_COUNTED: Final = ("refused", "redelivered", "lost_leases")


class Pulse:
    """The second that is running."""

    def __init__(self, state: HubState, board: Board) -> None:
        self._state = state
        self._board = board
        self._sent_seqs: list[int] = []
        self._sent_ms: list[int] = []
        self._loads: dict[str, list[int]] = {}
        self._next_peer = 0
        self.begin(0)

    def begin(self, at_ms: int) -> None:
        """Begin a second at `at_ms` of the steady clock."""
        self.began_ms = at_ms
        self._counts: Counter[str] = Counter()
        self._samples: dict[str, list[int]] = {"delivery": [], "start": [], "task": []}
        self._before = {name: self._state.counts[name] for name in _COUNTED}

    def forget(self) -> None:
        """Nobody looks any more."""
        self._sent_seqs, self._sent_ms, self._loads, self._next_peer = [], [], {}, 0
        self.begin(0)

    def take(self, writes: Writes) -> None:
        """Count what was committed."""
        counts = self._counts
        if writes.messages:
            self._note_sent(writes.messages[0][0], writes.messages[0][6])
            tasks = sum(row[4] == TASK for row in writes.messages)
            counts["submitted"] += tasks
            counts["messages"] += len(writes.messages) - tasks
        for _, stage, first_seq, last_seq, at_ms, *_ in writes.receipts:
            counts["receipts"] += last_seq - first_seq + 1
            if stage != READ:  # that is how quick a person is
                self._sample("delivery", first_seq, at_ms)
        for seq, row in writes.tasks.items():
            state = TaskState(row.state)
            if state.is_over:
                counts[state.value] += 1
                if state is TaskState.COMPLETED:
                    self._sample("task", seq, row.updated_ms)
            elif state is TaskState.WORKING and row.attempt == 1 and row.began_ms == row.updated_ms:
                self._sample("start", seq, row.began_ms)
        counts["buried"] += len(writes.dead)

    def tell(self, at_ms: int) -> dict[str, Any]:
        """Return the second that ends at `at_ms`, and what waits now; begin the next."""
        sessions = self._state.roster.sessions.values()
        adrift = sum(len(tasks) for _, tasks in self._board.adrift.values())
        lines = sorted(self._board.lines().items(), key=lambda line: -line[1])
        told = {
            "span_ms": at_ms - self.began_ms,
            "counts": {**self._counts, **{name: self._state.counts[name] - self._before[name] for name in _COUNTED}},
            "latency_ms": {name: _quantiles(found) for name, found in self._samples.items() if found},
            "sessions": len(sessions),
            "open": len(self._board.tasks),
            "held": sum(len(session.tasks) for session in sessions) + adrift,
            "queued": sum(count for _, count in lines),
            "lines": dict(lines[:_LINES_TOLD]),
            "loads": self._changed_loads(),
        }
        self.begin(at_ms)
        return told

    def _note_sent(self, seq: int, sent_ms: int) -> None:
        self._sent_seqs.append(seq)
        self._sent_ms.append(sent_ms)
        if len(self._sent_seqs) > 2 * _COMMITS_KEPT:
            del self._sent_seqs[:_COMMITS_KEPT], self._sent_ms[:_COMMITS_KEPT]

    def _sample(self, name: str, seq: int, until_ms: int) -> None:
        place = bisect_right(self._sent_seqs, seq) - 1
        if place >= 0 and len(self._samples[name]) < FEED_SAMPLES_MAX:
            self._samples[name].append(max(0, until_ms - self._sent_ms[place]))

    def _changed_loads(self) -> dict[str, list[int]]:
        """Return the loads that changed, of as many peers as one second may look at; the others come next."""
        peers = self._state.roster.peers.values()
        if self._next_peer >= len(peers):
            self._next_peer = 0
        changed: dict[str, list[int]] = {}
        for peer in islice(peers, self._next_peer, self._next_peer + FEED_LOADS_MAX):
            load = load_of(peer)
            if self._loads.get(peer.text) != load:
                if len(changed) == FEED_NEWS_MAX:
                    break
                self._loads[peer.text] = changed[peer.text] = load
            self._next_peer += 1
        return changed


def _quantiles(found: list[int]) -> dict[str, int]:
    found.sort()
    last = len(found) - 1
    return {"count": len(found), "p50": found[last // 2], "p99": found[last * 99 // 100], "max": found[last]}
