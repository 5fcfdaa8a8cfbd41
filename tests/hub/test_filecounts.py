"""What came by file in the last hour."""

from __future__ import annotations

import pytest

from orchestra import wire
from orchestra.errors import BadOption
from orchestra.hub.filecounts import FileCounts

from .fakehub import FakeHub


def test_what_agents_tell_counts_for_an_hour_and_replaces_what_they_told_before() -> None:
    counts = FileCounts()
    counts.tell("agent/a", [100, 3, 130, 4])
    counts.tell("agent/b", [130, 1])
    counts.tell("agent/b", [130, 2])
    assert counts.last_hour(now_ms=130 * 60_000) == 9
    assert counts.last_hour(now_ms=160 * 60_000) == 6
    assert counts.last_hour(now_ms=190 * 60_000) == 0


@pytest.mark.parametrize("minutes", [[1], [1, -1], ["1", 1], [1.5, 1], [1, 1] * 62])
def test_what_is_no_list_of_minutes_and_counts_is_refused(minutes: list[object]) -> None:
    with pytest.raises(BadOption):
        FileCounts().tell("agent/a", minutes)


def test_status_tells_what_came_by_file_and_what_by_push_in_the_last_hour(hub: FakeHub) -> None:
    operator, agent = hub.join("operator/o"), hub.join("agent/a")
    for number in range(5):
        operator.submit("queue/q", key=f"file:{number}")
    for number in range(20):
        operator.send("agent/a")
        operator.submit("queue/q", key=f"mine-{number}")
    assert operator.call("status")["came"] == {"by_push": 20, "by_file": 5}
    hub.tick(3000)
    minute = hub.clock.now_ms // 60_000
    operator = operator.again()
    operator.submit("queue/q")
    operator.submit("queue/q", key="file:again")
    agent = agent.again()
    assert agent.call("files.tell", minutes=[minute - 70, 9, minute, 2]) == {}
    assert operator.call("status")["came"] == {"by_push": 21, "by_file": 8}
    hub.tick(700)
    assert operator.again().call("status")["came"] == {"by_push": 1, "by_file": 3}


def test_the_agent_of_a_task_is_told_the_key_it_was_sent_under(hub: FakeHub) -> None:
    operator = hub.join("operator/o")
    agent = hub.join("agent/a", slots=1)
    operator.submit("agent/a", key="t7")
    (task,) = agent.took(wire.DELIVER)
    assert task[8] == {"key": "t7"}
