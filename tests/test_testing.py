"""The doubles that others may use."""

from __future__ import annotations

import pytest

from orchestra.testing import FakeClock


def test_a_clock_moves_only_when_it_is_told_to() -> None:
    clock = FakeClock(now_ms=5000, at_ms=1000)
    assert (clock.now(), clock.now_ms, clock.at_ms) == (1.0, 5000, 1000)
    clock.advance(2.5)
    assert (clock.now(), clock.now_ms, clock.at_ms) == (3.5, 7500, 3500)


def test_a_jump_of_the_wall_clock_leaves_the_other_alone() -> None:
    clock = FakeClock(now_ms=5000, at_ms=1000)
    clock.jump(-1)
    assert (clock.now_ms, clock.at_ms) == (4000, 1000)


def test_time_does_not_go_back() -> None:
    with pytest.raises(AssertionError):
        FakeClock().advance(-1)
