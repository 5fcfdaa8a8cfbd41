"""What must always hold. Each invariant is one function that gives a sentence for everything that breaks it.

They compare three sides: the hub's tables (`world.tables`), what the peers were told (`world.truth`, `world.processes`)
and what the hub holds in memory (`world.hub.state`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from orchestra import wire
from orchestra.conversation import AnswerGiven, Assigned, Message, Receipted
from orchestra.task import NEXT, RANK, TaskState

if TYPE_CHECKING:
    from orchestra.hub.retention import Removal

    from .peers import Process
    from .tables import MessageRow
    from .world import World


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


def check(invariant: Callable[..., Iterator[str]], world: World, *about: Any) -> None:
    """Raise `Broken` at the first thing that breaks `invariant`."""
    for text in invariant(world, *about):
        world.note(f"  BROKEN {invariant.__name__}: {text}")
        raise Broken(invariant.__name__, text)


# Of the tables, after every commit.


def nothing_acknowledged_is_lost(world: World) -> Iterator[str]:
    """What was answered OK is in the log, under the seq that was told, with the body that was sent."""
    for (epoch, n), (seq, body) in world.truth.stored.items():
        row = world.tables.messages.get(seq)
        if row is None and seq in world.truth.removed:
            continue
        if row is None:
            yield f"send {n} was answered OK as {seq}, and there is no such row"
        elif (row.epoch, row.n, row.body) != (epoch, n, body):
            yield f"send {n} was answered OK as {seq}, and that row holds another"


def nothing_is_stored_twice(world: World) -> Iterator[str]:
    """A send that is repeated is the same message; and in the log are only things that somebody sent."""
    last: dict[bytes, int] = {}
    for row in world.tables.messages.values():
        if not row.epoch:  # made by the hub
            yield from _is_resent(world, row)
            continue
        if world.tables.bodies[row.body] != row.seq:
            yield f"{world.tables.bodies[row.body]} and {row.seq} are the same send {row.n}"
        if world.tables.all[row.seq] != row:
            yield f"{row.seq} was the number of another before: {world.tables.all[row.seq]}"
        sent = world.truth.sent.get(row.body)
        if sent is None or (sent.sender, sent.epoch, sent.n, sent.to) != (row.sender, row.epoch, row.n, row.to):
            yield f"{row.seq} is not what was sent: {sent}"
        if row.n <= last.get(row.epoch, 0):
            yield f"{row.seq} of {row.sender} was sent before the one that was stored before it"
        last[row.epoch] = row.n


def every_message_is_waiting_done_or_dead(world: World) -> Iterator[str]:
    """For each one it was meant for, and nobody else, a message waits, or was acknowledged there, or is dead with a
    reason."""
    tables, acked = world.tables, world.truth.acked
    for row in tables.messages.values():
        if row.kind == wire.TASK:
            task = tables.tasks.get(row.seq)
            if task is None:
                yield f"task {row.seq} is in the log and nowhere else"
            elif (
                task.state == TaskState.DEAD and (row.to, row.seq) not in world.truth.removed_dead | tables.dead.keys()
            ):
                yield f"task {row.seq} is dead without a reason"
            continue
        if row.to.startswith("channel/"):
            if row.seq not in (*tables.kept.get(row.to, ()), *world.truth.removed) and row.to not in OVERWRITING:
                yield f"entry {row.seq} is not in {row.to}"
            continue
        for address in _meant_for(world, row.to, row.sender):
            place = address, row.seq
            if place in tables.owed:
                if place in tables.dead:
                    yield f"{row.seq} is owed to {address}, and dead"
            elif not tables.dead.get(place) and place not in world.truth.removed_dead:
                if place not in acked:
                    yield f"{row.seq} is not owed to {address} any more, which never acknowledged it"
                if place not in tables.read:
                    yield f"{row.seq} is not owed to {address} any more, and no receipt says why"
    for address, seq in tables.owed:
        row = tables.messages[seq]
        if address not in _meant_for(world, row.to, row.sender):
            yield f"{seq} is owed to {address}, and was sent by {row.sender} to {row.to}"


def tasks_follow_the_table(world: World) -> Iterator[str]:
    """A task only goes where the table of states lets it, and its attempts and leases only grow."""
    for seq, task in world.tables.tasks.items():
        before = world.tables.before.get(seq)
        if before is None or before == task:
            continue
        if task.state not in _REACHABLE[before.state]:
            yield f"task {seq} went from {before.state} to {task.state}"
        if TaskState(before.state).is_over and seq not in world.truth.retried:
            yield f"task {seq} went from {before.state} to {task.state}"
        if task.attempt < before.attempt:
            yield f"task {seq} went from attempt {before.attempt} to {task.attempt}"
        if task.lease and task.lease < before.lease:
            yield f"task {seq} went back from lease {before.lease} to {task.lease}"


def no_result_of_an_old_attempt_is_taken(world: World) -> Iterator[str]:
    """The result of a task is from the agent and the attempt that held it."""
    for seq, task in world.tables.tasks.items():
        before = world.tables.before.get(seq)
        if before is None or task.result_n in (None, before.result_n):
            continue
        if not TaskState(before.state).is_held or (before.lease, before.holder) != (task.lease, task.holder):
            yield f"task {seq} was held under {before.lease} by {before.holder}; its result came under {task.lease}"
    for (seq, lease), _ in world.tables.failed.items() - world.tables.failed_before.items():
        before = world.tables.before.get(seq)
        if before is not None and lease != before.lease:
            yield f"task {seq} was held under {before.lease}; a failed attempt under {lease} was taken"


def only_what_is_over_is_removed(world: World, removal: Removal) -> Iterator[str]:
    """Retention removes no message that somebody is owed, no task that goes on, and no newest entry of a name."""
    owed = {seq for _, seq in world.tables.owed}
    newest = {world.tables.kept[channel][-1] for channel in OVERWRITING if world.tables.kept.get(channel)}
    for seq in (*removal.messages, *removal.tasks):
        if seq in owed:
            yield f"{seq} is removed and owed"
        if seq in newest:
            yield f"{seq} is removed and the newest of its channel"
        task = world.tables.tasks.get(seq)
        if task is not None and not TaskState(task.state).is_over:
            yield f"task {seq} is removed and {task.state}"


# Of each step.


def counts_agree_with_the_tables(world: World) -> Iterator[str]:
    """What the hub holds in memory is what its tables say, but for what waits for the next commit."""
    hub = world.hub
    if hub is None:
        return
    state, tables = hub.state, world.tables
    settled = {(state.texts[recipient], seq) for recipient, _, seq in state.writes.settled}
    owed: Counter[str] = Counter(address for address, seq in tables.owed if (address, seq) not in settled)
    for text, peer in state.roster.peers.items():
        mailbox = peer.mailbox
        if mailbox.count != owed[text]:
            yield f"{text} is owed {owed[text]} messages by the table, {mailbox.count} by the mailbox"
        for seq in mailbox.in_flight:
            if (text, seq) not in tables.owed or (text, seq) in settled:
                yield f"{seq} is in flight to {text} and not owed"
        for session in peer.sessions:
            if session.credit < 0:
                yield f"{text} has a credit of {session.credit}"
            for seq, letter in session.letters.items():
                if mailbox.in_flight.get(seq) is not letter:
                    yield f"a session of {text} has {seq}, which is not in flight"
    if state.last_seq != tables.last_seq:
        yield f"the last seq is {state.last_seq} in memory, {tables.last_seq} in the log"
    board = hub.decider.tasks.board
    for seq, row in tables.tasks.items():
        task = board.tasks.get(seq)
        if TaskState(row.state).is_over != (task is None):
            yield f"task {seq} is {row.state} by the table, and {'not ' if task is None else ''}on the board"
        elif task is not None and (task.state, task.attempt, task.lease) != (row.state, row.attempt, row.lease):
            yield f"task {seq} is {row} by the table, {task.state} {task.attempt} {task.lease} on the board"
    if len(board.tasks) > len(tables.tasks):
        yield f"the board has {len(board.tasks)} tasks, the table {len(tables.tasks)}"
    if board.bytes != sum(task.weight for task in board.tasks.values()):
        yield f"the board counts {board.bytes} bytes"


def no_task_is_held_by_two_sessions(world: World) -> Iterator[str]:
    """A working task is with one session or waits for one that was cut off; any other is with nobody."""
    if world.hub is None:
        return
    held: Counter[int] = Counter()
    for session in world.hub.state.roster.sessions.values():
        held.update(session.tasks.keys())
    board = world.hub.decider.tasks.board
    for _, tasks in board.adrift.values():
        held.update(tasks.keys())
    for seq, task in board.tasks.items():
        wanted = int(task.state.is_held)
        if held[seq] != wanted:
            yield f"task {seq} is {task.state} and held {held[seq]} times"


def a_canceled_task_takes_with_it_what_is_below(world: World) -> Iterator[str]:
    """An unfinished task is not below one that is canceled or being stopped, unless it is being stopped itself.

    One that somebody tried again, or that is below one that was, is apart.
    """
    if world.hub is None:
        return
    board, tables, retried = world.hub.decider.tasks.board, world.tables, world.truth.retried
    for seq, task in board.tasks.items():
        parent = task.more.terms.parent if task.extras is not None else 0
        if task.cancel_why is not None or not parent or seq in retried or parent in retried:
            continue
        above, row = board.tasks.get(parent), tables.tasks.get(parent)
        is_canceled = (
            row is not None and row.state == TaskState.CANCELED if above is None else above.cancel_why is not None
        )
        if is_canceled:
            yield f"task {seq} is {task.state}, below task {parent}, which is canceled"


def no_task_is_worked_on_by_two_agents(world: World) -> Iterator[str]:
    """At no moment do the processes of two agents, or two of one agent, work on the same task."""
    working: dict[int, Process] = {}
    for process in world.processes:
        for work in process.works:
            other = working.setdefault(work.seq, process)
            if other is not process:
                yield f"task {work.seq} is worked on by {other} and {process}"


def nobody_gets_more_than_it_asked_for(world: World) -> Iterator[str]:
    """A process has no more messages than its credit, and works on no more tasks than it ever offered slots."""
    for process in world.processes:
        mail = len(process.unread)
        if mail > process.talk.credit:
            yield f"{process.slot.address} has {mail} messages with a credit of {process.talk.credit}"
        tasks = sum(work.is_wanted and not work.is_stopping for work in process.works)
        if tasks > process.slots_most:
            yield f"{process.slot.address} works on {tasks} tasks; it offered {process.slots_most} slots at most"


# Of what arrives.


def what_is_delivered_is_owed(world: World, address: str, seq: int) -> Iterator[str]:
    """The hub delivers only what its tables say is owed, or was before the turn that delivers it, or died in it."""
    tables, place = world.tables, (address, seq)
    if place not in tables.owed and place not in tables.owed_before and place not in tables.dead:
        yield f"{seq} is delivered to {address}, which is not owed it"


def nothing_is_handed_over_twice(world: World, process: Process, message: Message) -> Iterator[str]:
    """An application gets each message once in its life, whatever was delivered again."""
    if process.handed[message.seq] > 1:
        yield f"{process.slot.address} was handed {message.seq} {process.handed[message.seq]} times"


def what_arrives_is_what_was_sent(world: World, process: Process, message: Message) -> Iterator[str]:
    """A message arrives where it was sent to, from who sent it, unchanged."""
    sent = world.truth.sent.get(message.body)
    if sent is None or sent.sender != message.sender:
        yield f"{process.slot.address} was handed {message.seq}, which is not what was sent: {sent}"
    elif sent.to not in ("*", process.slot.address) or message.to not in (sent.to, process.slot.address):
        yield f"{process.slot.address} was handed {message.seq} to {message.to}, which was sent to {sent.to}"


def messages_arrive_in_the_order_sent(world: World, process: Process, message: Message) -> Iterator[str]:
    """From one sender to one address within one priority; what is delivered again may come after later ones."""
    # After a crash of the hub the attempts count anew, so both are looked at.
    if message.attempt > 1 or len(world.told_leases[process.slot.address, message.seq]) > 1:
        return
    line = message.sender, message.to, RANK[message.options.get("priority", "normal")]
    newest = process.newest.get(line, 0)
    if message.seq < newest:
        yield f"{process.slot.address} was handed {message.seq} after {newest}, both for the first time"
    process.newest[line] = max(newest, message.seq)


def entries_arrive_in_order_without_a_gap(world: World, process: Process, channel: str) -> Iterator[str]:
    """A subscriber gets each entry of a channel after its place, once, in order; but for those overwritten since."""
    got = process.entries[channel]
    if channel in OVERWRITING:
        if len(got) > 1 and got[-1] <= got[-2]:
            yield f"{process.slot.address} got {got[-1]} of {channel} after {got[-2]}"
        return
    first = process.after[channel] if process.after[channel] >= 0 else got[0] - 1
    known = set(got)
    entries = world.tables.entries.get(channel, ())
    wanted = [seq for seq in entries if seq > first and (seq in known or seq not in world.truth.removed)][: len(got)]
    if got != wanted:
        yield f"{process.slot.address} got {got[-5:]} of {channel} and should have got {wanted[-5:]}"


def a_cursor_skips_nothing(world: World, process: Process, channel: str) -> Iterator[str]:
    """Who comes back with a cursor goes on no later than where the application said it was."""
    place = process.slot.address, channel
    if process.cursors[channel] and place in world.truth.seen and process.after[channel] > world.truth.seen[place]:
        yield f"{process.slot.address} goes on after {process.after[channel]}, and had seen {world.truth.seen[place]}"


def a_live_answer_is_to_what_was_asked(
    world: World, process: Process, asked: bytes | None, answer: bytes
) -> Iterator[str]:
    """Who asks live gets one answer at most, and it is the one to that question."""
    if asked is None or answer != b"answer to " + asked:
        yield f"{process} asked {asked!r} and was answered {answer!r}"


def one_result_is_taken_of_each_attempt(world: World, seq: int, lease: int, n: int) -> Iterator[str]:
    """What the hub says OK to is the one result of that attempt in its tables."""
    task = world.tables.tasks.get(seq)
    if task is None and seq in world.truth.removed:
        return
    assert task is not None
    kept = world.tables.failed.get((seq, lease), task.result_n if task.lease == lease else None)
    if kept != n or world.truth.results.get((seq, lease), n) != n:
        yield f"result {n} of task {seq} under lease {lease} was answered OK; the tables have {kept}, of {task}"


def watchers_are_told_the_truth(world: World, seq: int, state: str) -> Iterator[str]:
    """Who watches a task is told a state in which it ended."""
    if state not in world.tables.ends.get(seq, ()):
        yield f"a watcher of task {seq} was told {state}; the table has {world.tables.tasks.get(seq)}"


def a_key_is_one_message(world: World, process: Process, key: str, first: int, seq: int) -> Iterator[str]:
    """All that one address sends under one key is one message, whatever process sent it."""
    if seq != first and first not in world.truth.removed:
        yield f"{process.slot.address} stored {seq} under the key {key!r}, which was {first}"


def receipts_tell_the_truth(world: World, process: Process, receipt: Receipted) -> Iterator[str]:
    """Who watches a message is told only what its receipts say."""
    place, stage = (receipt.recipient, receipt.seq), receipt.stage
    if receipt.seq in world.truth.removed or place in world.truth.removed_dead:
        return
    is_true = {
        "stored": True,
        "delivered": bool(world.tables.owed.get(place, place in world.tables.read)) or place in world.tables.dead,
        "read": place in world.tables.read,
        "acked": place in world.tables.read,
        "dead": place in world.tables.dead,
    }[stage]
    if not is_true:
        yield f"{process.slot.address} was told that {receipt.seq} is {stage} for {receipt.recipient}, which it is not"


def a_checkpoint_outlives_its_attempt(world: World, process: Process, assigned: Assigned) -> Iterator[str]:
    """An attempt begins with the newest checkpoint of the earlier ones that an agent was told is kept, or a newer."""
    kept = world.truth.checkpoints.get(assigned.seq)
    left = assigned.options.get("checkpoint")
    if kept is not None and (left is None or _attempt_of(left) < _attempt_of(kept)):
        yield f"{process.slot.address} begins task {assigned.seq} with {left}, and {kept} was kept"


def an_answer_reaches_who_asked(world: World, process: Process, given: AnswerGiven) -> Iterator[str]:
    """An agent is told only what somebody answered to its task."""
    if given.text not in world.truth.answers.get(given.seq, ()):
        yield f"{process.slot.address} was told {given.text!r} of task {given.seq}, which nobody answered"


# At the end.


def nothing_is_left_undone(world: World) -> Iterator[str]:
    """Once the faults are over, all is answered, delivered, acknowledged, worked on and told."""
    for process in world.processes:
        address = process.slot.address
        if not process.is_connected:
            yield f"{address} is not connected"
        if process.asked:
            yield f"{address} asked {list(process.asked.values())} live and was told nothing"
        if process.talk.unanswered:
            yield f"{process.talk.unanswered} sends of {address} have no answer"
        for seq in process.watched - world.truth.removed:
            if (process.epoch, seq) not in world.truth.finished:
                yield f"{address} watches task {seq} and was not told its end"
        for seq, to in process.watched_messages.items():
            if seq in world.truth.removed:
                continue
            for recipient in _meant_for(world, to, address):
                told = process.receipts.get((seq, recipient))
                if told not in ("read", "acked", "dead") and (recipient, seq) not in world.truth.removed_dead:
                    yield f"{address} watches {seq}, and was told last that it is {told} for {recipient}"
        for channel, got in process.entries.items():
            entries = world.tables.kept.get(channel, [])
            newest = entries[-1:] if entries and entries[-1] > process.after[channel] else []
            if got[-1:] != newest and got[-1:] not in [[seq] for seq in world.truth.removed]:
                yield f"{address} got {got[-1:]} of {channel} as the newest, which is {newest}"
    for address, seq in world.tables.owed:
        yield f"{seq} is still owed to {address}"
    for seq, task in world.tables.tasks.items():
        if not TaskState(task.state).is_over:
            yield f"task {seq} is still {task.state}"


def _is_resent(world: World, row: MessageRow) -> Iterator[str]:
    """A message that the hub made is a dead letter that was sent again."""
    address, seq = world.tables.resent.get(row.seq, ("", 0))
    if row.seq in world.truth.resent:
        return
    world.truth.resent.add(row.seq)
    dead = world.tables.all.get(seq)
    if dead is None or (address, dead.sender, dead.body) != (row.to, row.sender, row.body):
        yield f"{row.seq} to {row.to} was made of {seq} to {address}, which is {dead}"


def _attempt_of(checkpoint: bytes) -> int:
    return int(checkpoint.split()[0])


def _meant_for(world: World, to: str, sender: str) -> list[str]:
    if to != "*":
        return [to]
    matrices = dict.fromkeys(slot.address for slot in world.plan.slots if slot.address.startswith("matrix/"))
    return [address for address in matrices if address != sender]


def _reachable() -> dict[str, set[str]]:
    """Return which states may follow which within one turn, by any number of moves."""
    found = {str(state): {str(state)} for state in TaskState}
    for _ in TaskState:
        for seen in found.values():
            for state in list(seen):
                seen |= {str(each) for each in NEXT[TaskState(state)]}
    return found


OVERWRITING: Final = ("channel/context",)
"""Channels in which an entry overwrites the one before."""

_REACHABLE: Final = _reachable()

OF_THE_TABLES: Final = (
    nothing_acknowledged_is_lost,
    nothing_is_stored_twice,
    every_message_is_waiting_done_or_dead,
    no_result_of_an_old_attempt_is_taken,
    tasks_follow_the_table,
)
OF_EACH_STEP: Final = (
    counts_agree_with_the_tables,
    no_task_is_held_by_two_sessions,
    a_canceled_task_takes_with_it_what_is_below,
    no_task_is_worked_on_by_two_agents,
    nobody_gets_more_than_it_asked_for,
)
