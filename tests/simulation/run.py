"""One run from a seed to its end, in a folder of its own."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .invariants import Broken
from .script import Plan
from .simhub import SimHub
from .world import World

_MEMORY = Path("/dev/shm")  # a folder in memory where the system has one


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended: `broken` is None where everything held."""

    plan: Plan
    counts: Counter[str]
    story: list[str]
    broken: Broken | None


def run(plan: Plan, *, hub: type[SimHub] = SimHub, is_wordy: bool = False) -> Ran:
    """Take the world through `plan`; the story of a wordy run has every record."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        world = World(plan, Path(folder), hub=hub, is_wordy=is_wordy)
        broken: Broken | None = None
        try:
            world.run()
        except Broken as error:
            broken = error
        return Ran(plan, world.counts, world.story, broken)
