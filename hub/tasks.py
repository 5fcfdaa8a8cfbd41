"""The life of tasks: submitted, given to agents, reported, lost, canceled. Pure.

Who gets which task is the board's business; what may follow what is the table in `orchestra.task`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from orchestra.address import Kind, parse_address
from orchestra.errors import BadAddress, HubFull, Malformed, StaleLease, TooLarge
from orchestra.limits import LEASE_S, REPORT_BYTES_MAX, SLOTS_MAX, TASK_LOSSES_MAX, WATCHES_MAX
from orchestra.task import OUTCOMES, TaskState
from orchestra.wire import CANCEL, EVENT, PROGRESS, RESULT, pack

from . import grants
from .board import Board, Task
from .hubstate import HubState, unknown
from .roster import Peer, Session
from .turn import Query, Turn

_LEASE_MS: Final = int(LEASE_S * 1000)


class Tasks:
    """The unfinished tasks, and the rules of their life."""

    def __init__(self, state: HubState, tasks: Iterable[Task], *, at_ms: int) -> None:
        self.board = Board()
        self._state = state
        self._changed: dict[int, Task] = {}
        for task in tasks:
            self.board.add(task)
            if task.state is TaskState.WORKING and task.holder is not None:
                # Its agent was cut off with the hub, and has a whole lease to come back for it.
                task.holder_text = state.texts[task.holder]
                _, held = self.board.adrift.setdefault(task.holder, (at_ms + _LEASE_MS, {}))
                held[task.seq] = task

    def submit(self, session: Session, task_of: Task, *, is_watched: bool) -> None:
        """Take in a new task.

        Raises:
            NotAllowed, BadAddress, UnknownRecipient: if it can't go where it is addressed to.
            HubFull: if too many tasks are unfinished, or the session watches too many.
        """
        grants.check_submit(session.peer.address)
        address = parse_address(task_of.to)
        if address.kind is Kind.AGENT:
            if task_of.to not in self._state.roster.peers:
                raise unknown(task_of.to)
        elif address.kind is not Kind.QUEUE:
            raise BadAddress(f"{task_of.to} takes no tasks; submit to agent/NAME or queue/NAME")
        if self.board.is_full:
            raise HubFull(f"{len(self.board.tasks)} tasks are unfinished; try again when some are done")
        task_of.recipient = self._state.id_of(task_of.to)
        if is_watched:  # before it is taken in, since this may refuse
            self.watch(session, task_of)
        self.board.add(task_of)
        self._changed[task_of.seq] = task_of

    def watch(self, session: Session, task: Task) -> None:
        """Tell `session` what happens to `task`.

        Raises:
            HubFull: if it watches too many.
        """
        if len(session.watched) >= WATCHES_MAX:
            session.watched &= self.board.tasks.keys()
            if len(session.watched) >= WATCHES_MAX:
                raise HubFull(f"one session may watch {WATCHES_MAX} tasks")
        task.watchers.add(session.link)
        session.watched.add(task.seq)

    def result(
        self,
        session: Session,
        n: int,
        seq: int,
        lease: int,
        outcome: str,
        report: dict[str, Any],
        output: bytes,
        turn: Turn,
    ) -> None:
        """Take the result of a task from the agent that holds it."""
        if seq not in session.tasks:  # perhaps it is repeated, and its OK was lost
            turn.queries.append(
                Query(session.link, n, "result_before", {"seq": seq, "lease": lease, "holder": session.peer.id})
            )
            return
        task = self._held(session, seq, lease)
        if outcome not in OUTCOMES:
            raise Malformed(f"an agent may report {', '.join(sorted(OUTCOMES))}")
        _check_report(report)
        self._release(session, task)
        task.move(TaskState(outcome), now_ms=turn.now_ms)
        turn.sent(session.link, n, seq)
        self._close(task, report, output, turn, result_n=n)

    def progress(self, session: Session, seq: int, lease: int, data: bytes, turn: Turn) -> None:
        """Pass output on to who watches."""
        task = self._held(session, seq, lease)
        for link in task.watchers:
            turn.send(link, [PROGRESS, seq, task.attempt, data])

    def give_back(self, session: Session, task: Task, turn: Turn) -> None:
        """The agent does not do it: let another have it."""
        self._release(session, task)
        self._wait_again(task, turn)

    def offer(self, session: Session, slots: int) -> None:
        """`session` takes so many tasks at once from now on."""
        session.slots = min(slots, SLOTS_MAX)
        self.board.serve(session)

    def take_up(self, session: Session, claimed: dict[int, int], turn: Turn) -> None:
        """Give a client that came back the tasks it still holds (seq → lease); all others of its name are lost."""
        peer = session.peer
        _, adrift = self.board.adrift.pop(peer.id, (0, {}))
        lost: list[Task] = []
        for seq, task in adrift.items():
            if claimed.get(seq) == task.lease and task.generation == peer.generation:
                session.tasks[seq] = task
            else:
                lost.append(task)
        self._lose(lost, turn)

    def session_ended(self, session: Session, *, is_orderly: bool, turn: Turn) -> None:
        """Keep the tasks of a lost session for its lease; one that said goodbye gives them back."""
        self.board.withdraw(session)
        for seq in session.watched:
            task = self.board.tasks.get(seq)
            if task is not None:
                task.watchers.discard(session.link)
        if is_orderly:
            for task in session.tasks.values():
                self._wait_again(task, turn)
        elif session.tasks:
            self.board.adrift[session.peer.id] = (session.heard_ms + _LEASE_MS, dict(session.tasks))
        session.tasks.clear()

    def cancel(self, task: Task, why: str, turn: Turn) -> None:
        """Cancel a waiting task now; tell the agent of a working one to stop, which ends it."""
        if task.cancel_why is None:
            task.cancel_why = why
            self._changed[task.seq] = task
        if task.state is TaskState.QUEUED:
            self._cancel_now(task, turn)
            return
        for session in self._holders(task):
            turn.send(session.link, [CANCEL, task.seq, task.lease, why])

    def tick(self, turn: Turn) -> None:
        """Give the tasks to others whose agent did not come back within its lease."""
        for holder, (until_ms, tasks) in list(self.board.adrift.items()):
            if turn.at_ms >= until_ms:
                del self.board.adrift[holder]
                self._lose(tasks.values(), turn)

    def excuse(self, frozen_ms: int) -> None:
        """The hub could not hear anybody for so long: give the lost sessions that much longer to come back."""
        adrift = self.board.adrift
        for holder, (until_ms, tasks) in adrift.items():
            adrift[holder] = until_ms + frozen_ms, tasks

    def finish(self, turn: Turn) -> None:
        """End the turn: match waiting tasks with free agents, and say which rows changed."""
        for task, session in self.board.matches():
            self._assign(task, session, turn)
        for seq, task in self._changed.items():
            self._state.writes.tasks[seq] = task.row()
        self._changed.clear()

    def _assign(self, task: Task, session: Session, turn: Turn) -> None:
        task.move(TaskState.WORKING, now_ms=turn.now_ms)
        task.attempt += 1
        task.lease = next(self._state.numbers.leases)
        task.holder, task.holder_text = session.peer.id, session.peer.text
        task.generation = session.peer.generation
        session.tasks[task.seq] = task
        self._changed[task.seq] = task
        turn.send(session.link, task.record())
        self._tell(task, turn)

    def _held(self, session: Session, seq: int, lease: int) -> Task:
        task = session.tasks.get(seq)
        if task is None or task.lease != lease:
            self._state.counts["stale_leases"] += 1
            raise StaleLease(f"task {seq} is not held under lease {lease}; stop working on it")
        return task

    def _holders(self, task: Task) -> list[Session]:
        peer: Peer | None = self._state.roster.peers.get(task.holder_text)
        return [session for session in (peer.sessions if peer else ()) if session.tasks.get(task.seq) is task]

    def _release(self, session: Session, task: Task) -> None:
        session.tasks.pop(task.seq, None)
        self.board.serve(session)

    def _wait_again(self, task: Task, turn: Turn) -> None:
        if task.cancel_why is not None:
            self._cancel_now(task, turn)
            return
        self.board.requeue(task, now_ms=turn.now_ms)
        self._changed[task.seq] = task
        self._tell(task, turn)

    def _lose(self, tasks: Iterable[Task], turn: Turn) -> None:
        """Let tasks wait again whose agent is taken for dead; one that outlived too many agents is dead itself."""
        for task in tasks:
            task.losses += 1
            self._state.counts["lost_leases"] += 1
            if task.losses < TASK_LOSSES_MAX or task.cancel_why is not None:
                self._wait_again(task, turn)
                continue
            task.move(TaskState.DEAD, now_ms=turn.now_ms)
            task.lease = 0
            report = {"code": "too_many_losses", "text": f"{task.losses} agents were lost while they worked on it"}
            self._state.writes.dead.append((task.seq, task.recipient, "too many agents lost", turn.now_ms))
            self._close(task, report, b"", turn)

    def _cancel_now(self, task: Task, turn: Turn) -> None:
        task.move(TaskState.CANCELED, now_ms=turn.now_ms)
        task.lease = 0  # no result was taken
        self._close(task, {"code": "canceled", "text": task.cancel_why or ""}, b"", turn)

    def _close(
        self, task: Task, report: dict[str, Any], output: bytes, turn: Turn, *, result_n: int | None = None
    ) -> None:
        """Write down a task that is over, and tell everyone who watches."""
        self._changed.pop(task.seq, None)
        self._state.writes.tasks[task.seq] = task.row(result_n=result_n, report=pack(report), output=output)
        self.board.close(task)
        self._state.counts[task.state.value] += 1
        for link in task.watchers:
            turn.send(link, [RESULT, task.seq, task.attempt, task.state.value, report, output])
            watcher = self._state.roster.sessions.get(link)
            if watcher is not None:
                watcher.watched.discard(task.seq)

    def _tell(self, task: Task, turn: Turn) -> None:
        for link in task.watchers:
            turn.send(link, [EVENT, "task", task.facts()])


def _check_report(report: dict[str, Any]) -> None:
    try:
        size = len(pack(report))
    except (ValueError, RecursionError) as exc:
        raise Malformed("report is nested too deeply") from exc
    if size > REPORT_BYTES_MAX:
        raise TooLarge(f"report is {size} bytes; the limit is {REPORT_BYTES_MAX}")
