"""Grants: what a peer may do follows from the kind its key proves, unless it was given something else."""

from __future__ import annotations

import pytest

from orchestra import wire
from orchestra.address import Kind
from orchestra.hub import grants
from orchestra.keys import make_key_pair
from orchestra.limits import GRANTS_MAX

from .fakehub import FakeHub, FakePeer, codes

KINDS = ("agent", "matrix", "operator")


def _may(hub: FakeHub, kind: str, *records: list[object]) -> bool:
    return "not_allowed" not in codes(hub.join(f"{kind}/x").say(*records))


@pytest.mark.parametrize(("kind", "may"), list(zip(KINDS, (False, True, True), strict=True)))
def test_agents_do_not_submit_tasks(hub: FakeHub, kind: str, may: bool) -> None:
    assert _may(hub, kind, [wire.SEND, 1, "queue/q", wire.TASK, b"", None]) is may
    assert len(hub.rows("SELECT * FROM task")) == may


@pytest.mark.parametrize(("kind", "may"), list(zip(KINDS, (False, True, True), strict=True)))
def test_agents_do_not_broadcast(hub: FakeHub, kind: str, may: bool) -> None:
    hub.enrol("matrix/m")
    assert _may(hub, kind, [wire.SEND, 1, "*", wire.MESSAGE, b"", None]) is may
    assert len(hub.owed("matrix/m")) == may


@pytest.mark.parametrize(("kind", "may"), list(zip(KINDS, (True, False, False), strict=True)))
def test_only_agents_take_tasks(hub: FakeHub, kind: str, may: bool) -> None:
    assert _may(hub, kind, [wire.CREDIT, 0, 1]) is may
    assert _may(hub, kind, [wire.CREDIT, 0, 0]) is True


@pytest.mark.parametrize(("kind", "may"), list(zip(KINDS, (False, False, True), strict=True)))
def test_only_operators_accept_keys(hub: FakeHub, kind: str, may: bool) -> None:
    public = make_key_pair().public
    params = {"address": "operator/evil", "public_key": public}
    assert _may(hub, kind, [wire.CALL, 1, "keys.accept", params]) is may
    assert (public in hub.state.keys) is may


@pytest.mark.parametrize("kind", KINDS)
def test_everyone_sends_messages_and_entries(hub: FakeHub, kind: str) -> None:
    for n, to in enumerate(("agent/x", "matrix/x", "operator/x", "channel/status"), 1):
        hub.enrol(*([] if to.startswith("channel") else [to]))
        assert _may(hub, kind, [wire.SEND, n, to, wire.MESSAGE, b"", None])
    assert hub.messages() == 4


def test_a_task_is_seen_and_canceled_by_its_sender_its_agent_and_operators_alone(hub: FakeHub) -> None:
    sender, agent = hub.join("matrix/sender"), hub.join("agent/worker", slots=1)
    seq = sender.submit("agent/worker")
    for text, may_see, may_cancel in (
        ("matrix/other", False, False),
        ("agent/other", False, False),
        ("operator/any", True, True),
    ):
        peer = hub.join(text)
        assert (peer.call("task.get", seq=seq) == "not_allowed") is not may_see
        assert (peer.call("task.watch", seqs=[seq]) == "not_allowed") is not may_see
        assert [each["seq"] for each in peer.call("task.list")["tasks"]] == [seq] * may_see
        assert (peer.call("task.cancel", seq=seq) == "not_allowed") is not may_cancel
    assert agent.call("task.get", seq=seq)["seq"] == seq
    assert agent.call("task.cancel", seq=seq) == "not_allowed"
    assert sender.call("task.get", seq=seq)["seq"] == seq
    assert sender.call("task.cancel", seq=seq)["seq"] == seq


def test_a_finished_task_is_as_private_as_a_running_one(hub: FakeHub) -> None:
    sender, agent = hub.join("matrix/sender"), hub.join("agent/worker", slots=1)
    seq = sender.submit("agent/worker")
    agent.result(agent.took(wire.DELIVER)[0])
    other = hub.join("matrix/other")
    assert other.call("task.get", seq=seq) == "not_allowed"
    assert other.call("task.watch", seqs=[seq]) == "not_allowed"


# Each grant, and what needs it: who tries, and what it says. Every row of the table in docs/security.md is here.
NEEDS: dict[str, list[object]] = {
    "send:agent/b": [wire.SEND, 1, "agent/b", wire.MESSAGE, b"", None],
    "send:channel/status": [wire.SEND, 1, "channel/status", wire.MESSAGE, b"", None],
    "broadcast": [wire.SEND, 1, "*", wire.MESSAGE, b"", None],
    "submit:queue/q": [wire.SEND, 1, "queue/q", wire.TASK, b"", None],
    "submit:agent/b": [wire.SEND, 1, "agent/b", wire.TASK, b"", None],
    "channel:channel/new": [wire.CALL, 1, "channel.create", {"channel": "channel/new"}],
    "receive": [wire.CALL, 1, "inbox", {}],
    "read:channel/status": [wire.CALL, 1, "channel.read", {"channel": "channel/status"}],
    "observe": [wire.CALL, 1, "message.list", {}],
    "manage": [wire.CALL, 1, "task.cancel", {"seq": 1}],
    "administer": [wire.CALL, 1, "audit.list", {}],
}


def test_every_action_is_tried() -> None:
    assert {need.partition(":")[0] for need in NEEDS} | {grants.SERVE} == set(grants.ACTIONS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("need", NEEDS)
def test_without_the_grant_it_is_refused_and_nothing_is_stored_and_with_it_it_is_done(
    hub: FakeHub, kind: str, need: str
) -> None:
    hub.enrol("agent/b", "matrix/m")
    operator = hub.join("operator/root")
    assert operator.submit("agent/b") == 1
    peer = hub.join(f"{kind}/x")
    operator.call(
        "keys.grant", address=peer.text, add=["send:operator/nobody"], remove=list(grants.of(hub.peer(peer.text)))
    )
    assert hub.peer(peer.text).grants == ("send:operator/nobody",)
    stored = hub.rows(
        "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM channel), (SELECT count(*) FROM task)"
    )
    peer = peer.again()
    told = peer.say(NEEDS[need])
    assert codes(told) == ["not_allowed"]
    assert f"orchestra keys grant {peer.text} {need}" in told[-1][4]
    assert stored == hub.rows(
        "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM channel), (SELECT count(*) FROM task)"
    )
    operator.call("keys.grant", address=peer.text, add=[need])
    assert codes(peer.again().say(NEEDS[need])) == []


def test_an_agent_serves_only_what_it_was_granted(hub: FakeHub) -> None:
    operator = hub.join("operator/root")
    agent = hub.knock("agent/x")
    operator.call("keys.grant", address="agent/x", remove=["serve:*"], add=["serve:agent/x", "serve:queue/a*"])
    assert agent.hello(slots=1, queues=("queue/abc",))[0][0] == wire.WELCOME
    refused = hub.knock("agent/x").hello(slots=1, queues=("queue/b",))
    assert codes(refused) == ["not_allowed"]
    assert "orchestra keys grant agent/x serve:queue/b" in refused[0][4]
    operator.call("keys.grant", address="agent/x", remove=["serve:agent/x"])
    assert codes(hub.knock("agent/x").hello(slots=1)) == ["not_allowed"]


def test_a_change_ends_its_sessions_and_an_agent_comes_back_for_its_tasks(hub: FakeHub) -> None:
    operator = hub.join("operator/root")
    agent = hub.join("agent/x", slots=1)
    seq = operator.submit("agent/x")
    ((_, lease, *_),) = agent.took(wire.DELIVER)
    operator.call("keys.grant", address="agent/x", add=["submit:queue/q"])
    assert agent.told[-1][:2] == [wire.BYE, "grants"]
    assert agent.is_kicked
    again = agent.again(slots=1, holding=((seq, lease),))
    assert hub.task(seq).holder_text == "agent/x"
    assert again.told[0][6] == [seq]


def test_what_changes_nothing_ends_nothing(hub: FakeHub) -> None:
    operator, agent = hub.join("operator/root"), hub.join("agent/x", slots=1)
    told = operator.call("keys.grant", address="agent/x")
    assert told == {"address": "agent/x", "grants": list(grants.DEFAULTS[Kind.AGENT]), "is_default": True}
    operator.call("keys.grant", address="agent/x", default=True)
    assert agent.session is not None


def test_grants_are_kept_over_a_restart_and_can_be_given_back(hub: FakeHub) -> None:
    operator = hub.join("operator/root")
    hub.enrol("agent/x")
    operator.call("keys.grant", address="agent/x", add=["administer"], remove=["send:*", "receive", "read:*"])
    hub.restart()
    operator = operator.again()
    assert grants.of(hub.peer("agent/x")) == ("administer", "serve:*")
    assert operator.call("keys.grant", address="agent/x", default=True)["is_default"] is True
    hub.restart()
    assert hub.peer("agent/x").grants is None


def test_an_invitation_may_give_grants(hub: FakeHub) -> None:
    operator, once, pair = hub.join("operator/root"), make_key_pair().public, make_key_pair().public
    operator.call("invite", address="agent/x", public_key=once, ttl_ms=1000, uses=1, grants=["serve:queue/a"])
    hub.restart()
    FakePeer(hub, str(hub.decider.enrolment.identity_of(once))).say([wire.CALL, 1, "enrol", {"public_key": pair}])
    assert grants.of(hub.peer("agent/x")) == ("serve:queue/a",)


@pytest.mark.parametrize(
    "text",
    ["", "fly", "send", "send:", "administer:x", "broadcast:*", "send:agent/x y", "SEND:*", "send:" + "x" * 101, 5],
)
def test_what_is_no_grant_is_refused_with_the_forms_there_are(hub: FakeHub, text: object) -> None:
    hub.enrol("agent/x")
    (error,) = hub.join("operator/root").say([wire.CALL, 1, "keys.grant", {"address": "agent/x", "add": [text]}])
    assert error[3] == "bad_option"
    assert "serve:ADDRESS" in error[4]


def test_a_peer_has_so_many_grants_at_most(hub: FakeHub) -> None:
    hub.enrol("agent/x")
    many = [f"send:agent/{number}" for number in range(GRANTS_MAX + 1)]
    assert hub.join("operator/root").call("keys.grant", address="agent/x", add=many) == "bad_option"


def test_only_those_who_administer_grant(hub: FakeHub) -> None:
    assert hub.join("matrix/m").call("keys.grant", address="matrix/m", add=["administer"]) == "not_allowed"
    assert hub.join("operator/root").call("keys.grant", address="agent/none") == "unknown_recipient"


def test_the_check_of_who_may_be_sent_to_is_remembered_within_bounds(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.hub.grants._REMEMBERED", 2)
    peer = hub.join("agent/x")
    for name in "abcab":
        hub.enrol(f"agent/{name}")
        peer.send(f"agent/{name}")
    assert peer.session is not None
    assert len(peer.session.granted) <= 2


def test_who_may_not_receive_gets_no_message_and_no_request_and_what_was_sent_waits(hub: FakeHub) -> None:
    operator = hub.join("operator/root")
    operator.call("keys.grant", address=hub.join("matrix/m").text, remove=["receive"])
    deaf = hub.join("matrix/m", credit=5, about={"answers": "all"})
    deaf.allow(5)
    seq = operator.send("matrix/m")
    assert deaf.take() == []
    assert deaf.call("inbox") == "not_allowed"
    assert deaf.call("inbox.read", seqs=[seq]) == "not_allowed"
    operator.take()
    assert codes(operator.say([wire.REQUEST, 9, "matrix/m", 1000, b"?"])) == ["offline"]
    assert hub.owed("matrix/m") == [seq]
    operator.call("keys.grant", address="matrix/m", default=True)
    assert [record[3] for record in deaf.again(credit=5).took(wire.DELIVER)] == [seq]


def test_who_may_observe_sees_everything_and_changes_nothing(hub: FakeHub) -> None:
    operator, sender, agent = hub.join("operator/root"), hub.join("matrix/m"), hub.join("agent/a", slots=1)
    message, task = sender.send("agent/a"), sender.submit("queue/q")
    operator.call("keys.grant", address=hub.join("agent/eye").text, add=["observe"])
    eye = hub.join("agent/eye")
    assert eye.call("message.get", seq=message)["from"] == "matrix/m"
    assert eye.call("task.get", seq=task)["from"] == "matrix/m"
    assert [each["seq"] for each in eye.call("task.list")["tasks"]] == [task]
    assert isinstance(eye.call("feed.watch"), dict)
    for method in ("task.cancel", "task.retry"):
        assert eye.call(method, seq=task) == "not_allowed"
    assert agent.call("message.list") == "not_allowed"


def test_who_may_manage_changes_what_others_sent(hub: FakeHub) -> None:
    operator, sender = hub.join("operator/root"), hub.join("matrix/m")
    task = sender.submit("queue/q")
    operator.call("keys.grant", address=hub.join("agent/boss").text, add=["manage"])
    assert hub.join("agent/boss").call("task.cancel", seq=task)["state"] == "canceled"


def test_without_reading_a_channel_nothing_in_it_is_seen(hub: FakeHub) -> None:
    operator, blind = hub.join("operator/root"), hub.join("agent/x")
    seq = operator.send("channel/status")
    operator.call("keys.grant", address="agent/x", remove=["read:*"], add=["read:channel/context"])
    blind = blind.again()
    for method, params in (
        ("subscribe", {"channel": "channel/status"}),
        ("channel.read", {"channel": "channel/status"}),
        ("channel.seen", {"channel": "channel/status", "seq": seq, "cursor": "c"}),
        ("channel.forget", {"channel": "channel/status", "cursor": "c"}),
        ("message.get", {"seq": seq}),
    ):
        assert blind.call(method, **params) == "not_allowed", method
    assert isinstance(blind.call("subscribe", channel="channel/context"), dict)


def test_an_invitation_with_grants_for_a_peer_that_is_known_holds_for_its_sessions_too(hub: FakeHub) -> None:
    operator, agent, once = hub.join("operator/root"), hub.join("agent/x"), make_key_pair().public
    operator.call("invite", address="agent/x", public_key=once, ttl_ms=1000, uses=1, grants=["receive"])
    guest = FakePeer(hub, str(hub.decider.enrolment.identity_of(once)))
    guest.say([wire.CALL, 1, "enrol", {"public_key": make_key_pair().public}])
    assert agent.told[-1][:2] == [wire.BYE, "grants"]
    again = agent.again()
    assert codes(again.say(again.sending("operator/root"))) == ["not_allowed"]
