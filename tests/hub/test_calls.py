"""CALL: methods, their parameters and their answers."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import wire
from orchestra.hub.calls import METHODS
from orchestra.keys import fingerprint, make_key_pair
from orchestra.limits import (
    CALL_BURST_S,
    CALLS_A_SECOND_MAX,
    CALLS_A_TURN_MAX,
    FRAME_BYTES_MAX,
    LIST_ROWS_MAX,
    WINDOW_MESSAGES,
)
from orchestra.wire import CALL, DELIVER, ERROR, REPLY

from .fakehub import FakeHub, codes, seqs


def test_an_unknown_method_is_refused_with_the_names_of_those_there_are(hub: FakeHub) -> None:
    (error,) = hub.join("operator/o").say([CALL, 7, "nonsense" * 100, {}])
    assert error[:4] == [ERROR, CALL, 7, "unknown_method"]
    assert all(name in error[4] for name in METHODS)
    assert len(error[4]) < 1000


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_refuses_unknown_missing_and_mistyped_parameters(hub: FakeHub, method: str) -> None:
    operator = hub.join("operator/o")
    shape = METHODS[method]
    good = {name: [1] if kind is list else kind() for name, kind in shape.required.items()}
    cases: list[dict[Any, Any]] = [{**good, "unknown": 1}, {**good, b"bytes": 1}]
    cases += [{name: value for name, value in good.items() if name != missing} for missing in good]
    for name, kind in (shape.required | shape.optional).items():
        cases += [{**good, name: wrong} for wrong in (None, 1.5, True, {}, b"x") if type(wrong) is not kind]
    for params in cases:
        hub.clock.advance(0.001)
        (error,) = operator.say([CALL, 1, method, params])
        assert error[:4] == [ERROR, CALL, 1, "bad_option"]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_integer_parameter_is_bounded(hub: FakeHub, method: str) -> None:
    operator = hub.join("operator/o")
    shape = METHODS[method]
    good = {name: [1] if kind is list else kind() for name, kind in shape.required.items()}
    for name, kind in (shape.required | shape.optional).items():
        for value in (-1, -(2**63), 2**63, 2**64 - 1) if kind is int else ():
            assert operator.call(method, **{**good, name: value}) == "bad_option"


@pytest.mark.parametrize(
    "seqs", [[], [0], [-1], [2**63], ["1"], [None], [[1]], [True], list(range(1, LIST_ROWS_MAX + 2))]
)
@pytest.mark.parametrize("method", ["inbox.read", "task.watch"])
def test_lists_of_seqs_are_bounded(hub: FakeHub, method: str, seqs: list[Any]) -> None:
    assert hub.join("operator/o").call(method, seqs=seqs) == "not_found"


def test_a_session_is_answered_a_bounded_number_of_calls_a_turn(hub: FakeHub) -> None:
    operator, other = hub.join("operator/o"), hub.join("operator/p")
    told = operator.say(*([CALL, i, "peers", {}] for i in range(CALLS_A_TURN_MAX + 5)))
    assert [record[0] for record in told] == [REPLY] * CALLS_A_TURN_MAX + [ERROR] * 5
    assert set(codes(told)) == {"hub_full"}
    assert "peers" in other.call("peers")
    hub.clock.advance(0.001)
    assert "peers" in operator.call("peers")


def test_a_peer_is_answered_a_bounded_number_of_calls_a_second_whatever_its_sessions(hub: FakeHub) -> None:
    sessions, other = [hub.join("matrix/m"), hub.join("matrix/m")], hub.join("matrix/n")
    answered: list[int] = []
    while ERROR not in answered:
        hub.clock.advance(0.001)  # so that it is not the bound of one turn that is met
        told = sessions[len(answered) // 50 % 2].say(*([CALL, i, "presence.unwatch", {}] for i in range(50)))
        answered += [record[0] for record in told]
        assert len(answered) < 2 * CALLS_A_SECOND_MAX * CALL_BURST_S
    assert answered.count(REPLY) >= CALLS_A_SECOND_MAX * CALL_BURST_S
    assert set(codes(told)) == {"rate_limited"}
    assert other.call("presence.unwatch") == {}
    hub.clock.advance(0.5)
    assert sessions[0].call("presence.unwatch") == {}


# The methods.


def test_status_counts_peers_tasks_mailboxes_and_what_is_stored(hub: FakeHub) -> None:
    hub.enrol("agent/a", "matrix/m")
    operator = hub.join("operator/o")
    operator.send("agent/a")
    operator.submit("queue/q")
    found = operator.call("status")
    assert found["version"] == "test"
    assert found["peers"] == {
        "agent": {"known": 1, "online": 0, "away": 0},
        "matrix": {"known": 1, "online": 0, "away": 0},
        "operator": {"known": 1, "online": 1, "away": 0},
    }
    assert found["tasks"] == {"working": 0, "waiting": {"queue/q": 1}}
    assert found["mailboxes"] == {"agent/a": 1}
    assert found["oldest"] == {"agent/a": hub.clock.now_ms, "queue/q": hub.clock.now_ms}
    assert found["stored"]["last_seq"] == 2
    assert (found["stored"]["messages"], found["stored"]["unread"], found["stored"]["entries"]) == (2, 1, 0)
    assert found["stored"]["tasks"] == {"queued": 1}
    assert found["stored"]["database_bytes"] > 0


def test_status_tells_since_when_the_oldest_waits_whatever_its_priority(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    hub.enrol("matrix/m", "matrix/empty")
    reader = hub.join("matrix/read", credit=9)
    operator.send("matrix/read")
    (delivery,) = reader.take()
    reader.say([wire.ACK, 1, [delivery[3], delivery[1]]])
    first_ms = hub.clock.now_ms
    operator.send("matrix/m", priority="low")
    operator.submit("queue/q", priority="low")
    hub.clock.advance(5)
    operator.send("matrix/m", priority="urgent")
    operator.submit("queue/q", priority="urgent")
    found = operator.call("status")
    assert found["mailboxes"] == {"matrix/m": 2}, "what was delivered waits for nobody"
    assert found["oldest"] == {"matrix/m": first_ms, "queue/q": first_ms}
    assert found["stored"]["unread"] == 3


def test_status_counts_what_is_there_after_some_was_removed(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    for _ in range(3):
        operator.send("channel/status")
    hub.clock.advance(31 * 86_400)
    hub.say((operator, [[wire.PING, 0]]))
    hub.retain()
    operator.send("channel/status")
    stored = operator.call("status")["stored"]
    assert (stored["messages"], stored["last_seq"], stored["first_seq"], stored["entries"]) == (1, 4, 4, 1)


def test_peers_lists_everyone_with_sessions_and_nothing_secret(hub: FakeHub) -> None:
    hub.enrol("matrix/m")
    agent = hub.join("agent/a", slots=2, queues=("queue/q",), about={"host": "box", "answers": "yes"})
    operator = hub.join("operator/o")
    found = operator.call("peers")["peers"]
    assert [each["address"] for each in found] == ["agent/a", "matrix/m", "operator/o"]
    assert found[1]["sessions"] == []
    (session,) = found[0]["sessions"]
    assert (session["slots"], session["queues"], session["host"]) == (2, ["queue/q"], "box")
    assert session["is_worker"]
    assert agent.session is not None
    assert agent.link not in wire.pack(found)
    assert agent.epoch not in wire.pack(found)


def test_an_operator_accepts_a_key_and_its_peer_can_be_written_to(hub: FakeHub) -> None:
    operator, public = hub.join("operator/o"), make_key_pair().public
    for _ in range(2):  # safe to repeat
        found = operator.call("keys.accept", address="agent/new", public_key=public)
        assert found == {"address": "agent/new", "fingerprint": fingerprint(public)}
    assert hub.state.keys[public] == "agent/new"
    operator.send("agent/new")
    hub.restart()
    assert hub.state.keys[public] == "agent/new"


@pytest.mark.parametrize("public", ["", "x" * 39, "x" * 41, "\x00" * 40, "é" * 40, '"' * 40, "~" * 40])
def test_what_is_no_public_key_is_not_accepted(hub: FakeHub, public: str) -> None:
    assert hub.join("operator/o").call("keys.accept", address="agent/x", public_key=public) == "bad_option"


@pytest.mark.parametrize("address", ["", "*", "queue/q", "channel/c", "agent/../x", "agent/X", "agent/x\n"])
def test_a_key_is_accepted_for_a_peer_only(hub: FakeHub, address: str) -> None:
    public = make_key_pair().public
    assert hub.join("operator/o").call("keys.accept", address=address, public_key=public) == "bad_address"
    assert public not in hub.state.keys


def test_looking_at_the_inbox_consumes_nothing(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a"), hub.join("operator/o")
    sent = [sender.send("agent/a", f"body {i}".encode(), priority=p) for i, p in enumerate(("low", "urgent"))]
    for _ in range(2):
        found = agent.call("inbox")["messages"]
        assert [each["seq"] for each in found] == sent
    assert found[0] == {
        "seq": sent[0], "from": "operator/o", "to": "agent/a", "sent_ms": hub.clock.now_ms, "rank": 3,
        "delivered_ms": None, "options": {"priority": "low"}, "body": b"body 0",
    }  # fmt: skip
    assert [each["seq"] for each in agent.call("inbox", after=sent[0], count=5)["messages"]] == sent[1:]
    assert [each["seq"] for each in agent.call("inbox", count=1)["messages"]] == sent[:1]
    assert agent.call("inbox", count=0) == "bad_option"
    assert hub.join("agent/b").call("inbox")["messages"] == []


def test_a_message_that_was_read_leaves_the_inbox_wherever_it_was(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    count = WINDOW_MESSAGES + 20
    for start in range(0, count, 100):
        sender.say(*(sender.sending("agent/a") for _ in range(min(100, count - start))))
    agent = hub.join("agent/a", credit=2)
    delivered = agent.took(DELIVER)
    in_flight, waiting, beyond = delivered[0][3], 10, count
    assert agent.call("inbox.read", seqs=[in_flight, waiting, beyond, 99_999]) == {"read": 3}
    assert hub.peer("agent/a").mailbox.count == count - 3
    assert set(hub.owed("agent/a")) == set(range(1, count + 1)) - {in_flight, waiting, beyond}
    agent.ack(delivered[0])
    assert hub.count("stale_acks") == 1
    agent.ack(delivered[1])
    got = seqs(agent.allow(4000))
    assert got == [seq for seq in range(3, count) if seq != waiting]


def test_nobody_reads_away_the_messages_of_another(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    thief = hub.join("operator/o")
    seq = thief.send("agent/a")
    thief.call("inbox.read", seqs=[seq])
    assert hub.owed("agent/a") == [seq]


def test_an_inbox_of_large_messages_is_cut_to_what_a_frame_holds(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a"), hub.join("operator/o")
    for _ in range(5):
        sender.send("agent/a", bytes(400_000))
    found = agent.call("inbox")
    assert found["is_cut"]
    assert [each["seq"] for each in found["messages"]] == [1, 2]
    sender.send("agent/a", bytes(2**20))
    assert [each["seq"] for each in agent.call("inbox", after=5)["messages"]] == [6]


def test_a_list_of_large_tasks_is_cut_to_what_a_frame_holds(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    for _ in range(LIST_ROWS_MAX):
        sender.say(sender.sending("agent/a", bytes(3000), kind=wire.TASK))
        (task,) = agent.took(DELIVER)
        agent.result(task, output=bytes(3000))
    hub.clock.advance(1)
    found = sender.call("task.list", count=LIST_ROWS_MAX)
    assert len(wire.pack(found)) < FRAME_BYTES_MAX
    listed = [each["seq"] for each in found["tasks"]]
    assert listed == list(range(LIST_ROWS_MAX, LIST_ROWS_MAX - len(listed), -1))
    more = sender.call("task.list", before=listed[-1], count=1)["tasks"]
    assert more[0]["seq"] == listed[-1] - 1


def test_the_largest_task_with_the_largest_output_is_one_reply(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", bytes(2**20))
    agent.result(agent.took(DELIVER)[0], output=bytes(2**18))
    found = sender.call("task.get", seq=seq)
    assert (len(found["body"]), len(found["output"])) == (2**20, 2**18)
    assert len(wire.pack([[REPLY, 1, found]])) < FRAME_BYTES_MAX


def test_outcomes_that_one_reply_cannot_hold_are_cut_and_say_so(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    for _ in range(6):
        sender.submit("agent/a")
        agent.result(agent.took(DELIVER)[0], output=bytes(2**18))
    found = sender.call("task.watch", seqs=[1, 2, 3, 4, 5, 6])
    assert found["is_cut"]
    assert [each["seq"] for each in found["tasks"]] == [1, 2, 3]
    assert not sender.call("task.watch", seqs=[4, 5, 6])["is_cut"]


def test_tasks_are_listed_newest_first_and_by_state(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    for _ in range(3):
        sender.submit("agent/a")
    agent.result(agent.took(DELIVER)[0])
    assert [each["seq"] for each in sender.call("task.list")["tasks"]] == [3, 2, 1]
    for state, found in (("completed", [1]), ("working", [2]), ("queued", [3]), ("dead", []), ("", [3, 2, 1])):
        assert [each["seq"] for each in sender.call("task.list", state=state)["tasks"]] == found
    assert sender.call("task.list", state="nonsense") == "bad_option"


def test_a_task_that_does_not_exist_is_not_found(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    operator.send("operator/o")
    assert operator.call("task.get", seq=1) == "not_found", "a message is no task"
    assert operator.call("task.get", seq=2) == "not_found"
