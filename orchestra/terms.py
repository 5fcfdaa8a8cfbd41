"""The terms of a task: when it may begin, how often it is tried, how long it may wait. Pure.

A sender puts them into the options of its SEND, and the hub reads them back: both with this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .errors import BadOption
from .limits import BUDGET_CHARS_MAX, DEPENDENCIES_MAX, RETRY_PAUSE_S, RETRY_PAUSE_S_MAX, TASK_ATTEMPTS_MAX
from .wire import INT_MAX

Budget = str | int | float


@dataclass(frozen=True, slots=True)
class Terms:
    """Attributes:
    depends_on: the tasks that must be completed first.
    max_attempts: how many attempts may fail before the task has failed.
    backoff_ms: the longest pause after the first failed attempt; it doubles with each, up to `backoff_max_ms`.
    expires_ms: how long it may wait for an agent before it is dead; 0 is for ever.
    not_before_ms: it may not begin before this time (ms since 1970); 0 is at once.
    budget: what it may cost, as a text or a number. The agent is told; the hub does not look at it.
    parent: the task that this one is done for: who cancels that one cancels this one too. 0 is none.
    """

    depends_on: tuple[int, ...] = ()
    max_attempts: int = 1
    backoff_ms: int = int(RETRY_PAUSE_S * 1000)
    backoff_max_ms: int = int(RETRY_PAUSE_S_MAX * 1000)
    expires_ms: int = 0
    not_before_ms: int = 0
    budget: Budget = ""
    parent: int = 0

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            check(name, getattr(self, name))

    def options(self) -> dict[str, Any]:
        """Return what goes into the options of the SEND: what differs from the default."""
        return {
            name: list(value) if name == "depends_on" else value
            for name in TERMS
            if (value := getattr(self, name)) != getattr(PLAIN, name)
        }

    def pause_ms(self, failures: int, *, chance: float) -> int:
        """Return how long to wait after so many failed attempts: exponential with full jitter.

        `chance` is from 0 to 1. After https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        doubled = self.backoff_ms << min(failures - 1, 40)
        return int(chance * min(doubled, self.backoff_max_ms))


def read_terms(options: dict[str, Any]) -> Terms:
    """Read the terms among the options of a SEND; their names are in `TERMS`.

    Raises:
        BadOption: if one is not what it should be.
    """
    found = {name: options[name] for name in TERMS if name in options}
    if type(found.get("depends_on")) is list:
        found["depends_on"] = tuple(found["depends_on"])
    return Terms(**found)


def _check_dependencies(name: str, value: Any) -> None:
    if type(value) is not tuple or any(type(seq) is not int or not 0 < seq <= INT_MAX for seq in value):
        raise BadOption(f"{name} must be a list of task numbers")
    if len(value) > DEPENDENCIES_MAX:
        raise BadOption(f"{name} has {len(value)} tasks; the limit is {DEPENDENCIES_MAX}")


def _check_attempts(name: str, value: Any) -> None:
    if type(value) is not int or not 1 <= value <= TASK_ATTEMPTS_MAX:
        raise BadOption(f"{name} must be 1 to {TASK_ATTEMPTS_MAX}")


def _check_ms(name: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value <= _MS_MAX:
        raise BadOption(f"{name} must be a whole number of milliseconds, 0 to {_MS_MAX}")


def _check_budget(name: str, value: Any) -> None:
    if type(value) not in (str, int, float) or (type(value) is str and len(value) > BUDGET_CHARS_MAX):
        raise BadOption(f"{name} must be a number or a text of at most {BUDGET_CHARS_MAX} characters")


def _check_parent(name: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value <= INT_MAX:
        raise BadOption(f"{name} must be the number of a task")


_MS_MAX: Final = 2**53  # sums stay far below what SQLite can hold
_CHECKS: Final[dict[str, Callable[[str, Any], None]]] = {
    "depends_on": _check_dependencies,
    "max_attempts": _check_attempts,
    "backoff_ms": _check_ms,
    "backoff_max_ms": _check_ms,
    "expires_ms": _check_ms,
    "not_before_ms": _check_ms,
    "budget": _check_budget,
    "parent": _check_parent,
}
TERMS: Final = frozenset(_CHECKS)
"""Their names, as options of a SEND."""
PLAIN: Final = Terms()
"""What a task has that names none."""
