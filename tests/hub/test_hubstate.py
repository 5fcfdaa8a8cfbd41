"""Names and numbers that the rules of the hub share."""

from __future__ import annotations

import pytest

from orchestra import wire
from orchestra.hub import hubstate
from orchestra.wire import DELIVER

from .fakehub import FakeHub, codes


def test_a_key_that_proves_one_address_cannot_prove_another(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    (public,) = hub.column("SELECT public FROM key k JOIN address a ON a.id = k.peer WHERE a.text = ?", "operator/o")
    assert operator.call("keys.accept", address="agent/a", public_key=public) == "not_allowed"
    assert "agent/a" not in hub.state.roster.peers


def test_an_address_keeps_its_number_over_restarts(hub: FakeHub) -> None:
    hub.enrol("agent/a", "matrix/m")
    sender = hub.join("operator/o")
    sender.submit("queue/new")
    before = hub.rows("SELECT id, text FROM address ORDER BY id")
    hub.restart()
    hub.join("operator/o").submit("queue/new")
    assert hub.rows("SELECT id, text FROM address ORDER BY id") == before


def test_seqs_sessions_and_leases_are_never_given_twice_over_restarts(hub: FakeHub) -> None:
    given: list[tuple[int, int, int]] = []
    for _ in range(3):
        agent, sender = hub.join("agent/a", credit=1), hub.join("operator/o")
        seq = sender.send("agent/a")
        delivery = next(record for record in agent.take() if record[0] == DELIVER)
        assert agent.session is not None
        given.append((seq, delivery[1], agent.session.number))
        hub.restart()
    for column in zip(*given, strict=True):
        assert sorted(set(column)) == list(column)


def test_new_addresses_are_refused_once_too_many_are_known(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = hub.join("operator/o")
    sender.submit("queue/known")
    monkeypatch.setattr(hubstate, "ADDRESSES_MAX", 0)
    assert codes(sender.say(sender.sending("queue/new", kind=wire.TASK))) == ["hub_full"]
    sender.submit("queue/known")
