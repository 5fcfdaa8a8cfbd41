"""The life of tasks: submitted, given to agents, reported, lost, canceled, watched."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import wire
from orchestra.hub import board as board_module
from orchestra.hub import tasks as tasks_module
from orchestra.limits import LEASE_S, REPORT_BYTES_MAX, TASK_LOSSES_MAX
from orchestra.task import OUTCOMES, TaskState
from orchestra.wire import BYE, CANCEL, CREDIT, DELIVER, ERROR, EVENT, NAK, OK, PROGRESS, RESULT, Record

from .fakehub import FakeHub, FakePeer, codes, pass_time, seqs


def _task(peer: FakePeer) -> Record:
    """The one task that `peer` was told to work on."""
    (task,) = peer.took(DELIVER)
    return task


def _states(told: list[Record]) -> list[str]:
    return [record[2]["state"] for record in told if record[0] == EVENT] + [
        record[3] for record in told if record[0] == RESULT
    ]


# Dispatch.


def test_a_task_for_an_agent_that_is_free_is_given_to_it_at_once(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", b"job", priority="high")
    verb, lease, attempt, *rest = _task(agent)
    assert (verb, attempt) == (DELIVER, 1)
    assert rest == [seq, "operator/o", "agent/a", wire.TASK, hub.clock.now_ms, {"priority": "high"}, b"job"]
    assert hub.rows("SELECT state, attempt, lease, generation FROM task") == [("working", 1, lease, 1)]


def test_a_task_waits_for_an_agent(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    seq = sender.submit("agent/a")
    assert hub.state_of(seq) == "queued"
    hub.restart()
    assert _task(hub.join("agent/a", slots=1))[3] == seq


def test_a_task_needs_a_slot_and_no_credit(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=100), hub.join("operator/o")
    sender.submit("agent/a")
    assert agent.take() == []
    assert len(agent.allow(slots=1)) == 1


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("agent/nobody", "unknown_recipient"),
        ("matrix/m", "bad_address"),
        ("operator/o", "bad_address"),
        ("channel/status", "bad_address"),
        ("*", "bad_address"),
        ("queue/../q", "bad_address"),
        ("queue/q\x00", "bad_address"),
        ("queue/", "bad_address"),
    ],
)
def test_a_task_for_what_takes_none_is_refused(hub: FakeHub, to: str, code: str) -> None:
    hub.enrol("matrix/m")
    sender = hub.join("operator/o")
    assert codes(sender.say(sender.sending(to, kind=wire.TASK))) == [code]
    assert hub.rows("SELECT * FROM task") == []
    assert hub.messages() == 0


def test_a_task_is_given_to_one_agent_of_those_that_serve_its_queue(hub: FakeHub) -> None:
    agents = [hub.join(f"agent/a{i}", slots=1, queues=("queue/q",)) for i in range(3)]
    hub.join("agent/other", slots=1, queues=("queue/r",))
    sender = hub.join("operator/o")
    sent = [sender.submit("queue/q") for _ in range(4)]
    got = [seqs(agent.take()) for agent in agents]
    assert got == [[sent[0]], [sent[1]], [sent[2]]]
    assert hub.state_of(sent[3]) == "queued"


def test_of_several_free_agents_the_one_that_was_idle_longest_gets_the_task(hub: FakeHub) -> None:
    agents = [hub.join(f"agent/a{i}", slots=1, queues=("queue/q",)) for i in range(3)]
    sender = hub.join("operator/o")
    order = []
    for turn in range(9):
        sender.submit("queue/q")
        (agent,) = [each for each in agents if each.told]
        order.append(agents.index(agent))
        agent.result(_task(agent))
        assert turn < 3 or order[-1] == order[-4]
    assert order[:3] == [0, 1, 2]


def test_an_agent_with_a_free_slot_waits_behind_those_that_have_nothing(hub: FakeHub) -> None:
    two, one = hub.join("agent/a", slots=2, queues=("queue/q",)), hub.join("agent/b", slots=1, queues=("queue/q",))
    sender = hub.join("operator/o")
    for _ in range(3):
        sender.submit("queue/q")
    assert (seqs(two.take()), seqs(one.take())) == ([1, 3], [2])


def test_the_most_urgent_task_goes_first_and_then_the_oldest_over_all_queues(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    sent = [
        (rank, sender.submit(f"queue/{queue}", priority=priority))
        for rank, priority, queue in [
            (3, "low", "p"), (2, "normal", "q"), (0, "urgent", "p"), (1, "high", "q"), (2, "normal", "p"),
            (0, "urgent", "q"), (3, "low", "q"), (1, "high", "p"),
        ]
    ]  # fmt: skip
    agent = hub.join("agent/a", slots=1, queues=("queue/p", "queue/q"))
    got = []
    for _ in sent:
        task = _task(agent)
        got.append(task[3])
        agent.told = [record for record in agent.result(task) if record[0] != OK]
    assert got == [seq for _, seq in sorted(sent)]


def test_an_agent_never_has_more_tasks_than_slots(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=2, queues=("queue/q",)), hub.join("operator/o")
    for to in ("queue/q", "agent/a") * 3:
        sender.submit(to)
    first, second = agent.take()
    assert agent.take() == []
    assert seqs(agent.result(first)) == [3]
    assert seqs(agent.allow(slots=4)) == [4, 5]
    assert seqs(agent.allow(slots=1)) == []
    agent.result(second)
    assert hub.state_of(6) == "queued", "three are held and one slot is offered"


def test_an_agent_that_offers_no_slots_gets_nothing_and_keeps_what_it_has(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    sender.submit("agent/a")
    task = _task(agent)
    agent.allow(slots=0)
    sender.submit("agent/a")
    assert [record[0] for record in agent.result(task)] == [OK]
    assert hub.state_of(2) == "queued"


def test_a_full_board_refuses_tasks_until_one_is_done(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "TASKS_OPEN_MAX", 2)
    sender = hub.join("operator/o")
    for _ in range(2):
        sender.submit("queue/q")
    assert codes(sender.say(sender.sending("queue/q", kind=wire.TASK))) == ["hub_full"]
    sender.call("task.cancel", seq=1)
    sender.submit("queue/q")


def test_one_sender_leaves_room_for_the_others(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "TASKS_OPEN_PER_SENDER_MAX", 2)
    greedy, other = hub.join("matrix/m"), hub.join("matrix/n")
    for _ in range(2):
        greedy.submit("queue/q")
    assert codes(greedy.say(greedy.sending("queue/q", kind=wire.TASK))) == ["hub_full"]
    other.submit("queue/q")
    greedy.call("task.cancel", seq=1)
    greedy.submit("queue/q")
    assert greedy.call("task.retry", seq=1) == "hub_full"


def test_the_bytes_of_unfinished_tasks_are_bounded(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "TASKS_OPEN_BYTES_MAX", 10)
    sender = hub.join("operator/o")
    sender.submit("queue/q", b"0123456789")
    assert codes(sender.say(sender.sending("queue/q", kind=wire.TASK))) == ["hub_full"]


# Results.


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_a_result_ends_the_task_and_is_in_the_database(hub: FakeHub, outcome: str) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    agent.n = 6
    told = agent.say([RESULT, 7, seq, _task(agent)[1], outcome, {"exit_code": 3}, b"output"])
    assert told == [[OK, 7, seq, 1]]
    assert hub.rows("SELECT state, output FROM task") == [(outcome, b"output")]
    found = sender.call("task.get", seq=seq)
    assert (found["state"], found["report"], found["output"]) == (outcome, {"exit_code": 3}, b"output")
    assert hub.decider.tasks.board.tasks == {}


@pytest.mark.parametrize("outcome", ["queued", "working", "dead", "", "COMPLETED", "x" * 4000])
def test_an_outcome_that_an_agent_may_not_report_is_malformed_and_the_task_goes_on(hub: FakeHub, outcome: str) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    sender.submit("agent/a")
    task = _task(agent)
    assert codes(agent.result(task, outcome)) == ["malformed"]
    assert [record[0] for record in agent.result(task)] == [OK]


def test_a_report_that_is_too_large_or_too_deep_is_refused_and_the_task_goes_on(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    deep: Any = []
    for _ in range(480):
        deep = [deep]
    for report in ({"text": "x" * REPORT_BYTES_MAX}, {str(i): i for i in range(4000)}, {"deep": [deep] * 100}):
        (error,) = agent.say([RESULT, 1, seq, task[1], "completed", report, b""])
        assert error[3] in ("too_large", "malformed")
    assert hub.state_of(seq) == "working"
    assert [record[0] for record in agent.result(task)] == [OK]


def test_a_result_is_only_taken_from_the_agent_that_holds_the_task_under_its_lease(hub: FakeHub) -> None:
    agent, other = hub.join("agent/a", slots=1), hub.join("agent/b", slots=1)
    sender = hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    wrong = [*task]
    wrong[1] += 1
    unknown = [*task]
    unknown[3] += 1
    for peer, delivery in ((other, task), (sender, task), (agent, wrong), (agent, unknown)):
        assert codes(peer.result(delivery)) == ["stale_lease"]
        assert hub.state_of(seq) == "working"
    agent.result(task)
    assert codes(agent.result(task)) == ["stale_lease"], "a second result under a new number"


def test_a_result_that_is_repeated_gets_the_same_answer(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=2), hub.join("operator/o")
    sender.submit("agent/a")
    sender.submit("agent/a")
    first, second = agent.take()
    record = [RESULT, 1, first[3], first[1], "completed", {}, b"out"]
    agent.say(record)
    agent.n = 1
    agent.result(second, "failed")
    hub.restart()
    again = agent.again()
    again.take()
    assert again.say(record) == [[OK, 1, first[3], 1]]
    assert again.say([RESULT, 2, second[3], second[1], "failed", {}, b""]) == [[OK, 2, second[3], 1]]
    assert hub.state_of(first[3]) == "completed"


def test_a_result_and_a_send_share_one_line_of_numbers(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    told = agent.say(
        [wire.SEND, 1, "operator/o", 0, b"before", None],
        [RESULT, 2, seq, task[1], "completed", {}, b""],
        [wire.SEND, 3, "operator/o", 0, b"after", None],
    )
    assert told == [[OK, 1, 2, 1], [OK, 2, 1, 1], [OK, 3, 3, 1]]
    again = agent.again()
    again.take()
    assert again.say([wire.SEND, 1, "operator/o", 0, b"before", None]) == [[OK, 1, 2, 1]]
    assert again.say([wire.SEND, 2, "operator/o", 0, b"a result then", None])[0][3] == "not_stored"


# Losing agents.


def test_the_task_of_a_lost_agent_waits_for_its_lease_and_then_goes_to_another(hub: FakeHub) -> None:
    one = hub.join("agent/a", slots=1, queues=("queue/q",))
    sender = hub.join("operator/o")
    sender.submit("queue/q")
    first = _task(one)
    two = hub.join("agent/b", slots=1, queues=("queue/q",))
    one.vanish()
    pass_time(hub, two, LEASE_S - 0.001)
    assert two.took(DELIVER) == []
    pass_time(hub, two, 0.001)
    second = _task(two)
    assert (second[2], second[3]) == (2, first[3])
    late = one.again(slots=1, holding=((first[3], first[1]),))
    assert late.take()[0][6] == []
    assert codes(late.result(first)) == ["stale_lease"]
    assert [record[0] for record in two.result(second)] == [OK]


def test_the_lease_of_a_silent_agent_runs_from_when_it_was_heard_last(hub: FakeHub) -> None:
    one = hub.join("agent/a", slots=1, queues=("queue/q",))
    two, sender = hub.join("agent/b", queues=("queue/q",)), hub.join("operator/o")
    sender.submit("queue/q")
    one.take()
    two.allow(slots=1)
    pass_time(hub, two, LEASE_S + 0.001)
    assert [record[3] for record in two.took(DELIVER)] == [1]


def test_an_agent_that_comes_back_with_its_epoch_keeps_the_tasks_it_says_it_holds(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=3), hub.join("operator/o")
    for _ in range(3):
        sender.submit("agent/a")
    first, second, third = agent.take()
    agent.vanish()
    again = agent.again(slots=3, holding=((first[3], first[1]), (second[3], second[1] + 1)))
    welcome, *given = again.take()
    assert welcome[6] == [first[3]]
    assert not given, "this HELLO may be older than the tasks it does not name: a process may work on them"
    assert [record[0] for record in again.result(first)] == [OK]
    pass_time(hub, again, LEASE_S + 1)
    assert {(record[3], record[2]) for record in again.took(DELIVER)} == {(second[3], 2), (third[3], 2)}


def test_a_hello_that_was_overtaken_gives_no_task_to_a_second_agent(hub: FakeHub) -> None:
    """The client connected twice; what it said first on the slower connection arrives last, and names no task."""
    agent, sender = hub.join("agent/a", slots=1, queues=("queue/q",)), hub.join("operator/o")
    other = hub.join("agent/b", slots=1, queues=("queue/q",))
    seq = sender.submit("agent/a")
    task = _task(agent)
    agent.again(slots=1, queues=("queue/q",))
    assert hub.state_of(seq) == "working"
    assert not other.took(DELIVER)
    back = agent.again(slots=1, queues=("queue/q",), holding=((task[3], task[1]),))
    assert back.take()[0][6] == [seq]
    assert [record[0] for record in back.result(task)] == [OK]


def test_an_agent_that_comes_back_while_its_old_connection_still_stands_keeps_its_tasks(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    sender.submit("agent/a")
    task = _task(agent)
    again = agent.again(slots=1, holding=((task[3], task[1]),))
    assert again.take()[0][6] == [task[3]]
    assert hub.state_of(task[3]) == "working"


def test_a_new_process_of_the_same_name_does_not_inherit_the_task(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    sender.submit("agent/a")
    task = _task(agent)
    hub.restart()
    other = hub.knock("agent/a")
    (welcome,) = other.hello(slots=1, holding=((task[3], task[1]),))
    assert welcome[6] == [], "the earlier process may still work on it"
    pass_time(hub, other, LEASE_S)
    (given,) = other.took(DELIVER)
    assert (given[3], given[2]) == (task[3], 2)
    assert given[1] != task[1]


def test_an_agent_that_is_started_twice_does_its_task_once(hub: FakeHub) -> None:
    first, sender = hub.join("agent/a", slots=1, queues=("queue/q",)), hub.join("operator/o")
    seq = sender.submit("queue/q")
    task = _task(first)
    second, third = hub.join("agent/a", slots=1, queues=("queue/q",)), hub.join("agent/b", slots=1, queues=("queue/q",))
    assert [record[:2] for record in first.take()] == [[BYE, "replaced"]]
    pass_time(hub, third, LEASE_S - 1)
    assert second.took(DELIVER) == third.took(DELIVER) == [], "the first is told to stop, and may take its time"
    pass_time(hub, third, 1)
    (given,) = second.took(DELIVER) + third.took(DELIVER)
    assert (given[3], given[2]) == (seq, task[2] + 1)


def test_an_agent_keeps_its_task_over_a_restart_of_the_hub(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    sender.submit("agent/a")
    task = _task(agent)
    hub.restart()
    again = agent.again(slots=1, holding=((task[3], task[1]),))
    assert again.take()[0][6] == [task[3]]
    assert [record[0] for record in again.result(task)] == [OK]


def test_after_a_restart_an_agent_has_a_whole_lease_to_come_back(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1, queues=("queue/q",)), hub.join("operator/o")
    sender.submit("queue/q")
    agent.take()
    hub.clock.advance(1000)
    hub.restart()
    other = hub.join("agent/b", slots=1, queues=("queue/q",))
    pass_time(hub, other, LEASE_S - 0.001)
    assert other.took(DELIVER) == []
    pass_time(hub, other, 0.001)
    assert len(other.took(DELIVER)) == 1


def test_an_agent_that_says_bye_gives_its_tasks_back_at_once_and_none_counts_as_a_loss(hub: FakeHub) -> None:
    one, two = (hub.join(f"agent/{name}", slots=1, queues=("queue/q",)) for name in "ab")
    sender = hub.join("operator/o")
    sender.submit("queue/q")
    one.say([wire.BYE, "done", ""])
    assert len(two.took(DELIVER)) == 1
    assert hub.column("SELECT losses FROM task") == [0]


def test_a_task_that_outlives_too_many_agents_is_dead_and_its_watchers_know_why(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    seq = sender.submit("queue/q", watch=True)
    for i in range(TASK_LOSSES_MAX):
        assert hub.state_of(seq) == "queued"
        agent = hub.join(f"agent/a{i}", slots=1, queues=("queue/q",))
        assert _task(agent)[2] == i + 1
        agent.vanish()
        pass_time(hub, sender, LEASE_S)
    result = sender.took(RESULT)[-1]
    assert result[1:4] == [seq, TASK_LOSSES_MAX, "dead"]
    assert result[4]["code"] == "too_many_losses"
    assert hub.state_of(seq) == "dead"
    assert hub.rows("SELECT seq, reason FROM dead") == [(seq, "too many agents lost")]
    hub.restart()
    assert hub.join("agent/late", slots=1, queues=("queue/q",)).take() == []


def test_losses_are_remembered_over_a_restart(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    agent.vanish()
    pass_time(hub, sender, LEASE_S)
    hub.restart()
    assert hub.task(seq).losses == 1


def test_a_task_given_back_goes_to_the_next_free_agent(hub: FakeHub) -> None:
    one, two = (hub.join(f"agent/{name}", slots=1, queues=("queue/q",)) for name in "ab")
    sender = hub.join("operator/o")
    sender.submit("queue/q", watch=True)
    task = _task(one)
    one.say([CREDIT, 0, 0], [NAK, task[1], task[3], "given_back", "draining", 0])
    again = _task(two)
    assert (again[3], again[2]) == (task[3], 2)
    assert codes(one.result(task)) == ["stale_lease"]
    assert _states(sender.take()) == ["working", "queued", "working"]


def test_giving_a_task_back_under_another_lease_is_a_stale_lease(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    assert agent.say([NAK, task[1] + 1, seq, "", "", 0])[0][:4] == [ERROR, NAK, seq, "stale_lease"]
    assert hub.state_of(seq) == "working"


def test_no_two_sessions_hold_one_task_when_names_change_hands(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    seq = sender.submit("agent/a")
    for _ in range(3):
        agent = hub.join("agent/a", slots=1)
        pass_time(hub, agent, LEASE_S)
        holders = [each for each in hub.state.roster.sessions.values() if seq in each.tasks]
        assert len(holders) == 1
        assert holders[0].peer.generation == hub.task(seq).generation


# Canceling.


def test_a_waiting_task_is_canceled_at_once_and_given_to_nobody(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    seq = sender.submit("queue/q", watch=True)
    assert sender.call("task.cancel", seq=seq) == {"seq": seq, "state": "canceled", "below": 0}
    (result,) = sender.took(RESULT)
    assert result[3:5] == ["canceled", {"code": "canceled", "text": "canceled by operator/o"}]
    assert hub.state_of(seq) == "canceled"
    assert hub.join("agent/a", slots=1, queues=("queue/q",)).take() == []


def test_the_agent_of_a_canceled_task_is_told_and_its_report_ends_it(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    assert sender.call("task.cancel", seq=seq)["state"] == "working"
    assert agent.take() == [[CANCEL, seq, task[1], "canceled by operator/o"]]
    agent.result(task, "canceled")
    assert hub.state_of(seq) == "canceled"


def test_a_task_that_is_completed_before_the_cancel_arrives_is_completed(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    sender.call("task.cancel", seq=seq)
    agent.result(agent.took(DELIVER)[0])
    assert hub.state_of(seq) == "completed"


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_task_canceled_while_its_agent_is_away_ends_with_the_lease(hub: FakeHub, is_restarted: bool) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    agent.vanish()
    sender.call("task.cancel", seq=seq)
    assert hub.state_of(seq) == "working"
    if is_restarted:
        hub.restart()
        sender = hub.join("operator/o")
    pass_time(hub, sender, LEASE_S)
    assert hub.state_of(seq) == "canceled"


def test_an_agent_that_comes_back_to_a_canceled_task_is_told_with_its_welcome(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    agent.vanish()
    sender.call("task.cancel", seq=seq)
    welcome, cancel = agent.again(slots=1, holding=((seq, task[1]),)).take()
    assert welcome[6] == [seq]
    assert cancel[:3] == [CANCEL, seq, task[1]]


def test_a_canceled_task_that_its_agent_gives_back_is_canceled(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    sender.call("task.cancel", seq=seq)
    agent.say([NAK, task[1], seq, "", "", 0])
    assert hub.state_of(seq) == "canceled"


def test_what_is_over_cannot_be_canceled(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    agent.result(_task(agent))
    assert sender.call("task.cancel", seq=seq) == "not_cancelable"
    assert sender.call("task.cancel", seq=99) == "not_cancelable"
    assert hub.state_of(seq) == "completed"


# Watching.


def test_a_watcher_sees_every_change_the_output_and_the_result(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a"), hub.join("matrix/m")
    seq = sender.submit("agent/a", watch=True)
    (task,) = agent.allow(slots=1)
    agent.say([PROGRESS, seq, task[1], b"one"], [PROGRESS, seq, task[1], b"two"])
    agent.result(task, output=b"all")
    event, *others = sender.take()
    facts = {"seq": seq, "state": "working", "attempt": 1, "agent": "agent/a", "updated_ms": hub.clock.now_ms}
    assert event == [EVENT, "task", facts]
    assert others == [
        [PROGRESS, seq, 1, b"one"],
        [PROGRESS, seq, 1, b"two"],
        [RESULT, seq, 1, "completed", {}, b"all"],
    ]


def test_who_does_not_watch_is_told_nothing(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    sender.submit("agent/a")
    task = _task(agent)
    agent.say([PROGRESS, task[3], task[1], b"x"])
    agent.result(task)
    assert sender.take() == []


def test_progress_from_who_does_not_hold_the_task_is_a_stale_lease(hub: FakeHub) -> None:
    agent, other, sender = hub.join("agent/a", slots=1), hub.join("agent/b", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", watch=True)
    task = _task(agent)
    sender.take()
    for peer, lease in ((other, task[1]), (agent, task[1] + 1)):
        (error,) = peer.say([PROGRESS, seq, lease, b"forged"])
        assert error[:4] == [ERROR, PROGRESS, seq, "stale_lease"]
    assert sender.take() == []


def test_a_watcher_that_comes_later_is_told_where_the_task_is_and_how_it_ends(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    watcher = hub.join("operator/p")
    (facts,) = watcher.call("task.watch", seqs=[seq])["tasks"]
    assert (facts["seq"], facts["state"], facts["agent"]) == (seq, "working", "agent/a")
    agent.result(_task(agent), output=b"done")
    assert watcher.took(RESULT)[0][5] == b"done"
    (facts,) = watcher.call("task.watch", seqs=[seq])["tasks"]
    assert (facts["state"], facts["output"]) == ("completed", b"done")


def test_a_watcher_that_left_is_told_nothing_and_harms_nothing(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", watch=True)
    sender.take()
    sender.vanish()
    assert hub.task(seq).watchers == set()
    agent.result(_task(agent))
    assert sender.take() == []


def test_a_session_that_watches_too_many_tasks_is_refused_and_nothing_is_left_behind(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "WATCHES_MAX", 2)
    agent, sender = hub.join("agent/a", slots=9), hub.join("operator/o")
    sender.submit("agent/a", watch=True)
    sender.submit("agent/a", watch=True)
    agent.take()
    assert codes(sender.say(sender.sending("agent/a", kind=wire.TASK, watch=True))) == ["hub_full"]
    assert agent.take() == []
    assert len(hub.decider.tasks.board.tasks) == 2
    seq = sender.submit("agent/a", b"next")
    assert _task(agent)[3] == seq
    hub.restart()


def test_finished_tasks_do_not_count_as_watched(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "WATCHES_MAX", 2)
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    for _ in range(5):
        sender.submit("agent/a", watch=True)
        agent.result(_task(agent))
    assert [state for state in _states(sender.take()) if state != "working"] == [TaskState.COMPLETED] * 5
