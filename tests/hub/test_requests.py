"""Live requests: answered now or not at all."""

from __future__ import annotations

import pytest

from orchestra.limits import REQUESTS_OPEN_MAX
from orchestra.wire import ERROR, REQUEST, RESPONSE, Record

from .fakehub import FakeHub, FakePeer, codes


def _answerer(hub: FakeHub, text: str = "agent/a") -> FakePeer:
    return hub.join(text, about={"answers": "yes"})


def _asked(peer: FakePeer) -> Record:
    (request,) = peer.took(REQUEST)
    return request


def test_a_request_is_handed_to_the_other_and_its_answer_back(hub: FakeHub) -> None:
    asker, other = hub.join("matrix/m"), _answerer(hub)
    assert asker.say([REQUEST, 7, "agent/a", 5000, b"how are you"]) == []
    verb, number, sender, wait_ms, body = _asked(other)
    assert (verb, sender, wait_ms, body) == (REQUEST, "matrix/m", 5000, b"how are you")
    assert other.say([RESPONSE, number, "", b"well"]) == []
    assert asker.take() == [[RESPONSE, 7, b"well"]]
    assert hub.messages() == 0


def test_an_answer_can_be_an_error_with_a_known_code(hub: FakeHub) -> None:
    asker, other = hub.join("matrix/m"), _answerer(hub)
    for code, told in (("not_allowed", "not_allowed"), ("made-up", "internal")):
        asker.say([REQUEST, 1, "agent/a", 5000, b""])
        other.say([RESPONSE, _asked(other)[1], code, b"no \xff" + b"x" * 5000])
        (error,) = asker.take()
        assert error[:4] == [ERROR, REQUEST, 1, told]
        assert len(error[4]) <= 1000


@pytest.mark.parametrize(
    ("to", "code"), [("agent/nobody", "unknown_recipient"), ("queue/q", "bad_address"), ("*", "bad_address")]
)
def test_a_request_to_what_is_no_peer_is_refused(hub: FakeHub, to: str, code: str) -> None:
    assert codes(hub.join("matrix/m").say([REQUEST, 1, to, 5000, b""])) == [code]


def test_a_peer_that_is_not_connected_is_offline_at_once(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    assert hub.join("matrix/m").say([REQUEST, 3, "agent/a", 5000, b""])[0][:4] == [ERROR, REQUEST, 3, "offline"]


def test_a_peer_that_answers_no_requests_is_offline_too(hub: FakeHub) -> None:
    hub.join("agent/a")
    (error,) = hub.join("matrix/m").say([REQUEST, 3, "agent/a", 5000, b""])
    assert error[3] == "offline"
    assert "no session that answers" in error[4]


def test_of_several_sessions_the_newest_that_answers_is_asked(hub: FakeHub) -> None:
    old, new, deaf = _answerer(hub, "matrix/n"), _answerer(hub, "matrix/n"), hub.join("matrix/n")
    hub.join("matrix/m").say([REQUEST, 1, "matrix/n", 5000, b""])
    assert ([len(each.take()) for each in (old, new, deaf)]) == [0, 1, 0]


def test_a_request_that_is_not_answered_in_time_fails_and_the_late_answer_is_dropped(hub: FakeHub) -> None:
    asker, other = hub.join("matrix/m"), _answerer(hub)
    asker.say([REQUEST, 1, "agent/a", 2000, b""])
    hub.tick(1.999)
    assert asker.take() == []
    hub.tick(0.001)
    assert codes(asker.take()) == ["deadline_passed"]
    assert other.say([RESPONSE, _asked(other)[1], "", b"late"]) == []
    assert asker.take() == []


def test_a_request_whose_answerer_goes_away_fails_at_once(hub: FakeHub) -> None:
    asker, other = hub.join("matrix/m"), _answerer(hub)
    asker.say([REQUEST, 1, "agent/a", 2**63 - 1, b""])
    other.vanish()
    assert codes(asker.take()) == ["offline"]


def test_the_answer_to_who_went_away_is_dropped(hub: FakeHub) -> None:
    asker, other = hub.join("matrix/m"), _answerer(hub)
    asker.say([REQUEST, 1, "agent/a", 5000, b""])
    asker.vanish()
    again = asker.again()
    again.take()
    other.say([RESPONSE, _asked(other)[1], "", b"x"])
    hub.tick(9)
    assert again.take() == []


def test_an_answer_from_who_was_not_asked_is_ignored(hub: FakeHub) -> None:
    asker, other = hub.join("matrix/m"), _answerer(hub)
    stranger, twin = _answerer(hub, "agent/b"), hub.join("matrix/m")
    asker.say([REQUEST, 1, "agent/a", 5000, b""])
    number = _asked(other)[1]
    for liar in (stranger, twin, asker):
        assert liar.say([RESPONSE, number, "", b"forged"], [RESPONSE, number, "internal", b""]) == []
    assert asker.take() == []
    other.say([RESPONSE, number, "", b"true"])
    assert asker.take() == [[RESPONSE, 1, b"true"]]


def test_one_session_has_a_bounded_number_of_requests_open(hub: FakeHub) -> None:
    asker, other = hub.join("matrix/m"), _answerer(hub)
    asker.say(*([REQUEST, i, "agent/a", 5000, b""] for i in range(REQUESTS_OPEN_MAX)))
    assert codes(asker.say([REQUEST, 999, "agent/a", 5000, b""])) == ["hub_full"]
    other.say([RESPONSE, other.take()[0][1], "", b""])
    asker.take()
    assert asker.say([REQUEST, 1000, "agent/a", 5000, b""]) == []


def test_requests_leave_nothing_behind(hub: FakeHub) -> None:
    asker, other = hub.join("matrix/m"), _answerer(hub)
    for i in range(10):
        asker.say([REQUEST, i, "agent/a", 5000, b""])
        other.say([RESPONSE, _asked(other)[1], "", b""])
    asker.say([REQUEST, 11, "agent/a", 5000, b""])
    asker.vanish()
    other.vanish()
    requests = hub.decider.requests
    assert (requests._open, requests._asked, requests._answering) == ({}, {}, {})
