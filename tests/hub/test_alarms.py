"""Alarms: what has to be looked at when."""

from __future__ import annotations

from orchestra.hub.alarms import Alarms


def test_an_alarm_rings_once_when_its_time_has_come_the_earliest_first() -> None:
    alarms = Alarms()
    for when, seq in ((30, 3), (10, 1), (20, 2)):
        alarms.set(when, seq)
    assert list(alarms.due(9)) == []
    assert list(alarms.due(20)) == [1, 2]
    assert list(alarms.due(20)) == []
    assert list(alarms.due(30)) == [3]


def test_alarms_of_tasks_that_are_gone_do_not_pile_up() -> None:
    alarms = Alarms()
    for seq in range(1000):
        alarms.set(10**9 + seq, seq)
        alarms.sweep({5}, count=1)
    assert len(alarms) < 100
    assert next(alarms.due(2 * 10**9)) == 5
