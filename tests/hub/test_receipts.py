"""Receipts: how far a message has come for each recipient, and what stays unread."""

from __future__ import annotations

import pytest

from orchestra import wire
from orchestra.hub import post as post_module
from orchestra.hub.receipts import mail, receipts_of
from orchestra.limits import CREDIT_MAX, DELIVERY_LEASE_S
from orchestra.stage import ACKED, DELIVERED, READ, STAGES, has_reached
from orchestra.wire import ACK, DELIVER

from .fakehub import FakeHub, FakePeer, codes, pass_time, seqs

RUNS = "SELECT stage, first_seq, last_seq, session FROM receipt ORDER BY stage, first_seq"


def _number(peer: FakePeer) -> int:
    assert peer.session is not None
    return peer.session.number


def _said(hub: FakeHub, text: str, seq: int) -> list[int]:
    return [stage for stage, *_ in receipts_of(hub.store.rows, hub.peer(text).id, seq)]


def test_a_later_stage_implies_the_earlier_and_dead_implies_none() -> None:
    for place, stage in enumerate(STAGES):
        assert [has_reached(stage, wanted) for wanted in STAGES] == [at <= place for at in range(len(STAGES))]
    assert not any(has_reached("dead", wanted) for wanted in STAGES)


@pytest.mark.parametrize("stage", [DELIVERED, READ, ACKED])
def test_consecutive_messages_that_are_acknowledged_together_share_one_receipt(hub: FakeHub, stage: int) -> None:
    agent, sender = hub.join("agent/a", credit=99), hub.join("operator/o")
    sent = [sender.send("agent/a") for _ in range(6)]
    got = agent.took(DELIVER)
    together = [number for each in got[2:4] for number in (each[3], each[1])]
    agent.say(*([ACK, stage, [each[3], each[1]]] for each in got[:2]), [ACK, stage, together])
    agent.ack(got[5], stage=stage)
    assert hub.rows(RUNS) == [(stage, sent[0], sent[3], _number(agent)), (stage, sent[5], sent[5], _number(agent))]
    assert [_said(hub, "agent/a", seq) for seq in sent] == [[stage]] * 4 + [[], [stage]]


def test_receipts_of_different_peers_sessions_and_stages_are_kept_apart(hub: FakeHub) -> None:
    one, two, sender = hub.join("agent/a", credit=9), hub.join("agent/b", credit=9), hub.join("operator/o")
    for to in ("agent/a", "agent/b", "agent/a", "agent/a"):
        sender.send(to)
    first, third, fourth = one.took(DELIVER)
    (second,) = two.took(DELIVER)
    pairs = [[each[3], each[1]] for each in (first, second, third, fourth)]
    last = [[ACK, READ, pairs[2]], [ACK, ACKED, pairs[3]]]
    hub.say((one, [[ACK, READ, pairs[0]]]), (two, [[ACK, READ, pairs[1]]]), (one, last))
    assert hub.rows("SELECT recipient, stage, first_seq, last_seq FROM receipt ORDER BY first_seq") == [
        (hub.peer("agent/a").id, READ, 1, 1),
        (hub.peer("agent/b").id, READ, 2, 2),
        (hub.peer("agent/a").id, READ, 3, 3),
        (hub.peer("agent/a").id, ACKED, 4, 4),
    ]


def test_a_message_that_was_only_delivered_stays_in_the_inbox_and_is_not_pushed_again(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    seq = sender.send("agent/a")
    agent.ack(*agent.took(DELIVER), stage=DELIVERED)
    mailbox = hub.peer("agent/a").mailbox
    assert (mailbox.count, mailbox.waiting, mailbox.in_flight) == (1, 0, {})
    pass_time(hub, agent, 2 * DELIVERY_LEASE_S)
    agent.vanish()
    for _ in range(2):
        agent, sender = agent.again(credit=9), sender.again()
        assert seqs(agent.take()) == []
        assert [each["seq"] for each in agent.call("inbox")["messages"]] == [seq]
        (facts,) = [each for each in sender.call("peers")["peers"] if each["address"] == "agent/a"]
        assert (facts["waiting"], facts["unread"]) == (0, 1)
        assert sender.call("status")["mailboxes"] == {}
        hub.restart()
    agent, sender = agent.again(credit=9), sender.again()
    newer = sender.send("agent/a")
    assert seqs(agent.take()) == [newer], "what is unread holds up nothing"


def test_unread_messages_count_towards_the_bound_of_a_mailbox(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.hub.decider.MAILBOX_MESSAGES_MAX", 1)
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    seq = sender.send("agent/a")
    agent.ack(*agent.took(DELIVER), stage=DELIVERED)
    assert codes(sender.say(sender.sending("agent/a"))) == ["mailbox_full"]
    assert agent.call("inbox.read", seqs=[seq]) == {"read": 1}
    sender.send("agent/a")


@pytest.mark.parametrize(("ack", "stage"), [(False, READ), (True, ACKED)])
def test_reading_out_of_the_inbox_says_so_wherever_the_message_was(hub: FakeHub, ack: bool, stage: int) -> None:
    agent, sender = hub.join("agent/a", credit=2), hub.join("operator/o")
    sent = [sender.send("agent/a") for _ in range(3)]
    delivered, _in_flight = agent.took(DELIVER)
    agent.ack(delivered, stage=DELIVERED)
    assert agent.call("inbox.read", seqs=[*sent, 99, sent[0]], ack=ack) == {"read": 3}
    mailbox = hub.peer("agent/a").mailbox
    assert (mailbox.count, mailbox.waiting, hub.owed("agent/a")) == (0, 0, [])
    assert [_said(hub, "agent/a", seq) for seq in (*sent, 99)] == [[DELIVERED, stage], [stage], [stage], []]
    hub.clock.advance(0.001)
    assert agent.call("inbox.read", seqs=sent, ack=ack) == {"read": 3}, "safe to repeat"
    assert agent.call("inbox.read", seqs=[99], ack=ack) == {"read": 0}


def test_a_message_that_was_read_can_be_acknowledged_later_and_by_nobody_else(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a"), hub.join("operator/o")
    seq = sender.send("agent/a")
    agent.call("inbox.read", seqs=[seq])
    assert sender.call("inbox.read", seqs=[seq], ack=True) == {"read": 0}
    hub.clock.advance(0.001)
    assert agent.call("inbox.read", seqs=[seq], ack=True) == {"read": 1}
    assert _said(hub, "agent/a", seq) == [READ, ACKED]
    hub.clock.advance(0.001)
    assert agent.call("inbox.read", seqs=[seq]) == {"read": 1}, "it is read, and stays acknowledged"
    assert _said(hub, "agent/a", seq) == [READ, ACKED]


def test_two_readings_of_one_message_in_one_turn_count_it_once(hub: FakeHub) -> None:
    one, two, sender = hub.join("matrix/m"), hub.join("matrix/m"), hub.join("operator/o")
    sent = [sender.send("matrix/m") for _ in range(2)]
    hub.say(*((each, [[wire.CALL, 1, "inbox.read", {"seqs": sent[:1]}]]) for each in (one, two)))
    mailbox = hub.peer("matrix/m").mailbox
    assert (mailbox.count, hub.owed("matrix/m")) == (1, sent[1:])


def test_what_was_just_read_does_not_come_back_with_the_next_rows_of_the_mailbox(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.hub.mailbox.WINDOW_MESSAGES", 1)
    hub.enrol("matrix/m")
    sender = hub.join("operator/o")
    sent = [sender.send("matrix/m") for _ in range(4)]
    reader = hub.join("matrix/m", credit=1)
    told = reader.say([wire.CALL, 1, "inbox.read", {"seqs": sent}], [wire.CREDIT, 3, None])
    assert seqs(told) == sent[:1], "it was under way before"
    assert reader.take() == []
    assert hub.owed("matrix/m") == []
    assert hub.peer("matrix/m").mailbox.count == 0


def test_a_session_that_only_peeks_does_not_keep_another_from_acknowledging(hub: FakeHub) -> None:
    peeking, working, sender = hub.join("matrix/m", credit=9), hub.join("matrix/m", credit=9), hub.join("operator/o")
    sent = [sender.send("matrix/m") for _ in range(3)]
    seen, got = peeking.took(DELIVER), working.took(DELIVER)
    peeking.ack(*seen, stage=DELIVERED)
    working.ack(got[0], stage=DELIVERED)
    pass_time(hub, working, 2 * DELIVERY_LEASE_S)  # it takes its time
    assert seqs(working.take()) == []
    working.ack(got[1])
    mailbox = hub.peer("matrix/m").mailbox
    assert (mailbox.count, mailbox.waiting) == (2, 0)
    assert hub.owed("matrix/m") == [sent[0], sent[2]]
    assert list(mailbox.in_flight) == [sent[2]]
    working.vanish()
    assert (mailbox.count, mailbox.waiting, mailbox.in_flight) == (2, 0, {})
    assert seqs(working.again(credit=9).take()) == []
    assert _said(hub, "matrix/m", sent[1]) == [DELIVERED, ACKED]


def test_a_session_that_lets_delivered_messages_pile_up_loses_its_say_in_them(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_module, "CREDIT_MAX", 1)
    peeking, idle, sender = hub.join("matrix/m", credit=9), hub.join("matrix/m", credit=9), hub.join("operator/o")
    for _ in range(2):
        sender.send("matrix/m")
    peeking.ack(*peeking.took(DELIVER), stage=DELIVERED)
    pass_time(hub, idle, DELIVERY_LEASE_S)
    assert idle.session is not None
    assert len(idle.session.letters) <= 1
    assert CREDIT_MAX > 1


@pytest.mark.parametrize("stage", [0, 4, 2**40])
def test_an_ack_of_another_stage_is_malformed(hub: FakeHub, stage: int) -> None:
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    seq = sender.send("agent/a")
    assert codes(agent.ack(*agent.took(DELIVER), stage=stage)) == ["malformed"]
    assert hub.owed("agent/a") == [seq]


def test_a_message_of_another_is_nowhere(hub: FakeHub) -> None:
    hub.enrol("agent/a", "agent/b")
    seq = hub.join("operator/o").send("agent/a")
    assert mail(hub.store.rows, hub.peer("agent/a").id, seq) == (seq, 2, False, 0)
    assert mail(hub.store.rows, hub.peer("agent/b").id, seq) == (seq, None, False, 0)
