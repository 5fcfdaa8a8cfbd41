"""The board: every unfinished task, who may take it and who holds it. Pure.

A task waits in the line of its address (an agent or a queue). A session takes from its own line and from those of the
queues it serves: the most urgent first, then the oldest. Among several free agents the one that has waited longest
gets it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestra.limits import TASKS_OPEN_BYTES_MAX, TASKS_OPEN_MAX
from orchestra.task import NEXT, TaskState
from orchestra.wire import DELIVER, TASK, Record

from .turn import Link, TaskRow

if TYPE_CHECKING:
    from .roster import Session


@dataclass(slots=True, eq=False)
class Task:
    """One unfinished task. `holder` is the id of the agent that works on it, `lease` the number of its delivery."""

    seq: int
    rank: int
    sender: str
    to: str
    recipient: int
    time_ms: int
    options: dict[str, object] | None
    body: bytes
    state: TaskState = TaskState.QUEUED
    attempt: int = 0
    losses: int = 0
    lease: int = 0
    holder: int | None = None
    generation: int = 0
    holder_text: str = ""
    updated_ms: int = 0
    cancel_why: str | None = None
    watchers: set[Link] = field(default_factory=set)

    def move(self, state: TaskState, *, now_ms: int) -> None:
        """Change the state; the table in `orchestra.task` says what may follow what."""
        assert state in NEXT[self.state], f"task {self.seq} can't go from {self.state} to {state}"
        self.state = state
        self.updated_ms = now_ms

    def row(self, *, result_n: int | None = None, report: bytes | None = None, output: bytes = b"") -> TaskRow:
        return TaskRow(
            self.seq,
            self.recipient,
            self.rank,
            self.state.value,
            self.attempt,
            self.losses,
            self.lease,
            self.holder,
            self.generation,
            self.cancel_why,
            self.updated_ms,
            result_n,
            report,
            output if self.state.is_over else None,
        )

    def record(self) -> Record:
        return [
            DELIVER,
            self.lease,
            self.attempt,
            self.seq,
            self.sender,
            self.to,
            TASK,
            self.time_ms,
            self.options,
            self.body,
        ]

    def facts(self) -> dict[str, object]:
        """What watchers and `task list` are told."""
        return {
            "seq": self.seq,
            "state": self.state.value,
            "attempt": self.attempt,
            "agent": self.holder_text,
            "updated_ms": self.updated_ms,
        }


class _Line:
    """The tasks that wait for one address, and the sessions that could take one now, the longest idle first."""

    __slots__ = ("canceled", "free", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, Task]] = []
        self.canceled = 0  # how many of the heap are over, at least
        self.free: dict[Session, None] = {}

    def drop_one(self) -> None:
        """One of the heap is over. It goes when it comes to the top, or when half of the heap is such."""
        self.canceled += 1
        if self.canceled > 64 and self.canceled > len(self.heap) // 2:
            self.heap = [entry for entry in self.heap if entry[2].state is TaskState.QUEUED]
            heapq.heapify(self.heap)
            self.canceled = 0

    def head(self) -> tuple[int, int, Task] | None:
        """Return the next task; those that were canceled meanwhile are dropped here."""
        while self.heap:
            if self.heap[0][2].state is TaskState.QUEUED:
                return self.heap[0]
            heapq.heappop(self.heap)
        return None


class Board:
    """Every unfinished task."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.bytes = 0
        self.adrift: dict[int, tuple[int, dict[int, Task]]] = {}
        """Agent id → (until when, tasks): its session is lost, and it may still come back for them."""
        self._lines: dict[str, _Line] = {}
        self._dirty: set[str] = set()

    @property
    def is_full(self) -> bool:
        return len(self.tasks) >= TASKS_OPEN_MAX or self.bytes >= TASKS_OPEN_BYTES_MAX

    def first_seq(self, *, default: int) -> int:
        """Return the lowest seq of an unfinished task. They were added in the order of their seqs."""
        return next(iter(self.tasks), default)

    def add(self, task: Task) -> None:
        """Take in a new task, or one that was loaded; a queued one waits at once."""
        self.tasks[task.seq] = task
        self.bytes += len(task.body)
        if task.state is TaskState.QUEUED:
            self._wait(task)

    def requeue(self, task: Task, *, now_ms: int) -> None:
        """Let a task that was being worked on wait again, at its old place."""
        task.move(TaskState.QUEUED, now_ms=now_ms)
        task.holder, task.holder_text, task.lease, task.generation = None, "", 0, 0
        self._wait(task)

    def close(self, task: Task) -> None:
        """Forget a task that is over."""
        assert task.state.is_over
        if self.tasks.pop(task.seq, None) is not None:
            self.bytes -= len(task.body)
        line = self._lines.get(task.to)
        if line is not None and task.holder is None:
            line.drop_one()

    def serve(self, session: Session) -> None:
        """Offer the free slots of `session` to the lines it serves, or withdraw it if it has none."""
        for text in (session.peer.text, *session.queues):
            line = self._line(text)
            if session.free_slots > 0:
                if session not in line.free:
                    line.free[session] = None
                self._dirty.add(text)
            else:
                line.free.pop(session, None)

    def withdraw(self, session: Session) -> None:
        """`session` takes no task any more."""
        for text in (session.peer.text, *session.queues):
            line = self._lines.get(text)
            if line is not None:
                line.free.pop(session, None)

    def matches(self) -> Iterator[tuple[Task, Session]]:
        """Give each waiting task with the session that shall have it; the caller hands it over before the next."""
        heads: list[tuple[int, int, str]] = []
        for text in self._dirty:
            head = self._lines[text].head()
            if head is not None and self._lines[text].free:
                heads.append((head[0], head[1], text))
        self._dirty.clear()
        heapq.heapify(heads)
        while heads:
            _, _, text = heapq.heappop(heads)
            line = self._lines[text]
            head = line.head()
            if head is None or not line.free:
                continue
            session = next(iter(line.free))
            heapq.heappop(line.heap)
            yield head[2], session
            self._turn_over(session)
            following = line.head()
            if following is not None and line.free:
                heapq.heappush(heads, (following[0], following[1], text))
        self._dirty.clear()

    def waiting(self, text: str) -> int:
        """How many tasks wait for the address `text`."""
        line = self._lines.get(text)
        return sum(1 for _, _, task in line.heap if task.state is TaskState.QUEUED) if line else 0

    def lines(self) -> dict[str, int]:
        """Return every address that tasks wait for, with how many."""
        return {text: count for text in self._lines if (count := self.waiting(text))}

    def _turn_over(self, session: Session) -> None:
        """Put a session that just got a task behind the others, everywhere it serves."""
        self.withdraw(session)
        if session.free_slots > 0:
            self.serve(session)

    def _wait(self, task: Task) -> None:
        heapq.heappush(self._line(task.to).heap, (task.rank, task.seq, task))
        self._dirty.add(task.to)

    def _line(self, text: str) -> _Line:
        line = self._lines.get(text)
        if line is None:
            line = self._lines[text] = _Line()
        return line
