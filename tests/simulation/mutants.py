"""Broken hubs (and one client): each breaks one rule, and `caught_by` names the invariant that has to notice it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

from orchestra.conversation import SeenSeqs
from orchestra.hub.board import Task
from orchestra.hub.channel import Channel
from orchestra.hub.channels import Channels
from orchestra.hub.cursors import Cursors
from orchestra.hub.decider import Decider
from orchestra.hub.family import Family
from orchestra.hub.inputs import Inputs
from orchestra.hub.mailbox import Letter, Mailbox
from orchestra.hub.post import Post
from orchestra.hub.requests import Requests
from orchestra.hub.retention import Removal, Retention
from orchestra.hub.roster import Peer, Session
from orchestra.hub.tasks import Tasks
from orchestra.hub.turn import Turn, Writes
from orchestra.hub.watches import Watches
from orchestra.task import TaskState
from orchestra.wire import OK, RESPONSE, RESULT, Record

from .simhub import SimHub


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule that is broken. `breaks` patches it; `hub` is the shell where the rule is one of the shell's."""

    name: str
    caught_by: str
    breaks: Callable[[], AbstractContextManager[Any]]
    hub: type[SimHub] = SimHub


def _patched(owner: type, name: str, made: Callable[[Callable[..., Any]], Any]) -> Callable[[], Any]:
    """Replace a method by what `made` makes of it."""
    return lambda: mock.patch.object(owner, name, made(getattr(owner, name)))


@contextmanager
def _whole() -> Iterator[None]:
    yield


class _TellsBeforeCommit(SimHub):
    """Says OK before the row is on disk."""

    def _settle(self, turn: Turn) -> None:
        for link in list(turn.out):
            told = [record for record in turn.out[link] if record[0] == OK]
            turn.out[link] = [record for record in turn.out[link] if record[0] != OK]
            self._send(link, told)
        super()._settle(turn)


class _ForgetsAFailedCommit(SimHub):
    """Goes on after a commit that the database refused, as if it had been taken."""

    def _start_over(self, fault: Exception) -> None:
        self.state.writes = Writes()


def _ack_ignores_the_lease(_: Any) -> Any:
    def ack(self: Post, session: Session, stage: int, pairs: list[Any], turn: Turn) -> None:
        for seq in pairs[::2]:
            letter = session.peer.mailbox.settle(seq)
            self._state.writes.settled.extend((session.peer.id, rank, seq) for rank in range(4))
            if letter is not None:
                self._forget_elsewhere(letter, None)

    return ack


def _stores_what_comes_again(whole: Any) -> Any:
    def send(self: Decider, session: Session, record: Record, turn: Turn) -> None:
        origin = session.origin or self.state.origin_of(session)
        origin.last_n = min(origin.last_n, record[1] - 1)
        whole(self, session, record, turn)

    return send


def _gives_lost_tasks_away_at_once(whole: Any) -> Any:
    def session_ended(self: Tasks, session: Session, *, is_orderly: bool, turn: Turn) -> None:
        whole(self, session, is_orderly=True, turn=turn)

    return session_ended


def _takes_results_of_old_leases(whole: Any) -> Any:
    def result(self: Tasks, session: Session, n: int, seq: int, lease: int, *rest: Any) -> None:
        task = self.board.tasks.get(seq)
        if task is None or not task.state.is_held or task.lease == lease:
            whole(self, session, n, seq, lease, *rest)
            return
        for other in self._state.roster.sessions.values():
            other.tasks.pop(seq, None)
        for _, adrift in self.board.adrift.values():
            adrift.pop(seq, None)
        session.tasks[seq], task.lease = task, lease
        whole(self, session, n, seq, lease, *rest)

    return result


def _loses_what_is_put_back(whole: Any) -> Any:
    def put_back(self: Mailbox, letter: Letter, *, not_before_ms: int) -> None:
        whole(self, letter, not_before_ms=not_before_ms)
        if letter.attempt > 1:
            self._window.remove(letter)

    return put_back


def _counts_what_is_put_back(whole: Any) -> Any:
    def put_back(self: Mailbox, letter: Letter, *, not_before_ms: int) -> None:
        whole(self, letter, not_before_ms=not_before_ms)
        self.count += 1

    return put_back


def _newest_first(_: Any) -> Any:
    def take(self: Mailbox, now_ms: int) -> Iterator[Letter]:
        while self._window:
            letter = self._window.pop()
            self.in_flight[letter.seq] = letter
            yield letter

    return take


def _forgets_an_entry(whole: Any) -> Any:
    def catch_up(self: Channels, fetch: Any, rows: list[Any], turn: Turn) -> None:
        whole(self, fetch, rows[1:], turn)

    return catch_up


def _keeps_every_claim(_: Any) -> Any:
    def take_up(self: Tasks, session: Session, claimed: dict[int, int]) -> None:
        """Whoever comes first under a name gets what the last one held, claimed or not: no generation, no lease."""
        _, adrift = self.board.adrift.pop((session.peer.id, session.peer.generation - 1), (0, {}))
        session.tasks.update(adrift)

    return take_up


def _never_dies_with_a_reason(whole: Any) -> Any:
    def lose(self: Tasks, tasks: Iterable[Task], turn: Turn) -> None:
        whole(self, tasks, turn)
        self._state.writes.dead.clear()

    return lose


def _settles_what_dies_silently(whole: Any) -> Any:
    def wait(self: Post, peer: Any, letter: Letter, holder: Any, why: str, *, delay_ms: int, turn: Turn) -> None:
        whole(self, peer, letter, holder, why, delay_ms=delay_ms, turn=turn)
        self._state.writes.dead.clear()

    return wait


def _opens_a_cursor_at_the_end(whole: Any) -> Any:
    def open_(self: Cursors, peer: Any, channel: Channel, name: str, *, otherwise: int, turn: Turn) -> int:
        return max(whole(self, peer, channel, name, otherwise=otherwise, turn=turn), channel.last_seq)

    return open_


def _forgets_the_checkpoint(whole: Any) -> Any:
    def checkpoint(self: Inputs, session: Session, seq: int, lease: int, data: bytes, turn: Turn) -> None:
        if self._tasks.held(session, seq, lease).attempt == 1:
            whole(self, session, seq, lease, data, turn)

    return checkpoint


def _tells_read_at_once(whole: Any) -> Any:
    def tell(self: Watches, seq: int, recipient: str, stage: str, turn: Turn, **options: Any) -> None:
        whole(self, seq, recipient, "read" if stage == "delivered" else stage, turn, **options)

    return tell


def _broadcasts_to_the_sender_too(whole: Any) -> Any:
    def broadcast(self: Post, sender: Session, letter_of: Letter, turn: Turn) -> None:
        whole(self, sender, letter_of, turn)
        self.post(sender.peer, letter_of.copy(), turn)

    return broadcast


def _removes_what_is_owed(whole: Any) -> Any:
    def log(self: Retention, view: Any, removal: Removal, now_ms: int) -> Any:
        for seq, sent_ms in self._rows("SELECT seq, sent_ms FROM message JOIN delivery USING (seq)"):
            if sent_ms < now_ms - 86_400_000:
                removal.messages.append(seq)
        return whole(self, view, removal, now_ms)

    return log


def _counts_attempts_anew(whole: Any) -> Any:
    def retry(self: Tasks, *args: Any) -> Task:
        task: Task = whole(self, *args)
        task.attempt = 0
        return task

    return retry


def _lets_two_sessions_hold_it(whole: Any) -> Any:
    def assign(self: Tasks, task: Task, session: Session, turn: Turn) -> None:
        whole(self, task, session, turn)
        for other in self._state.roster.sessions.values():
            if other is not session and other.slots:
                other.tasks[task.seq] = task

    return assign


def _gives_more_than_it_was_asked_for(whole: Any) -> Any:
    def push(self: Post, peer: Peer, turn: Turn) -> None:
        for session in peer.sessions:
            session.credit += 1
        whole(self, peer, turn)

    return push


def _delivers_to_a_stranger_too(whole: Any) -> Any:
    def post(self: Post, peer: Peer, letter: Letter, turn: Turn) -> None:
        whole(self, peer, letter, turn)
        for session in self._state.roster.sessions.values():
            if session.peer is not peer:
                turn.send(session.link, letter.record())

    return post


def _hands_over_what_was_seen(whole: Any) -> Any:
    def add(self: SeenSeqs, seq: int) -> bool:
        whole(self, seq)
        return True

    return add


def _names_the_recipient_as_sender(whole: Any) -> Any:
    def record(self: Letter) -> Record:
        told: Record = whole(self)
        told[4] = told[5]
        return told

    return record


def _tells_every_end_as_completed(whole: Any) -> Any:
    def close(self: Tasks, task: Task, *args: Any, **options: Any) -> None:
        turn: Turn = args[2]
        whole(self, task, *args, **options)
        for told in (record for records in turn.out.values() for record in records):
            if told[0] == RESULT and told[1] == task.seq:
                told[3] = TaskState.COMPLETED.value

    return close


def _keeps_no_keys(whole: Any) -> Any:
    def note_options(self: Decider, session: Session, seq: int, to: str, kind: int, options: Any, *rest: Any) -> None:
        whole(self, session, seq, to, kind, {name: each for name, each in options.items() if name != "key"}, *rest)

    return note_options


def _answers_with_its_own_words(whole: Any) -> Any:
    def answer(self: Inputs, task: Task, text: str, turn: Turn, *, by: str) -> None:
        whole(self, task, f"{text}, I think", turn, by=by)

    return answer


def _hands_an_answer_to_whoever_asked_last(whole: Any) -> Any:
    def answer(self: Requests, session: Session, number: int, code: str, body: bytes, turn: Turn) -> None:
        last = self._open.get(max(self._open, default=0))
        whole(self, session, number, code, body, turn)
        if last is not None and not code:
            turn.send(last.asker, [RESPONSE, last.ref, body])

    return answer


def _keeps_no_deadline(_: Any) -> Any:
    def expire(self: Requests, turn: Turn) -> None:
        pass

    return expire


def _slips(_: Any) -> Any:
    def ping(self: Decider, session: Session, record: Record, turn: Turn) -> None:
        raise KeyError("a slip")

    return ping


def _leaves_alone_what_is_below(_: Any) -> Any:
    def below(self: Family, seq: int) -> list[Task]:
        return []

    return below


MUTANTS: Final = (
    Mutant(
        "says OK before it has committed",
        "nothing_acknowledged_is_lost",
        _whole,
        _TellsBeforeCommit,
    ),
    Mutant(
        "says OK to a result before it has committed",
        "one_result_is_taken_of_each_attempt",
        _whole,
        _TellsBeforeCommit,
    ),
    Mutant(
        "goes on after a commit that failed",
        "counts_agree_with_the_tables",
        _whole,
        _ForgetsAFailedCommit,
    ),
    Mutant(
        "takes an acknowledgement under any lease",
        "every_message_is_waiting_done_or_dead",
        _patched(Post, "ack", _ack_ignores_the_lease),
    ),
    Mutant(
        "stores a send that comes again",
        "nothing_is_stored_twice",
        _patched(Decider, "_send", _stores_what_comes_again),
    ),
    Mutant(
        "gives the tasks of a lost agent away at once",
        "no_task_is_worked_on_by_two_agents",
        _patched(Tasks, "session_ended", _gives_lost_tasks_away_at_once),
    ),
    Mutant(
        "takes a result under an old lease",
        "no_result_of_an_old_attempt_is_taken",
        _patched(Tasks, "result", _takes_results_of_old_leases),
    ),
    Mutant(
        "loses a message that is put back",
        "nothing_is_left_undone",
        _patched(Mailbox, "put_back", _loses_what_is_put_back),
    ),
    Mutant(
        "counts a message again that is put back",
        "counts_agree_with_the_tables",
        _patched(Mailbox, "put_back", _counts_what_is_put_back),
    ),
    Mutant(
        "delivers the newest first",
        "messages_arrive_in_the_order_sent",
        _patched(Mailbox, "take", _newest_first),
    ),
    Mutant(
        "leaves out an entry of a channel",
        "entries_arrive_in_order_without_a_gap",
        _patched(Channels, "catch_up", _forgets_an_entry),
    ),
    Mutant(
        "goes on at the end of a channel, not at the cursor",
        "a_cursor_skips_nothing",
        _patched(Cursors, "open", _opens_a_cursor_at_the_end),
    ),
    Mutant(
        "lets the next life of an agent's name keep what the last one held",
        "nothing_is_left_undone",
        _patched(Tasks, "take_up", _keeps_every_claim),
    ),
    Mutant(
        "keeps no checkpoint after the first attempt",
        "a_checkpoint_outlives_its_attempt",
        _patched(Inputs, "checkpoint", _forgets_the_checkpoint),
    ),
    Mutant(
        "says that a message is read when it is delivered",
        "receipts_tell_the_truth",
        _patched(Watches, "tell", _tells_read_at_once),
    ),
    Mutant(
        "removes what somebody is owed",
        "only_what_is_over_is_removed",
        _patched(Retention, "_log", _removes_what_is_owed),
    ),
    Mutant(
        "owes a broadcast to its sender too",
        "every_message_is_waiting_done_or_dead",
        _patched(Post, "broadcast", _broadcasts_to_the_sender_too),
    ),
    Mutant(
        "lets a task die without a reason",
        "every_message_is_waiting_done_or_dead",
        _patched(Tasks, "_lose", _never_dies_with_a_reason),
    ),
    Mutant(
        "lets a message die without a reason",
        "every_message_is_waiting_done_or_dead",
        _patched(Post, "_wait", _settles_what_dies_silently),
    ),
    Mutant(
        "counts the attempts anew when a task is tried again",
        "tasks_follow_the_table",
        _patched(Tasks, "retry", _counts_attempts_anew),
    ),
    Mutant(
        "lets two sessions hold one task",
        "no_task_is_held_by_two_sessions",
        _patched(Tasks, "_assign", _lets_two_sessions_hold_it),
    ),
    Mutant(
        "cancels a task alone",
        "a_canceled_task_takes_with_it_what_is_below",
        _patched(Family, "below", _leaves_alone_what_is_below),
    ),
    Mutant(
        "gives each session more than its credit",
        "nobody_gets_more_than_it_asked_for",
        _patched(Post, "push", _gives_more_than_it_was_asked_for),
    ),
    Mutant(
        "gives each agent more tasks than its slots",
        "nobody_gets_more_than_it_asked_for",
        lambda: mock.patch.object(Session, "free_slots", property(lambda session: session.slots and 9)),
    ),
    Mutant(
        "delivers a message also to those it is not for",
        "what_is_delivered_is_owed",
        _patched(Post, "post", _delivers_to_a_stranger_too),
    ),
    Mutant(
        "is a client that hands over what it handed over before",
        "nothing_is_handed_over_twice",
        _patched(SeenSeqs, "add", _hands_over_what_was_seen),
    ),
    Mutant(
        "names the recipient as the sender",
        "what_arrives_is_what_was_sent",
        _patched(Letter, "record", _names_the_recipient_as_sender),
    ),
    Mutant(
        "tells who watches that each task was completed",
        "watchers_are_told_the_truth",
        _patched(Tasks, "_close", _tells_every_end_as_completed),
    ),
    Mutant(
        "keeps no keys of sends",
        "a_key_is_one_message",
        _patched(Decider, "_note_options", _keeps_no_keys),
    ),
    Mutant(
        "tells an agent another answer than was given",
        "an_answer_reaches_who_asked",
        _patched(Inputs, "answer", _answers_with_its_own_words),
    ),
    Mutant(
        "hands a live answer to whoever asked last",
        "a_live_answer_is_to_what_was_asked",
        _patched(Requests, "answer", _hands_an_answer_to_whoever_asked_last),
    ),
    Mutant(
        "lets a live request wait for ever",
        "nothing_is_left_undone",
        _patched(Requests, "expire", _keeps_no_deadline),
    ),
    Mutant(
        "meets an error of its own",
        "nothing_unexpected_is_raised",
        _patched(Decider, "_ping", _slips),
    ),
)
