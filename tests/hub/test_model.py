"""Any history of sends, deliveries, losses, crashes and time: what was answered is kept, and nothing is done twice.

The real decider and the real store, against a model that only knows what the hub said OK to.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestra import wire
from orchestra.hub.receipts import mail
from orchestra.limits import DELIVERY_LEASE_S, LEASE_S
from orchestra.task import RETRYABLE, TaskState
from orchestra.wire import Record

from .fakehub import FakeHub, FakePeer, seqs

PEERS = ("agent/a", "agent/b", "matrix/m", "matrix/n")
AGENTS = ("agent/a", "agent/b")
PRIORITIES = st.sampled_from(["low", "normal", "high", "urgent"])


class HubMachine(RuleBasedStateMachine):
    """Peers send, read, work, vanish and come back; the hub crashes between turns."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.hub = FakeHub(Path(self.folder.name))
        self.hub.enrol(*PEERS, "operator/o")
        self.owed: dict[str, dict[int, bytes]] = {text: {} for text in PEERS}
        """What the hub said OK to and nobody acknowledged."""
        self.settled: set[tuple[str, int]] = set()
        self.delivered: set[tuple[str, int]] = set()
        """What somebody has and nobody read."""
        self.tasks: dict[int, str] = {}
        """Tasks the hub said OK to: seq → how they ended, or ""."""
        self.links: list[FakePeer] = []
        self.got: dict[bytes, list[Record]] = {}
        self.held: dict[bytes, dict[int, Record]] = {}
        self.unanswered: list[tuple[Record, str]] = []
        self.sender = self.hub.join("operator/o")

    def teardown(self) -> None:
        if hasattr(self, "hub"):
            self.hub.close()
            self.folder.cleanup()

    # Sending.

    @rule(
        to=st.sampled_from([*PEERS, "*"]),
        priority=PRIORITIES,
        count=st.integers(1, 12),
        expires_ms=st.sampled_from([0, 0, 1, 20_000]),
    )
    def send(self, to: str, priority: str, count: int, expires_ms: int) -> None:
        options = {"priority": priority, **({"expires_ms": expires_ms} if expires_ms else {})}
        records = [self.sender.sending(to, b"%d" % self.sender.n, **options) for _ in range(count)]
        self._answered(records, self.sender.say(*records))

    @rule(to=st.sampled_from(["agent/a", "queue/q"]), priority=PRIORITIES)
    def submit(self, to: str, priority: str) -> None:
        record = self.sender.sending(to, kind=wire.TASK, priority=priority)
        self._answered([record], self.sender.say(record))

    @rule(data=st.data(), attempts=st.integers(1, 3), wait_ms=st.sampled_from([0, 0, 3000]), expires=st.booleans())
    def submit_with_terms(self, data: st.DataObject, attempts: int, wait_ms: int, expires: bool) -> None:
        depends_on = data.draw(st.lists(st.sampled_from(sorted(self.tasks)), max_size=3)) if self.tasks else []
        options: dict[str, Any] = {"max_attempts": attempts, "backoff_ms": wait_ms, "depends_on": depends_on}
        if wait_ms:
            options["not_before_ms"] = self.hub.clock.now_ms + wait_ms
        if expires:
            options["expires_ms"] = 20_000
        record = self.sender.sending("queue/q", kind=wire.TASK, **options)
        self._answered([record], self.sender.say(record))

    @rule(to=st.sampled_from(PEERS))
    def send_into_a_crash(self, to: str) -> None:
        """The hub stores a send and dies before its answer arrives."""
        record = self.sender.sending(to, b"crash")
        self.hub.say((self.sender, [record]))
        self.crash()
        told = [each for each in self.sender.say(record) if each[0] != wire.WELCOME]
        self._answered([record], told)

    @rule()
    def repeat_the_last_sends(self) -> None:
        for n in range(max(1, self.sender.n - 3), self.sender.n + 1):
            before = self.hub.messages()
            (told,) = self.sender.say([wire.SEND, n, "agent/a", wire.MESSAGE, b"again", None])
            assert told[:2] == [wire.OK, n]
            assert self.hub.messages() == before

    def _answered(self, records: list[Record], told: list[Record]) -> None:
        answers: dict[int, int] = {}
        for verb, n, seq, count in (each for each in told if each[0] == wire.OK):
            assert verb == wire.OK
            answers |= {n + i: seq + i for i in range(count)}
        for _, n, to, kind, body, _ in records:
            seq = answers[n]
            if kind == wire.TASK:
                self.tasks[seq] = ""
            else:
                for text in PEERS if to == "*" else (to,):
                    if to != "*" or text.startswith("matrix/"):
                        self.owed[text][seq] = body

    # Coming and going.

    @precondition(lambda self: len(self.links) < 8)
    @rule(text=st.sampled_from(PEERS), credit=st.integers(0, 20), slots=st.integers(0, 3))
    def join(self, text: str, credit: int, slots: int) -> None:
        is_agent = text in AGENTS
        peer = self.hub.join(text, credit=credit, slots=slots if is_agent else 0, queues=("queue/q",) * is_agent)
        self.links.append(peer)

    @precondition(lambda self: self.links)
    @rule(data=st.data(), claims=st.booleans(), is_known_lost=st.booleans())
    def come_back(self, data: st.DataObject, claims: bool, is_known_lost: bool) -> None:
        """The same client on a new connection, with or without what it held."""
        old = data.draw(st.sampled_from(self.links))
        self._look()
        held = self.held.pop(old.link, {}) if claims else {}
        if is_known_lost:
            old.vanish()
        is_agent = old.text in AGENTS
        new = old.again(
            credit=10,
            slots=2 * is_agent,
            queues=("queue/q",) * is_agent,
            holding=tuple((task[3], task[1]) for task in held.values()),
        )
        welcome = new.told.pop(0)
        self.held[new.link] = {seq: held[seq] for seq in welcome[6]}
        self.links.append(new)

    @precondition(lambda self: self.links)
    @rule(data=st.data(), is_orderly=st.booleans())
    def leave(self, data: st.DataObject, is_orderly: bool) -> None:
        peer = data.draw(st.sampled_from(self.links))
        if is_orderly:
            peer.say([wire.BYE, "done", ""])
        peer.vanish()

    @rule()
    def crash(self) -> None:
        self.hub.restart()
        for peer in self.links:
            peer.take()
        self.links.clear()
        self.got.clear()
        self.held.clear()
        self.sender = self.sender.again()
        self.sender.take()

    @rule(seconds=st.sampled_from([0.25, 1.0, LEASE_S / 2, LEASE_S, DELIVERY_LEASE_S, 120.0]))
    def pass_time(self, seconds: float) -> None:
        self.hub.clock.advance(seconds)
        self.sender.say([wire.PING, 0])
        self.hub.tick()

    # Reading and working.

    @precondition(lambda self: self.links)
    @rule(data=st.data(), count=st.integers(1, 10), credit=st.integers(0, 10), stage=st.sampled_from([1, 2, 3, 3]))
    def acknowledge(self, data: st.DataObject, count: int, credit: int, stage: int) -> None:
        self._look()
        peer = data.draw(st.sampled_from(self.links))
        mine, self.got[peer.link] = self.got.get(peer.link, [])[:count], self.got.get(peer.link, [])[count:]
        before = set(self.hub.owed(peer.text))
        self.hub.say(
            (peer, [[wire.ACK, stage, [n for each in mine for n in (each[3], each[1])]], [wire.CREDIT, credit, None]])
        )
        gone = before - set(self.hub.owed(peer.text))
        assert gone <= {each[3] for each in mine if stage > 1}, "only what was acknowledged may go"
        self.delivered |= {(peer.text, seq) for seq in self._delivered(peer.text)}
        for seq in gone:
            del self.owed[peer.text][seq]
            self.settled.add((peer.text, seq))

    @precondition(lambda self: self.links)
    @rule(data=st.data(), outcome=st.sampled_from(["completed", "failed", "canceled", "NAK"]))
    def report(self, data: st.DataObject, outcome: str) -> None:
        self._look()
        peer = data.draw(st.sampled_from(self.links))
        for seq, task in list(self.held.get(peer.link, {}).items()):
            is_holder = peer.session is not None and seq in peer.session.tasks
            is_current = is_holder and self.hub.task(seq).lease == task[1]
            given_back = [wire.NAK, task[1], seq, "", "", 0]
            told = peer.say(given_back) if outcome == "NAK" else peer.result(task, outcome)
            is_taken = any(record[0] == wire.OK for record in told)
            assert is_taken == (is_current and outcome != "NAK")
            if is_taken:
                assert self.tasks[seq] == "", "a task ended twice"
                if TaskState(self.hub.state_of(seq)).is_over:
                    self.tasks[seq] = outcome
            del self.held[peer.link][seq]
            peer.told = told + peer.told
            self._look()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.tasks)))
        is_over = TaskState(self.hub.state_of(seq)).is_over
        self.hub.clock.advance(0.001)
        assert (self.sender.call("task.cancel", seq=seq) == "not_cancelable") == is_over

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.tasks)))
        before = TaskState(self.hub.state_of(seq))
        found = self.sender.call("task.retry", seq=seq)
        if found == "not_retryable":
            assert TaskState(self.hub.state_of(seq)) is before
            return
        assert before in RETRYABLE
        self.tasks[seq] = ""

    @precondition(lambda self: self.links)
    @rule(data=st.data(), number=st.integers(1, 3), checkpoint=st.binary(max_size=9))
    def ask(self, data: st.DataObject, number: int, checkpoint: bytes) -> None:
        """Agents leave checkpoints and ask about what they hold, or believe to hold."""
        self._look()
        peer = data.draw(st.sampled_from(self.links))
        for seq, task in self.held.get(peer.link, {}).items():
            is_holder = peer.session is not None and seq in peer.session.tasks
            is_current = is_holder and self.hub.task(seq).lease == task[1]
            said = {"seq": seq, "lease": task[1]}
            if peer.session is not None:
                left = peer.call("task.checkpoint", data=checkpoint, **said)
                assert (left == "stale_lease") != is_current
                asked = peer.call("task.ask", number=number, question="?", **said)
                assert (asked == "stale_lease") != is_current

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.tasks)))
        is_asked = self.hub.state_of(seq) == TaskState.INPUT_REQUIRED
        found = self.sender.call("task.answer", seq=seq, text="!")
        assert found == "not_asked" or found["state"] == "working"
        assert not is_asked or found != "not_asked"

    def _look(self) -> None:
        """Sort what the peers were told since the last look."""
        for peer in self.links:
            for record in peer.take():
                if record[0] == wire.DELIVER and record[6] == wire.TASK:
                    self.held.setdefault(peer.link, {})[record[3]] = record
                elif record[0] == wire.DELIVER:
                    self.got.setdefault(peer.link, []).append(record)
                    assert (peer.text, record[3]) not in self.settled, "it was acknowledged and came back"
                    assert (peer.text, record[3]) not in self.delivered, "it was delivered and came again"
                    assert record[9] == self.owed[peer.text].get(record[3]), "delivered what is not owed"

    def _delivered(self, text: str) -> set[int]:
        sql = "SELECT seq FROM delivery WHERE recipient = ? AND delivered_ms IS NOT NULL"
        return set(self.hub.column(sql, self.hub.peer(text).id))

    @precondition(lambda self: self.delivered or self.settled)
    @rule(data=st.data(), ack=st.booleans())
    def read(self, data: st.DataObject, ack: bool) -> None:
        """Somebody reads a message out of the inbox that was delivered, and perhaps read before."""
        self._look()
        text, seq = data.draw(st.sampled_from(sorted(self.delivered | self.settled)))
        reader = self.hub.join(text)
        before = set(self.hub.owed(text))
        assert reader.call("inbox.read", seqs=[seq], ack=ack) == {"read": 1}
        for gone in before - set(self.hub.owed(text)):
            assert gone == seq
            del self.owed[text][gone]
            self.settled.add((text, gone))
        reader.say([wire.BYE, "done", ""])

    @invariant()
    def receipts_do_not_overlap_and_what_was_said_is_kept(self) -> None:
        rows = self.hub.rows("SELECT recipient, stage, first_seq, last_seq FROM receipt ORDER BY 1, 2, 3")
        for one, two in pairwise(rows):
            assert one[:2] != two[:2] or one[3] < two[2]
        for text, seq in self.settled:
            assert mail(self.hub.store.rows, self.hub.peer(text).id, seq).stage >= 2

    # What must always hold.

    @invariant()
    def nothing_answered_is_lost_and_nothing_settled_is_owed(self) -> None:
        dead: dict[str, set[int]] = {}
        for text, seq in self.hub.rows("SELECT a.text, d.seq FROM dead d JOIN address a ON a.id = d.recipient"):
            dead.setdefault(text, set()).add(seq)
        for text in PEERS:
            owed = self.hub.owed(text)
            assert len(set(owed)) == len(owed)
            assert set(owed) == set(self.owed[text]) - dead.get(text, set())

    @invariant()
    def the_mailboxes_agree_with_the_database(self) -> None:
        for text in PEERS:
            mailbox = self.hub.peer(text).mailbox
            owed = set(self.hub.owed(text))
            assert mailbox.count == len(owed)
            assert mailbox.delivered == len(self._delivered(text))
            assert set(mailbox.in_flight) <= owed
            for session in self.hub.peer(text).sessions:
                assert set(session.letters) <= set(mailbox.in_flight)
                assert session.credit >= 0

    @invariant()
    def every_task_is_in_one_place(self) -> None:
        sessions = self.hub.state.roster.sessions.values()
        board = self.hub.decider.tasks.board
        stored = dict(self.hub.rows("SELECT seq, state FROM task"))
        assert set(stored) == set(self.tasks)
        for seq, ended in self.tasks.items():
            holders = [each for each in sessions if seq in each.tasks]
            adrift = [each for _, held in board.adrift.values() for each in held if each == seq]
            state = TaskState(stored[seq])
            assert len(holders) + len(adrift) == state.is_held
            assert (seq in board.tasks) == (not state.is_over)
            assert ended in ("", state.value)
        for session in sessions:
            assert len(session.tasks) <= max(session.slots, 3)
        assert board.bytes == sum(task.weight for task in board.tasks.values())

    @invariant()
    def every_task_waits_for_what_it_says(self) -> None:
        board = self.hub.decider.tasks.board
        stored = dict(self.hub.rows("SELECT seq, state FROM task"))
        for seq, task in board.tasks.items():
            open_ones = {each for each in task.more.terms.depends_on if not TaskState(stored[each]).is_over}
            if task.state is TaskState.BLOCKED:
                assert task.more.blockers == open_ones != set()
                assert all(board.dependents[each][seq] is task for each in open_ones)
            else:
                assert open_ones == set()
        queued = [task for task in board.tasks.values() if task.state is TaskState.QUEUED]
        assert sum(board.lines().values()) == len(queued)
        assert board.first_seq(default=0) == min(board.tasks, default=0)
        for task in queued:
            idle = [
                each
                for each in self.hub.state.roster.sessions.values()
                if each.free_slots > 0 and task.to in (each.peer.text, *each.queues)
            ]
            assert idle == [], "a task waits beside an agent that waits"
        ended = {seq for seq, _ in self.hub.rows("SELECT task, lease FROM attempt WHERE ended_ms < began_ms")}
        assert ended == set()


@pytest.mark.parametrize("window", [4, 512])
def test_no_history_loses_or_doubles_anything(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.hub.mailbox.WINDOW_MESSAGES", window)
    monkeypatch.setattr("orchestra.hub.post.WINDOW_MESSAGES", window)
    run_state_machine_as_test(HubMachine, settings=settings(stateful_step_count=40))


def test_everything_that_is_owed_arrives_in_the_end(tmp_path: Path) -> None:
    """A plain run through many crashes, to the last message."""
    hub = FakeHub(tmp_path)
    hub.enrol("matrix/m")
    sender, got = hub.join("operator/o"), set()
    sent = set()
    for life in range(10):
        for _ in range(40):
            sent.add(sender.send("matrix/m"))
        reader = hub.join("matrix/m", credit=25)
        delivered = reader.take()
        reader.ack(*delivered[: 20 - life])
        got |= set(seqs(delivered[: 20 - life]))
        hub.restart()
        sender = sender.again()
        sender.take()
    reader = hub.join("matrix/m", credit=4000)
    rest = set(seqs(reader.take()))
    assert got & rest == set()
    assert got | rest == sent
    hub.close()
