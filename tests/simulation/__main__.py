"""The soak: runs new seeds for as long as it is told. `python -m tests.simulation 600`, or `tox -e soak -- 600`."""

from __future__ import annotations

import secrets
import sys
import time
from collections import Counter

import click

from .report import totals, trace
from .run import run
from .script import make_plan

_TELL_S = 30.0


@click.command()
@click.argument("seconds", type=click.FloatRange(min=0), default=600.0)
@click.argument("first", type=click.IntRange(min=0), required=False)
@click.option("--seed", type=click.IntRange(min=0), help="Run this one seed only, and tell what happens in it.")
@click.option("--steps", type=click.IntRange(min=1), default=120, show_default=True, help="How long a run is.")
def main(seconds: float, first: int | None, seed: int | None, steps: int) -> None:
    """Simulate for SECONDS (default: 600) with new seeds, from seed FIRST on (default: a random one)."""
    if seed is not None:
        ran = run(make_plan(seed, steps=steps), is_wordy=True)
        click.echo("\n".join(ran.story))
        sys.exit(0 if ran.broken is None else 1)
    first = secrets.randbelow(10**9) if first is None else first
    counts: Counter[str] = Counter()
    began = told = time.monotonic()
    number = 0
    while time.monotonic() - began < seconds:
        ran = run(make_plan(first + number, steps=steps))
        number += 1
        counts += ran.counts
        if ran.broken is not None:
            click.echo(trace(ran, shrink_s=60.0))
            click.echo(f"before it: {totals(counts, seeds=number)}")
            sys.exit(1)
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            click.echo(f"{told - began:.0f} s, next seed {first + number}: {totals(counts, seeds=number)}")
    click.echo(f"nothing broke, from seed {first}: {totals(counts, seeds=number)}")


if __name__ == "__main__":
    main()
