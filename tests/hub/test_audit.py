"""What the hub writes into its audit log."""

from __future__ import annotations

from typing import Any

from orchestra.audit import Entry, first_break
from orchestra.hub.enrolment import Stranger
from orchestra.keys import fingerprint, make_key_pair
from orchestra.limits import REFUSALS_AUDITED_AN_HOUR

from .fakehub import FakeHub, FakePeer


def _log(operator: FakePeer) -> list[Entry]:
    return [Entry(**entry) for entry in operator.call("audit.list", count=1000)["entries"]]


def _told(entries: list[Entry]) -> list[tuple[Any, ...]]:
    return [(entry.actor, entry.action, entry.subject) for entry in entries]


def test_every_decision_about_keys_is_in_it_in_one_unbroken_chain_over_restarts(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    once, pair = make_key_pair().public, make_key_pair().public
    operator.call("invite", address="agent/new", public_key=once, ttl_ms=1000, uses=1)
    guest = FakePeer(hub, str(hub.decider.enrolment.identity_of(once)))
    guest.say([15, 1, "enrol", {"public_key": pair}])
    operator.call("keys.revoke", public_key=once)
    hub.restart()
    operator = operator.again()
    operator.call("keys.accept", address="matrix/m", public_key=make_key_pair().public)
    operator.call("keys.revoke", public_key=pair)
    log = _log(operator)
    assert _told(log) == [
        ("operator/o", "invited", "agent/new"),
        ("", "enrolled", "agent/new"),
        ("operator/o", "uninvited", "agent/new"),
        ("operator/o", "accepted", "matrix/m"),
        ("operator/o", "revoked", "agent/new"),
    ]
    assert log[1].detail == f"{fingerprint(pair)}, invited by operator/o"
    assert first_break(log) is None


def test_what_was_refused_and_what_changed_nothing_is_not_in_it(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    key = make_key_pair().public
    for _ in range(2):
        operator.call("keys.accept", address="matrix/m", public_key=key)
    assert operator.call("keys.accept", address="matrix/other", public_key=key) == "not_allowed"
    assert operator.call("keys.revoke", public_key=make_key_pair().public) == "not_found"
    assert len(_log(operator)) == 1


def test_a_stranger_is_in_it_once_an_hour_and_a_flood_of_them_is_bounded(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    keys = [Stranger(make_key_pair().public, "10.0.0.9") for _ in range(REFUSALS_AUDITED_AN_HOUR + 5)]
    for _ in range(2):
        turn = hub.turn()
        hub.decider.audit.note_refused(keys, now_ms=turn.now_ms)
        hub._end_turn(turn)
    assert len(_log(operator)) == REFUSALS_AUDITED_AN_HOUR
    hub.clock.advance(3601)
    operator = operator.again()
    hub.decider.audit.note_refused(keys[:1], now_ms=hub.clock.now_ms)
    hub._end_turn(hub.turn())
    assert _log(operator)[-1].detail == f"{fingerprint(keys[0].public)} from 10.0.0.9"
    assert len(_log(operator)) == REFUSALS_AUDITED_AN_HOUR + 1


def test_only_operators_read_it(hub: FakeHub) -> None:
    assert hub.join("matrix/m").call("audit.list") == "not_allowed"


def test_the_key_of_an_invitation_can_not_be_accepted(hub: FakeHub) -> None:
    operator, once = hub.join("operator/o"), make_key_pair().public
    operator.call("invite", address="agent/new", public_key=once, ttl_ms=1000, uses=1)
    assert operator.call("keys.accept", address="agent/new", public_key=once) == "not_allowed"
