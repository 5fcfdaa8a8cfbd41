"""`orchestra memory validate`, `forget`, `distill` and `consolidate`: what makes a memory better."""

from __future__ import annotations

from pathlib import Path

import click

from orchestra.limits import MEMORY_LIST_ROWS_MAX
from orchestra.memory.words import Kind

from .desk import agreed, author_option, desk_at, line_of, memory_options, project_option
from .shared import FAILED, clean, print_json, say

_ids = click.argument("ids", metavar="ID...", nargs=-1, required=True, type=str)
_yes = click.option("-y", "--yes", "is_yes", is_flag=True, help="Don't ask.")


def numbers(ids: tuple[str, ...]) -> list[int]:
    """Read `42` and `#42`."""
    found = []
    for text in ids:
        digits = text.removeprefix("#")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 16):
            raise click.UsageError(f"{text!r} is no number of a memory; `orchestra memory list` shows them")
        found.append(int(digits))
    return found


@click.command()
@_ids
@click.option("--note", default="", help="How it proved true.")
@author_option
@memory_options
def validate(ids: tuple[str, ...], note: str, author: str, memory: Path | None, as_json: bool) -> None:
    """Say that learnings proved true.

    One validation makes a learning medium, two high, four proven; it never falls by it.
    """
    from orchestra.memory import notebook

    with desk_at(memory) as desk:
        found = notebook.validate(desk.store, numbers(ids), author=author, note=note, now_ms=desk.now_ms)
        counts = notebook.validation_counts(desk.store, (entry.id for entry in found))
    if as_json:
        print_json([{**entry.shown(), "validations": counts[entry.id]} for entry in found])
        return
    for entry in found:
        click.echo(f"learning #{entry.id} is {entry.confidence}, validated {counts[entry.id]}×")


@click.command()
@_ids
@click.option("--undo", "is_undone", is_flag=True, help="Remember them again.")
@memory_options
def forget(ids: tuple[str, ...], is_undone: bool, memory: Path | None, as_json: bool) -> None:
    """Hide memories from every answer; `purge` removes them for good."""
    from orchestra.memory import notebook

    with desk_at(memory) as desk:
        found = notebook.forget(desk.store, numbers(ids), is_undone=is_undone, now_ms=desk.now_ms)
    if as_json:
        print_json([entry.shown() for entry in found])
        return
    for entry in found:
        click.echo(f"{entry.kind} #{entry.id} is {'remembered again' if is_undone else 'forgotten'}")


@click.command()
@click.argument("session", required=False)
@click.option(
    "--last",
    type=click.IntRange(1, MEMORY_LIST_ROWS_MAX),
    default=1,
    show_default=True,
    help="The last so many sessions.",
)
@click.option("--all", "is_all", is_flag=True, help="Every session of the project.")
@_yes
@project_option
@memory_options
@click.pass_context
def distill(
    ctx: click.Context,
    session: str | None,
    last: int,
    is_all: bool,
    is_yes: bool,
    project: str | None,
    memory: Path | None,
    as_json: bool,
) -> None:
    """Draw learnings out of a session (the last one): its wins, challenges and learnings, each once.

    They start with low confidence. What was drawn before is not drawn again.
    """
    from orchestra.memory import distill as still
    from orchestra.memory.notebook import get

    with desk_at(memory, project=project) as desk:
        if session is not None:
            sessions = get(desk.store, numbers((session,)))
            if sessions[0].kind != Kind.SESSION:
                raise click.UsageError(f"#{sessions[0].id} is a {sessions[0].kind}, not a session")
        else:
            sessions = desk.store.entries(
                "WHERE m.kind = ? AND m.project = ? AND m.forgotten_ms IS NULL "
                "ORDER BY m.created_ms DESC, m.id DESC LIMIT ?",
                Kind.SESSION,
                desk.project,
                -1 if is_all else last,
            )
        proposed = still.proposed(desk.store, sessions)
        if not as_json:
            for entry in proposed:
                click.echo(f"{entry.category:<14} {clean(entry.title)}  (session #{entry.session})")
        is_done = (
            bool(proposed) and (is_yes or not as_json) and agreed(f"Keep {_learnings(len(proposed))}?", is_yes=is_yes)
        )
        stored = still.distill(desk.store, sessions, now_ms=desk.now_ms) if is_done else []
    if as_json:
        print_json({"is_done": is_done, "learnings": [entry.shown() for entry in (stored if is_done else proposed)]})
    elif not proposed:
        say("nothing new to learn from " + ("these sessions" if sessions else f"{desk.project}: it has no session"))
    elif is_done:
        click.echo(f"{_learnings(len(stored))} stored: {', '.join(f'#{entry.id}' for entry in stored)}")
    if not proposed or not (is_done or as_json):
        ctx.exit(FAILED)


def _learnings(count: int) -> str:
    return f"{count} learning{'' if count == 1 else 's'}"


@click.command()
@click.option("--apply", "is_apply", is_flag=True, help="Do it; otherwise it is only shown.")
@click.option("--all", "is_all", is_flag=True, help="Learnings of every project.")
@_yes
@project_option
@memory_options
@click.pass_context
def consolidate(
    ctx: click.Context,
    is_apply: bool,
    is_all: bool,
    is_yes: bool,
    project: str | None,
    memory: Path | None,
    as_json: bool,
) -> None:
    """Find learnings that say the same, and with --apply make them one.

    The most trusted stays and takes over texts, tags and validations; the others are forgotten (`forget --undo` brings
    them back).
    """
    from orchestra.memory import consolidate as merging
    from orchestra.memory.embedder import plan_of
    from orchestra.memory.filters import Filters

    with desk_at(memory, project=project) as desk:
        filters = Filters(project=None if is_all else desk.project, home=desk.project)
        merges = merging.proposed(desk.store, filters, model=plan_of(desk.semantics.choice).name)
        if not as_json:
            for merge in merges:
                click.echo(line_of(merge.kept, now_ms=desk.now_ms))
                for other in merge.others:
                    click.echo(f"    takes over {line_of(other, now_ms=desk.now_ms)}")
        count = sum(len(merge.others) for merge in merges)
        is_done = bool(
            merges and is_apply and (is_yes or not as_json) and agreed(f"Merge {_learnings(count)}?", is_yes=is_yes)
        )
        if is_done:
            merging.consolidate(desk.store, merges, now_ms=desk.now_ms)
    if as_json:
        shown = [{"kept": merge.kept.id, "merged": [other.id for other in merge.others]} for merge in merges]
        print_json({"is_done": is_done, "merges": shown})
    elif not merges:
        say("no two learnings say the same")
        ctx.exit(FAILED)
    elif is_done:
        click.echo(f"{_learnings(count)} merged")
    elif not is_apply:
        say("this is what --apply would do")
