"""Grants: what a peer may do follows from the kind its key proves."""

from __future__ import annotations

import pytest

from orchestra import wire
from orchestra.keys import make_key_pair

from .fakehub import FakeHub, codes

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
