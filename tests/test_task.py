"""The table of a task's life."""

from __future__ import annotations

import pytest

from orchestra.task import HELD, NEXT, OUTCOMES, OVER, RANK, RETRYABLE, Priority, TaskState


def test_every_state_is_in_the_table() -> None:
    assert set(NEXT) == set(TaskState)


@pytest.mark.parametrize("state", list(TaskState))
def test_every_state_is_reached_from_queued_and_leads_to_an_end(state: TaskState) -> None:
    def reached(start: TaskState) -> set[TaskState]:
        found, todo = set(), [start]
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                todo += NEXT[each]
        return found

    assert state in reached(TaskState.QUEUED)
    assert any(each.is_over for each in reached(state))


def test_what_is_over_stays_over_unless_it_is_retried() -> None:
    for state in OVER:
        assert bool(NEXT[state]) == (state in RETRYABLE)
        assert not any(each.is_over or each.is_held for each in NEXT[state])
    assert {state for state in TaskState if state.is_over} == {
        TaskState.COMPLETED,
        TaskState.FAILED,
        TaskState.CANCELED,
        TaskState.DEAD,
    }


def test_an_agent_reports_only_ends_that_a_working_task_can_have() -> None:
    assert all(NEXT[state] >= OUTCOMES for state in HELD)
    assert all(outcome.is_over for outcome in OUTCOMES)
    assert TaskState.DEAD not in OUTCOMES


def test_every_priority_has_a_rank_and_urgent_is_first() -> None:
    assert sorted(RANK, key=lambda name: RANK[name]) == ["urgent", "high", "normal", "low"]
    assert set(RANK) == set(Priority)
