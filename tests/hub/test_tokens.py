"""Tokens of the gateway, as the decider sees them: a token makes a session as a key does."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from orchestra import wire
from orchestra.errors import TokenExpired, TokenRefused
from orchestra.hub.tokens import Admission, Signer
from orchestra.keys import make_key_pair
from orchestra.limits import (
    SIGN_IN_S,
    SIGN_IN_TOKEN_S,
    SIGN_INS_MAX,
    TOKEN_S_MAX,
    TOKEN_URL_S_MAX,
    TOKENS_AN_HOUR_MAX,
    TOKENS_PER_PEER_MAX,
)
from orchestra.token import TokenKey, sign

from .fakehub import FakeHub, FakePeer, codes, hello, new_epoch

HOUR_MS = 3_600_000


def _made(hub: FakeHub, address: str = "operator/me", *, by: str = "operator/o", **params: Any) -> dict[str, Any]:
    hub.enrol(address)
    made = hub.join(by).call("token.create", **({"address": address, "ttl_ms": HOUR_MS} | params))
    assert isinstance(made, dict), made
    return made


def _verify(hub: FakeHub, text: str, **options: Any) -> Admission:
    return hub.decider.tokens.verify(text, now_ms=hub.clock.now_ms, **options)


def _connect(hub: FakeHub, text: str, **fields: Any) -> FakePeer:
    """Do what a transport does with a token."""
    peer = FakePeer(hub, _verify(hub, text).identity)
    peer.told = peer.say(_hello(**fields))
    return peer


def _hello(**fields: Any) -> list[Any]:
    return hello(epoch=new_epoch(), **fields)


def test_a_token_makes_a_session_as_a_key_does(hub: FakeHub) -> None:
    made = _made(hub)
    admission = _verify(hub, made["token"])
    assert admission.identity == f"operator/me token:{made['id']}"
    assert admission.claims.ends_ms == hub.clock.now_ms + HOUR_MS
    hub.enrol("agent/b")
    peer = _connect(hub, made["token"])
    assert peer.told[0][:3] == [wire.WELCOME, 1, "operator/me"]
    seq = peer.send("agent/b")
    assert hub.join("operator/o").call("message.get", seq=seq)["from"] == "operator/me"


def test_it_may_do_what_both_its_peer_and_itself_may(hub: FakeHub) -> None:
    hub.enrol("agent/b")
    peer = _connect(hub, _made(hub, grants=["send:agent/*", "submit:queue/q"])["token"])
    peer.send("agent/b")
    peer.take()
    told = peer.say(peer.sending("operator/o"))
    assert codes(told) == ["not_allowed"]
    assert "this token" in told[0][4]
    assert peer.call("keys.list") == "not_allowed"
    operator = hub.join("operator/o")
    operator.call("keys.grant", address="operator/me", remove=["send:*"])
    assert peer.told[-1][:2] == [wire.BYE, "grants"]
    again = _connect(hub, _made(hub, grants=["submit:queue/q"])["token"])
    again.submit("queue/q")
    assert codes(again.say(again.sending("agent/b"))) == ["not_allowed"]


def test_a_token_to_look_at_things_neither_takes_messages_nor_cancels_what_its_peer_submitted(hub: FakeHub) -> None:
    key = hub.join("operator/me")
    task = key.submit("queue/q")
    looker = _connect(hub, _made(hub, grants=["observe"])["token"], credit=5)
    hub.join("operator/o").send("operator/me")
    assert looker.took(wire.DELIVER) == []
    assert looker.call("task.get", seq=task)["seq"] == task
    assert looker.call("task.cancel", seq=task) == "not_allowed"
    assert looker.call("feed.watch")["grants"] == ["observe"]
    sender = _connect(hub, _made(hub, grants=["submit:queue/*"])["token"])
    assert sender.call("task.cancel", seq=task)["state"] == "canceled"


def test_a_token_without_any_grant_may_do_nothing_that_needs_one(hub: FakeHub) -> None:
    peer = _connect(hub, _made(hub, grants=[])["token"])
    assert codes(peer.say(peer.sending("operator/o"))) == ["not_allowed"]


def test_an_agent_that_comes_with_a_token_serves_only_what_the_token_may(hub: FakeHub) -> None:
    made = _made(hub, "agent/a", grants=["serve:agent/a"])
    assert _connect(hub, made["token"], slots=1).told[0][0] == wire.WELCOME
    assert codes(_connect(hub, made["token"], slots=1, queues=("queue/q",)).told) == ["not_allowed"]
    visitor = _connect(hub, _made(hub, "agent/c", grants=[])["token"])
    assert codes(visitor.allow(0, 1)) == ["not_allowed"]


def test_a_peer_makes_tokens_for_itself_and_who_administers_for_others(hub: FakeHub) -> None:
    hub.enrol("matrix/n")
    matrix = hub.join("matrix/m")
    own = matrix.call("token.create", ttl_ms=HOUR_MS, grants=["send:*"])
    assert own["address"] == "matrix/m"
    assert matrix.call("token.create", address="matrix/n", ttl_ms=HOUR_MS) == "not_allowed"
    assert matrix.call("token.create", ttl_ms=HOUR_MS, grants=["administer"]) == "not_allowed"
    assert hub.join("operator/o").call("token.create", address="matrix/none", ttl_ms=HOUR_MS) == "unknown_recipient"


def test_a_token_makes_no_token_no_code_and_no_key(hub: FakeHub) -> None:
    peer = _connect(hub, _made(hub)["token"])
    assert peer.call("token.create", ttl_ms=HOUR_MS) == "not_allowed"
    assert peer.call("token.code") == "not_allowed"
    assert peer.call("keys.rotate", public_key=make_key_pair().public, overlap_ms=0) == "not_allowed"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"ttl_ms": 0}, "bad_option"),
        ({"ttl_ms": int(TOKEN_S_MAX * 1000) + 1}, "bad_option"),
        ({"grants": ["fly"]}, "bad_option"),
        ({"grants": [f"send:agent/{number:090d}" for number in range(60)]}, "bad_option"),
        ({"url": 1}, "bad_option"),
    ],
)
def test_a_bad_token_is_not_made(hub: FakeHub, params: dict[str, Any], code: str) -> None:
    assert hub.join("operator/o").call("token.create", **({"ttl_ms": HOUR_MS} | params)) == code
    assert hub.rows("SELECT * FROM token") == []


def test_its_session_ends_in_the_turn_in_which_it_expires_and_what_it_held_goes_to_others(hub: FakeHub) -> None:
    agent = _connect(hub, _made(hub, "agent/a", ttl_ms=5000)["token"], slots=1)
    hub.join("operator/o").submit("agent/a")
    assert agent.took(wire.DELIVER)
    hub.tick(5.0)
    assert agent.told[-1][:2] == [wire.BYE, "token_expired"]
    assert agent.is_kicked
    assert agent.session is None
    assert hub.decider.tasks.board.waiting("agent/a") == 1
    assert hub.rows("SELECT * FROM token") == []


def test_what_it_says_after_its_end_is_not_done_also_before_the_hub_looks_at_the_clock(hub: FakeHub) -> None:
    peer = _connect(hub, _made(hub, ttl_ms=5000)["token"])
    peer.take()
    hub.clock.advance(5.0)
    told = peer.say(peer.sending("operator/o"))
    assert [record[:2] for record in told] == [[wire.BYE, "token_expired"]]
    assert hub.messages() == 0


def test_it_is_not_let_in_after_its_end(hub: FakeHub) -> None:
    made = _made(hub, ttl_ms=5000)
    admission = _verify(hub, made["token"])
    hub.clock.advance(5.0)
    with pytest.raises(TokenExpired, match="orchestra token create"):
        _verify(hub, made["token"])
    late = FakePeer(hub, admission.identity)
    assert codes(late.say(_hello())) == ["token_expired"]
    assert late.is_kicked


def test_a_revoked_token_ends_its_session_at_once_and_no_other(hub: FakeHub) -> None:
    first, second = _made(hub), _made(hub)
    peer, other, key = _connect(hub, first["token"]), _connect(hub, second["token"]), hub.join("operator/me")
    admission = _verify(hub, first["token"])
    assert hub.join("operator/o").call("token.revoke", id=first["id"]) == {"address": "operator/me"}
    assert peer.told[-1][:2] == [wire.BYE, "token_refused"]
    assert peer.is_kicked
    assert other.session is not None
    assert key.session is not None
    with pytest.raises(TokenRefused, match="revoked"):
        _verify(hub, first["token"])
    late = FakePeer(hub, admission.identity)
    assert codes(late.say(_hello())) == ["token_refused"]
    hub.restart()
    with pytest.raises(TokenRefused, match="revoked"):
        _verify(hub, first["token"])
    _verify(hub, second["token"])


def test_who_may_revoke_which(hub: FakeHub) -> None:
    made = _made(hub, "matrix/m")
    assert hub.join("matrix/n").call("token.revoke", id=made["id"]) == "not_allowed"
    assert hub.join("matrix/n").call("token.revoke", address="matrix/m") == "not_allowed"
    assert hub.join("matrix/n").call("token.revoke", id="none") == "not_allowed"
    own = hub.join("matrix/m")
    assert own.call("token.revoke", id=made["id"]) == {"address": "matrix/m"}
    assert own.call("token.revoke", id=made["id"]) == "not_found"
    assert own.call("token.revoke") == "bad_option"
    assert own.call("token.revoke", id="x", address="matrix/m") == "bad_option"


def test_all_tokens_until_now_end_also_those_the_hub_forgot_and_later_ones_are_good(hub: FakeHub) -> None:
    known, forgotten = _made(hub), _made(hub)
    by_other = _made(hub, "operator/guest", by="operator/me")
    peer, guest = _connect(hub, known["token"]), _connect(hub, by_other["token"])
    hub.decider.tokens.all.pop(forgotten["id"])
    _verify(hub, forgotten["token"])
    operator = hub.join("operator/o")
    operator.call("token.revoke", address="operator/me")
    assert peer.told[-1][:2] == [wire.BYE, "token_refused"]
    assert guest.told[-1][:2] == [wire.BYE, "token_refused"], "it was made by who is not trusted any more"
    later = _made(hub)
    for _ in range(2):
        for each in (known, forgotten, by_other):
            with pytest.raises(TokenRefused, match="revoked"):
                _verify(hub, each["token"])
        _verify(hub, later["token"])
        hub.restart()


def test_tokens_end_with_the_key_of_their_peer(hub: FakeHub) -> None:
    made = _made(hub)
    peer = _connect(hub, made["token"])
    (public,) = [key for key, text in hub.state.keys.items() if text == "operator/me"]
    hub.join("operator/o").call("keys.revoke", public_key=public)
    assert peer.told[-1][:2] == [wire.BYE, "token_refused"]
    with pytest.raises(TokenRefused, match="revoked"):
        _verify(hub, made["token"])


def test_tokens_outlive_a_restart_and_the_loss_of_what_the_hub_remembers_of_them(hub: FakeHub) -> None:
    made = _made(hub, grants=["send:*"])
    hub.restart()
    assert _connect(hub, made["token"]).told[0][0] == wire.WELCOME
    with hub.deciding():
        hub.decider.tokens.all.clear()
    assert _verify(hub, made["token"]).claims.grants == ("send:*",)


def test_a_token_for_another_hub_is_refused_also_with_the_same_key(hub: FakeHub) -> None:
    admission = _verify(hub, _made(hub)["token"])
    elsewhere = sign(replace(admission.claims, audience="another"), hub.signer.key)
    with pytest.raises(TokenRefused, match="another hub"):
        _verify(hub, elsewhere)
    nobody = sign(replace(admission.claims, subject="operator/nobody"), hub.signer.key)
    with pytest.raises(TokenRefused, match="not known"):
        _verify(hub, nobody)


def test_a_key_that_was_replaced_still_verifies_and_one_before_it_does_not(hub: FakeHub) -> None:
    made = _made(hub)
    old, new = hub.signer.key, TokenKey(bytes(32))
    hub.signer = Signer(new, (old.public,), hub.signer.random)
    hub.restart()
    _verify(hub, made["token"])
    hub.signer = Signer(TokenKey(b"x" * 32), (new.public,), hub.signer.random)
    hub.restart()
    with pytest.raises(TokenRefused, match="replaced"):
        _verify(hub, made["token"])


def test_in_a_url_only_what_opens_connections_for_a_short_time_is_taken(hub: FakeHub) -> None:
    long, short = _made(hub), _made(hub, url=True)
    with pytest.raises(TokenRefused, match="--url"):
        _verify(hub, long["token"], is_url=True)
    peer = FakePeer(hub, _verify(hub, short["token"], is_url=True).identity)
    peer.say(_hello())
    hub.clock.advance(TOKEN_URL_S_MAX)
    with pytest.raises(TokenExpired, match="connect to localhost"):
        _verify(hub, short["token"], is_url=True)
    peer.session.heard_ms = hub.clock.at_ms
    hub.tick()
    assert peer.session is not None, "what it opened in time goes on"
    hub.tick(3600)
    assert peer.told[-1][:2] == [wire.BYE, "token_expired"]


@pytest.mark.parametrize("source", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("is_url", [True, False])
def test_a_token_for_a_url_opens_connections_from_this_machine_until_its_end(
    hub: FakeHub, source: str, is_url: bool
) -> None:
    made = _made(hub, url=True)
    for _ in range(5):
        hub.clock.advance(TOKEN_URL_S_MAX)
        peer = FakePeer(hub, _verify(hub, made["token"], is_url=is_url, source=source).identity)
        assert peer.say(_hello())[0][0] == wire.WELCOME
    hub.clock.advance(TOKEN_URL_S_MAX)
    with pytest.raises(TokenExpired, match="has expired"):
        _verify(hub, made["token"], is_url=is_url, source=source)


@pytest.mark.parametrize(
    "source", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "fe80::1%eth0", "128.0.0.1", "?", "", "localhost"]
)
def test_a_token_for_a_url_opens_connections_from_elsewhere_for_a_short_time(hub: FakeHub, source: str) -> None:
    made = _made(hub, url=True)
    hub.clock.advance(TOKEN_URL_S_MAX - 0.001)
    _verify(hub, made["token"], is_url=True, source=source)
    hub.clock.advance(0.001)
    for is_url in (True, False):
        with pytest.raises(TokenExpired, match=r"600 s.*localhost.*orchestra token create --url"):
            _verify(hub, made["token"], is_url=is_url, source=source)


def test_on_this_machine_too_a_token_for_a_url_is_good_for_nothing_once_it_was_revoked(hub: FakeHub) -> None:
    one, two, three = (_made(hub, url=True) for _ in range(3))
    hub.clock.advance(TOKEN_URL_S_MAX)
    operator = hub.join("operator/o")
    operator.call("token.revoke", id=one["id"])
    with pytest.raises(TokenRefused, match="revoked"):
        _verify(hub, one["token"], is_url=True, source="127.0.0.1")
    _verify(hub, two["token"], is_url=True, source="127.0.0.1")
    operator.call("token.revoke", address="operator/me")
    for each in (two, three):
        with pytest.raises(TokenRefused, match="revoked"):
            _verify(hub, each["token"], is_url=True, source="127.0.0.1")


def test_a_code_signs_in_once_and_for_a_short_time(hub: FakeHub) -> None:
    matrix = hub.join("matrix/m")
    made = matrix.call("token.code")
    assert made["expires_ms"] == hub.clock.now_ms + SIGN_IN_S * 1000
    with hub.deciding() as turn:
        text = hub.decider.tokens.sign_in(made["code"], turn)
        assert _verify(hub, text).claims.ends_ms == hub.clock.now_ms + SIGN_IN_TOKEN_S * 1000
        with pytest.raises(TokenRefused, match="used already"):
            hub.decider.tokens.sign_in(made["code"], turn)
        with pytest.raises(TokenRefused, match="used already"):
            hub.decider.tokens.sign_in("guessed", turn)
    late = matrix.call("token.code")["code"]
    hub.clock.advance(SIGN_IN_S)
    with hub.deciding() as turn, pytest.raises(TokenRefused, match="expired"):
        hub.decider.tokens.sign_in(late, turn)


def test_codes_that_wait_are_bounded_and_the_oldest_makes_room(hub: FakeHub) -> None:
    matrix = hub.join("matrix/m")
    waiting = []
    for _ in range(SIGN_INS_MAX + 1):
        hub.clock.advance(0.001)
        waiting.append(matrix.call("token.code")["code"])
    with hub.deciding() as turn:
        with pytest.raises(TokenRefused):
            hub.decider.tokens.sign_in(waiting[0], turn)
        hub.decider.tokens.sign_in(waiting[1], turn)


def test_a_code_of_who_is_not_trusted_any_more_signs_nobody_in(hub: FakeHub) -> None:
    code = hub.join("operator/me").call("token.code")["code"]
    hub.join("operator/o").call("token.revoke", address="operator/me")
    with hub.deciding() as turn, pytest.raises(TokenRefused):
        hub.decider.tokens.sign_in(code, turn)


def test_a_peer_has_so_many_tokens_at_most_and_those_that_are_over_make_room(hub: FakeHub) -> None:
    matrix = hub.join("matrix/m")
    for _ in range(TOKENS_PER_PEER_MAX):
        hub.clock.advance(0.001)
        assert isinstance(matrix.call("token.create", ttl_ms=5000), dict)
    assert matrix.call("token.create", ttl_ms=5000) == "hub_full"
    hub.tick(5)
    assert isinstance(matrix.call("token.create", ttl_ms=5000), dict)


def test_revoked_tokens_make_room_and_stay_revoked(hub: FakeHub) -> None:
    matrix = hub.join("matrix/m")
    old = [matrix.call("token.create", ttl_ms=HOUR_MS)]
    for _ in range(TOKENS_PER_PEER_MAX - 1):
        hub.clock.advance(0.001)
        old.append(matrix.call("token.create", ttl_ms=HOUR_MS))
    for each in old:
        hub.clock.advance(0.001)
        matrix.call("token.revoke", id=each["id"])
    new = matrix.call("token.create", ttl_ms=HOUR_MS)
    assert len(hub.decider.tokens.all) == 1
    for _ in range(2):
        _verify(hub, new["token"])
        for each in old:
            with pytest.raises(TokenRefused, match="revoked"):
                _verify(hub, each["token"])
        hub.restart()


def test_who_does_not_administer_makes_so_many_tokens_an_hour(hub: FakeHub) -> None:
    matrix = hub.join("matrix/m")
    for _ in range(TOKENS_AN_HOUR_MAX):
        hub.clock.advance(0.001)
        assert isinstance(matrix.call("token.code"), dict)
    assert matrix.call("token.code") == "rate_limited"
    assert matrix.call("token.create", ttl_ms=HOUR_MS) == "rate_limited"
    hub.join("operator/o").call("token.code")
    hub.clock.advance(3600 / TOKENS_AN_HOUR_MAX)
    assert isinstance(matrix.call("token.code"), dict)


def test_all_tokens_together_are_bounded(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.hub.tokens.TOKENS_MAX", 1)
    assert isinstance(hub.join("matrix/m").call("token.create", ttl_ms=5000), dict)
    assert hub.join("matrix/n").call("token.create", ttl_ms=5000) == "hub_full"


def test_everybody_sees_its_own_tokens_and_who_administers_all(hub: FakeHub) -> None:
    mine, others = _made(hub, "matrix/m", grants=["send:*"]), _made(hub, "matrix/n")
    matrix, operator = hub.join("matrix/m"), hub.join("operator/o")
    assert [each["id"] for each in matrix.call("token.list")["tokens"]] == [mine["id"]]
    assert matrix.call("token.list", address="matrix/n") == "not_allowed"
    listed = {each["id"]: each for each in operator.call("token.list")["tokens"]}
    assert set(listed) == {mine["id"], others["id"]}
    assert listed[mine["id"]] == {
        "id": mine["id"],
        "address": "matrix/m",
        "made_ms": hub.clock.now_ms,
        "ends_ms": mine["ends_ms"],
        "made_by": "operator/o",
        "grants": ["send:*"],
        "revoked_ms": None,
        "sessions": 0,
    }
    _connect(hub, mine["token"])
    assert matrix.call("token.list")["tokens"][0]["sessions"] == 1
    assert listed[others["id"]]["grants"] is None
    assert len(operator.call("token.list", address="matrix/n")["tokens"]) == 1


def test_everything_about_tokens_is_in_the_audit_log_and_no_token_is(hub: FakeHub) -> None:
    made = _made(hub, grants=["send:*"])
    operator = hub.join("operator/o")
    operator.call("token.revoke", id=made["id"])
    operator.call("token.revoke", address="operator/me")
    code = operator.call("token.code")["code"]
    with hub.deciding() as turn:
        text = hub.decider.tokens.sign_in(code, turn)
        for _ in range(2):
            hub.decider.audit.note_bad_token("10.0.0.9", "expired", now_ms=turn.now_ms)
    entries = [entry for entry in operator.call("audit.list")["entries"] if entry["action"] not in ("accepted",)]
    assert [(entry["action"], entry["subject"]) for entry in entries] == [
        ("issued", "operator/me"),
        ("withdrawn", "operator/me"),
        ("withdrawn", "operator/me"),
        ("code_made", "operator/o"),
        ("signed_in", "operator/o"),
        ("refused", ""),
    ]
    assert made["id"] in entries[0]["detail"]
    for secret in (made["token"], text, code):
        assert secret not in str(entries)


def test_no_token_and_no_code_is_in_the_database_or_in_a_log(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = _made(hub)
    code = hub.join("operator/o").call("token.code")["code"]
    peer = _connect(hub, made["token"])
    peer.send("operator/o")
    with pytest.raises(TokenRefused) as refused:
        _verify(hub, made["token"][:-1])
    hub.close()
    stored = b"".join(path.read_bytes() for path in hub.folder.iterdir() if path.is_file())
    body = made["token"].split(".")[2]
    for secret in (body, code):
        assert secret not in caplog.text
        assert secret not in str(refused.value)
        assert secret.encode() not in stored
    hub._open()


def test_a_session_asks_who_it_is_and_what_it_may(hub: FakeHub) -> None:
    made = _made(hub, "matrix/m", grants=["send:*"])
    assert _connect(hub, made["token"]).call("whoami") == {
        "address": "matrix/m",
        "grants": ["send:*"],
        "token": made["id"],
        "ends_ms": made["ends_ms"],
    }
    told = hub.join("agent/a").call("whoami")
    assert told == {"address": "agent/a", "grants": ["receive", "read:*", "send:*", "serve:*"]}
