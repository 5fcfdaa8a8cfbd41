"""The life of tasks: submitted, given to agents, reported, lost, canceled. Pure.

Who gets which task is the board's business; what may follow what is the table in `orchestra.task`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from orchestra.address import Kind, parse_address
from orchestra.errors import BadAddress, HubFull, Malformed, NotFound, NotRetryable, PeerError, StaleLease, TooLarge
from orchestra.limits import (
    LEASE_S,
    REPORT_BYTES_MAX,
    RETRY_PAUSE_S,
    RETURN_DELAY_S_MAX,
    RETURN_PAUSE_S_MAX,
    SLOTS_MAX,
    TASK_LOSSES_MAX,
    TASK_RETURNS_MAX,
    TASKS_OPEN_PER_SENDER_MAX,
    WATCHES_MAX,
)
from orchestra.task import OUTCOMES, RETRYABLE, TaskState
from orchestra.terms import Terms
from orchestra.wire import CANCEL, EVENT, PROGRESS, RESULT, pack

from . import grants
from .alarms import Alarms
from .board import Board, Extras, Task
from .family import Family
from .hubstate import HubState, unknown
from .roster import Peer, Session
from .turn import Query, Turn
from .waiting import how_it_ended

_LEASE_MS: Final = int(LEASE_S * 1000)
_TEXT_CHARS_MAX: Final = 1000  # of what is kept of an attempt


class Tasks:
    """The unfinished tasks, and the rules of their life."""

    def __init__(self, state: HubState, tasks: Iterable[Task], *, at_ms: int) -> None:
        self.board = Board()
        self.family = Family()
        self._state = state
        self._changed: dict[int, Task] = {}
        self._ended: dict[int, Task] = {}
        """Those that ended in this turn; the database does not know of it yet."""
        self._asked: dict[int, list[Session]] = {}
        """Who asked in this turn for a task that is over, by its seq."""
        self._doomed: list[tuple[Task, str]] = []
        """Those whose dependency can't be completed any more, with what became of that."""
        self._orphans: list[Task] = []
        """Those whose parent is canceled already."""
        self._by_wall = Alarms()
        self._by_steady = Alarms()
        for task in tasks:
            self._load(task, at_ms)

    def _load(self, task: Task, at_ms: int) -> None:
        extras = task.extras
        if extras is not None:
            # What is neither unfinished nor failed is completed: whoever depends on a failure died with it.
            extras.blockers = {seq for seq in extras.terms.depends_on if seq in self.board.tasks}
            if task.state is TaskState.SCHEDULED:
                self._by_wall.set(extras.due_ms, task.seq)
            if extras.expires_ms:
                self._by_wall.set(extras.expires_ms, task.seq)
        self.board.add(task)
        self.family.add(task)
        if task.state.is_held and task.holder is not None:
            # Its agent was cut off with the hub, and has a whole lease to come back for it.
            task.holder_text = self._state.texts[task.holder]
            _, held = self.board.adrift.setdefault((task.holder, task.generation), (at_ms + _LEASE_MS, {}))
            held[task.seq] = task

    def submit(self, session: Session, task_of: Task, *, is_watched: bool, terms: Terms | None = None) -> None:
        """Take in a new task.

        Raises:
            NotAllowed, BadAddress, UnknownRecipient: if it can't go where it is addressed to.
            NotFound, NotAllowed: if it depends on, or is done for, what does not exist or is somebody else's.
            HubFull: if too many tasks are unfinished, or the session watches too many.
        """
        address = parse_address(task_of.to)
        grants.check_once(session, grants.SUBMIT, task_of.to)
        if address.kind is Kind.AGENT:
            if task_of.to not in self._state.roster.peers:
                raise unknown(task_of.to)
        elif address.kind is not Kind.QUEUE:
            raise BadAddress(f"{task_of.to} takes no tasks; submit to agent/NAME or queue/NAME")
        self._check_room(session.peer.text)
        if terms is not None:
            task_of.extras = Extras(terms=terms)
            blockers, failed = self._dependencies(session.rights, terms)
            parent = self._parent(session.rights, terms.parent) if terms.parent else None
        task_of.recipient = self._state.id_of(task_of.to)
        if is_watched:  # before it is taken in, since this may refuse
            self.watch(session, task_of)
        if terms is not None:
            self._place(task_of, terms, blockers, failed, now_ms=task_of.time_ms)
            if parent is not None:
                self._put_under(task_of, parent)
        self.board.add(task_of)
        self._changed[task_of.seq] = task_of

    def retry(self, session: Session, seq: int, turn: Turn) -> Task:
        """Try a task again that failed, was canceled or is dead.

        Raises:
            NotFound, NotAllowed: if there is none, or it is somebody else's.
            NotRetryable: if it is not over, completed, or depends on one that failed itself.
            HubFull: if too many tasks are unfinished.
        """
        known = self.board.tasks.get(seq) or self._ended.get(seq)
        found = None if known else self._state.archive.task(seq)
        task = known or (found[0] if found else None)
        if task is None:
            raise NotFound(f"there is no task {seq}")
        grants.check_manage(session.rights, sender=task.sender, sending=grants.SUBMIT, to=task.to)
        if found is None or task.state not in RETRYABLE:
            raise NotRetryable(f"task {seq} is {task.state}; only what failed, was canceled or is dead is tried again")
        self._check_room(task.sender)
        terms = task.more.terms
        sender = grants.Rights(self._state.roster.peers[task.sender])
        blockers, failed = self._dependencies(sender, terms, is_retry=True)
        if failed:
            raise NotRetryable(f"task {seq} depends on task {failed}, which is not completed; retry that one first")
        parent = self._known(terms.parent) if terms.parent else None
        if parent is not None and parent.cancel_why is not None and not parent.state.is_over:
            raise NotRetryable(f"task {parent.seq} above it is being stopped; try again when that one is canceled")
        if task.lease:  # its result was taken: that attempt is a past one now
            _, report, result_n = found
            row = task.attempt_row(task.state.value, _text_of(report), now_ms=task.updated_ms, result_n=result_n)
            self._state.writes.task_attempts.append(row)
        kept, text = task.more, _text_of(found[1])
        task.extras = Extras(terms, checkpoint=kept.checkpoint)
        task.extras.retried_ms, task.extras.retried_by = turn.now_ms, session.peer.text
        task.extras.retried_end = how_it_ended(task.state, text)
        task.losses, task.cancel_why = 0, None
        task.let_go()
        task.move(TaskState.BLOCKED if blockers else TaskState.QUEUED, now_ms=turn.now_ms)
        task.extras.blockers = blockers
        self._set_expiry(task, terms, now_ms=turn.now_ms)
        if parent is not None:
            self._put_under(task, parent, is_retry=True)
        self.board.add(task, is_revived=True)
        self._changed[seq] = task
        self._state.writes.revived.append(seq)
        self._state.save(open_seq=self.board.first_seq(default=seq))  # or a restart would not look at it
        self._state.counts["retried"] += 1
        for watcher in self._asked.get(seq, ()):
            with suppress(PeerError):  # it may not, or watches too many: the answer it gets is another
                if self._state.roster.sessions.get(watcher.link) is watcher:
                    grants.check_see_task(watcher.rights, sender=task.sender, holder="")
                    self.watch(watcher, task)
        return task

    def _check_room(self, sender: str) -> None:
        if self.board.is_full:
            raise HubFull(f"{len(self.board.tasks)} tasks are unfinished; try again when some are done")
        if self.board.by_sender.get(sender, 0) >= TASKS_OPEN_PER_SENDER_MAX:
            raise HubFull(f"{TASKS_OPEN_PER_SENDER_MAX} tasks of {sender} are unfinished; try again when some are done")

    def _dependencies(self, rights: grants.Rights, terms: Terms, *, is_retry: bool = False) -> tuple[set[int], int]:
        """Return which of the tasks that `terms` depend on are unfinished, and one that failed (or 0)."""
        blockers: set[int] = set()
        failed = 0
        others: list[int] = []
        for seq in terms.depends_on:
            task = self.board.tasks.get(seq) or self._ended.get(seq)
            if task is None:
                others.append(seq)
                continue
            grants.check_see_task(rights, sender=task.sender, holder="")
            if not task.state.is_over:
                blockers.add(seq)
            elif task.state is not TaskState.COMPLETED:
                failed = seq
        ends = self._ends(others)
        for seq in others:
            if seq not in ends:
                if is_retry:  # it was there once, and is forgotten by now
                    continue
                raise NotFound(f"there is no task {seq} to depend on")
            state, sender = ends[seq]
            grants.check_see_task(rights, sender=sender, holder="")
            if state is not TaskState.COMPLETED:
                failed = seq
        return blockers, failed

    def _ends(self, seqs: list[int]) -> dict[int, tuple[TaskState, str]]:
        """Return the state and the sender of each of these that is over."""
        fresh = {seq: (self._ended[seq].state, self._ended[seq].sender) for seq in seqs if seq in self._ended}
        others = [seq for seq in seqs if seq not in fresh]
        return fresh | (self._state.archive.task_ends(others) if others else {})

    def _known(self, seq: int) -> Task | None:
        task = self.board.tasks.get(seq) or self._ended.get(seq)
        if task is None:
            found = self._state.archive.task(seq)
            task = found[0] if found else None
        return task

    def _parent(self, rights: grants.Rights, seq: int) -> Task:
        parent = self._known(seq)
        if parent is None:
            raise NotFound(f"there is no task {seq} that another could be done for")
        grants.check_see_task(rights, sender=parent.sender, holder=self._state.texts.get(parent.holder or 0, ""))
        return parent

    def _put_under(self, task: Task, parent: Task, *, is_retry: bool = False) -> None:
        """Let `task` be under its parent, or under what that one was under where it is over."""
        above = parent.more.above if parent.state.is_over else parent.seq
        task.more.above = above if above in self.board.tasks else 0
        self.family.add(task)
        is_ending = parent.cancel_why is not None and not parent.state.is_over
        if not is_retry and (is_ending or parent.state is TaskState.CANCELED):
            self._orphans.append(task)

    def _place(self, task: Task, terms: Terms, blockers: set[int], failed: int, *, now_ms: int) -> None:
        """Say where a new task begins."""
        extras = task.more
        self._set_expiry(task, terms, now_ms=now_ms)
        if failed:  # its sender learns of it after the OK, so it ends with the turn
            task.state = TaskState.BLOCKED
            self._doomed.append((task, _end_of(failed, self._ends([failed])[failed][0])))
        elif blockers:
            task.state, extras.blockers = TaskState.BLOCKED, blockers
        elif terms.not_before_ms > now_ms:
            task.state, extras.due_ms = TaskState.SCHEDULED, terms.not_before_ms
            self._by_wall.set(extras.due_ms, task.seq)

    def _set_expiry(self, task: Task, terms: Terms, *, now_ms: int) -> None:
        if terms.expires_ms:
            task.more.expires_ms = now_ms + terms.expires_ms
            self._by_wall.set(task.more.expires_ms, task.seq)

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

    def watch_if_revived(self, session: Session, seq: int) -> None:
        """`session` asks to watch a task that is over. It is told so after the commit: should the task be tried again
        in the same turn, it is told that instead, and then has to hear of the new end as well."""
        self._asked.setdefault(seq, []).append(session)

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
            if outcome in OUTCOMES:  # or it is late, and the trace shall tell of it
                self._state.writes.late_results.append((turn.now_ms, str(outcome), seq, lease, session.peer.id))
            turn.queries.append(
                Query(session.link, n, "result_before", {"seq": seq, "lease": lease, "holder": session.peer.id})
            )
            return
        task = self.held(session, seq, lease)
        if outcome not in OUTCOMES:
            raise Malformed(f"an agent may report {', '.join(sorted(OUTCOMES))}")
        _check_report(report)
        self._release(session, task)
        if outcome == TaskState.FAILED and task.extras is not None and self._may_fail(task, task.extras, report):
            turn.sent(session.link, n, seq)
            self._record_attempt(task, "failed", _text_of(report), turn, result_n=n)
            pause_ms = task.extras.terms.pause_ms(task.extras.failures, chance=self._state.numbers.chance())
            self._wait_again(task, turn, pause_ms=pause_ms)
            return
        task.move(TaskState(outcome), now_ms=turn.now_ms)
        turn.sent(session.link, n, seq)
        self._close(task, report, output, turn, result_n=n)

    def progress(self, session: Session, seq: int, lease: int, data: bytes, turn: Turn) -> None:
        """Pass output on to who watches."""
        task = self.held(session, seq, lease)
        record = [PROGRESS, seq, task.attempt, data]  # one for all: a transport may encode it once
        for link in task.watchers:
            turn.send(link, record)

    def give_back(self, session: Session, task: Task, turn: Turn, *, delay_ms: int = 0, text: str = "") -> None:
        """The agent does not do it: let another have it, after a pause that grows where all of them do that."""
        self._release(session, task)
        self._returned(task, turn, delay_ms=delay_ms, text=text)

    def _returned(self, task: Task, turn: Turn, *, delay_ms: int, text: str) -> None:
        self._record_attempt(task, "returned", text, turn)
        extras = task.more
        extras.returns += 1
        if extras.returns > TASK_RETURNS_MAX and task.cancel_why is None:
            self._die(task, "too_many_returns", f"agents gave it back {extras.returns} times", turn)
            return
        growing_ms = 0 if extras.returns == 1 else int(RETRY_PAUSE_S * 1000) << min(extras.returns - 2, 20)
        pause_ms = max(min(delay_ms, int(RETURN_DELAY_S_MAX * 1000)), min(growing_ms, int(RETURN_PAUSE_S_MAX * 1000)))
        self._wait_again(task, turn, pause_ms=pause_ms)

    def offer(self, session: Session, slots: int) -> None:
        """`session` takes so many tasks at once from now on."""
        session.slots = min(slots, SLOTS_MAX)
        self.board.serve(session)

    def take_up(self, session: Session, claimed: dict[int, int]) -> None:
        """Give a client that came back the tasks it still holds (seq → lease).

        All others stay adrift until their lease ends. What an earlier life of the name had may still be worked on: that
        process may be cut off, or on its way out. And so may what this life does not claim: its HELLO may be one that
        it said before it got the task, on a connection that was slower than a later one.
        """
        key = session.peer.id, session.peer.generation
        _, adrift = self.board.adrift.get(key, (0, {}))
        for seq in [seq for seq, task in adrift.items() if claimed.get(seq) == task.lease]:
            session.tasks[seq] = adrift.pop(seq)
        if not adrift:
            self.board.adrift.pop(key, None)

    def session_ended(self, session: Session, *, is_orderly: bool, turn: Turn) -> None:
        """Keep the tasks of a lost session for its lease; one that said goodbye gives them back."""
        self.board.withdraw(session)
        for seq in session.watched:
            task = self.board.tasks.get(seq)
            if task is not None:
                task.watchers.discard(session.link)
        if is_orderly:
            for task in session.tasks.values():
                self._returned(task, turn, delay_ms=0, text="the agent said goodbye")
        elif session.tasks:
            key = session.peer.id, next(iter(session.tasks.values())).generation
            until_ms, tasks = self.board.adrift.get(key, (0, {}))
            self.board.adrift[key] = max(until_ms, session.heard_ms + _LEASE_MS), tasks | session.tasks
        session.tasks.clear()

    def cancel(self, task: Task, why: str, turn: Turn) -> int:
        """Cancel a task and all that is under it; return how many those are."""
        below = self.family.below(task.seq)
        self._cancel(task, why, turn)
        for each in below:
            self._cancel(each, f"task {task.seq} above it was {why}", turn)
        return len(below)

    def _cancel(self, task: Task, why: str, turn: Turn) -> None:
        """Cancel a waiting task now; tell the agent of a working one to stop, which ends it."""
        if task.cancel_why is None:
            task.cancel_why = why
            self._changed[task.seq] = task
        if not task.state.is_held:
            self._cancel_now(task, turn)
            return
        for session in self.holders(task):
            turn.send(session.link, [CANCEL, task.seq, task.lease, why])

    def tick(self, turn: Turn) -> None:
        """Let time do its work: agents that did not come back within their lease, tasks whose time has come."""
        for holder, (until_ms, tasks) in list(self.board.adrift.items()):
            if turn.at_ms >= until_ms:
                del self.board.adrift[holder]
                self._lose(tasks.values(), turn)
        for alarms, now_ms in ((self._by_wall, turn.now_ms), (self._by_steady, turn.at_ms)):
            for seq in alarms.due(now_ms):
                task = self.board.tasks.get(seq)
                if task is not None and task.extras is not None:
                    self._ring(task, task.extras, turn)
            alarms.sweep(self.board.tasks, count=len(self.board.tasks))

    def _ring(self, task: Task, extras: Extras, turn: Turn) -> None:
        """An alarm of `task` rang; perhaps it is out of date."""
        if task.state.is_held:
            return
        if extras.expires_ms and turn.now_ms >= extras.expires_ms:
            self._expire(task, turn)
        elif task.state is TaskState.SCHEDULED:
            is_due = turn.at_ms >= extras.due_at_ms if extras.due_at_ms else turn.now_ms >= extras.due_ms
            if is_due:
                self._queue(task, turn)

    def excuse(self, frozen_ms: int) -> None:
        """The hub could not hear anybody for so long: give the lost sessions that much longer to come back."""
        adrift = self.board.adrift
        for holder, (until_ms, tasks) in adrift.items():
            adrift[holder] = until_ms + frozen_ms, tasks

    def finish(self, turn: Turn) -> None:
        """End the turn: match waiting tasks with free agents, and say which rows changed."""
        self._asked.clear()
        for task in self._orphans:
            if not task.state.is_over:
                self.cancel(task, f"canceled with task {task.more.terms.parent}, which it was for", turn)
        self._orphans.clear()
        if self._doomed or (self._ended and self.board.dependents):
            self._settle_dependents(turn)
        else:
            self._ended.clear()
        for task, session in self.board.matches():
            self._assign(task, session, turn)
        for seq, task in self._changed.items():
            self._state.writes.tasks[seq] = task.row()
        self._changed.clear()

    def _settle_dependents(self, turn: Turn) -> None:
        """Let go on what waited for the tasks that ended in this turn, or end it too, and so on."""
        while self._ended or self._doomed:
            ended, self._ended = self._ended, {}
            for end in ended.values():
                for task in self.board.dependents.pop(end.seq, {}).values():
                    task.more.blockers.discard(end.seq)
                    if end.state is not TaskState.COMPLETED:
                        self._doomed.append((task, _end_of(end.seq, end.state)))
                    elif not task.more.blockers:
                        self._unblock(task, turn)
            doomed, self._doomed = self._doomed, []
            for task, why in doomed:
                if task.state is TaskState.BLOCKED:
                    self._die(task, "dependency_failed", why, turn)

    def _unblock(self, task: Task, turn: Turn) -> None:
        due_ms = task.more.terms.not_before_ms
        if due_ms > turn.now_ms:
            self._schedule(task, due_ms, turn)
            self._by_wall.set(due_ms, task.seq)
        else:
            self._queue(task, turn)

    def _queue(self, task: Task, turn: Turn) -> None:
        self.board.requeue(task, now_ms=turn.now_ms)
        self.changed(task, turn)

    def _schedule(self, task: Task, due_ms: int, turn: Turn, *, due_at_ms: int = 0) -> None:
        task.move(TaskState.SCHEDULED, now_ms=turn.now_ms)
        task.let_go()
        task.more.due_ms, task.more.due_at_ms = due_ms, due_at_ms
        self.changed(task, turn)

    def _assign(self, task: Task, session: Session, turn: Turn) -> None:
        task.move(TaskState.WORKING, now_ms=turn.now_ms)
        task.attempt += 1
        task.lease = next(self._state.numbers.leases)
        task.holder, task.holder_text = session.peer.id, session.peer.text
        task.generation = session.peer.generation
        task.session, task.began_ms = session.number, turn.now_ms
        if task.attempt == 1:
            self._state.durations.start.observe((turn.now_ms - task.time_ms) / 1000)
        session.tasks[task.seq] = task
        self._changed[task.seq] = task
        turn.send(session.link, task.record())
        self._tell(task, turn)

    def held(self, session: Session, seq: int, lease: int) -> Task:
        task = session.tasks.get(seq)
        if task is None or task.lease != lease:
            self._state.counts["stale_leases"] += 1
            raise StaleLease(f"task {seq} is not held under lease {lease}; stop working on it")
        return task

    def holders(self, task: Task) -> list[Session]:
        peer: Peer | None = self._state.roster.peers.get(task.holder_text)
        return [session for session in (peer.sessions if peer else ()) if session.tasks.get(task.seq) is task]

    def _release(self, session: Session, task: Task) -> None:
        session.tasks.pop(task.seq, None)
        self.board.serve(session)

    def _may_fail(self, task: Task, extras: Extras, report: dict[str, Any]) -> bool:
        """Count a failed attempt, and say whether there will be another."""
        extras.failures += 1
        is_last = extras.failures >= extras.terms.max_attempts or report.get("is_permanent") is True
        return not is_last and task.cancel_why is None

    def _record_attempt(self, task: Task, outcome: str, text: str, turn: Turn, *, result_n: int | None = None) -> None:
        """Keep an attempt that does not end the task."""
        row = task.attempt_row(outcome, text[:_TEXT_CHARS_MAX], now_ms=turn.now_ms, result_n=result_n)
        self._state.writes.task_attempts.append(row)

    def _wait_again(self, task: Task, turn: Turn, *, pause_ms: int = 0) -> None:
        if task.cancel_why is not None:
            self._cancel_now(task, turn)
        elif task.extras is not None and 0 < task.extras.expires_ms <= turn.now_ms:
            self._expire(task, turn)
        elif pause_ms:
            due_at_ms = turn.at_ms + pause_ms
            self._schedule(task, turn.now_ms + pause_ms, turn, due_at_ms=due_at_ms)
            self._by_steady.set(due_at_ms, task.seq)
        else:
            self._queue(task, turn)

    def _lose(self, tasks: Iterable[Task], turn: Turn) -> None:
        """Let tasks wait again whose agent is taken for dead; one that outlived too many agents is dead itself."""
        for task in tasks:
            task.losses += 1
            self._state.counts["lost_leases"] += 1
            self._record_attempt(task, "lost", "its agent was silent for longer than its lease", turn)
            if task.losses < TASK_LOSSES_MAX or task.cancel_why is not None:
                self._wait_again(task, turn)
            else:
                text = f"{task.losses} agents were lost while they worked on it"
                self._die(task, "too_many_losses", text, turn, reason="too many agents lost")

    def _expire(self, task: Task, turn: Turn) -> None:
        terms = task.more.terms
        text = f"nobody took it within {terms.expires_ms / 1000:g} s"
        self._die(task, "expired", text, turn, reason="expired in the queue")

    def _die(self, task: Task, code: str, text: str, turn: Turn, *, reason: str = "") -> None:
        task.move(TaskState.DEAD, now_ms=turn.now_ms)
        task.lease = 0  # no result was taken
        self._state.writes.dead.append((task.seq, task.recipient, reason or text, turn.now_ms))
        self._close(task, {"code": code, "text": text}, b"", turn)

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
        for child in self.family.close(task):
            self._changed[child.seq] = child
        self._ended[task.seq] = task
        if task.extras is not None and task.extras.checkpoint is not None and task.state is TaskState.COMPLETED:
            self._state.writes.checkpoints[task.seq] = None
        self._state.counts[task.state.value] += 1
        if task.state is TaskState.COMPLETED:
            self._state.durations.task.observe((turn.now_ms - task.time_ms) / 1000)
        record = [RESULT, task.seq, task.attempt, task.state.value, report, output]
        for link in task.watchers:
            turn.send(link, record)
            watcher = self._state.roster.sessions.get(link)
            if watcher is not None:
                watcher.watched.discard(task.seq)

    def changed(self, task: Task, turn: Turn) -> None:
        """Owe the database its row, and its watchers the news."""
        self._changed[task.seq] = task
        self._tell(task, turn)

    def _tell(self, task: Task, turn: Turn) -> None:
        if task.watchers:
            record = [EVENT, "task", task.facts()]
            for link in task.watchers:
                turn.send(link, record)


def _end_of(dependency: int, state: TaskState) -> str:
    how = {TaskState.CANCELED: "was canceled", TaskState.DEAD: "is dead"}.get(state, "failed")
    return f"dependency {dependency} {how}"


def _text_of(report: dict[str, Any]) -> str:
    text = report.get("text")
    return text[:_TEXT_CHARS_MAX] if type(text) is str else ""


def _check_report(report: dict[str, Any]) -> None:
    try:
        size = len(pack(report))
    except (ValueError, RecursionError) as exc:
        raise Malformed("report is nested too deeply") from exc
    if size > REPORT_BYTES_MAX:
        raise TooLarge(f"report is {size} bytes; the limit is {REPORT_BYTES_MAX}")
