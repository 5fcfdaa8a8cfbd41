"""Shrinking: from a run that fails to the shortest list of steps that still breaks the same invariant."""

from __future__ import annotations

import time
from collections.abc import Callable

from .run import Ran
from .script import Plan, Step


def shrink(ran: Ran, again: Callable[[Plan], Ran], *, seconds_max: float = 20.0) -> Ran:
    """Return the shortest run found that breaks what `ran` broke.

    Chunks of steps are left out, halves first and single ones last, as long as that helps (ddmin without its
    complements; Zeller and Hildebrandt, 2002). `again` takes a plan once more.
    """
    assert ran.broken is not None
    invariant, best = ran.broken.invariant, ran
    until = time.monotonic() + seconds_max
    size = max(1, len(ran.plan.steps) // 2)
    while time.monotonic() < until:
        shorter = _without_a_chunk(best, again, invariant, size, until)
        if shorter is not None:
            best = shorter
        elif size > 1:
            size //= 2
        else:
            break
    return best


def _without_a_chunk(ran: Ran, again: Callable[[Plan], Ran], invariant: str, size: int, until: float) -> Ran | None:
    """Leave out every chunk of `size` steps that is not needed; None if all of them are."""
    best: Ran | None = None
    steps: list[Step] = list(ran.plan.steps)
    place = max(0, len(steps) - size)
    while time.monotonic() < until:
        tried = again(ran.plan.with_steps(steps[:place] + steps[place + size :]))
        if tried.broken is not None and tried.broken.invariant == invariant:
            best, steps = tried, list(tried.plan.steps)
        if place == 0:
            break
        place = max(0, min(place, len(steps)) - size)
    return best
