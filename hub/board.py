"""The board: every unfinished task, who may take it and who holds it. Pure.

A task waits in the line of its address (an agent or a queue). A session takes from its own line and from those of the
queues it serves: the most urgent first; among equally urgent ones of a line the senders take turns, and each sender's
own go oldest first. Among several free agents the one that has waited longest gets it.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from orchestra.limits import TASKS_OPEN_BYTES_MAX, TASKS_OPEN_MAX
from orchestra.task import NEXT, OVER, RANK, TaskState
from orchestra.terms import PLAIN, Terms
from orchestra.wire import DELIVER, TASK, Record, pack

from .turn import AttemptRow, Link, TaskRow

if TYPE_CHECKING:
    from .roster import Session

_SPARE: Final = 64  # that many entries of a line that nobody waits for are never worth a sweep
_KEPT: Final = (
    "failures",
    "returns",
    "due_ms",
    "expires_ms",
    "asked",
    "question",
    "answer",
    "asked_ms",
    "answered_ms",
    "answered_by",
    "retried_ms",
    "retried_by",
    "retried_end",
    "above",
)


@dataclass(slots=True)
class Extras:
    """What only a task with terms of its own, or with mishaps, has to be remembered for.

    Attributes:
        blockers: the tasks it still waits for.
        failures: attempts that failed, of which `terms.max_attempts` are allowed.
        returns: how often an agent gave it back.
        due_ms: when a scheduled task may be queued, in ms since 1970; `due_at_ms` is the same on the steady clock,
            where the hub itself chose it in this life.
        expires_ms: when it is dead if nobody has begun it, in ms since 1970; 0 is never.
        asked: how many questions the current attempt has asked; `question` is the last, `answer` is None until it came.
        asked_ms, answered_ms, answered_by: when the last one was asked, and when and by whom it was answered.
        retried_ms, retried_by, retried_end: when and by whom it was taken up again last, and how it had ended then.
        above: the unfinished task it is under: its parent, or where that is over what that one was under; 0 is none.
        checkpoint: what an attempt left for the next.
    """

    terms: Terms = PLAIN
    blockers: set[int] = field(default_factory=set)
    failures: int = 0
    returns: int = 0
    due_ms: int = 0
    due_at_ms: int = 0
    expires_ms: int = 0
    asked: int = 0
    question: str = ""
    answer: str | None = None
    asked_ms: int = 0
    answered_ms: int = 0
    answered_by: str = ""
    retried_ms: int = 0
    retried_by: str = ""
    retried_end: str = ""
    above: int = 0
    checkpoint: bytes | None = None

    def blob(self) -> bytes:
        """Return what a restart must not forget and no other row has."""
        return pack({name: value for name in _KEPT if (value := getattr(self, name))})

    def read(self, found: dict[str, Any]) -> None:
        """Take back what `blob` wrote."""
        for name in _KEPT:
            if name in found:
                setattr(self, name, found[name])


@dataclass(slots=True, eq=False)
class Task:
    """One unfinished task. `holder` is the id of the agent that works on it, `lease` the number of its delivery,
    `session` that of the agent's session when it got it."""

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
    session: int = 0
    began_ms: int = 0
    updated_ms: int = 0
    cancel_why: str | None = None
    extras: Extras | None = None
    is_in_line: bool = False
    watchers: set[Link] = field(default_factory=set)

    def __lt__(self, other: Task) -> bool:
        return self.seq < other.seq  # a line may hold one entry twice

    def move(self, state: TaskState, *, now_ms: int) -> None:
        """Change the state; the table in `orchestra.task` says what may follow what."""
        assert state in NEXT[self.state], f"task {self.seq} can't go from {self.state} to {state}"
        self.state = state
        self.updated_ms = now_ms

    @property
    def more(self) -> Extras:
        """Its extras, made if it had none."""
        if self.extras is None:
            self.extras = Extras()
        return self.extras

    @property
    def weight(self) -> int:
        """The bytes that count against the board's bound."""
        checkpoint = self.extras.checkpoint if self.extras else None
        return len(self.body) + len(checkpoint or b"")

    def let_go(self) -> None:
        """No agent has it any more."""
        self.holder, self.holder_text, self.lease, self.generation, self.session = None, "", 0, 0, 0
        if self.extras is not None:
            self.extras.asked, self.extras.question, self.extras.answer = 0, "", None
            self.extras.asked_ms, self.extras.answered_ms, self.extras.answered_by = 0, 0, ""

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
            self.session,
            self.began_ms,
            self.cancel_why,
            self.updated_ms,
            self.extras.blob() if self.extras is not None else None,
            result_n,
            report,
            output if self.state in OVER else None,
        )

    def attempt_row(self, outcome: str, text: str, *, now_ms: int, result_n: int | None) -> AttemptRow:
        """Return the row of an attempt that ended and after which the task goes on, or ends without its result."""
        return AttemptRow(
            self.seq,
            self.attempt,
            self.holder,
            self.generation,
            self.session,
            self.lease,
            self.began_ms,
            now_ms,
            outcome,
            text,
            result_n,
            None,
            None,
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
            self.options if self.extras is None else self._options(self.extras),
            self.body,
        ]

    def _options(self, extras: Extras) -> dict[str, object] | None:
        return self.options if extras.checkpoint is None else {**(self.options or {}), "checkpoint": extras.checkpoint}

    def facts(self) -> dict[str, object]:
        """What watchers and `task list` are told."""
        told: dict[str, object] = {
            "seq": self.seq,
            "state": self.state.value,
            "attempt": self.attempt,
            "agent": self.holder_text,
            "updated_ms": self.updated_ms,
        }
        if self.extras is not None:
            if self.state is TaskState.SCHEDULED:
                told["due_ms"] = self.extras.due_ms
            elif self.state is TaskState.BLOCKED:
                told["blockers"] = sorted(self.extras.blockers)
            elif self.state is TaskState.INPUT_REQUIRED:
                told["question"] = self.extras.question
        return told


_Waiting = OrderedDict[str, list[tuple[int, Task]]]


class _Line:
    """The tasks that wait for one address, and the sessions that could take one now, the longest idle first.

    `ranks` has a round of senders for each rank: whose turn is next comes first, and each has its tasks, the oldest
    first. Whoever got one served goes to the end of the round; whoever begins to wait joins there. So nobody waits for
    more than one task of each other sender of the same rank.
    """

    __slots__ = ("count", "free", "ranks", "stale")

    def __init__(self) -> None:
        self.ranks: list[_Waiting | None] = [None] * len(RANK)  # there may be a line for each of 100,000 addresses
        self.count = 0
        self.stale = 0  # entries of tasks that wait no more
        self.free: dict[Session, None] = {}

    def put(self, task: Task) -> None:
        senders = self.ranks[task.rank]
        if senders is None:
            senders = self.ranks[task.rank] = OrderedDict()
        waiting = senders.get(task.sender)
        if waiting is None:
            senders[task.sender] = [(task.seq, task)]
        else:
            heapq.heappush(waiting, (task.seq, task))
        task.is_in_line = True
        self.count += 1

    def take(self, task: Task) -> None:
        """Take out `task`, which `head` gave; the next sender is at the head then."""
        senders = self.ranks[task.rank]
        assert senders is not None
        waiting = senders[task.sender]
        heapq.heappop(waiting)
        if waiting:
            senders.move_to_end(task.sender)
        else:
            del senders[task.sender]
        task.is_in_line = False
        self.count -= 1

    def drop(self, task: Task) -> None:
        """`task` waits no more. Its entry goes when it comes to the head, or with the others when they are many."""
        task.is_in_line = False
        self.count -= 1
        self.stale += 1
        if self.stale > _SPARE and self.stale > self.count:
            self._sweep()

    def head(self) -> Task | None:
        """Return the next task."""
        for senders in self.ranks:
            while senders:
                sender = next(iter(senders))
                waiting = senders[sender]
                while waiting:
                    task = waiting[0][1]
                    if task.is_in_line:
                        return task
                    heapq.heappop(waiting)
                    self.stale -= 1
                del senders[sender]
        return None

    def _sweep(self) -> None:
        for senders in filter(None, self.ranks):
            for sender in list(senders):
                senders[sender] = [entry for entry in senders[sender] if entry[1].is_in_line]
                heapq.heapify(senders[sender])
                if not senders[sender]:
                    del senders[sender]
        self.stale = 0


class Board:
    """Every unfinished task."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.bytes = 0
        self.by_sender: dict[str, int] = {}
        """Sender → how many of its tasks are unfinished."""
        self.adrift: dict[tuple[int, int], tuple[int, dict[int, Task]]] = {}
        """(Agent id, generation) → (until when, tasks): its session is lost, and that life of the agent may still work
        on them and come back for them. Another life of the same name does not get them before."""
        self.dependents: dict[int, dict[int, Task]] = {}
        """Seq of an unfinished task → those that are blocked by it, by seq."""
        self._revived: set[int] = set()
        self._lines: dict[str, _Line] = {}
        self._dirty: set[str] = set()

    @property
    def is_full(self) -> bool:
        return len(self.tasks) >= TASKS_OPEN_MAX or self.bytes >= TASKS_OPEN_BYTES_MAX

    def first_seq(self, *, default: int) -> int:
        """Return the lowest seq of an unfinished task. But for those that were revived, they were added in order."""
        first = next(iter(self.tasks), default)
        if self._revived:
            self._revived &= self.tasks.keys()
            first = min(first, *self._revived) if self._revived else first
        return first

    def add(self, task: Task, *, is_revived: bool = False) -> None:
        """Take in a new task, one that was loaded, or one that was over; a queued one waits at once."""
        self.tasks[task.seq] = task
        self.by_sender[task.sender] = self.by_sender.get(task.sender, 0) + 1
        self.bytes += task.weight
        if is_revived:
            self._revived.add(task.seq)
        if task.state is TaskState.QUEUED:
            self.wait(task)
        elif task.state is TaskState.BLOCKED:
            for seq in task.more.blockers:
                self.dependents.setdefault(seq, {})[task.seq] = task

    def requeue(self, task: Task, *, now_ms: int) -> None:
        """Let a task that was being worked on wait again, at its old place."""
        task.move(TaskState.QUEUED, now_ms=now_ms)
        task.let_go()
        self.wait(task)

    def wait(self, task: Task) -> None:
        """Put a queued task into its line."""
        self._line(task.to).put(task)
        self._dirty.add(task.to)

    def close(self, task: Task) -> None:
        """Forget a task that is over."""
        assert task.state.is_over
        if self.tasks.pop(task.seq, None) is not None:
            self.bytes -= task.weight
            left = self.by_sender.pop(task.sender) - 1
            if left:
                self.by_sender[task.sender] = left
        if task.is_in_line:
            self._lines[task.to].drop(task)
        if task.extras is not None:
            for seq in task.extras.blockers:
                self.dependents.get(seq, {}).pop(task.seq, None)
            task.extras.blockers.clear()

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
            line = self._lines[text]
            if line.free and line.count:
                task = line.head()
                if task is not None:
                    heads.append((task.rank, task.seq, text))
        self._dirty.clear()
        heapq.heapify(heads)
        while heads:
            _, _, text = heapq.heappop(heads)
            line = self._lines[text]
            task = line.head()
            if task is None or not line.free:
                continue
            session = next(iter(line.free))
            line.take(task)
            yield task, session
            self._turn_over(session)
            if line.count and line.free:
                following = line.head()
                if following is not None:
                    heapq.heappush(heads, (following.rank, following.seq, text))
        self._dirty.clear()

    def waiting(self, text: str) -> int:
        """How many tasks wait for the address `text`."""
        line = self._lines.get(text)
        return line.count if line else 0

    def oldest_ms(self, text: str) -> int:
        """Since when the oldest of the tasks waits that wait for `text`; there is one."""
        line = self._lines[text]
        waiting = (task for senders in line.ranks if senders for tasks in senders.values() for _, task in tasks)
        return min(task.time_ms for task in waiting if task.is_in_line)

    def lines(self) -> dict[str, int]:
        """Return every address that tasks wait for, with how many."""
        return {text: line.count for text, line in self._lines.items() if line.count}

    def _turn_over(self, session: Session) -> None:
        """Put a session that just got a task behind the others, everywhere it serves."""
        self.withdraw(session)
        if session.free_slots > 0:
            self.serve(session)

    def _line(self, text: str) -> _Line:
        line = self._lines.get(text)
        if line is None:
            line = self._lines[text] = _Line()
        return line
