"""Tasks with terms: what they wait for, how often they are tried, and when they are dead."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import wire
from orchestra.limits import LEASE_S, RETRY_PAUSE_S, RETURN_PAUSE_S_MAX, TASK_RETURNS_MAX
from orchestra.wire import DELIVER, EVENT, NAK, OK, RESULT, Record

from .fakehub import FakeHub, FakePeer, codes, pass_time, seqs


def _task(peer: FakePeer) -> Record:
    (task,) = peer.took(DELIVER)
    return task


def _fail(peer: FakePeer, task: Record, **report: Any) -> list[Record]:
    peer.n += 1
    return peer.say([RESULT, peer.n, task[3], task[1], "failed", {"text": "exit code 3", **report}, b""])


def _report(peer: FakePeer, seq: int) -> dict[str, Any]:
    found: dict[str, Any] = peer.call("task.get", seq=seq)["report"]
    return found


# Dependencies.


def test_a_task_waits_for_all_it_depends_on(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=9), hub.join("matrix/m")
    first, second = sender.submit("agent/a"), sender.submit("agent/a")
    third = sender.submit("agent/a", depends_on=[first, second])
    one, two = agent.took(DELIVER)
    assert hub.state_of(third) == "blocked"
    agent.result(one)
    assert hub.state_of(third) == "blocked"
    assert seqs(agent.result(two)) == [third]


def test_a_task_whose_dependencies_are_completed_is_queued_at_once(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=9), hub.join("matrix/m")
    first = sender.submit("agent/a")
    agent.result(_task(agent))
    second = sender.submit("agent/a", depends_on=[first])
    assert _task(agent)[3] == second


def test_a_blocked_task_survives_a_restart(hub: FakeHub) -> None:
    sender = hub.join("matrix/m")
    first, done = sender.submit("queue/q"), sender.submit("queue/r")
    worker = hub.join("agent/r", slots=1, queues=("queue/r",))
    second = sender.submit("queue/q", depends_on=[first, done])
    worker.result(_task(worker))
    hub.restart()
    assert hub.task(second).more.blockers == {first}
    agent = hub.join("agent/a", slots=1, queues=("queue/q",))
    assert seqs(agent.result(_task(agent))) == [second]


@pytest.mark.parametrize("how", ["failed", "canceled", "over"])
def test_a_task_whose_dependency_failed_is_dead_and_so_is_all_that_depends_on_it(hub: FakeHub, how: str) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("matrix/m")
    first = sender.submit("agent/a")
    if how == "over":
        agent.result(_task(agent), "failed")
    second = sender.submit("agent/a", depends_on=[first], watch=True)
    third = sender.submit("agent/a", depends_on=[second], watch=True)
    if how == "failed":
        agent.result(_task(agent), "failed")
    elif how == "canceled":
        sender.call("task.cancel", seq=first)
        agent.result(agent.took(DELIVER)[0], "canceled")
    assert [hub.state_of(seq) for seq in (second, third)] == ["dead", "dead"]
    assert hub.rows("SELECT seq, reason FROM dead ORDER BY seq") == [
        (second, f"dependency {first} {'was canceled' if how == 'canceled' else 'failed'}"),
        (third, f"dependency {second} is dead"),
    ]
    assert [record[1] for record in sender.took(RESULT)] == [second, third]
    assert hub.decider.tasks.board.tasks == {}
    assert hub.decider.tasks.board.dependents == {}


def test_a_sender_learns_that_its_task_is_dead_after_its_number(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("matrix/m")
    first = sender.submit("agent/a")
    agent.result(_task(agent), "failed")
    told = sender.say(sender.sending("agent/a", kind=wire.TASK, depends_on=[first], watch=True))
    assert [record[0] for record in told] == [OK, RESULT]


def test_a_long_chain_of_dependents_ends_without_a_word_too_many(hub: FakeHub) -> None:
    sender = hub.join("matrix/m")
    last = first = sender.submit("queue/q")
    for _ in range(2000):
        last = sender.submit("queue/q", depends_on=[last])
    sender.call("task.cancel", seq=first)
    assert hub.state_of(last) == "dead"


def test_what_a_task_may_not_depend_on_is_refused(hub: FakeHub) -> None:
    sender, other = hub.join("matrix/m"), hub.join("matrix/n")
    mine, message = sender.submit("queue/q"), sender.send("matrix/n")

    def refused(peer: FakePeer, seq: int) -> list[str]:
        return codes(peer.say(peer.sending("queue/q", kind=wire.TASK, depends_on=[seq])))

    assert refused(sender, message) == ["not_found"]
    assert refused(sender, 999) == ["not_found"]
    assert refused(other, mine) == ["not_allowed"]
    sender.call("task.cancel", seq=mine)
    assert refused(other, mine) == ["not_allowed"]
    assert hub.column("SELECT count(*) FROM task") == [1]


def test_a_blocked_task_that_is_canceled_leaves_nothing_behind(hub: FakeHub) -> None:
    sender = hub.join("matrix/m")
    first = sender.submit("queue/q")
    for _ in range(5):
        sender.call("task.cancel", seq=sender.submit("queue/q", depends_on=[first]))
    assert hub.decider.tasks.board.dependents == {first: {}}


# Time.


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_scheduled_task_begins_when_its_time_has_come(hub: FakeHub, is_restarted: bool) -> None:
    sender = hub.join("operator/o")
    seq = sender.submit("queue/q", not_before_ms=hub.clock.now_ms + 60_000)
    assert hub.state_of(seq) == "scheduled"
    if is_restarted:
        hub.restart()
    agent = hub.join("agent/a", slots=1, queues=("queue/q",))
    pass_time(hub, agent, 59.999)
    assert agent.took(DELIVER) == []
    pass_time(hub, agent, 0.001)
    assert _task(agent)[3] == seq


def test_a_blocked_task_is_scheduled_when_it_is_free_too_early(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    first = sender.submit("agent/a")
    second = sender.submit("agent/a", depends_on=[first], not_before_ms=hub.clock.now_ms + 5000)
    agent.result(_task(agent))
    assert hub.state_of(second) == "scheduled"
    pass_time(hub, agent, 5.0)
    assert seqs(agent.take()) == [second]


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("terms", [{}, {"not_before_ms": 10**14}])
def test_a_task_that_nobody_began_in_time_is_dead(hub: FakeHub, is_restarted: bool, terms: dict[str, Any]) -> None:
    sender = hub.join("operator/o")
    seq = sender.submit("queue/q", expires_ms=8000, **terms)
    if is_restarted:
        hub.restart()
        sender = hub.join("operator/o")
    sender.call("task.watch", seqs=[seq])
    pass_time(hub, sender, 7.999)
    assert not hub.task(seq).state.is_over
    pass_time(hub, sender, 0.001)
    assert [record[3] for record in sender.took(RESULT)] == ["dead"]
    assert hub.rows("SELECT seq, reason FROM dead") == [(seq, "expired in the queue")]
    assert hub.join("agent/a", slots=1, queues=("queue/q",)).take() == []


def test_a_task_that_was_begun_in_time_is_done_to_its_end(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", expires_ms=1000)
    task = _task(agent)
    pass_time(hub, agent, 5.0)
    assert OK in [record[0] for record in agent.result(task)]
    assert hub.state_of(seq) == "completed"


def test_a_task_that_comes_back_to_the_line_after_its_time_is_dead(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", expires_ms=1000)
    task = _task(agent)
    pass_time(hub, agent, 5.0)
    agent.say([NAK, task[1], seq, "", "", 0])
    assert hub.state_of(seq) == "dead"


# Attempts.


def test_a_failed_attempt_is_tried_again_after_a_pause_that_grows_by_chance(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", max_attempts=3, backoff_ms=2000, backoff_max_ms=3000, watch=True)
    hub.numbers.chance = lambda: 1.0
    for attempt, pause_s in ((1, 2.0), (2, 3.0)):
        task = _task(agent)
        assert task[2] == attempt
        assert [record[0] for record in _fail(agent, task)] == [OK]
        assert hub.state_of(seq) == "scheduled"
        pass_time(hub, agent, pause_s - 0.001)
        assert agent.took(DELIVER) == []
        pass_time(hub, agent, 0.001)
    _fail(agent, _task(agent))
    assert hub.state_of(seq) == "failed"
    assert hub.rows("SELECT attempt, outcome, text FROM attempt") == [
        (1, "failed", "exit code 3"),
        (2, "failed", "exit code 3"),
    ]
    states = [record[2]["state"] for record in sender.took(EVENT)]
    assert states == ["working", "scheduled", "queued", "working", "scheduled", "queued", "working"]


def test_a_jump_of_the_wall_clock_does_not_shorten_or_lengthen_a_pause(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    sender.submit("agent/a", max_attempts=2, backoff_ms=1000)
    hub.numbers.chance = lambda: 1.0
    _fail(agent, _task(agent))
    hub.clock.jump(3600)
    hub.tick()
    assert agent.took(DELIVER) == []
    hub.clock.jump(-7200)
    pass_time(hub, agent, 1.0)
    assert len(agent.took(DELIVER)) == 1


def test_a_pause_and_the_attempts_so_far_survive_a_restart(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", max_attempts=2, backoff_ms=5000)
    hub.numbers.chance = lambda: 1.0
    _fail(agent, _task(agent))
    hub.restart()
    again = hub.join("agent/a", slots=1)
    pass_time(hub, again, 4.999)
    assert again.took(DELIVER) == []
    pass_time(hub, again, 0.001)
    _fail(again, _task(again))
    assert hub.state_of(seq) == "failed"


def test_a_failure_that_is_permanent_is_not_tried_again(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", max_attempts=9)
    _fail(agent, _task(agent), is_permanent=True)
    assert hub.state_of(seq) == "failed"


def test_the_result_of_a_failed_attempt_gets_the_same_answer_when_it_is_repeated(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a", max_attempts=3, backoff_ms=0)
    task = _task(agent)
    record = [RESULT, 1, seq, task[1], "failed", {}, b""]
    assert agent.say(record)[0] == [OK, 1, seq, 1]
    again = agent.again()
    again.take()
    assert again.say(record) == [[OK, 1, seq, 1]]
    assert hub.rows("SELECT result_n, late_ms FROM attempt WHERE outcome = 'failed'") == [(1, None)], "it is not late"


def test_a_late_result_is_refused_and_kept_once(hub: FakeHub) -> None:
    one, sender = hub.join("agent/a", slots=1, queues=("queue/q",)), hub.join("operator/o")
    seq = sender.submit("queue/q")
    task = _task(one)
    one.vanish()
    pass_time(hub, sender, LEASE_S)
    late = one.again()
    late.take()
    for outcome in ("completed", "failed"):
        assert codes(late.result(task, outcome)) == ["stale_lease"]
    assert hub.rows("SELECT attempt, outcome, late_ms, late_outcome FROM attempt") == [
        (1, "lost", hub.clock.now_ms, "completed")
    ]
    assert hub.state_of(seq) == "queued"


def test_a_task_that_agents_give_back_again_and_again_does_not_spin(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    pauses = []
    for _ in range(9):
        task = _task(agent)
        agent.told = agent.say([NAK, task[1], seq, "", "no", 0])
        waited = 0.0
        while not any(record[0] == DELIVER for record in agent.told):
            pass_time(hub, agent, RETRY_PAUSE_S)
            waited += RETRY_PAUSE_S
        pauses.append(waited)
    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, RETURN_PAUSE_S_MAX, RETURN_PAUSE_S_MAX]


def test_a_task_given_back_with_a_delay_waits_for_it(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    task = _task(agent)
    assert agent.say([NAK, task[1], seq, "busy", "later", 7000]) == []
    assert hub.state_of(seq) == "scheduled"
    pass_time(hub, agent, 7.0)
    assert _task(agent)[2] == 2


def test_a_task_that_is_given_back_too_often_is_dead(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("operator/o")
    seq = sender.submit("agent/a")
    hub.task(seq).more.returns = TASK_RETURNS_MAX
    agent.say([NAK, _task(agent)[1], seq, "", "", 0])
    assert hub.state_of(seq) == "dead"
    assert _report(sender, seq)["code"] == "too_many_returns"


# Retry and cancel.


@pytest.mark.parametrize("outcome", ["failed", "canceled"])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_task_that_is_over_is_tried_again_when_its_sender_asks(
    hub: FakeHub, outcome: str, is_restarted: bool
) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("matrix/m")
    seq = sender.submit("agent/a")
    agent.result(_task(agent), outcome)
    agent.allow(slots=0)
    hub.tick(2.0)
    sender.submit("queue/q")
    assert sender.call("task.retry", seq=seq) == {"seq": seq, "state": "queued"}
    if is_restarted:
        hub.restart()
        agent, sender = hub.join("agent/a"), hub.join("matrix/m")
    (task,) = agent.allow(slots=1)
    assert (task[3], task[2]) == (seq, 2)
    agent.result(task)
    assert hub.state_of(seq) == "completed"
    assert hub.rows("SELECT attempt, outcome FROM attempt") == [(1, outcome)]
    assert sender.call("task.retry", seq=seq) == "not_retryable"


def test_who_asks_to_watch_a_task_in_the_moment_it_is_tried_again_hears_of_its_end(hub: FakeHub) -> None:
    sender, other, stranger = hub.join("matrix/m"), hub.join("operator/o"), hub.join("matrix/n")
    seq = sender.submit("queue/q", expires_ms=1000)
    hub.tick(1.0)
    hub.say(
        (sender, [[wire.CALL, 1, "task.watch", {"seqs": [seq]}]]),
        (stranger, [[wire.CALL, 1, "task.watch", {"seqs": [seq]}]]),
        (other, [[wire.CALL, 1, "task.retry", {"seq": seq}]]),
    )
    assert codes(stranger.take()) == ["not_allowed"]
    (told,) = sender.took(wire.REPLY)
    assert told[2]["tasks"][0]["state"] == "queued"
    other.call("task.cancel", seq=seq)
    assert [record[1:4] for record in sender.took(RESULT)] == [[seq, 0, "canceled"]]
    assert stranger.take() == []


def test_a_dead_task_that_is_tried_again_is_dead_no_more(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    seq = sender.submit("queue/q", expires_ms=1000)
    hub.tick(1.0)
    assert hub.state_of(seq) == "dead"
    sender.call("task.retry", seq=seq)
    assert hub.rows("SELECT * FROM dead") == []
    assert hub.state_of(seq) == "queued"
    hub.tick(1.0)
    assert hub.state_of(seq) == "dead"


def test_who_may_not_try_a_task_again(hub: FakeHub) -> None:
    sender, other = hub.join("matrix/m"), hub.join("matrix/n")
    seq = sender.submit("queue/q")
    assert sender.call("task.retry", seq=seq) == "not_retryable"
    sender.call("task.cancel", seq=seq)
    assert other.call("task.retry", seq=seq) == "not_allowed"
    assert sender.call("task.retry", seq=99) == "not_found"
    assert hub.join("operator/o").call("task.retry", seq=seq)["state"] == "queued"


def test_a_task_is_tried_again_after_what_it_depends_on(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("matrix/m")
    first = sender.submit("agent/a")
    second = sender.submit("agent/a", depends_on=[first])
    agent.result(_task(agent), "failed")
    assert sender.call("task.retry", seq=second) == "not_retryable"
    sender.call("task.retry", seq=first)
    assert sender.call("task.retry", seq=second)["state"] == "blocked"
    task = _task(agent)
    assert seqs(agent.result(task)) == [second]


def test_a_retry_keeps_its_terms_and_counts_anew(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", slots=1), hub.join("matrix/m")
    seq = sender.submit("agent/a", max_attempts=2, backoff_ms=0)
    for _ in range(2):
        agent.told = _fail(agent, _task(agent))
    assert hub.state_of(seq) == "failed"
    sender.call("task.retry", seq=seq)
    agent.told = _fail(agent, _task(agent))
    assert _task(agent)[2] == 4


@pytest.mark.parametrize(
    ("terms", "state"), [({"not_before_ms": 10**14}, "scheduled"), ({"depends_on": [1]}, "blocked")]
)
def test_a_task_that_waits_for_anything_is_canceled_at_once(hub: FakeHub, terms: dict[str, Any], state: str) -> None:
    sender = hub.join("operator/o")
    sender.submit("queue/q")
    seq = sender.submit("queue/q", watch=True, **terms)
    assert hub.state_of(seq) == state
    assert sender.call("task.cancel", seq=seq) == {"seq": seq, "state": "canceled", "below": 0}
    assert [record[3] for record in sender.took(RESULT)] == ["canceled"]


@pytest.mark.parametrize("name", ["depends_on", "max_attempts", "expires_ms", "not_before_ms", "budget"])
def test_a_message_has_no_terms_of_a_task(hub: FakeHub, name: str) -> None:
    hub.enrol("matrix/m")
    sender = hub.join("operator/o")
    if name != "expires_ms":
        assert codes(sender.say(sender.sending("matrix/m", **{name: 1}))) == ["bad_option"]
    assert codes(sender.say(sender.sending("queue/q", kind=wire.TASK, **{name: -1 if name != "budget" else []}))) == [
        "bad_option"
    ]


# Fair share.


def test_equally_urgent_tasks_of_several_senders_are_taken_in_turns(hub: FakeHub) -> None:
    one, two, three = (hub.join(f"matrix/{name}") for name in "abc")
    many = [one.submit("queue/q") for _ in range(5)]
    some = [two.submit("queue/q") for _ in range(2)]
    urgent = two.submit("queue/q", priority="urgent")
    last = three.submit("queue/q")
    agent = hub.join("agent/a", slots=1, queues=("queue/q",))
    got = []
    while agent.told:
        task = _task(agent)
        got.append(task[3])
        agent.told = [record for record in agent.result(task) if record[0] == DELIVER]
    assert got == [urgent, many[0], some[0], last, many[1], some[1], *many[2:]]
