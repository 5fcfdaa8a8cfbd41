"""Invitations and keys, as the decider sees them."""

from __future__ import annotations

import pytest

from orchestra import wire
from orchestra.hub.enrolment import Stranger
from orchestra.keys import fingerprint, make_key_pair
from orchestra.limits import INVITATION_S_MAX, INVITATION_USES_MAX, INVITATIONS_MAX, KEYS_PER_PEER_MAX, PENDING_KEYS_MAX
from orchestra.wire import Record

from .fakehub import FakeHub, FakePeer, hello

HOUR_MS = 3_600_000


def _invite(hub: FakeHub, peer: str = "agent/new", *, ttl_ms: int = HOUR_MS, uses: int = 1) -> str:
    """Return the identity of a connection that comes with a fresh invitation."""
    operator = hub.join("operator/o")
    once = make_key_pair().public
    made = operator.call("invite", address=peer, public_key=once, ttl_ms=ttl_ms, uses=uses)
    assert made == {"address": peer, "expires_ms": hub.clock.now_ms + ttl_ms}
    identity = hub.decider.enrolment.identity_of(once)
    assert identity is not None
    return identity


def _enrol(hub: FakeHub, identity: str, public_key: object) -> Record:
    guest = FakePeer(hub, identity)
    (answer,) = guest.say([wire.CALL, 7, "enrol", {"public_key": public_key}])
    assert answer[1 if answer[0] == wire.REPLY else 2] == 7
    return answer


def test_with_an_invitation_a_key_is_let_in_once(hub: FakeHub) -> None:
    identity, pair, other = _invite(hub), make_key_pair(), make_key_pair()
    assert hub.decider.enrolment.identity_of(pair.public) is None
    assert _enrol(hub, identity, pair.public) == [wire.REPLY, 7, {"address": "agent/new"}]
    assert hub.decider.enrolment.identity_of(pair.public) == f"agent/new {pair.public}"
    assert _enrol(hub, identity, other.public)[3] == "invitation_over"
    assert hub.decider.enrolment.identity_of(other.public) is None


def test_the_same_key_again_is_answered_again_for_the_answer_may_have_been_lost(hub: FakeHub) -> None:
    identity, pair = _invite(hub), make_key_pair()
    assert _enrol(hub, identity, pair.public) == _enrol(hub, identity, pair.public)


def test_it_may_be_for_more_than_one(hub: FakeHub) -> None:
    identity = _invite(hub, uses=2)
    answers = [_enrol(hub, identity, make_key_pair().public) for _ in range(3)]
    assert [answer[0] for answer in answers] == [wire.REPLY, wire.REPLY, wire.ERROR]


def test_it_expires_and_says_so(hub: FakeHub) -> None:
    identity = _invite(hub, ttl_ms=HOUR_MS)
    hub.clock.advance(3601)
    answer = _enrol(hub, identity, make_key_pair().public)
    assert (answer[3], "expired" in answer[4]) == ("invitation_over", True)


def test_all_of_it_is_still_known_after_a_restart(hub: FakeHub) -> None:
    identity, pair, other = _invite(hub, uses=2), make_key_pair(), make_key_pair()
    _enrol(hub, identity, pair.public)
    hub.restart()
    assert hub.decider.enrolment.identity_of(pair.public) == f"agent/new {pair.public}"
    assert _enrol(hub, identity, other.public)[0] == wire.REPLY
    assert _enrol(hub, identity, make_key_pair().public)[3] == "invitation_over"


@pytest.mark.parametrize(
    "record",
    [
        hello("agent/new"),
        [wire.SEND, 1, "agent/new", 0, b"x", None],
        [wire.CALL, 7, "keys.list", {}],
        [wire.CALL, 7, "enrol", {}],
        [wire.CALL, 7, "enrol", {"public_key": "short"}],
        [wire.CALL, 7, "enrol", {"public_key": 5}],
        [wire.BYE, "", ""],
    ],
)
def test_it_may_do_nothing_else(hub: FakeHub, record: Record) -> None:
    guest = FakePeer(hub, _invite(hub))
    (answer,) = guest.say(record)
    assert answer[0] == wire.ERROR
    assert guest.is_kicked
    assert guest.link not in hub.decider.state.roster.sessions


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"address": "queue/q"}, "bad_address"),
        ({"public_key": "x"}, "bad_option"),
        ({"ttl_ms": 0}, "bad_option"),
        ({"ttl_ms": int(INVITATION_S_MAX * 1000) + 1}, "bad_option"),
        ({"uses": 0}, "bad_option"),
        ({"uses": INVITATION_USES_MAX + 1}, "bad_option"),
    ],
)
def test_a_bad_invitation_is_refused(hub: FakeHub, params: dict[str, object], code: str) -> None:
    good = {"address": "agent/new", "public_key": make_key_pair().public, "ttl_ms": 1000, "uses": 1}
    assert hub.join("operator/o").call("invite", **(good | params)) == code


def test_a_key_that_is_in_use_can_not_be_an_invitation_nor_the_other_way_round(hub: FakeHub) -> None:
    operator, pair = hub.join("operator/o"), make_key_pair()
    _enrol(hub, _invite(hub), pair.public)
    assert operator.call("invite", address="agent/x", public_key=pair.public, ttl_ms=1000, uses=1) == "not_allowed"
    identity = _invite(hub)
    assert _enrol(hub, identity, identity.split()[1])[3] == "not_allowed"


def test_the_number_of_invitations_is_bounded_and_old_ones_make_room(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.hub.enrolment.INVITATIONS_MAX", 2)
    assert INVITATIONS_MAX > 2
    for _ in range(2):
        _invite(hub, ttl_ms=1000)
    asked = {"address": "agent/x", "public_key": make_key_pair().public, "ttl_ms": 1000, "uses": 1}
    assert hub.join("operator/p").call("invite", **asked) == "hub_full"
    hub.clock.advance(1)
    _invite(hub, ttl_ms=8 * 86_400_000)
    assert len(hub.decider.enrolment.invites) == 2, "one that has expired made room"
    hub.clock.advance(7 * 86_400 + 1)
    _invite(hub, ttl_ms=1000)
    assert len(hub.decider.enrolment.invites) == 2, "what has been over for a week is forgotten"


@pytest.mark.parametrize("kind", ["agent", "matrix"])
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("invite", {"address": "agent/x", "public_key": "k" * 40, "ttl_ms": 1000, "uses": 1}),
        ("keys.list", {}),
        ("keys.revoke", {"public_key": "k" * 40}),
    ],
)
def test_only_operators_let_others_in(hub: FakeHub, kind: str, method: str, params: dict[str, object]) -> None:
    assert hub.join(f"{kind}/x").call(method, **params) == "not_allowed"


def test_a_revoked_key_ends_its_sessions_at_once_and_gives_back_what_they_held(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    identity, pair = _invite(hub), make_key_pair()
    _enrol(hub, identity, pair.public)
    agent = FakePeer(hub, f"agent/new {pair.public}")
    agent.say(hello("agent/new", credit=5, slots=1))
    operator.submit("agent/new")
    assert agent.told
    assert operator.call("keys.revoke", public_key=pair.public) == {"address": "agent/new"}
    assert agent.told[-1][:2] == [wire.BYE, "key_revoked"]
    assert agent.is_kicked
    assert hub.decider.enrolment.identity_of(pair.public) is None
    assert hub.decider.tasks.board.waiting("agent/new") == 1
    hub.restart()
    assert hub.decider.enrolment.identity_of(pair.public) is None


def test_sessions_that_came_with_another_key_of_the_same_peer_go_on(hub: FakeHub) -> None:
    identity = _invite(hub, "matrix/m", uses=2)
    first, second = make_key_pair(), make_key_pair()
    for pair in (first, second):
        _enrol(hub, identity, pair.public)
    sessions = [FakePeer(hub, f"matrix/m {pair.public}") for pair in (first, second)]
    for number, session in enumerate(sessions):
        session.say(hello(epoch=b"epoch--%d" % number))
        session.told.clear()
    hub.join("operator/o").call("keys.revoke", public_key=first.public)
    assert [[record[0] for record in session.told] for session in sessions] == [[wire.BYE], []]


def test_a_routing_id_whose_session_came_with_another_key_of_the_same_peer_is_stolen(hub: FakeHub) -> None:
    identity = _invite(hub, "matrix/m", uses=2)
    first, second = make_key_pair(), make_key_pair()
    for pair in (first, second):
        _enrol(hub, identity, pair.public)
    session = FakePeer(hub, f"matrix/m {first.public}")
    session.say(hello())
    thief = FakePeer(hub, f"matrix/m {second.public}")
    thief.link = session.link
    thief.say([wire.PING, 1])
    assert hub.decider.state.counts["stolen_link"] == 1


def test_an_invitation_can_be_revoked_and_says_so(hub: FakeHub) -> None:
    operator, identity = hub.join("operator/o"), _invite(hub)
    public = identity.split()[1]
    operator.call("keys.revoke", public_key=public)
    assert operator.call("keys.revoke", public_key=public) == "not_found"
    for _ in range(2):
        answer = _enrol(hub, identity, make_key_pair().public)
        assert (answer[3], "revoked" in answer[4]) == ("invitation_over", True)
        hub.restart()
    assert [each["is_open"] for each in hub.join("operator/o").call("keys.list")["invitations"]] == [False]


def test_a_revoked_key_takes_the_open_invitations_with_it_that_were_made_with_it(hub: FakeHub) -> None:
    by_other = _invite(hub)
    thief = hub.join("operator/thief")
    (key,) = [public for public, text in hub.state.keys.items() if text == "operator/thief"]
    once = make_key_pair().public
    thief.call("invite", address="operator/again", public_key=once, ttl_ms=HOUR_MS, uses=1)
    hub.join("operator/o").call("keys.revoke", public_key=key)
    answer = _enrol(hub, str(hub.decider.enrolment.identity_of(once)), make_key_pair().public)
    assert "revoked" in answer[4]
    assert _enrol(hub, by_other, make_key_pair().public)[0] == wire.REPLY


def test_revoking_an_invitation_leaves_the_tokens_of_its_peer_alone(hub: FakeHub) -> None:
    peer, identity = hub.join("agent/new"), _invite(hub)
    made = peer.call("token.create", ttl_ms=HOUR_MS)
    hub.join("operator/o").call("keys.revoke", public_key=identity.split()[1])
    hub.decider.tokens.verify(made["token"], now_ms=hub.clock.now_ms)


def test_rejecting_and_replacing_are_in_the_audit_log(hub: FakeHub) -> None:
    operator, public = hub.join("operator/o"), _knock(hub, "127.0.0.1")
    operator.call("keys.reject", public_key=public)
    agent, old = _with_key(hub, "agent/new")
    new = make_key_pair().public
    agent.call("keys.rotate", public_key=new, overlap_ms=0)
    entries = {entry["action"]: entry for entry in operator.call("audit.list")["entries"]}
    assert (entries["rejected"]["actor"], entries["rejected"]["detail"]) == ("operator/o", fingerprint(public))
    assert entries["replaced"]["detail"] == f"{fingerprint(old)} by {fingerprint(new)}"


def test_the_last_key_of_the_last_operator_stays(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    listed = operator.call("keys.list")["keys"]
    mine = [each["public_key"] for each in listed if each["address"] == "operator/o"]
    assert operator.call("keys.revoke", public_key=mine[0]) == "not_allowed"
    assert operator.call("keys.revoke", public_key=make_key_pair().public) == "not_found"


def test_keys_and_invitations_are_listed(hub: FakeHub) -> None:
    operator, pair = hub.join("operator/o"), make_key_pair()
    _enrol(hub, _invite(hub), pair.public)
    found = operator.call("keys.list")
    listed = {each["address"]: each for each in found["keys"]}
    assert listed["agent/new"]["fingerprint"] == pair.fingerprint
    (invitation,) = found["invitations"]
    assert (invitation["address"], invitation["uses_left"], invitation["is_open"]) == ("agent/new", 0, False)


def _with_key(hub: FakeHub, peer: str) -> tuple[FakePeer, str]:
    """Return a connected peer that knows its own key."""
    identity, pair = _invite(hub, peer), make_key_pair()
    _enrol(hub, identity, pair.public)
    session = FakePeer(hub, f"{peer} {pair.public}")
    session.say(hello(epoch=b"epoch--1", credit=5, slots=1 if peer.startswith("agent/") else 0))
    session.told.clear()
    return session, pair.public


def test_a_key_is_replaced_with_an_overlap_and_nothing_that_was_held_is_lost(hub: FakeHub) -> None:
    agent, old = _with_key(hub, "agent/new")
    new = make_key_pair().public
    operator = hub.join("operator/o2")
    seq = operator.submit("agent/new")
    ((_, lease, *_),) = agent.took(wire.DELIVER)
    until_ms = hub.clock.now_ms + HOUR_MS
    assert agent.call("keys.rotate", public_key=new, overlap_ms=HOUR_MS) == {
        "address": "agent/new",
        "until_ms": until_ms,
    }
    assert {hub.decider.enrolment.identity_of(key) for key in (old, new)} == {f"agent/new {old}", f"agent/new {new}"}
    hub.restart()
    agent = FakePeer(hub, f"agent/new {old}")
    agent.say(hello(epoch=b"epoch--1", credit=5, slots=1, holding=((seq, lease),)))
    hub.clock.jump(3599)
    hub.tick()
    assert agent.session is not None
    hub.clock.jump(2)
    hub.tick()
    assert agent.told[-1][:2] == [wire.BYE, "key_revoked"]
    assert hub.decider.enrolment.identity_of(old) is None
    again = FakePeer(hub, f"agent/new {new}")
    told = again.say(hello(epoch=b"epoch--1", credit=5, slots=1, holding=((seq, lease),)))
    assert told[0][6] == [seq], "it comes back for its task with the new key"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"public_key": "x"}, "bad_option"),
        ({"overlap_ms": 31 * 86_400_000}, "bad_option"),
    ],
)
def test_a_bad_rotation_is_refused(hub: FakeHub, params: dict[str, object], code: str) -> None:
    agent, _ = _with_key(hub, "agent/new")
    good = {"public_key": make_key_pair().public, "overlap_ms": 0}
    assert agent.call("keys.rotate", **(good | params)) == code


def test_nobody_takes_the_key_of_another_by_rotating(hub: FakeHub) -> None:
    agent, mine = _with_key(hub, "agent/new")
    (other,) = [key for key, text in hub.state.keys.items() if text == "operator/o"]
    assert agent.call("keys.rotate", public_key=other, overlap_ms=0) == "not_allowed"
    assert agent.call("keys.rotate", public_key=mine, overlap_ms=0) == "bad_option"


def test_a_peer_makes_so_many_keys_by_itself_at_most_and_may_repeat_the_last(hub: FakeHub) -> None:
    agent, _ = _with_key(hub, "agent/new")
    last = ""
    for _ in range(KEYS_PER_PEER_MAX - 1):
        hub.clock.advance(0.001)
        last = make_key_pair().public
        assert agent.call("keys.rotate", public_key=last, overlap_ms=HOUR_MS)["address"] == "agent/new"
    assert agent.call("keys.rotate", public_key=make_key_pair().public, overlap_ms=HOUR_MS) == "hub_full"
    assert agent.call("keys.rotate", public_key=last, overlap_ms=HOUR_MS)["address"] == "agent/new"
    assert list(hub.state.keys.values()).count("agent/new") == KEYS_PER_PEER_MAX


def _knock(hub: FakeHub, source: str, *, holds_all: bool = False) -> str:
    public = make_key_pair().public
    hub.decider.enrolment.knocked([Stranger(public, source)], holds_all=holds_all, now_ms=hub.clock.now_ms)
    return public


@pytest.mark.parametrize(
    ("source", "holds_all", "is_held"),
    [
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("", False, True),
        ("10.0.0.9", False, False),
        ("10.0.0.9", True, True),
    ],
)
def test_an_unknown_key_of_this_machine_is_pending_and_others_where_that_is_wanted(
    hub: FakeHub, source: str, holds_all: bool, is_held: bool
) -> None:
    public = _knock(hub, source, holds_all=holds_all)
    listed = hub.join("operator/o").call("keys.list")["pending"]
    assert [each["public_key"] for each in listed] == ([public] if is_held else [])


def test_a_pending_key_is_let_in_only_when_it_is_accepted(hub: FakeHub) -> None:
    operator, public = hub.join("operator/o"), _knock(hub, "127.0.0.1")
    assert hub.decider.enrolment.identity_of(public) is None
    operator.call("keys.accept", address="agent/by-hand", public_key=public)
    assert hub.decider.enrolment.identity_of(public) == f"agent/by-hand {public}"
    assert operator.call("keys.list")["pending"] == []


def test_a_rejected_key_is_not_held_again(hub: FakeHub) -> None:
    operator, public = hub.join("operator/o"), _knock(hub, "127.0.0.1")
    assert operator.call("keys.reject", public_key=public) == {"fingerprint": fingerprint(public)}
    hub.decider.enrolment.knocked([Stranger(public, "127.0.0.1")], holds_all=True, now_ms=0)
    assert hub.decider.enrolment.pending == {}
    assert operator.call("keys.reject", public_key=public) == "not_found"
    assert hub.join("matrix/m").call("keys.reject", public_key=public) == "not_allowed"


def test_strangers_can_not_fill_the_memory(hub: FakeHub) -> None:
    for _ in range(PENDING_KEYS_MAX + 3):
        _knock(hub, "127.0.0.1")
    assert len(hub.decider.enrolment.pending) == PENDING_KEYS_MAX
    for _ in range(PENDING_KEYS_MAX + 3):
        hub.decider.enrolment.reject("operator/o", next(iter(hub.decider.enrolment.pending)), now_ms=0)
        _knock(hub, "127.0.0.1")
    assert len(hub.decider.enrolment._rejected) == PENDING_KEYS_MAX
