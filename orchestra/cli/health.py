"""`orchestra memory doctor` and `reindex`: is the memory whole, and making its indexes anew."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .desk import Desk, desk_at, memory_options
from .keep import memories_of
from .shared import FAILED, clean, console, print_json, say

if TYPE_CHECKING:
    from orchestra.memory.rebuild import Rebuilt, Told
    from orchestra.memory.repair import Finding

_FAILED_SHOWN = 20
_DOING = {"vectors": "making vectors", "index": "building the index", "check": "checking the index"}


@click.command()
@click.option("--fix", "is_fix", is_flag=True, help="Repair what is wrong; a damaged file is kept beside the new one.")
@memory_options
@click.pass_context
def doctor(ctx: click.Context, is_fix: bool, memory: Path | None, as_json: bool) -> None:
    """See whether the memory is whole, and its indexes.

    With --fix a damaged file is set aside, and everything that can be read is put into a new one.
    """
    from orchestra.memory import repair

    done: list[str] = []
    with desk_at(memory) as desk:
        findings = _findings(desk)
        for command in dict.fromkeys(each.advice for each in findings if not each.is_well and is_fix):
            if command.endswith("--fix"):
                saved = repair.salvage(desk.store, now_s=time.time())
                lost = f", at least {saved.lost:,} could not be read" if saved.lost else ""
                done.append(f"{memories_of(saved.saved)} saved{lost}; the damaged file is {saved.kept}")
            elif command.endswith("reindex"):
                done.append(f"the index was made anew from {memories_of(_reindex(desk, is_anew=False)[0])}")
        if done:
            findings = _findings(desk)
    if as_json:
        shown = [{"what": each.what, "is_well": each.is_well, "advice": each.advice} for each in findings]
        print_json({"findings": shown, "done": done})
    else:
        for text in done:
            click.echo(f"fixed  {text}")
        for each in findings:
            click.echo(f"{'ok   ' if each.is_well else 'wrong'}  {clean(each.what)}")
            if each.advice:
                say(f"run: {each.advice}")
    if not all(each.is_well for each in findings):
        ctx.exit(FAILED)


def _findings(desk: Desk) -> list[Finding]:
    from orchestra.memory import health, repair

    findings = repair.check(desk.store)
    if all(each.advice != "orchestra memory doctor --fix" for each in findings):
        findings += health.check(desk.store, desk.semantics)
    return findings


@click.command()
@click.option("--anew", "is_anew", is_flag=True, help="Make every vector again, not only those that are missing.")
@memory_options
@click.pass_context
def reindex(ctx: click.Context, is_anew: bool, memory: Path | None, as_json: bool) -> None:
    """Make the indexes anew from what is stored, whatever state they are in.

    Full-text search first; then, where there is a model, the vectors that are missing and ChromaDB's index, which is
    checked. It may be interrupted, and goes on where it was.
    """
    with desk_at(memory) as desk:
        count, made = _reindex(desk, is_anew=is_anew)
    if as_json:
        print_json({"memories": count, **asdict(made)})
    else:
        click.echo(f"{memories_of(count)} indexed")
        if made.model:
            click.echo(_said(made))
        if made.reason:
            say(clean(made.reason))
        for each in made.failed[:_FAILED_SHOWN]:
            say(clean(f"#{each['id']} has no vector: {each['error']}"))
    if made.is_wrong:
        ctx.exit(FAILED)


def _said(made: Rebuilt) -> str:
    text = f"{made.vectors:,} vectors of {made.model}"
    if made.indexed:
        text += f", {made.indexed:,} of them in ChromaDB; {made.checked:,} were searched there, and found"
    return text


def _reindex(desk: Desk, *, is_anew: bool) -> tuple[int, Rebuilt]:
    from orchestra.memory import repair
    from orchestra.memory.rebuild import rebuild

    count = repair.reindex(desk.store)
    with _progress() as told:
        return count, rebuild(desk.store, desk.semantics.choice, is_anew=is_anew, told=told)


@contextmanager
def _progress() -> Iterator[Told]:
    """Draw a bar on a terminal; where nobody watches, nothing."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console(stderr=True), transient=True) as progress:
        tasks = {name: progress.add_task(text, total=None, visible=False) for name, text in _DOING.items()}
        yield lambda what, done, total: progress.update(tasks[what], completed=done, total=total, visible=total > 0)
