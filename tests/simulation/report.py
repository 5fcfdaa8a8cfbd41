"""What is printed of runs: how much was tried, and of a run that failed its seed and its shortest trace."""

from __future__ import annotations

from collections import Counter

from .run import Ran, run
from .shrink import shrink
from .simhub import SimHub

_STORY_LINES_MAX = 400


def totals(counts: Counter[str], *, seeds: int) -> str:
    """Return the number of seeds, steps and faults of each kind, on one line."""
    faults = {name.removeprefix("fault: "): counts[name] for name in sorted(counts) if name.startswith("fault: ")}
    kinds = ", ".join(f"{name} {count}" for name, count in faults.items())
    return (
        f"{seeds} seeds: {counts['steps']} steps, {counts['frames']} frames, {counts['commits']} commits, "
        f"{counts['messages handed over']} messages handed over, {counts['assigned']} attempts at tasks; "
        f"{sum(faults.values())} faults: {kinds}"
    )


def trace(ran: Ran, *, hub: type[SimHub] = SimHub, shrink_s: float = 20.0) -> str:
    """Return what a person needs of a run that failed: the invariant, the seed, and the shortest list of steps found
    that fails in the same way, with every word that was said."""
    assert ran.broken is not None
    shortest = shrink(ran, lambda plan: run(plan, hub=hub), seconds_max=shrink_s)
    told = run(shortest.plan, hub=hub, is_wordy=True).story
    if len(told) > _STORY_LINES_MAX:
        told = [f"… {len(told) - _STORY_LINES_MAX} lines before …", *told[-_STORY_LINES_MAX:]]
    steps = "\n".join(f"    {step!r}," for step in shortest.plan.steps)
    return "\n".join(
        (
            f"seed {ran.plan.seed} broke {ran.broken}",
            f"repeat it: python -m tests.simulation --seed {ran.plan.seed}",
            f"the shortest of its lists of steps that does so has {len(shortest.plan.steps)} of {len(ran.plan.steps)}:",
            f"[\n{steps}\n]",
            "what happens in it:",
            *told,
        )
    )
