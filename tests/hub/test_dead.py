"""Dead letters: listed with a reason, sent again once, or dropped."""

from __future__ import annotations

import pytest

from orchestra import wire
from orchestra.limits import DELIVERY_ATTEMPTS_MAX
from orchestra.wire import CALL, DELIVER, NAK, REPLY

from .fakehub import FakeHub, FakePeer, hello, seqs


def _die(hub: FakeHub, sender: FakePeer, recipient: FakePeer, body: bytes = b"body", **options: object) -> int:
    """Send a message that its recipient never takes."""
    seq = sender.send(recipient.text, body, **options)
    for _ in range(DELIVERY_ATTEMPTS_MAX):
        (delivery,) = recipient.took(DELIVER)
        recipient.say([NAK, delivery[1], delivery[3], "busy", "", 0])
        hub.tick()
    assert hub.rows("SELECT reason FROM dead WHERE seq = ?", seq) == [("too many attempts",)]
    hub.clock.advance(0.001)
    return seq


def _listed(peer: FakePeer) -> list[int]:
    return [each["seq"] for each in peer.call("dead.list")["dead"]]


def test_dead_letters_are_listed_newest_first_with_their_reason(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=999), hub.join("matrix/m")
    one, two = _die(hub, sender, agent, bytes(5000)), _die(hub, sender, agent, b"two")
    found = sender.call("dead.list")
    assert [each["seq"] for each in found["dead"]] == [two, one]
    assert found["dead"][0] == {
        "seq": two, "kind": wire.MESSAGE, "from": "matrix/m", "to": "agent/a", "reason": "too many attempts",
        "at_ms": hub.clock.now_ms - 1, "sent_ms": hub.clock.now_ms - 1, "bytes": 3, "body": b"two",
    }  # fmt: skip
    assert (found["dead"][1]["bytes"], len(found["dead"][1]["body"])) == (5000, 1000)
    assert [each["seq"] for each in sender.call("dead.list", before=two, count=5)["dead"]] == [one]
    whole = sender.call("dead.get", seq=one)
    assert (whole["body"], whole["dead"][0]["reason"]) == (bytes(5000), "too many attempts")


def test_operators_see_all_dead_letters_and_others_those_they_sent(hub: FakeHub) -> None:
    agent, sender, other, operator = (
        hub.join("agent/a", credit=999), hub.join("matrix/m"), hub.join("matrix/n"), hub.join("operator/o"),
    )  # fmt: skip
    seq = _die(hub, sender, agent)
    assert [_listed(peer) for peer in (sender, operator, other, agent)] == [[seq], [seq], [], []]
    for method, params in (
        ("dead.get", {"seq": seq}),
        ("dead.resend", {"seqs": [seq]}),
        ("dead.drop", {"seqs": [seq]}),
    ):
        hub.clock.advance(0.001)
        assert other.call(method, **params) == "not_allowed"
        assert agent.call(method, **params) == "not_allowed", "a recipient may not either"
    assert _listed(operator) == [seq]


def test_a_dead_letter_is_sent_again_from_the_same_sender_and_never_twice(hub: FakeHub) -> None:
    agent, sender, operator = hub.join("agent/a", credit=999), hub.join("matrix/m"), hub.join("operator/o")
    seq = _die(hub, sender, agent, b"important", priority="high")
    again = operator.call("dead.resend", seqs=[seq, seq])["resent"]
    (delivery,) = agent.took(DELIVER)
    assert again == [{"seq": seq, "recipient": "agent/a", "resent_seq": delivery[3]}]
    assert delivery[4:6] == ["matrix/m", "agent/a"]
    assert delivery[8:] == [{"priority": "high", "resend_of": seq}, b"important"]
    assert _listed(operator) == []
    assert operator.call("dead.resend", seqs=[seq])["resent"] == again
    assert hub.messages() == 2
    (letter,) = sender.call("dead.get", seq=seq)["dead"]
    assert (letter["closed_by"], letter["resent_seq"]) == ("operator/o", delivery[3])
    hub.restart()
    sender = sender.again()
    sender.take()
    assert sender.say([wire.SEND, sender.n, "agent/a", wire.MESSAGE, b"x", None])[0] == [wire.OK, sender.n, seq, 1]
    assert sender.send("agent/a", b"next") == delivery[3] + 1, "what the hub sent for it does not count as its own"
    agent = agent.again(credit=9)
    assert seqs(agent.take()) == [delivery[3], delivery[3] + 1]


def test_two_people_who_send_again_in_one_turn_send_once(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=999), hub.join("operator/o")
    other = hub.join("operator/p")
    seq = _die(hub, sender, agent)
    hub.say(*((peer, [[CALL, 1, "dead.resend", {"seqs": [seq]}]]) for peer in (sender, other)))
    assert sender.take() == other.take()
    assert len(seqs(agent.take())) == 1
    hub.say((sender, [[CALL, 2, "dead.drop", {"seqs": [seq]}]]))
    assert hub.rows("SELECT resent_seq IS NULL FROM dead") == [(0,)], "it stays what it was"


def test_sending_again_is_all_or_nothing(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, sender = hub.join("agent/a", credit=999), hub.join("operator/o")
    dead = [_die(hub, sender, agent) for _ in range(2)]
    assert sender.call("dead.resend", seqs=[*dead, 99]) == "not_found"
    alive = sender.send("agent/a")
    agent.take()
    hub.clock.advance(0.001)
    assert sender.call("dead.resend", seqs=[dead[0], alive]) == "not_found"
    assert sender.call("dead.get", seq=alive) == "not_found"
    monkeypatch.setattr("orchestra.hub.dead.MAILBOX_MESSAGES_MAX", 2)
    hub.clock.advance(0.001)
    assert sender.call("dead.resend", seqs=dead) == "mailbox_full"
    assert (agent.take(), _listed(sender)) == ([], dead[::-1])
    assert len(sender.call("dead.resend", seqs=dead[:1])["resent"]) == 1


def test_who_may_not_send_to_a_peer_may_not_send_again_to_it(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=999), hub.join("matrix/m")
    seq = _die(hub, sender, agent)
    hub.peer("matrix/m").grants = ("send:agent/b",)
    assert sender.call("dead.resend", seqs=[seq]) == "not_allowed"
    assert _listed(sender) == [seq]
    assert hub.join("operator/o").call("dead.resend", seqs=[seq])["resent"]


def test_one_that_is_sent_again_while_the_mailbox_is_read_from_the_database_arrives(hub: FakeHub) -> None:
    sender, operator = hub.join("matrix/m"), hub.join("operator/o")
    hub.enrol("agent/a")
    dead = sender.send("agent/a", expires_ms=1000)
    hub.tick(2.0)
    waits = sender.send("agent/a", priority="low")
    hub.restart()
    operator, agent = hub.join("operator/o"), hub.knock("agent/a")
    hub.say((operator, [[CALL, 1, "dead.resend", {"seqs": [dead]}]]), (agent, [hello("agent/a", credit=9)]))
    (again,) = operator.took(REPLY)[0][2]["resent"]
    assert sorted(seqs(agent.take())) == [waits, again["resent_seq"]]


def test_a_dropped_letter_leaves_the_list_and_still_says_why(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=999), hub.join("operator/o")
    seq = _die(hub, sender, agent)
    for _ in range(2):
        assert sender.call("dead.drop", seqs=[seq]) == {"dropped": 1}
        hub.clock.advance(0.001)
    assert _listed(sender) == []
    assert sender.call("status")["stored"]["dead"] == 0
    (letter,) = sender.call("dead.get", seq=seq)["dead"]
    assert (letter["reason"], letter["closed_by"], letter["resent_seq"]) == ("too many attempts", "operator/o", 0)
    assert sender.call("message.get", seq=seq)["recipients"][0]["stage"] == "dead"
    assert sender.call("dead.resend", seqs=[seq])["resent"] == []


def test_of_a_broadcast_only_those_it_did_not_reach_get_it_again(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    full, one, sender = hub.join("matrix/full"), hub.join("matrix/one", credit=9), hub.join("operator/o")
    first = sender.send("matrix/full")
    monkeypatch.setattr("orchestra.hub.post.MAILBOX_MESSAGES_MAX", 1)
    seq = sender.send("*", b"to all")
    assert seqs(one.take()) == [seq]
    full.call("inbox.read", seqs=[first])
    (again,) = sender.call("dead.resend", seqs=[seq])["resent"]
    assert again["recipient"] == "matrix/full"
    assert [each["body"] for each in full.call("inbox")["messages"]] == [b"to all"]
    assert one.take() == []


def test_a_dead_task_is_listed_and_sent_elsewhere_to_be_tried_again(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    seq = sender.submit("agent/a", expires_ms=1000)
    hub.clock.advance(2)
    sender.say([wire.PING, 0])
    hub.tick()
    assert hub.state_of(seq) == "dead"
    assert _listed(sender) == [seq]
    sender.ref += 1
    (error,) = sender.say([CALL, sender.ref, "dead.resend", {"seqs": [seq]}])
    assert error[3:] == ["not_found", f"{seq} is a task; try it again with: orchestra task retry {seq}"]
    hub.clock.advance(0.001)
    assert sender.call("dead.drop", seqs=[seq]) == {"dropped": 1}
    assert _listed(sender) == []
