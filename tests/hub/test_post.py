"""The post: deliveries, acknowledgements, redeliveries, broadcasts."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import wire
from orchestra.hub import hubstate
from orchestra.hub import post as post_module
from orchestra.limits import (
    CREDIT_MAX,
    DELIVERY_ATTEMPTS_MAX,
    DELIVERY_LEASE_S,
    WINDOW_MESSAGES,
)
from orchestra.wire import ACK, CREDIT, DELIVER, ERROR, NAK

from .fakehub import FakeHub, codes, pass_time, seqs


def test_a_message_reaches_a_connected_peer_in_the_turn_it_was_sent(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=1), hub.join("operator/o")
    seq = sender.send("agent/a", b"hello", priority="high")
    (record,) = agent.take()
    verb, lease, attempt, *rest = record
    assert (verb, attempt) == (DELIVER, 1)
    assert lease > 0
    assert rest == [seq, "operator/o", "agent/a", wire.MESSAGE, hub.clock.now_ms, {"priority": "high"}, b"hello"]


def test_a_message_waits_for_a_peer_that_is_not_connected(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    sent = [sender.send("agent/a") for _ in range(3)]
    assert seqs(hub.join("agent/a", credit=10).take()) == sent


def test_nothing_is_delivered_beyond_the_credit(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=2), hub.join("operator/o")
    sent = [sender.send("agent/a") for _ in range(6)]
    assert seqs(agent.take()) == sent[:2]
    assert seqs(agent.ack([DELIVER, 0, 1, sent[0]])) == [], "an ACK is no credit"
    assert seqs(agent.allow(3)) == sent[2:5]
    assert seqs(agent.allow(2**63 - 1)) == sent[5:]
    assert agent.session is not None
    assert agent.session.credit <= CREDIT_MAX


def test_a_new_message_does_not_overtake_those_that_are_still_in_the_database(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a"), hub.join("operator/o")
    count = WINDOW_MESSAGES + 100
    sender.say(*(sender.sending("agent/a") for _ in range(count)))
    hub.say((agent, [[CREDIT, 4000, None]]), (sender, [sender.sending("agent/a")]))
    assert seqs(agent.take()) == list(range(1, count + 2))


def test_a_message_is_not_held_up_by_an_earlier_one_that_has_to_wait(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    sender.send("agent/a")
    (delivery,) = agent.take()
    agent.say([NAK, delivery[1], delivery[3], "busy", "", 60_000])
    seq = sender.send("agent/a")
    assert seqs(agent.take()) == [seq]


def test_urgent_messages_come_first_and_equals_in_the_order_sent(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    sent = [(p, sender.send("agent/a", priority=p)) for p in ("low", "normal", "urgent", "high", "urgent", "normal")]
    got = seqs(hub.join("agent/a", credit=10).take())
    assert got == [seq for p in ("urgent", "high", "normal", "low") for q, seq in sent if q == p]


def test_an_acknowledged_message_is_owed_no_more(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=5), hub.join("operator/o")
    sender.send("agent/a")
    agent.ack(*agent.take())
    assert hub.owed("agent/a") == []
    assert hub.peer("agent/a").mailbox.count == 0
    hub.restart()
    assert hub.join("agent/a", credit=5).take() == []


@pytest.mark.parametrize("shift", [-1, 1])
def test_an_ack_under_another_lease_is_ignored_and_counted(hub: FakeHub, shift: int) -> None:
    agent, sender = hub.join("agent/a", credit=5), hub.join("operator/o")
    sender.send("agent/a")
    (delivery,) = agent.take()
    assert agent.say([ACK, 3, [delivery[3], delivery[1] + shift]]) == []
    assert hub.owed("agent/a") == [delivery[3]]
    assert hub.count("stale_acks") == 1


@pytest.mark.parametrize(
    "pairs", [["x", "y"], [None, None], [[1], [2]], [1.0, 1.0], [{}, {}], [-1, -1], [2**64 - 1, 0]]
)
def test_an_ack_of_nonsense_is_ignored(hub: FakeHub, pairs: list[Any]) -> None:
    agent, sender = hub.join("agent/a", credit=5), hub.join("operator/o")
    sender.send("agent/a")
    assert agent.say([ACK, 3, pairs])[1:] == []
    assert hub.owed("agent/a") == [1]


def test_an_ack_of_half_a_pair_is_malformed(hub: FakeHub) -> None:
    assert codes(hub.join("agent/a").say([ACK, 3, [1]])) == ["malformed"]


def test_nobody_can_acknowledge_what_another_has(hub: FakeHub) -> None:
    agent, sender, thief = hub.join("agent/a", credit=5), hub.join("operator/o"), hub.join("agent/b", credit=5)
    sender.send("agent/a")
    thief.ack(*agent.take())
    assert hub.owed("agent/a") == [1]


def test_what_a_lost_session_had_is_delivered_again_with_the_next_attempt(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=5), hub.join("operator/o")
    sender.send("agent/a")
    (first,) = agent.take()
    agent.vanish()
    again = agent.again(credit=5)
    (second,) = [each for each in again.take() if each[0] == DELIVER]
    assert second[2] == 2
    assert second[1] > first[1]
    again.ack(first)
    assert hub.owed("agent/a") == [1], "the old lease is of a dead session"
    again.ack(second)
    assert hub.owed("agent/a") == []


def test_a_delivery_nobody_acknowledges_is_taken_back_and_its_lease_is_void(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=5), hub.join("operator/o")
    sender.send("agent/a")
    (first,) = agent.take()
    pass_time(hub, agent, DELIVERY_LEASE_S - 0.001)
    assert seqs(agent.take()) == []
    pass_time(hub, agent, 0.001)
    agent.ack(first)
    assert hub.owed("agent/a") == [1]
    pass_time(hub, agent, 1.0)
    (second,) = [each for each in agent.take() if each[0] == DELIVER]
    assert second[2:4] == [2, 1]
    assert second[1] > first[1]


def test_a_message_that_is_never_acknowledged_becomes_a_dead_letter(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=100), hub.join("operator/o")
    seq = sender.send("agent/a")
    attempts: list[int] = []
    for _ in range(DELIVERY_ATTEMPTS_MAX + 1):
        attempts += [record[2] for record in agent.take() if record[0] == DELIVER]
        pass_time(hub, agent, DELIVERY_LEASE_S)
        attempts += [record[2] for record in agent.take() if record[0] == DELIVER]
        pass_time(hub, agent, 120.0)
    assert attempts == list(range(1, DELIVERY_ATTEMPTS_MAX + 1))
    assert hub.rows("SELECT seq, reason FROM dead") == [(seq, "too many attempts")]
    assert hub.owed("agent/a") == []
    assert hub.peer("agent/a").mailbox.count == 0


def test_attempts_are_remembered_over_a_restart(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=100), hub.join("operator/o")
    sender.send("agent/a")
    for _ in range(3):
        agent.vanish()
        agent = agent.again(credit=100)
    hub.restart()
    delivered = [each for each in agent.again(credit=1).take() if each[0] == DELIVER]
    assert delivered[0][2] == 5


def test_a_message_given_back_comes_again_when_its_delay_is_over(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=5), hub.join("operator/o")
    sender.send("agent/a")
    (delivery,) = agent.take()
    assert agent.say([NAK, delivery[1], delivery[3], "busy", "", 5000]) == []
    pass_time(hub, agent, 4.9)
    assert seqs(agent.take()) == []
    pass_time(hub, agent, 0.1)
    assert seqs(agent.take()) == [delivery[3]]


@pytest.mark.parametrize("delay_ms", [0, 2**63 - 1])
def test_giving_back_what_one_does_not_hold_is_a_stale_lease(hub: FakeHub, delay_ms: int) -> None:
    agent, sender = hub.join("agent/a", credit=5), hub.join("operator/o")
    sender.send("agent/a")
    (delivery,) = agent.take()
    for lease, seq in ((delivery[1] + 1, delivery[3]), (delivery[1], delivery[3] + 1)):
        (error,) = agent.say([NAK, lease, seq, "", "", delay_ms])
        assert error[:4] == [ERROR, NAK, seq, "stale_lease"]


def test_every_session_of_a_matrix_gets_a_message_and_one_ack_settles_it(hub: FakeHub) -> None:
    one, two, sender = hub.join("matrix/m", credit=5), hub.join("matrix/m", credit=5), hub.join("operator/o")
    sender.send("matrix/m")
    (first,), (second,) = one.take(), two.take()
    assert first == second
    two.ack(second)
    assert hub.owed("matrix/m") == []
    one.ack(first)
    assert hub.count("stale_acks") == 1
    assert hub.peer("matrix/m").mailbox.count == 0


def test_a_message_stays_delivered_while_one_session_of_the_matrix_has_it(hub: FakeHub) -> None:
    one, two, sender = hub.join("matrix/m", credit=5), hub.join("matrix/m", credit=5), hub.join("operator/o")
    sender.send("matrix/m")
    (delivery,) = one.take()
    one.vanish()
    two.take()
    assert hub.count("redelivered") == 0
    two.vanish()
    again = two.again(credit=5)
    assert [each[2] for each in again.take() if each[0] == DELIVER] == [2]
    again.ack(delivery)
    assert hub.owed("matrix/m") == [1]


def test_a_session_without_credit_gets_no_copy(hub: FakeHub) -> None:
    one, two, sender = hub.join("matrix/m"), hub.join("matrix/m", credit=1), hub.join("operator/o")
    sender.send("matrix/m")
    assert one.take() == []
    assert seqs(two.take()) == [1]


def test_a_broadcast_reaches_every_matrix_that_is_known_once_it_comes(hub: FakeHub) -> None:
    hub.enrol("matrix/offline", "agent/a")
    online, sender = hub.join("matrix/online", credit=5), hub.join("matrix/sender", credit=5)
    operator = hub.join("operator/o", credit=5)
    seq = sender.send("*", b"all")
    assert seqs(online.take()) == [seq]
    assert (sender.take(), operator.take()) == ([], [])
    hub.restart()
    late = hub.join("matrix/offline", credit=5)
    (delivery,) = late.take()
    assert delivery[3:6] == [seq, "matrix/sender", "*"]
    late.ack(delivery)
    assert (hub.owed("matrix/offline"), hub.owed("matrix/online")) == ([], [seq])
    assert hub.join("agent/a", credit=5).take() == []


def test_a_broadcast_passes_over_a_full_mailbox_and_says_so_in_the_dead_letters(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_module, "MAILBOX_MESSAGES_MAX", 1)
    hub.enrol("matrix/full", "matrix/empty")
    sender = hub.join("operator/o")
    sender.send("matrix/full")
    seq = sender.send("*")
    assert hub.owed("matrix/empty") == [seq]
    assert hub.rows("SELECT seq, reason FROM dead") == [(seq, "mailbox full")]


def test_a_broadcast_that_finds_no_room_for_its_address_leaves_nothing_behind(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix, sender = hub.join("matrix/m", credit=5), hub.join("operator/o")
    monkeypatch.setattr(hubstate, "ADDRESSES_MAX", 0)
    assert codes(sender.say(sender.sending("*"))) == ["hub_full"]
    assert matrix.take() == []
    assert hub.owed("matrix/m") == []
    seq = sender.send("matrix/m", b"next")
    assert [each[3:] for each in matrix.take()] == [
        [seq, "operator/o", "matrix/m", wire.MESSAGE, hub.clock.now_ms, None, b"next"]
    ]


def test_a_mailbox_longer_than_the_window_is_delivered_whole_and_in_order(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    count = 2 * WINDOW_MESSAGES + 100
    normal = [sender.sending("agent/a") for _ in range(count)]
    for start in range(0, count, 500):
        sender.say(*normal[start : start + 500])
    urgent = sender.send("agent/a", priority="urgent")
    hub.restart()
    agent = hub.join("agent/a", credit=50)
    got: list[int] = []
    while delivered := agent.take():
        got += seqs(delivered)
        agent.told = [*agent.ack(*delivered), *agent.allow(len(delivered))]
    assert got == [urgent, *range(1, count + 1)]
    assert hub.owed("agent/a") == []
    assert hub.peer("agent/a").mailbox.count == 0
