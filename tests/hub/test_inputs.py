"""Questions and answers of tasks at work, and the checkpoints they leave."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra.hub import inputs
from orchestra.limits import CHECKPOINT_BYTES_MAX, LEASE_S, QUESTION_CHARS_MAX
from orchestra.wire import CANCEL, DELIVER, EVENT, NAK, OK, Record

from .fakehub import FakeHub, FakePeer, pass_time


def _task(peer: FakePeer) -> Record:
    (task,) = peer.took(DELIVER)
    return task


def _ask(peer: FakePeer, task: Record, question: str = "which?", number: int = 1) -> Any:
    return peer.call("task.ask", seq=task[3], lease=task[1], number=number, question=question)


def _answers(told: list[Record]) -> list[dict[str, Any]]:
    return [record[2] for record in told if record[:2] == [EVENT, "answer"]]


def test_a_task_that_asks_waits_for_an_answer_and_goes_on_with_it(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("matrix/m")
    seq = sender.submit("agent/a", watch=True)
    task = _task(agent)
    sender.take()
    assert _ask(agent, task) == {"seq": seq, "state": "input-required"}
    (event,) = sender.took(EVENT)
    assert (event[2]["state"], event[2]["question"]) == ("input-required", "which?")
    assert sender.call("task.get", seq=seq)["question"] == "which?"
    assert sender.call("task.answer", seq=seq, text="this") == {"seq": seq, "state": "working"}
    assert _answers(agent.take()) == [{"seq": seq, "lease": task[1], "number": 1, "text": "this"}]
    assert OK in [record[0] for record in agent.result(task)]


def test_an_answer_or_a_question_that_is_repeated_changes_nothing(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    _ask(agent, task)
    sender.call("task.answer", seq=seq, text="this")
    assert sender.call("task.answer", seq=seq, text="this") == {"seq": seq, "state": "working"}
    assert sender.call("task.answer", seq=seq, text="that") == "not_asked"
    assert _ask(agent, task)["state"] == "working", "the first question, said again after a reconnect"
    assert _ask(agent, task, number=2)["state"] == "input-required"


def test_a_question_and_its_answer_survive_a_restart(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    _ask(agent, task)
    hub.restart()
    again, sender = agent.again(slots=1, holding=((seq, task[1]),)), hub.join("operator/o")
    assert hub.state_of(seq) == "input-required"
    sender.call("task.answer", seq=seq, text="this")
    hub.restart()
    third = again.again(slots=1, holding=((seq, task[1]),))
    assert [each["text"] for each in _answers(third.take())] == ["this"]
    assert OK in [record[0] for record in third.result(task)]


def test_an_answer_that_is_given_while_the_agent_is_away_waits_for_it(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    _ask(agent, task)
    agent.vanish()
    assert "not connected" in sender.call("task.get", seq=seq)["why"]
    sender.call("task.answer", seq=seq, text="this")
    assert len(_answers(agent.again(slots=1, holding=((seq, task[1]),)).take())) == 1


@pytest.mark.parametrize("how", ["lost", "returned"])
def test_the_next_attempt_knows_nothing_of_the_question(hub: FakeHub, how: str) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    _ask(agent, task)
    if how == "lost":
        agent.vanish()
        pass_time(hub, sender, LEASE_S)
        agent = hub.join("agent/a", slots=1)
    else:
        agent.told = agent.say([NAK, task[1], seq, "", "", 0])
    assert _task(agent)[2] == 2
    assert sender.call("task.answer", seq=seq, text="this") == "not_asked"
    assert "question" not in sender.call("task.get", seq=seq)


def test_a_task_that_asks_can_be_canceled_and_can_end(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=2), hub.join("operator/o")
    first, second = sender.submit("agent/a"), sender.submit("agent/a")
    one, two = agent.took(DELIVER)
    _ask(agent, one)
    _ask(agent, two)
    assert sender.call("task.cancel", seq=first)["state"] == "input-required"
    assert [record[1] for record in agent.took(CANCEL)] == [first]
    agent.result(one, "canceled")
    agent.result(two)
    assert (hub.state_of(first), hub.state_of(second)) == ("canceled", "completed")


def test_who_may_ask_and_answer(hub: FakeHub) -> None:
    agent, other = hub.join("agent/a", slots=1), hub.join("agent/b", slots=1)
    sender, stranger = hub.join("matrix/m"), hub.join("matrix/n")
    seq = sender.submit("agent/a")
    task = _task(agent)
    assert _ask(other, task) == "stale_lease"
    assert sender.call("task.answer", seq=seq, text="early") == "not_asked"
    for question in ("", "x" * (QUESTION_CHARS_MAX + 1)):
        assert _ask(agent, task, question) == "bad_option"
    _ask(agent, task)
    assert stranger.call("task.answer", seq=seq, text="mine") == "not_allowed"
    assert agent.call("task.answer", seq=seq, text="mine") == "not_allowed"
    assert sender.call("task.answer", seq=seq, text="") == "bad_option"
    assert sender.call("task.answer", seq=99, text="x") == "not_asked"
    assert hub.join("operator/o").call("task.answer", seq=seq, text="x")["state"] == "working"


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_checkpoint_is_handed_to_the_next_attempt(hub: FakeHub, is_restarted: bool) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", priority="high", max_attempts=3, backoff_ms=0, watch=True)
    task = _task(agent)
    for data in (b"step 1", b"step 2"):
        agent.call("task.checkpoint", seq=seq, lease=task[1], data=data)
    assert [record[2].get("checkpoint_bytes") for record in sender.took(EVENT)] == [None, 6, 6]
    agent.allow(slots=0)
    agent.result(task, "failed")
    if is_restarted:
        hub.restart()
        agent = hub.join("agent/a")
    (again,) = agent.allow(slots=1)
    assert again[8]["checkpoint"] == b"step 2"
    assert again[8]["priority"] == "high"
    assert hub.decider.tasks.board.bytes == len(b"job") + 6
    agent.result(again)
    assert hub.rows("SELECT * FROM checkpoint") == []
    assert hub.decider.tasks.board.bytes == 0


def test_a_task_that_is_retried_by_hand_goes_on_from_its_checkpoint(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    agent.call("task.checkpoint", seq=seq, lease=task[1], data=b"half")
    agent.result(task, "failed")
    sender.call("task.retry", seq=seq)
    assert _task(agent)[8] == {"checkpoint": b"half"}


def test_checkpoints_are_bounded_and_only_the_holder_leaves_them(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, other, sender = hub.join("agent/a", slots=1), hub.join("agent/b", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)

    def leave(peer: FakePeer, data: bytes) -> Any:
        return peer.call("task.checkpoint", seq=seq, lease=task[1], data=data)

    assert leave(other, b"x") == "stale_lease"
    assert leave(agent, bytes(CHECKPOINT_BYTES_MAX + 1)) == "too_large"
    assert leave(agent, bytes(CHECKPOINT_BYTES_MAX)) == {"bytes": CHECKPOINT_BYTES_MAX}
    monkeypatch.setattr(inputs, "TASKS_OPEN_BYTES_MAX", CHECKPOINT_BYTES_MAX)
    assert leave(agent, b"smaller") == {"bytes": 7}
    assert leave(agent, bytes(CHECKPOINT_BYTES_MAX)) == "hub_full"


def test_many_checkpoints_at_once_fit_into_frames(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=40), hub.join("operator/o")
    for _ in range(40):
        sender.submit("agent/a")
    for task in agent.took(DELIVER):
        agent.call("task.checkpoint", seq=task[3], lease=task[1], data=bytes(CHECKPOINT_BYTES_MAX))
    agent.vanish()
    again = hub.join("agent/a", slots=40)
    pass_time(hub, again, LEASE_S)
    assert len(again.took(DELIVER)) == 40
