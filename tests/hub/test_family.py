"""Tasks that are done for others: canceled with them, whoever is between."""

from __future__ import annotations

import pytest

from orchestra import wire
from orchestra.wire import CANCEL, DELIVER, RESULT

from .fakehub import FakeHub, FakePeer, codes


def _states(hub: FakeHub, *seqs: int) -> list[str]:
    return [hub.state_of(seq) for seq in seqs]


def _family(sender: FakePeer) -> tuple[int, int, int]:
    """A task, one for it, and one for that one."""
    first = sender.submit("queue/q")
    second = sender.submit("queue/q", parent=first)
    return first, second, sender.submit("queue/q", parent=second)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_canceling_a_task_cancels_all_below_it_and_nothing_else(hub: FakeHub, is_restarted: bool) -> None:
    sender = hub.join("matrix/m")
    first, second, third = _family(sender)
    other = sender.submit("queue/q")
    assert sender.call("task.get", seq=first)["children"] == [second, third]
    if is_restarted:
        hub.restart()
        sender = hub.join("matrix/m")
    assert sender.call("task.cancel", seq=second) == {"seq": second, "state": "canceled", "below": 1}
    assert _states(hub, first, second, third, other) == ["queued", "canceled", "canceled", "queued"]
    assert sender.call("task.cancel", seq=first)["below"] == 0
    text = sender.call("task.get", seq=third)["report"]["text"]
    assert text == f"task {second} above it was canceled by matrix/m"


def test_one_that_runs_is_stopped_by_its_agent(hub: FakeHub) -> None:
    sender, agent = hub.join("matrix/m"), hub.join("agent/a", slots=2, queues=("queue/q",))
    first, second, third = _family(sender)
    agent.take()
    sender.call("task.cancel", seq=first)
    assert sorted(record[1] for record in agent.took(CANCEL)) == [first, second]
    assert _states(hub, first, second, third) == ["working", "working", "canceled"]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_is_below_one_that_is_over_is_below_the_next_above(hub: FakeHub, is_restarted: bool) -> None:
    sender, agent = hub.join("matrix/m"), hub.join("agent/a", slots=1)
    first = sender.submit("queue/q")
    second = sender.submit("agent/a", parent=first)
    third = sender.submit("queue/q", parent=second)
    agent.result(agent.took(DELIVER)[0])
    fourth = sender.submit("queue/q", parent=second)
    if is_restarted:
        hub.restart()
        sender = hub.join("matrix/m")
    assert sender.call("task.cancel", seq=first)["below"] == 2
    assert _states(hub, first, second, third, fourth) == ["canceled", "completed", "canceled", "canceled"]


def test_a_task_that_ends_by_itself_leaves_those_below_it_alone(hub: FakeHub) -> None:
    sender, agent = hub.join("matrix/m"), hub.join("agent/a", slots=1)
    first = sender.submit("agent/a")
    second = sender.submit("queue/q", parent=first)
    agent.result(agent.took(DELIVER)[0], "failed")
    assert _states(hub, first, second) == ["failed", "queued"]


def test_a_task_for_one_that_is_canceled_or_being_stopped_is_canceled_at_once(hub: FakeHub) -> None:
    sender, agent = hub.join("matrix/m"), hub.join("agent/a", slots=1)
    first = sender.submit("agent/a")
    sender.call("task.cancel", seq=first)
    second = sender.submit("queue/q", parent=first, watch=True)
    assert [record[3] for record in sender.took(RESULT)] == ["canceled"]
    agent.result(agent.took(DELIVER)[0], "canceled")
    third = sender.submit("queue/q", parent=first)
    assert _states(hub, first, second, third) == ["canceled"] * 3
    assert hub.decider.tasks.family.below(first) == []


def test_a_task_is_tried_again_without_the_one_above_unless_that_is_being_stopped(hub: FakeHub) -> None:
    sender, agent = hub.join("matrix/m"), hub.join("agent/a", slots=1)
    first = sender.submit("agent/a")
    second = sender.submit("queue/q", parent=first)
    sender.call("task.cancel", seq=first)
    assert sender.call("task.retry", seq=second) == "not_retryable"
    agent.result(agent.took(DELIVER)[0], "canceled")
    assert sender.call("task.retry", seq=second)["state"] == "queued"
    assert sender.call("task.retry", seq=first)["state"] == "queued"
    assert sender.call("task.cancel", seq=first)["below"] == 0, "its own sender took it up again, apart from that one"


def test_only_who_sent_or_does_a_task_may_submit_for_it(hub: FakeHub) -> None:
    sender, other = hub.join("matrix/m"), hub.join("matrix/n")
    agent = hub.join("agent/a", slots=1, queues=("queue/q",))
    hub.join("operator/o").call("keys.grant", address="agent/a", add=["submit:queue/r"])
    agent = agent.again(slots=1)
    first = sender.submit("agent/a")
    assert codes(other.say(other.sending("queue/q", kind=wire.TASK, parent=first))) == ["not_allowed"]
    assert codes(sender.say(sender.sending("queue/q", kind=wire.TASK, parent=99))) == ["not_found"]
    assert codes(sender.say(sender.sending("queue/q", kind=wire.TASK, parent="x"))) == ["bad_option"]
    second = agent.submit("queue/r", parent=first)
    assert sender.call("task.cancel", seq=first)["below"] == 1
    assert hub.state_of(second) == "canceled"
