"""The life of a task as one table; the hub, the docs and the tests are made from it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class TaskState(StrEnum):
    """Where a task is. `working`, `completed`, `failed` and `canceled` mean what they mean in A2A."""

    QUEUED = "queued"
    WORKING = "working"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    DEAD = "dead"

    @property
    def is_over(self) -> bool:
        return not NEXT[self]


NEXT: Final[dict[TaskState, frozenset[TaskState]]] = {
    # `working`: leased to one agent. `canceled`: nobody had begun. `dead`: never could be done.
    TaskState.QUEUED: frozenset({TaskState.WORKING, TaskState.CANCELED, TaskState.DEAD}),
    # Back to `queued`: the agent gave it back, or lost its lease.
    TaskState.WORKING: frozenset(
        {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.QUEUED, TaskState.DEAD}
    ),
    TaskState.COMPLETED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELED: frozenset(),
    TaskState.DEAD: frozenset(),
}

OUTCOMES: Final = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED})
"""What an agent may report."""


class Priority(StrEnum):
    """In which order what waits for one address is taken."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


RANK: Final[dict[str, int]] = {Priority.URGENT: 0, Priority.HIGH: 1, Priority.NORMAL: 2, Priority.LOW: 3}
"""Lower is taken first."""
