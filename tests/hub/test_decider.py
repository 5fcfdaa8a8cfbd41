"""The decider: sends, sessions, and what bad input does not do."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import wire
from orchestra.hub import decider as decider_module
from orchestra.limits import (
    LEASE_S,
)
from orchestra.wire import ACK, BYE, CREDIT, ERROR, NAK, OK, PING, PONG, SEND

from .fakehub import FakeHub, FakePeer, codes, pass_time, seqs


def test_a_send_is_answered_with_its_seq_and_is_in_the_database(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    assert sender.say(sender.sending("agent/a", b"\x00body\xff")) == [[OK, 1, 1, 1]]
    assert hub.rows("SELECT seq, n, kind, rank, sent_ms, body FROM message") == [
        (1, 1, wire.MESSAGE, 2, hub.clock.now_ms, b"\x00body\xff")
    ]
    assert hub.owed("agent/a") == [1]


def test_neighbouring_sends_are_answered_with_one_record(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    assert sender.say(*(sender.sending("agent/a") for _ in range(5))) == [[OK, 1, 1, 5]]


def test_sends_of_two_peers_in_one_turn_are_answered_each_to_its_own(hub: FakeHub) -> None:
    one, two = hub.join("operator/o"), hub.join("matrix/m")
    hub.say(
        (one, [one.sending("agent/x"), one.sending("matrix/m")]),
        (two, [two.sending("operator/o"), two.sending("operator/o")]),
    )
    assert [record for record in one.take() if record[0] in (OK, ERROR)] == [
        [ERROR, SEND, 1, "unknown_recipient", "no peer agent/x is known here; `orchestra peers` lists those that are"],
        [OK, 2, 1, 1],
    ]
    assert two.take() == [[OK, 1, 2, 2]]


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("agent/nobody", "unknown_recipient"),
        ("channel/nowhere", "unknown_recipient"),
        ("queue/q", "bad_address"),
        ("", "bad_address"),
        ("agent", "bad_address"),
        ("agent/", "bad_address"),
        ("agent/../a", "bad_address"),
        ("../agent/a", "bad_address"),
        ("agent/a\n", "bad_address"),
        ("agent/a\x00", "bad_address"),
        ("agent/A", "bad_address"),
        ("AGENT/a", "bad_address"),
        ("agent/" + "a" * 65, "bad_address"),
        ("agent/a/b", "bad_address"),
        ("agent/ä", "bad_address"),
        ("**", "bad_address"),
        ("x" * 10_000, "bad_address"),
    ],
)
def test_a_send_to_what_is_no_recipient_is_refused_by_its_number(hub: FakeHub, to: str, code: str) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    (error,) = sender.say(sender.sending(to))
    assert error[:4] == [ERROR, SEND, 1, code]
    assert len(error[4]) < 400
    assert error[4].isprintable(), "control characters of a stranger must not reach a terminal"
    assert hub.messages() == 0
    assert sender.send("agent/a") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"priority": "highest"},
        {"priority": 1},
        {"priority": None},
        {"priority": []},
        {"priority": {}},
        {"unknown": 1},
        {b"priority": "low"},
        {"watch": 1},
        {"x" * 4000: 1},
    ],
)
def test_bad_options_of_a_message_are_refused(hub: FakeHub, options: dict[Any, Any]) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    (error,) = sender.say([SEND, 1, "agent/a", wire.MESSAGE, b"", options])
    assert error[:4] == [ERROR, SEND, 1, "bad_option"]
    assert len(error[4]) < 200
    assert hub.messages() == 0


@pytest.mark.parametrize("options", [{"watch": 1}, {"watch": "yes"}, {"watch": []}, {"priority": [1]}])
def test_bad_options_of_a_task_are_refused(hub: FakeHub, options: dict[Any, Any]) -> None:
    sender = hub.join("operator/o")
    assert codes(sender.say([SEND, 1, "queue/q", wire.TASK, b"", options])) == ["bad_option"]


@pytest.mark.parametrize("kind", [2, 99, 2**63 - 1])
def test_an_unknown_kind_of_send_is_malformed(hub: FakeHub, kind: int) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    assert codes(sender.say(sender.sending("agent/a", kind=kind))) == ["malformed"]


def test_what_is_refused_between_two_sends_does_not_hold_them_up(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    told = sender.say(sender.sending("agent/a"), sender.sending("agent/x"), sender.sending("agent/a"))
    assert [record[:3] for record in told] == [[OK, 1, 1], [ERROR, SEND, 2], [OK, 3, 2]]


def test_a_send_that_is_repeated_is_not_stored_twice_and_gets_the_same_answer(hub: FakeHub) -> None:
    hub.enrol("agent/a", "agent/b")
    sender, other = hub.join("operator/o"), hub.join("matrix/m")
    records = []
    for i in range(5):
        records.append(sender.sending(f"agent/{'ab'[i % 2]}"))
        sender.say(records[-1])
        other.send("agent/a")  # numbers of others lie between
    again = sender.again()
    again.take()
    assert again.say(*records) == [[OK, n, 2 * n - 1, 1] for n in range(1, 6)]
    assert hub.messages() == 10


def test_a_send_repeated_in_the_same_turn_is_stored_once(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    record = sender.sending("agent/a")
    assert sender.say(record, record) == [[OK, 1, 1, 1], [OK, 1, 1, 1]]
    assert hub.messages() == 1


def test_a_send_repeated_after_the_hub_restarted_is_stored_once(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    record = sender.sending("agent/a")
    sender.say(record)
    hub.restart()
    again = sender.again()
    again.take()
    assert again.say(record) == [[OK, 1, 1, 1]]
    assert hub.messages() == 1


def test_repeating_a_send_that_was_refused_while_later_ones_were_taken_says_that_it_is_not_stored(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    refused = sender.sending("agent/x")
    sender.say(refused, sender.sending("agent/a"))
    assert sender.say(refused)[0][:4] == [ERROR, SEND, 1, "not_stored"]


def test_numbers_of_another_epoch_or_another_peer_are_others(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    one = hub.join("operator/o")
    stranger, later = hub.knock("operator/p"), hub.knock("operator/o")
    stranger.epoch = one.epoch
    one.send("agent/a")
    for peer in (stranger, later):
        peer.hello()
        assert peer.send("agent/a") > 1
    assert hub.messages() == 3


def test_a_full_mailbox_refuses_until_something_is_read(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decider_module, "MAILBOX_MESSAGES_MAX", 3)
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    assert codes(sender.say(*(sender.sending("agent/a") for _ in range(4)))) == ["mailbox_full"]
    agent = hub.join("agent/a", credit=10)
    agent.ack(agent.take()[0])
    sender.send("agent/a")
    assert hub.owed("agent/a") == [2, 3, 4]


def test_a_ping_is_answered_with_its_token(hub: FakeHub) -> None:
    assert hub.join("agent/a").say([PING, 42]) == [[PONG, 42]]


def test_a_session_silent_for_longer_than_a_lease_is_over(hub: FakeHub) -> None:
    silent, speaking = hub.join("agent/a"), hub.join("agent/b")
    pass_time(hub, speaking, LEASE_S)
    assert silent.session is not None
    pass_time(hub, speaking, 0.001)
    assert [record[:2] for record in silent.take()] == [[BYE, "silent"]]
    assert silent.is_kicked
    assert silent.session is None
    assert speaking.session is not None
    assert hub.peer("agent/a").seen_ms == hub.clock.now_ms


def test_what_the_hub_could_not_hear_while_it_was_frozen_is_nobodys_silence(hub: FakeHub) -> None:
    agent, client = hub.join("agent/a", slots=1), hub.join("operator/o")
    gone = hub.join("agent/b", slots=1)
    tasks = [client.submit("agent/a"), client.submit("agent/b")]
    hub.clock.advance(LEASE_S / 2)
    gone.vanish()
    hub.clock.advance(2 * LEASE_S)
    with hub.deciding() as turn:
        hub.decider.excuse(round(2 * LEASE_S * 1000), turn)
        hub.decider.tick(turn)
    assert agent.session is not None
    assert [hub.state_of(seq) for seq in tasks] == ["working", "working"]
    hub.tick(LEASE_S / 2 + 0.001)
    assert agent.session is None, "what is left of its lease still counts"
    assert [hub.state_of(seq) for seq in tasks] == ["queued", "queued"]


def test_a_jump_of_the_wall_clock_ends_nothing(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=5, slots=1), hub.join("operator/o")
    sender.send("agent/a")
    sender.submit("agent/a")
    agent.take()
    hub.clock.jump(7 * 86_400)
    hub.tick()
    hub.clock.jump(-30 * 86_400)
    hub.tick()
    assert agent.take() == []
    assert agent.session is not None


@pytest.mark.parametrize(
    "record",
    [
        [PING, 1],
        [ACK, 3, []],
        [CREDIT, 0, None],
        [SEND, 1, "agent/nobody", 0, b"", None],
        [wire.CALL, 1, "nonsense", {}],
    ],
)
def test_whatever_a_peer_says_keeps_it_alive(hub: FakeHub, record: list[Any]) -> None:
    agent = hub.join("agent/a")
    for _ in range(3):
        hub.clock.advance(LEASE_S)
        hub.say((agent, [record]))
        hub.tick()
    assert agent.session is not None


def test_a_session_that_says_bye_is_over_and_what_it_had_waits(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=5, slots=2), hub.join("operator/o")
    sender.send("agent/a")
    task = sender.submit("agent/a")
    agent.say([BYE, "done", ""])
    assert agent.session is None
    assert hub.owed("agent/a") == [1]
    assert hub.state_of(task) == "queued"


def test_losing_a_connection_that_said_nothing_or_is_gone_already_does_nothing(hub: FakeHub) -> None:
    agent = hub.join("agent/a")
    agent.vanish()
    agent.vanish()
    hub.knock("agent/b").vanish()


def test_a_stolen_link_gets_nothing_and_is_closed(hub: FakeHub) -> None:
    victim, sender = hub.join("matrix/victim", credit=5), hub.join("operator/o")
    thief = FakePeer(hub, "agent/thief")
    hub.enrol("agent/thief")
    thief.link = victim.link
    told = thief.say(thief.sending("operator/o"), [wire.CALL, 1, "inbox", {}], [CREDIT, 100, None])
    assert told == []
    assert thief.is_kicked
    assert hub.messages() == 0
    assert hub.count("stolen_link") == 1
    sender.send("matrix/victim", b"secret")
    assert thief.take() == []
    assert seqs(victim.again(credit=5).take()) == [1]


def test_a_sender_is_named_by_its_key_whatever_it_says(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=5), hub.join("matrix/m")
    sender.say([SEND, 1, "agent/a", 0, b"", None, "operator/o", {"from": "operator/o"}])
    assert agent.take()[0][4] == "matrix/m"


BAD: list[list[Any]] = [
    [],
    [[]],
    [1],
    [["SEND"]],
    [99],
    [[SEND]],
    [[SEND, -1, "agent/a", 0, b"", None]],
    [[SEND, 2**64 - 1, "agent/a", 0, b"", None]],
    [[SEND, True, "agent/a", 0, b"", None]],
    [[SEND, 1, b"agent/a", 0, b"", None]],
    [[SEND, 1, "agent/a", 0, "text", None]],
    [[SEND, 1, "agent/a", 0, b"", {"priority": [[]]}]],
    [[wire.OK, 1, 1, 1]],
    [[wire.WELCOME, 1, "agent/a", 1, 1, 1, [], {}]],
    [[ACK, 3, [[1, 2], [3, 4]]]],
    [[CREDIT, -5, None]],
    [[CREDIT, 0, -1]],
    [[wire.PROGRESS, 1, 1, b"x"]],
    [[wire.RESULT, 1, 1, 1, "completed", {}, b""]],
    [[wire.RESULT, 1, 1, 1, "queued", {}, b""]],
    [[wire.CANCEL, 1, 1, ""]],
    [[wire.CALL, 1, "", {}]],
    [[wire.CALL, 1, "__class__", {}]],
    [[wire.CALL, 1, "inbox", {"after": 2**64 - 1}]],
    [[wire.CALL, 1, "inbox", {"after": -(2**63)}]],
    [[wire.CALL, 1, "inbox", {"count": 2**64 - 1}]],
    [[wire.CALL, 1, "task.get", {"seq": 2**64 - 1}]],
    [[wire.CALL, 1, "task.get", {"seq": -1}]],
    [[wire.CALL, 1, "task.list", {"before": 2**64 - 1}]],
    [[wire.CALL, 1, "subscribe", {"channel": "channel/status", "after": 2**64 - 1}]],
    [[wire.CALL, 1, "subscribe", {"channel": "channel/status", "after": -7}]],
    [[wire.CALL, 1, "inbox.read", {"seqs": [2**64 - 1]}]],
    [[wire.CALL, 1, "task.watch", {"seqs": [[]]}]],
    [[wire.CALL, 1, "task.cancel", {"seq": 2**64 - 1}]],
    [[wire.REQUEST, 1, "agent/nobody", 2**63 - 1, b""]],
    [[wire.REQUEST, 1, "*", 0, b""]],
    [[wire.RESPONSE, 1, "", b""]],
    [[wire.RESPONSE, 2**63 - 1, "x" * 4000, b""]],
    [[NAK, 0, 0, "", "", 0]],
]


@pytest.mark.parametrize("batch", BAD, ids=lambda batch: repr(batch)[:60])
def test_bad_records_change_nothing_for_others(hub: FakeHub, batch: list[Any]) -> None:
    agent, sender, attacker = hub.join("agent/a", credit=9), hub.join("operator/o"), hub.join("matrix/bad", credit=9)
    hub.say((sender, [sender.sending("agent/a")]), (attacker, batch), (sender, [sender.sending("agent/a")]))
    assert all(record[0] in (ERROR, wire.REPLY) for record in attacker.take())
    assert sender.take() == [[OK, 1, 1, 2]]
    delivered = agent.take()
    assert seqs(delivered) == [1, 2]
    assert hub.messages() == 2
    agent.ack(*delivered)
    assert hub.owed("agent/a") == []


def test_a_peer_that_only_errs_is_answered_each_time_and_stays(hub: FakeHub) -> None:
    peer = hub.join("matrix/bad")
    told = peer.say(*([SEND, n, "nobody", 0, b"", None] for n in range(1, 501)))
    assert [record[2] for record in told] == list(range(1, 501))
    assert hub.count("refused") == 500
    assert peer.session is not None
