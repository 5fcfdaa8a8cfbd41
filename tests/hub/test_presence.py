"""Presence: who is there, since when, who is away, and who is told."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import wire
from orchestra.hub import presence as presence_module
from orchestra.limits import AWAY_TEXT_CHARS_MAX, HEARTBEAT_S, LEASE_S

from .fakehub import FakeHub, FakePeer, codes, pass_time


def _of(asking: FakePeer, text: str) -> dict[str, Any]:
    (found,) = [each for each in asking.call("peers")["peers"] if each["address"] == text]
    return dict(found)


def _told(watcher: FakePeer) -> list[tuple[str, str]]:
    """Who was said to be in which state since the last look."""
    return [(record[2]["address"], record[2]["state"]) for record in watcher.took(wire.EVENT)]


def _watching(hub: FakeHub, text: str = "operator/watcher") -> FakePeer:
    watcher = hub.join(text)
    watcher.call("presence.watch")
    watcher.take()
    return watcher


# Where a peer stands.


def test_a_peer_that_never_came_is_offline_since_never(hub: FakeHub) -> None:
    hub.enrol("matrix/m")
    found = _of(hub.join("operator/o"), "matrix/m")
    assert (found["state"], found["since_ms"], found["away_text"], found["sessions"]) == ("offline", None, None, [])


def test_a_peer_is_online_since_its_first_session_and_offline_since_its_last_one(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    start = hub.clock.now_ms
    first = hub.join("matrix/m", about={"host": "b"})
    hub.clock.advance(2)
    second = hub.join("matrix/m", about={"host": "a"})
    found = _of(operator, "matrix/m")
    assert (found["state"], found["since_ms"], found["session_count"]) == ("online", start, 2)
    assert found["hosts"] == ["a", "b"]
    first.vanish()
    assert _of(operator, "matrix/m")["state"] == "online"
    hub.clock.advance(2)
    second.vanish()
    found = _of(operator, "matrix/m")
    assert (found["state"], found["since_ms"], found["hosts"]) == ("offline", start + 4000, [])


def test_how_busy_an_agent_is_is_told(hub: FakeHub) -> None:
    agent, operator = hub.join("agent/a", slots=3), hub.join("operator/o")
    seqs = [operator.submit("agent/a") for _ in range(2)]
    found = _of(operator, "agent/a")
    assert (found["busy"], found["slots"]) == (2, 3)
    assert found["sessions"][0]["tasks"] == seqs
    agent.vanish()
    assert (_of(operator, "agent/a")["busy"], _of(operator, "agent/a")["slots"]) == (0, 0)


def test_what_a_peer_says_of_itself_hides_nothing_that_the_hub_knows(hub: FakeHub) -> None:
    hub.join("agent/a", slots=1, about={"slots": "99", "version": "7"})
    (session,) = _of(hub.join("operator/o"), "agent/a")["sessions"]
    assert (session["slots"], session["version"]) == (1, "7")


def test_when_a_peer_left_outlives_the_hub(hub: FakeHub) -> None:
    peer = hub.join("matrix/gone")
    hub.clock.advance(3600)
    left_ms = hub.clock.now_ms
    hub.say((peer, [[wire.BYE, "done", ""]]))
    hub.tick(2)
    hub.clock.advance(3600)
    hub.restart()
    assert _of(hub.join("operator/o"), "matrix/gone")["since_ms"] == left_ms


def test_who_was_there_when_the_hub_crashed_is_offline_since_it_started_again(hub: FakeHub) -> None:
    hub.join("matrix/m")
    hub.enrol("matrix/never")
    hub.clock.advance(3600)
    hub.restart()
    operator = hub.join("operator/o")
    found = _of(operator, "matrix/m")
    assert (found["state"], found["since_ms"]) == ("offline", hub.clock.now_ms)
    assert _of(operator, "matrix/never")["since_ms"] is None


def test_a_peer_that_dies_without_a_word_is_offline_within_its_lease(hub: FakeHub) -> None:
    watcher = _watching(hub)
    hub.join("matrix/m")
    watcher.take()
    pass_time(hub, watcher, LEASE_S)
    assert _of(watcher, "matrix/m")["state"] == "online"
    watcher.take()
    hub.tick(0.25)
    assert _of(watcher, "matrix/m")["state"] == "offline"
    assert _told(watcher) == [("matrix/m", "offline")]


def test_a_peer_that_speaks_now_and_then_stays_online(hub: FakeHub) -> None:
    operator, matrix = hub.join("operator/o"), hub.join("matrix/m")
    for _ in range(10):
        hub.clock.advance(HEARTBEAT_S)
        hub.say((operator, [[wire.PING, 0]]), (matrix, [[wire.PING, 0]]))
        hub.tick()
    assert _of(operator, "matrix/m")["state"] == "online"


@pytest.mark.parametrize(
    ("text", "fields", "wake"),
    [
        ("agent/a", {"slots": 1}, "now"),
        ("matrix/m", {"credit": 5}, "now"),
        ("matrix/m", {"about": {"answers": "yes"}}, "now"),
        ("matrix/m", {}, "asking"),
        ("matrix/m", {"credit": 5, "about": {"wake": "next-turn"}}, "next-turn"),
        ("matrix/m", {"about": {"wake": "by magic"}}, "asking"),
    ],
)
def test_how_a_peer_can_be_woken_is_told(hub: FakeHub, text: str, fields: dict[str, Any], wake: str) -> None:
    operator, peer = hub.join("operator/o"), hub.join(text, **fields)
    assert _of(operator, text)["wake"] == wake
    peer.vanish()
    assert _of(operator, text)["wake"] == "no"


def test_the_session_that_is_woken_soonest_counts(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    for wake in ("asking", "next-turn", "no"):
        hub.join("matrix/m", about={"wake": wake})
    assert _of(operator, "matrix/m")["wake"] == "next-turn"


# Set by hand.


def test_a_peer_is_away_until_it_says_otherwise_also_over_a_restart(hub: FakeHub) -> None:
    peer = hub.join("matrix/m")
    told = peer.call("presence.set", state="away", text="lunch")
    away_ms = hub.clock.now_ms
    assert (told["state"], told["since_ms"], told["away_text"]) == ("away", away_ms, "lunch")
    hub.clock.advance(60)
    assert peer.call("presence.set", state="away", text="long lunch")["since_ms"] == away_ms
    hub.restart()
    operator = hub.join("operator/o")
    found = _of(operator, "matrix/m")
    assert (found["state"], found["away_ms"], found["away_text"]) == ("offline", away_ms, "long lunch")
    assert operator.call("status")["peers"]["matrix"] == {"known": 1, "online": 0, "away": 1}
    again = hub.join("matrix/m")
    assert _of(operator, "matrix/m")["state"] == "away"
    back = again.call("presence.set", state="online")
    assert (back["state"], back["away_ms"], back["away_text"]) == ("online", None, None)


def test_an_operator_may_say_it_for_others_and_nobody_else(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    operator, matrix = hub.join("operator/o"), hub.join("matrix/m")
    assert operator.call("presence.set", state="away", address="agent/a")["address"] == "agent/a"
    assert matrix.call("presence.set", state="online", address="agent/a") == "not_allowed"
    assert operator.call("presence.set", state="online", address="agent/none") == "unknown_recipient"
    assert operator.call("presence.set", state="online", address="queue/q") == "bad_address"
    assert matrix.call("presence.set", state="away", address="matrix/m")["state"] == "away"


@pytest.mark.parametrize(
    "params",
    [
        {"state": "offline"},
        {"state": ""},
        {"state": "online", "text": "why"},
        {"state": "away", "text": "x" * (AWAY_TEXT_CHARS_MAX + 1)},
        {"state": "away", "text": 7},
        {"text": "x"},
    ],
)
def test_what_can_not_be_set_is_refused_and_changes_nothing(hub: FakeHub, params: dict[str, Any]) -> None:
    peer = hub.join("matrix/m")
    assert peer.call("presence.set", **params) == "bad_option"
    assert _of(peer, "matrix/m")["state"] == "online"


# Watching.


def test_watchers_are_told_of_first_sessions_last_ones_and_of_away(hub: FakeHub) -> None:
    watcher = _watching(hub)
    first = hub.join("matrix/m")
    assert _told(watcher) == [("matrix/m", "online")]
    second = hub.join("matrix/m")
    first.vanish()
    assert _told(watcher) == [], "it was there all along"
    second.call("presence.set", state="away", text="lunch")
    assert _told(watcher) == [("matrix/m", "away")]
    second.call("presence.set", state="away", text="lunch")
    assert _told(watcher) == [], "nothing is new"
    second.vanish()
    assert _told(watcher) == [("matrix/m", "offline")]


def test_a_watcher_is_told_first_where_everybody_stands(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    hub.join("matrix/m")
    watcher = hub.join("operator/o")
    found = watcher.call("presence.watch")
    assert [(each["address"], each["state"]) for each in found["peers"]] == [
        ("agent/a", "offline"),
        ("matrix/m", "online"),
        ("operator/o", "online"),
    ]
    assert found["is_cut"] is False
    assert found["peers"][1].keys() == presence_module.facts(hub.peer("matrix/m")).keys()


def test_a_client_that_reconnects_within_one_turn_is_no_news(hub: FakeHub) -> None:
    watcher = _watching(hub)
    matrix = hub.join("matrix/m")
    watcher.take()
    matrix.again()
    assert _told(watcher) == []


def test_of_each_peer_one_turn_tells_the_newest_only(hub: FakeHub) -> None:
    watcher = _watching(hub)
    matrix = hub.join("matrix/m")
    watcher.take()
    calls = [
        [wire.CALL, i, "presence.set", {"state": "away", "text": str(i)} if i % 2 else {"state": "online"}]
        for i in range(8)
    ]
    hub.say((matrix, calls))
    (event,) = watcher.took(wire.EVENT)
    assert event[2]["away_text"] == "7"
    hub.say((matrix, [calls[0], calls[7]]))
    assert _told(watcher) == [], "it stands where it stood"


def test_who_stops_watching_or_leaves_is_told_nothing(hub: FakeHub) -> None:
    watcher, gone = _watching(hub), _watching(hub, "operator/gone")
    watcher.call("presence.unwatch")
    watcher.take()
    gone.vanish()
    hub.join("matrix/m")
    assert watcher.take() == []
    assert gone.take() == []


def test_who_did_not_ask_is_told_nothing_of_those_who_come_and_go(hub: FakeHub) -> None:
    bystanders = [hub.join(f"matrix/m{number}") for number in range(20)]
    bystanders[0].vanish()
    assert [each.take() for each in bystanders] == [[]] * 20


def test_more_watchers_than_the_limit_are_refused(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "PRESENCE_WATCHERS_MAX", 1)
    watcher, other = _watching(hub), hub.join("matrix/m")
    assert other.call("presence.watch") == "hub_full"
    assert watcher.call("presence.watch")["peers"], "watching again is no second watcher"
    watcher.vanish()
    assert other.call("presence.watch")["peers"]


def test_everybody_is_told_of_in_pages(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "LIST_ROWS_MAX", 2)
    hub.enrol("agent/a", "agent/b", "agent/c", "agent/d")
    operator = hub.join("operator/o")
    for method in ("peers", "presence.watch"):
        found: list[str] = []
        for is_cut in (True, True, False):
            page = operator.call(method, after=found[-1] if found else "")
            found += [each["address"] for each in page["peers"]]
            assert page["is_cut"] is is_cut
        assert found == ["agent/a", "agent/b", "agent/c", "agent/d", "operator/o"]


def test_a_page_is_no_larger_than_a_reply(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "REPLY_BYTES_MAX", 400)
    hub.enrol("agent/a", "agent/b", "agent/c", "agent/d")
    page = hub.join("operator/o").call("presence.watch")
    assert 1 <= len(page["peers"]) < 5
    assert page["is_cut"]


def test_presence_needs_a_session(hub: FakeHub) -> None:
    assert codes(hub.knock("operator/o").say([wire.CALL, 1, "presence.watch", {}])) == ["no_session"]
