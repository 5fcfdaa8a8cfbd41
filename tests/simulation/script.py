"""From a seed to a plan: who takes part, under which limits, and the list of steps. Plain data, known beforehand.

Each seed chooses which kinds of fault it has and how often (swarm testing): a run with one kind of fault reaches places
that a run with all of them never does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Final

from .peers import Slot

Step = tuple[Any, ...]
"""The name of a step and its arguments: numbers and short texts."""

Terms = tuple[tuple[str, Any], ...]
"""The options of a task, as pairs. `depends_on` and `parent` pick among those there are, `not_before_ms` is from now.
"""

PRIORITIES: Final = (None, "low", "normal", "high", "urgent")
SENDERS: Final = (0, 1, 2, 3)
AGENTS: Final = (4, 5, 6)
CHANNELS: Final = ("channel/status", "channel/context")
MAIL_TO: Final = ("operator/o", "matrix/m", "matrix/n", "agent/a", "agent/b", "agent/c", "*", *CHANNELS, *CHANNELS)
ASKED: Final = ("operator/o", "matrix/m", "matrix/n", "agent/a", "agent/c")
TASKS_TO: Final = ("queue/q", "queue/q", "queue/r", "agent/a", "agent/b")

_TIMES_MS: Final = (20, 100, 300, 1000, 1000, 3000, 6000, 11_000, 31_000)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, before it begins."""

    seed: int
    slots: tuple[Slot, ...]
    window: int
    attempts_max: int
    losses_max: int
    mailbox_max: int
    work_ms_max: int
    readers: tuple[int, ...]
    """Slots that follow a channel with a cursor from the beginning, in each of their lives."""
    steps: tuple[Step, ...]

    def with_steps(self, steps: list[Step]) -> Plan:
        return replace(self, steps=tuple(steps))


def make_plan(seed: int, *, steps: int = 120) -> Plan:
    """Return the run of a seed: always the same one."""
    chance = random.Random(seed)
    credit = chance.choice((2, 5, 40))
    drifts = [chance.randint(-1000, 1000) for _ in range(7)]  # a millisecond a second, which is a bad clock
    many = chance.choice((1, 2, 3))
    slots = (
        Slot(0, "operator/o", credit, drift_ppm=drifts[0]),
        Slot(1, "matrix/m", credit, drift_ppm=drifts[1]),
        Slot(2, "matrix/m", chance.choice((0, credit)), drift_ppm=drifts[2]),
        Slot(3, "matrix/n", credit, drift_ppm=drifts[3]),
        Slot(4, "agent/a", credit, many, ("queue/q",), drifts[4]),
        Slot(5, "agent/b", credit, many, ("queue/q", "queue/r"), drifts[5]),
        Slot(6, "agent/c", credit, 1, ("queue/r",), drifts[6]),
    )
    return Plan(
        seed=seed,
        slots=slots,
        window=chance.choice((3, 512)),
        attempts_max=chance.choice((3, 10)),
        losses_max=chance.choice((2, 5)),
        mailbox_max=chance.choice((12, 100_000)),
        work_ms_max=chance.choice((200, 4000, 20_000)),
        readers=chance.choice(((), (0, 3))),
        steps=tuple(_steps(chance, steps)),
    )


def _steps(chance: random.Random, count: int) -> list[Step]:
    kinds = {**_DEEDS, **{name: made for name, made in _FAULTS.items() if chance.random() < 0.5}}
    weights = {name: _WEIGHTS.get(name, 3) * chance.choice((1, 1, 2, 4)) for name in kinds}
    names = list(kinds)
    chosen = chance.choices(names, [weights[name] for name in names], k=count)
    return [(name, *kinds[name](chance)) for name in chosen]


def _any_slot(chance: random.Random) -> int:
    return chance.randrange(7)


def _terms(chance: random.Random) -> Terms:
    """Return the options of a task: most have none."""
    found: dict[str, Any] = {}
    for name, made in _TERMS.items():
        if chance.random() < 0.2:
            found[name] = made(chance)
    return tuple(found.items())


def _letter_options(chance: random.Random) -> Terms:
    """Return more options of a message: most have none."""
    found: dict[str, Any] = {}
    if chance.random() < 0.3:
        found["watch"] = True
    if chance.random() < 0.2:
        found["expires_ms"] = chance.choice((500, 5000, 60_000))
    if chance.random() < 0.2:
        found["key"] = chance.choice(_KEYS)
    return tuple(found.items())


_KEYS: Final = ("first", "second", "third", "fourth", "fifth")

_TERMS: Final = {
    "priority": lambda chance: chance.choice(("low", "normal", "high", "urgent")),
    "watch": lambda chance: True,
    "max_attempts": lambda chance: chance.choice((2, 3)),
    "key": lambda chance: f"task {chance.choice(_KEYS)}",
    "backoff_ms": lambda chance: chance.choice((0, 500, 5000)),
    "expires_ms": lambda chance: chance.choice((1000, 10_000)),
    "not_before_ms": lambda chance: chance.choice((-1000, 500, 10_000)),
    "parent": lambda chance: chance.randrange(1000),
    "depends_on": lambda chance: tuple(chance.randrange(1000) for _ in range(chance.choice((1, 1, 2)))),
}

_DEEDS: Final = {
    "send": lambda chance: (
        _any_slot(chance),
        chance.choice(MAIL_TO),
        chance.choice(PRIORITIES),
        chance.choice((1, 1, 2, 8)),
        _letter_options(chance),
    ),
    "submit": lambda chance: (
        chance.choice(SENDERS),
        chance.choice(TASKS_TO),
        _terms(chance),
    ),
    "answer": lambda chance: (chance.choice(SENDERS), chance.randrange(1000)),
    "ask": lambda chance: (_any_slot(chance), chance.choice(ASKED), chance.choice((200, 2000, 15_000))),
    "resend": lambda chance: (chance.choice(SENDERS), chance.randrange(1000)),
    "drop": lambda chance: (chance.choice(SENDERS), chance.randrange(1000)),
    "retry": lambda chance: (chance.choice(SENDERS), chance.randrange(1000)),
    "acknowledge": lambda chance: (_any_slot(chance), chance.choice((1, 3, 100)), chance.choice((1, 2, 3, 3, 3))),
    "see": lambda chance: (chance.choice(SENDERS),),
    "read": lambda chance: (_any_slot(chance),),
    "cancel": lambda chance: (chance.choice(SENDERS), chance.randrange(1000)),
    "subscribe": lambda chance: (
        chance.choice(SENDERS),
        chance.choice(CHANNELS),
        chance.choice((None, 0, 5)),
        chance.choice(("", "mine", "mine")),
    ),
    "offer": lambda chance: (chance.choice(AGENTS), chance.randrange(4)),
    "flow": lambda chance: (chance.randrange(1_000_000),),
    "time": lambda chance: (chance.choice(_TIMES_MS),),
    "start": lambda chance: (),
    "clean": lambda chance: (chance.choice((0, 90_000_000)),),
}

_FAULTS: Final = {
    "cut": lambda chance: (
        _any_slot(chance),
        chance.choice((0, 1, 100)),
        chance.choice((0, 1, 100)),
        chance.randrange(4),
    ),
    "stall": lambda chance: (_any_slot(chance), chance.choice(("up", "down", "both"))),
    "heal": lambda chance: (),
    "kill": lambda chance: (_any_slot(chance), chance.choice((0, 1, 100))),
    "doom": lambda chance: (
        chance.choice((1, 1, 2, 3, 4, 5, 8, 13)),
        chance.choice((100, 1000, 8000)),
        chance.randrange(4),
    ),
    "full_disk": lambda chance: (chance.choice((1, 1, 2, 5)),),
    "double": lambda chance: (chance.choice(AGENTS),),
    "slow_reader": lambda chance: (_any_slot(chance),),
    "jump": lambda chance: (chance.choice((-86_400_000, -3_600_000, -5000, 5000, 3_600_000, 90_000_000)),),
}

_WEIGHTS: Final = {
    "flow": 16,
    "time": 10,
    "send": 8,
    "submit": 7,
    "acknowledge": 6,
    "retry": 2,
    "resend": 1,
    "clean": 2,
    "drop": 1,
    "see": 8,
    "subscribe": 5,
    "start": 4,
    "jump": 1,
    "heal": 3,
}

FAULTS: Final = frozenset(_FAULTS)
