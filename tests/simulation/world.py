"""The world: one hub, its peers and the network between them, taken through the steps of a plan."""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

from orchestra import wire
from orchestra.conversation import AnswerGiven, Assigned, Message, Receipted
from orchestra.hub.retention import Removal
from orchestra.task import TaskState
from orchestra.wire import Record

from . import invariants
from .clock import Clocks
from .invariants import Broken, check
from .network import Connection, Network
from .peers import Process
from .script import CHANNELS, Plan, Step, Terms
from .simhub import Crash, SimHub
from .tables import Tables, TaskRow
from .truth import Truth

_TICK_MS: Final = 250
_QUIET_TICK_MS: Final = 1000
_QUIET_MS_MAX: Final = 900_000  # the longest back-off, as often as a message is tried


class World:
    """One run. `run` takes it from the first step to the end; every fault of the hub is raised as `Broken`.

    Attributes:
        counts: steps, faults and what came of them, by name.
        story: what happened, a line per event, for the trace of a failing run; with every record if `is_wordy`.
    """

    def __init__(self, plan: Plan, folder: Path, *, hub: type[SimHub] = SimHub, is_wordy: bool = False) -> None:
        self.plan = plan
        self.is_wordy = is_wordy
        self.counts: Counter[str] = Counter()
        self.story: list[str] = []
        self.clocks = Clocks()
        self.network = Network()
        self.tables = Tables()
        self.truth = Truth()
        self.told_leases: dict[tuple[str, int], set[int]] = {}
        """(address, seq) → the leases under which the hub told this message."""
        self.processes: list[Process] = []
        self.hub: SimHub | None = None
        self._followed: dict[int, dict[str, None]] = {slot: {CHANNELS[0]: None} for slot in plan.readers}
        """Slot → the channels that its application follows with a cursor, in each of its lives."""
        self._path = folder / "hub.db"
        self._hub_type = hub
        self._chance = random.Random(plan.seed)
        self._lives = 0
        self._doom = (0, 0)
        self._boot_ms = 0
        self._takes: dict[str, Callable[..., None]] = {
            "send": self._send,
            "submit": self._submit,
            "acknowledge": self._acknowledge,
            "read": self._read,
            "cancel": self._cancel,
            "answer": self._answer,
            "ask": self._ask,
            "resend": self._resend,
            "drop": self._drop,
            "retry": self._retry,
            "clean": self._clean,
            "subscribe": self._subscribe,
            "see": self._see,
            "offer": self._offer,
            "flow": self._flow,
            "time": self._pass_time,
            "start": self._start,
            "cut": self._cut,
            "stall": self._stall,
            "heal": self._heal,
            "kill": self._kill,
            "double": self._double,
            "doom": self._set_doom,
            "full_disk": self._fill_disk,
            "slow_reader": self._stop_reading,
            "jump": self._jump,
        }

    @property
    def is_up(self) -> bool:
        return self.hub is not None

    def run(self) -> None:
        """Take every step, then let the world come to rest.

        Raises:
            Broken: at the first invariant that does not hold.
        """
        with self._limits():
            try:
                self._boot()
                assert self.hub is not None
                self.hub.enrol(list(dict.fromkeys(slot.address for slot in self.plan.slots)))
                for slot in self.plan.slots:
                    self._begin(slot.number)
                self._exchange()
                for step in self.plan.steps:
                    self.take(step)
                self.come_to_rest()
            except Broken:
                raise
            except Exception as fault:  # also this is told with its trace
                self.note("".join(traceback.format_exception(fault)))
                raise Broken("nothing_unexpected_is_raised", repr(fault)) from fault
            finally:
                if self.hub is not None:
                    self.hub.close()
                    self._count_hub()

    def take(self, step: Step) -> None:
        """Take one step and look at everything."""
        self.note(f"{step[0]} {' '.join(map(str, step[1:]))}")
        self.counts["steps"] += 1
        self.counts[f"step {step[0]}"] += 1
        self._takes[step[0]](*step[1:])
        self._look()

    def note(self, line: str) -> None:
        self.story.append(line)

    def note_record(self, who: str, record: Record) -> None:
        """Write down what somebody said, where the story is to have every word."""
        if self.is_wordy and record[0] not in (wire.PING, wire.PONG):
            fields = ", ".join(str(each) if not isinstance(each, bytes) else repr(each) for each in record[1:])
            self.note(f"  {who}: {wire.VERBS[record[0]]} {fields}")

    @contextmanager
    def _limits(self) -> Iterator[None]:
        """Small limits reach in a hundred steps what large ones reach in a million."""
        hub = "orchestra.hub"
        with (
            mock.patch(f"{hub}.mailbox.WINDOW_MESSAGES", self.plan.window),
            mock.patch(f"{hub}.post.WINDOW_MESSAGES", self.plan.window),
            mock.patch(f"{hub}.channels.WINDOW_MESSAGES", self.plan.window),
            mock.patch(f"{hub}.post.DELIVERY_ATTEMPTS_MAX", self.plan.attempts_max),
            mock.patch(f"{hub}.post.MAILBOX_MESSAGES_MAX", self.plan.mailbox_max),
            mock.patch(f"{hub}.decider.MAILBOX_MESSAGES_MAX", self.plan.mailbox_max),
            mock.patch(f"{hub}.tasks.TASK_LOSSES_MAX", self.plan.losses_max),
        ):
            yield

    # What applications do.

    def _process(self, slot: int) -> Process | None:
        """The living process of a slot; the newest where there are two."""
        return next((each for each in reversed(self.processes) if each.slot.number == slot and not each.is_over), None)

    def _send(self, slot: int, to: str, priority: str | None, count: int, more: Terms) -> None:
        process = self._process(slot)
        if process is not None:
            options: dict[str, Any] = {"priority": priority} if priority else {}
            options |= more if not to.startswith("channel/") else {}
            for _ in range(count):
                process.send(to, options=options or None)

    def _resend(self, slot: int, pick: int) -> None:
        self._deal_with_dead("dead.resend", slot, pick)

    def _drop(self, slot: int, pick: int) -> None:
        self._deal_with_dead("dead.drop", slot, pick)

    def _deal_with_dead(self, method: str, slot: int, pick: int) -> None:
        process, dead = self._process(slot), sorted({seq for _, seq in self.tables.dead})
        if process is not None and dead:
            process.call(method, seqs=[dead[pick % len(dead)]])

    def _answer(self, slot: int, pick: int) -> None:
        """Answer a task that asks."""
        process = self._process(slot)
        asking = [task.seq for task in self._tasks() if task.state == TaskState.INPUT_REQUIRED]
        if process is not None and asking:
            seq = asking[pick % len(asking)]
            text = f"answer {self.counts['answers']} to {seq}"
            self.counts["answers"] += 1
            self.truth.answers.setdefault(seq, set()).add(text)
            process.call("task.answer", seq=seq, text=text)

    def _ask(self, slot: int, to: str, wait_ms: int) -> None:
        process = self._process(slot)
        if process is not None:
            process.ask(to, wait_ms)

    def _submit(self, slot: int, to: str, terms: Terms) -> None:
        """Submit a task; `depends_on`, `parent` and `not_before_ms` are said as they are known here."""
        process = self._process(slot)
        if process is None:
            return
        options = dict(terms)
        mine = [task.seq for task in self._tasks() if self.tables.messages[task.seq].sender == process.slot.address]
        if "parent" in options:
            options["parent"] = mine[options["parent"] % len(mine)] if mine else 0
        if "depends_on" in options:
            options["depends_on"] = sorted({mine[pick % len(mine)] for pick in options["depends_on"]} if mine else ())
        if "not_before_ms" in options:
            options["not_before_ms"] += self.clocks.now_ms
        process.send(to, kind=wire.TASK, options=options or None)

    def _retry(self, slot: int, pick: int) -> None:
        process, tasks = self._process(slot), self._tasks()
        if process is not None and tasks:
            seq = tasks[pick % len(tasks)].seq
            self.truth.retried.add(seq)
            process.call("task.retry", seq=seq)

    def _tasks(self) -> list[TaskRow]:
        return list(self.tables.tasks.values())

    def _acknowledge(self, slot: int, count: int, stage: int) -> None:
        process = self._process(slot)
        if process is not None:
            process.acknowledge(count, stage)

    def _see(self, slot: int) -> None:
        process = self._process(slot)
        if process is not None:
            process.see()

    def _read(self, slot: int) -> None:
        process = self._process(slot)
        if process is not None:
            process.call("inbox")

    def _cancel(self, slot: int, pick: int) -> None:
        process, tasks = self._process(slot), self._tasks()
        if process is not None and tasks:
            process.call("task.cancel", seq=tasks[pick % len(tasks)].seq)

    def _subscribe(self, slot: int, channel: str, after: int | None, cursor: str) -> None:
        process = self._process(slot)
        if process is not None:
            process.subscribe(channel, after, cursor=cursor)
            if cursor:
                self._followed.setdefault(slot, {})[channel] = None

    def _offer(self, slot: int, slots: int) -> None:
        process = self._process(slot)
        if process is not None:
            process.offer(slots)

    # The world's own deeds, and faults.

    def _begin(self, slot: int) -> None:
        self._lives += 1
        process = Process(self, self.plan.slots[slot], epoch=self._lives.to_bytes(8, "big"))
        self.processes.append(process)
        for channel in self._followed.get(slot, ()):
            process.subscribe(channel, None, cursor="mine")
        process.connect()

    def _start(self) -> None:
        for slot in self.plan.slots:
            if self._process(slot.number) is None:
                self._begin(slot.number)

    def _double(self, slot: int) -> None:
        """Somebody starts an agent a second time while it runs."""
        if self._process(slot) is not None:
            self.counts["fault: agent started twice"] += 1
            self._begin(slot)

    def _cut(self, slot: int, lost_up: int, lost_down: int, silence: int) -> None:
        process = self._process(slot)
        if process is not None and process.connection is not None:
            self.counts["fault: connection cut"] += 1
            process.connection.cut(
                lost_up=lost_up, lost_down=lost_down, tells_hub=silence not in (1, 3), tells_peer=silence not in (2, 3)
            )

    def _stall(self, slot: int, direction: str) -> None:
        process = self._process(slot)
        if process is not None and process.connection is not None:
            self.counts[f"fault: {direction} stalled"] += 1
            both = frozenset({"up", "down"})
            process.connection.stalled |= both if direction == "both" else {direction}

    def _heal(self) -> None:
        for connection in self.network.connections.values():
            connection.stalled = frozenset()

    def _kill(self, slot: int, lost_up: int) -> None:
        process = self._process(slot)
        if process is not None:
            self.counts["fault: process killed"] += 1
            process.kill(lost_up=lost_up)

    def _set_doom(self, points: int, down_ms: int, how: int) -> None:
        if self.hub is not None:
            self.hub.crash_in = points
            self._doom = (down_ms, how)

    def _fill_disk(self, commits: int) -> None:
        if self.hub is not None:
            self.hub.fail_in = commits

    def _stop_reading(self, slot: int) -> None:
        process = self._process(slot)
        if self.hub is not None and process is not None and process.connection is not None:
            self.counts["fault: slow reader"] += 1
            self.hub.deaf.add(process.connection.link)

    def _clean(self, later_ms: int) -> None:
        """Retention runs, so much later by the clock on the wall."""
        self.clocks.jump(later_ms)
        if self.hub is not None:
            try:
                self.hub.clean()
            except Crash:
                self._hub_died()

    def _removes(self, removal: Removal) -> None:
        check(invariants.only_what_is_over_is_removed, self, removal)
        texts = self.hub.state.texts if self.hub is not None else {}
        removed = {*removal.messages, *removal.tasks}
        self.counts["rows removed"] += removal.counts().total()
        self.truth.removed |= removed | {seq for _, seq in removal.entries}
        self.truth.removed_dead |= {(texts[recipient], seq) for seq, recipient in removal.dead}
        for seq in removed:
            self.tables.messages.pop(seq, None)

    def _jump(self, ms: int) -> None:
        self.counts["fault: clock jumps"] += 1
        self.clocks.jump(ms)

    def _boot(self) -> None:
        self.hub = self._hub_type(
            self._path,
            self.clocks,
            self.network,
            chance=self._chance.random,
            committed=self._committed,
            tells=self._told,
            removes=self._removes,
        )
        self.note("  the hub starts")
        self.tables.refresh(self.hub.store, is_all=True)
        self._judge_tables()

    def _hub_died(self) -> None:
        """Its process is gone: what it had not committed is lost, and so is every connection."""
        assert self.hub is not None
        self.note("  the hub dies")
        self.counts["fault: hub killed"] += 1
        self._count_hub()
        self.hub.close()
        self.hub = None
        down_ms, how = self._doom
        if how == 1:
            self.clocks.restart_machine((self.clocks.true_ms * 7) % 50_000)
        for connection in self.network.connections.values():
            connection.up.clear()
            connection.cut(lost_down=0 if how < 2 else 1, tells_hub=False, tells_peer=how != 3)
        self._boot_ms = self.clocks.true_ms + down_ms

    def _count_hub(self) -> None:
        assert self.hub is not None
        self.counts["commits"] += self.hub.commits
        self.counts["points"] += self.hub.points
        self.counts["fault: commit refused"] += self.hub.refused_commits

    # Time and network.

    def _flow(self, sub_seed: int) -> None:
        """Some of what is under way arrives, in any order across connections."""
        chance = random.Random(sub_seed)
        arrived = []
        for connection in chance.sample(list(self.network.connections.values()), len(self.network.connections)):
            if "up" not in connection.stalled and connection.up and chance.random() < 0.8:
                for _ in range(chance.randint(1, len(connection.up))):
                    arrived.append((connection, connection.up.popleft()))
        self._hub_takes(arrived)
        for process in chance.sample(self.processes, len(self.processes)):
            connection = process.connection
            if connection is None or "down" in connection.stalled or not connection.down:
                continue
            if chance.random() < 0.8:
                self._peer_takes(process, chance.randint(1, len(connection.down)))
        self.network.forget_ended()

    def _exchange(self) -> None:
        """All that is not stalled arrives, and so do the answers."""
        for _ in range(4):
            arrived = []
            for connection in self.network.connections.values():
                if "up" not in connection.stalled:
                    arrived += [(connection, frame) for frame in connection.up]
                    connection.up.clear()
            if arrived:
                self._hub_takes(arrived)
            is_quiet = not arrived
            for process in list(self.processes):
                connection = process.connection
                if connection is not None and connection.down and "down" not in connection.stalled:
                    is_quiet = False
                    self._peer_takes(process, len(connection.down))
            if is_quiet:
                break
        self.network.forget_ended()

    def _hub_takes(self, arrived: list[tuple[Connection, Any]]) -> None:
        if self.hub is not None and arrived:
            self.counts["frames"] += len(arrived)
            try:
                self.hub.take(arrived)
            except Crash:
                self._hub_died()

    def _peer_takes(self, process: Process, count: int) -> None:
        connection = process.connection
        assert connection is not None
        for _ in range(count):
            if not connection.down or process.connection is not connection:
                return
            process.receive(connection.down.popleft())

    def _pass_time(self, ms: int, *, tick_ms: int = _TICK_MS) -> None:
        while ms > 0:
            now = min(ms, tick_ms)
            ms -= now
            self.clocks.advance(now)
            if self.hub is not None:
                try:
                    self.hub.tick()
                except Crash:
                    self._hub_died()
            elif self.clocks.true_ms >= self._boot_ms:
                self._boot()
            for process in self.processes:
                process.beat()
            self.processes = [each for each in self.processes if not each.is_over or each.works]
            self._exchange()
            check(invariants.no_task_is_worked_on_by_two_agents, self)

    def come_to_rest(self) -> None:
        """No more faults: every process lives, reads and acknowledges, until nothing is left to do."""
        self.note("come to rest")
        if self.hub is None:
            self._boot()
        assert self.hub is not None
        self.hub.crash_in = self.hub.fail_in = 0
        self.hub.deaf.clear()
        self._heal()
        self.clocks.mend()
        self._start()
        for process in self.processes:
            if process.slot.slots:
                process.offer(process.slot.slots)
        waited_ms = 0
        while waited_ms < _QUIET_MS_MAX and (waited_ms < 20_000 or self._is_busy()):
            self._pass_time(_QUIET_TICK_MS, tick_ms=_QUIET_TICK_MS)
            waited_ms += _QUIET_TICK_MS
            for process in self.processes:
                process.acknowledge(1000)
                process.see()
                if waited_ms % 5000 == 0:
                    process.read_unread(self.tables)
            if waited_ms % 5000 == 0:
                self._start()
            self._look()
        self.counts["rest_ms"] += waited_ms
        self.tables.refresh(self.hub.store, is_all=True)
        self._judge_tables()
        self._look()
        check(invariants.nothing_is_left_undone, self)

    def _is_busy(self) -> bool:
        return any(True for _ in invariants.nothing_is_left_undone(self))

    # What the hub and the peers report; each is judged at once.

    def _committed(self) -> None:
        assert self.hub is not None
        self.tables.refresh(self.hub.store)
        self._judge_tables()

    def _told(self, connection: Connection, record: Record) -> None:
        self.note_record(f"hub to {connection}", record)
        if record[0] == wire.DELIVER and record[1] and record[6] == wire.MESSAGE:
            check(invariants.what_is_delivered_is_owed, self, connection.address, record[3])
            self.told_leases.setdefault((connection.address, record[3]), set()).add(record[1])

    def send_stored(self, process: Process, n: int, seq: int, body: bytes) -> None:
        key = process.keys.pop(n, None)
        if key is not None:
            first = self.truth.keys.setdefault((process.slot.address, key), seq)
            check(invariants.a_key_is_one_message, self, process, key, first, seq)
            row = self.tables.all.get(seq)
            if row is not None and row.body != body:  # it is the earlier one that this was to be
                return
        self.truth.stored[process.epoch, n] = (seq, body)
        check(invariants.nothing_acknowledged_is_lost, self)

    def result_stored(self, process: Process, n: int, seq: int, lease: int) -> None:
        check(invariants.one_result_is_taken_of_each_attempt, self, seq, lease, n)
        self.truth.results[seq, lease] = n

    def subscribed(self, process: Process, channel: str) -> None:
        check(invariants.a_cursor_skips_nothing, self, process, channel)

    def message_handed(self, process: Process, message: Message) -> None:
        self.counts["messages handed over"] += 1
        check(invariants.nothing_is_handed_over_twice, self, process, message)
        check(invariants.what_arrives_is_what_was_sent, self, process, message)
        check(invariants.messages_arrive_in_the_order_sent, self, process, message)

    def entry_handed(self, process: Process, message: Message) -> None:
        check(invariants.entries_arrive_in_order_without_a_gap, self, process, message.to)

    def receipt_told(self, process: Process, receipt: Receipted) -> None:
        check(invariants.receipts_tell_the_truth, self, process, receipt)

    def task_begun(self, process: Process, assigned: Assigned) -> None:
        check(invariants.a_checkpoint_outlives_its_attempt, self, process, assigned)

    def answer_given(self, process: Process, given: AnswerGiven) -> None:
        check(invariants.an_answer_reaches_who_asked, self, process, given)

    def answered(self, process: Process, asked: bytes | None, answer: bytes) -> None:
        self.counts["live answers"] += 1
        check(invariants.a_live_answer_is_to_what_was_asked, self, process, asked, answer)

    def watcher_told(self, process: Process, seq: int, state: str) -> None:
        self.truth.finished[process.epoch, seq] = state
        check(invariants.watchers_are_told_the_truth, self, seq, state)

    def _judge_tables(self) -> None:
        for each in invariants.OF_THE_TABLES:
            check(each, self)

    def _look(self) -> None:
        for each in invariants.OF_EACH_STEP:
            check(each, self)
