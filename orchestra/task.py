"""The life of a task as one table; the hub, the docs and the tests are made from it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class TaskState(StrEnum):
    """Where a task is.

    `working`, `input-required`, `completed`, `failed` and `canceled` are spelled as A2A spells them, and mean the same.
    """

    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    WORKING = "working"
    INPUT_REQUIRED = "input-required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    DEAD = "dead"

    @property
    def is_over(self) -> bool:
        return self in OVER

    @property
    def is_held(self) -> bool:
        """Whether an agent has it."""
        return self in HELD


_WAITING_ENDS: Final = frozenset({TaskState.CANCELED, TaskState.DEAD})
_HELD_ENDS: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.DEAD}
    # Back to the line, perhaps after a pause: the agent gave it back, lost its lease, or failed and may try again.
    | {TaskState.QUEUED, TaskState.SCHEDULED}
)
_AGAIN: Final = frozenset({TaskState.BLOCKED, TaskState.QUEUED})

NEXT: Final[dict[TaskState, frozenset[TaskState]]] = {
    # `blocked`: what it depends on is not completed. `scheduled`: its time has not come. `dead`: never could be done.
    TaskState.BLOCKED: frozenset({TaskState.SCHEDULED, TaskState.QUEUED}) | _WAITING_ENDS,
    TaskState.SCHEDULED: frozenset({TaskState.QUEUED}) | _WAITING_ENDS,
    TaskState.QUEUED: frozenset({TaskState.WORKING}) | _WAITING_ENDS,
    # `working`: leased to one agent. `input-required`: the same, and the agent waits for an answer.
    TaskState.WORKING: frozenset({TaskState.INPUT_REQUIRED}) | _HELD_ENDS,
    TaskState.INPUT_REQUIRED: frozenset({TaskState.WORKING}) | _HELD_ENDS,
    TaskState.COMPLETED: frozenset(),
    # Over, unless somebody asks for another try.
    TaskState.FAILED: _AGAIN,
    TaskState.CANCELED: _AGAIN,
    TaskState.DEAD: _AGAIN,
}

OVER: Final = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.DEAD})
"""Nothing happens by itself any more."""

RETRYABLE: Final = OVER - {TaskState.COMPLETED}
"""What `task retry` takes up again."""

HELD: Final = frozenset({TaskState.WORKING, TaskState.INPUT_REQUIRED})
"""An agent has it, under a lease."""

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
