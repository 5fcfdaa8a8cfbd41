"""The lobby: connections without a proved key are bounded, and nobody keeps others out for long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.hub.lobby import Lobby
from orchestra.limits import LOBBY_MAX, LOBBY_PATIENCE_MS, LOBBY_PER_SOURCE_MAX, SESSIONLESS_S


def _crowd(lobby: Lobby, source: str, *, at_ms: int = 0) -> list[int]:
    """Fill the place of one source; return the descriptors."""
    first = len(lobby)
    descriptors = list(range(first, first + LOBBY_PER_SOURCE_MAX))
    assert [lobby.enter(each, source, at_ms=at_ms) for each in descriptors] == [None] * LOBBY_PER_SOURCE_MAX
    return descriptors


def test_a_source_that_fills_its_place_keeps_no_other_out() -> None:
    lobby = Lobby()
    _crowd(lobby, "10.0.0.1")
    assert lobby.enter(900, "10.0.0.1", at_ms=10) == 900, "handshakes that are under way go on"
    assert lobby.enter(901, "10.0.0.2", at_ms=10) is None


def test_who_waits_for_longer_than_a_handshake_takes_makes_room_for_its_own_source() -> None:
    lobby = Lobby()
    lobby.enter(900, "10.0.0.2", at_ms=0)
    first, second, *_ = _crowd(lobby, "10.0.0.1")
    assert lobby.enter(901, "10.0.0.1", at_ms=LOBBY_PATIENCE_MS) == first
    assert lobby.enter(902, "10.0.0.1", at_ms=LOBBY_PATIENCE_MS) == second


def test_a_full_lobby_takes_those_in_who_come_for_those_who_wait_too_long() -> None:
    lobby = Lobby()
    crowds = [_crowd(lobby, f"10.0.0.{number}") for number in range(LOBBY_MAX // LOBBY_PER_SOURCE_MAX)]
    assert len(lobby) == LOBBY_MAX
    assert lobby.enter(900, "10.0.1.1", at_ms=0) == 900
    assert lobby.enter(900, "10.0.1.1", at_ms=LOBBY_PATIENCE_MS) == crowds[0][0]
    assert len(lobby) == LOBBY_MAX


def test_who_proved_its_key_or_left_takes_no_room() -> None:
    lobby = Lobby()
    for each in _crowd(lobby, "10.0.0.1"):
        lobby.leave(each)
        lobby.leave(each)
    assert len(lobby) == 0
    _crowd(lobby, "10.0.0.1")


def test_a_descriptor_that_is_given_out_again_is_another_connection() -> None:
    lobby = Lobby()
    _crowd(lobby, "10.0.0.1")
    assert lobby.enter(0, "10.0.0.2", at_ms=1) is None
    assert lobby.enter(900, "10.0.0.1", at_ms=1) is None
    assert lobby.overdue(at_ms=int(SESSIONLESS_S * 1000)) == list(range(1, LOBBY_PER_SOURCE_MAX))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
    ],
)
def test_the_addresses_that_one_machine_may_have_are_one_source(one: str, other: str, is_same: bool) -> None:
    lobby = Lobby()
    _crowd(lobby, one)
    assert (lobby.enter(900, other, at_ms=0) == 900) is is_same


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 400), st.booleans(), st.integers(0, 400))))
def test_it_is_never_fuller_than_its_bounds(steps: list[tuple[str, int, bool, int]]) -> None:
    lobby, open_now, at_ms = Lobby(), dict[int, str](), 0
    for source, descriptor, leaves, later_ms in steps * 3:
        at_ms += later_ms
        if leaves:
            lobby.leave(descriptor)
            open_now.pop(descriptor, None)
            continue
        for number in range(descriptor, descriptor + 40):
            address = f"10.0.0.{ord(source)}"
            closed = lobby.enter(number, address, at_ms=at_ms)
            open_now[number] = address
            if closed is not None:
                del open_now[closed]
        assert len(lobby) == len(open_now) <= LOBBY_MAX
        assert all(list(open_now.values()).count(each) <= LOBBY_PER_SOURCE_MAX for each in set(open_now.values()))
