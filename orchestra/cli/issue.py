"""`orchestra memory issue`: what is broken, told to other matrices, and promoted to GitHub."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestra.limits import MEMORY_LIST_ROWS_MAX
from orchestra.memory.words import COMPONENTS, Kind, Severity

from .desk import Desk, author_option, desk_at, memory_options, project_option, tags_option, visibility_option
from .meet import matrix_at_desk, matrix_options, meet, met_only
from .shared import DONE, FAILED, ago, clean, print_json, say, table

if TYPE_CHECKING:
    from orchestra.aio import Client
    from orchestra.github.api import GitHub
    from orchestra.matrix.identity import Matrix
    from orchestra.matrix.meeting import Met
    from orchestra.matrix.reports import Report
    from orchestra.memory.entry import Entry


def github_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--github-api",
        envvar="ORCHESTRA_GITHUB_API",
        default=None,
        show_default="that of github.com, through gh where it is installed",
        help="Address of the REST API of your own GitHub.  [env: ORCHESTRA_GITHUB_API]",
    )(command)
    return click.option(
        "--repository",
        metavar="OWNER/NAME",
        envvar="ORCHESTRA_GITHUB_REPOSITORY",
        default=None,
        show_default="the remote origin of the clone",
        help="Repository on GitHub.  [env: ORCHESTRA_GITHUB_REPOSITORY]",
    )(command)


@click.command()
@click.argument("title", required=False)
@click.option(
    "-s",
    "--severity",
    type=click.Choice([each.value for each in Severity]),
    default=Severity.MEDIUM.value,
    show_default=True,
    help="How bad it is.",
)
@click.option(
    "-c", "--component", type=click.Choice(COMPONENTS), default="other", show_default=True, help="What is broken."
)
@click.option("-r", "--repro", default="", help="How to see it happen.")
@click.option("-f", "--fix", default="", help="How to mend it; with --close, how it was mended.")
@click.option("--text", "body", default="", help="What else there is to say.")
@click.option("-g", "--github", "is_github", is_flag=True, help="Create it on GitHub too.")
@click.option("-l", "--list", "is_list", is_flag=True, help="List the open issues that are not yet on GitHub.")
@click.option(
    "-p",
    "--promote",
    type=click.IntRange(1),
    metavar="ID",
    default=None,
    help="Create an issue on GitHub, once, and keep the link.",
)
@click.option("--close", type=click.IntRange(1), metavar="ID", default=None, help="Say that an issue is done with.")
@click.option("--all", "is_all", is_flag=True, help="With --list: those of every project, and of other matrices.")
@github_options
@tags_option
@visibility_option
@matrix_options
@project_option
@author_option
@memory_options
@click.pass_context
def issue(
    ctx: click.Context,
    /,
    title: str | None,
    is_github: bool,
    is_list: bool,
    promote: int | None,
    close: int | None,
    is_all: bool,
    repository: str | None,
    github_api: str | None,
    name: str | None,
    state: Path | None,
    project: str | None,
    memory: Path | None,
    as_json: bool,
    fix: str,
    **told: Any,
) -> None:
    """Report something that is broken: `issue "Saving hangs" -s critical -c chromadb --repro "…"`.

    It is also published on the hub's channel of issues, now or when a command meets the hub, unless it is private.
    --list shows what is open, --promote ID brings one to GitHub, --close ID ends one.
    """
    if (title is not None) + is_list + (promote is not None) + (close is not None) != 1:
        raise click.UsageError("give a TITLE, or --list, or --promote ID, or --close ID")
    github = partial(_github, repository=repository, api=github_api)
    with desk_at(memory, project=project) as desk:
        me = matrix_at_desk(desk, name=name, state=state)
        if is_list:
            ctx.exit(_list_open(desk, me, is_all=is_all, as_json=as_json))
        if close is not None:
            _close(desk, me, close, fix=fix, as_json=as_json)
        elif promote is not None:
            _promote(desk, me, promote, github(), as_json=as_json)
        else:
            from orchestra.memory.entry import Entry

            entry = Entry(kind=Kind.ISSUE, title=title or "", fix=fix, project=desk.project, **told)
            _report(desk, me, entry, github if is_github else None, as_json=as_json)


def _github(*, repository: str | None, api: str | None) -> GitHub:
    from orchestra.github.api import github_for

    return github_for(Path.cwd(), repository=repository, api=api)


def _report(desk: Desk, me: Matrix, entry: Entry, github: Callable[[], GitHub] | None, *, as_json: bool) -> None:
    from orchestra.matrix import unsent

    way = github() if github is not None else None  # first: without a way to GitHub nothing is stored
    stored = unsent.add_issue(desk.store, entry, now_ms=desk.now_ms)
    if way is not None:
        if not as_json:
            click.echo(f"issue #{stored.id} is stored")
        _promote(desk, me, stored.id, way, as_json=as_json)
        return
    _tell_others(desk, me)
    if as_json:
        print_json(stored.shown())
    else:
        click.echo(f"issue #{stored.id} is stored")


def _promote(desk: Desk, me: Matrix, id: int, github: GitHub, *, as_json: bool) -> None:
    from orchestra.github import promotion
    from orchestra.matrix import unsent

    try:
        entry, is_new = promotion.promote(
            desk.store, id, github, now_ms=desk.now_ms, also=lambda database: unsent.queue_issue(database, id)
        )
    finally:
        _tell_others(desk, me)
    if as_json:
        print_json({**entry.shown(), "is_new": is_new})
    else:
        click.echo(f"issue #{id} is {'now' if is_new else 'already'} on GitHub: {clean(entry.link)}")


def _close(desk: Desk, me: Matrix, id: int, *, fix: str, as_json: bool) -> None:
    from orchestra.matrix import unsent

    closed = unsent.close_issue(desk.store, id, fix=fix, now_ms=desk.now_ms)
    _tell_others(desk, me)
    if as_json:
        print_json(closed.shown())
    else:
        click.echo(f"issue #{closed.id} is closed")
        if closed.link:
            say(f"it is open on GitHub still: {clean(closed.link)}")


def _tell_others(desk: Desk, me: Matrix) -> None:
    """Publish what waits; where no hub was ever started there is nobody to be told of."""
    _, reason = meet(desk, me, met_only)
    if reason and me.has_hub:
        say(f"other matrices are told when a command or service of {me.address} meets the hub ({reason})")


def _list_open(desk: Desk, me: Matrix, *, is_all: bool, as_json: bool) -> int:
    from orchestra.memory.filters import Filters

    where, values = Filters(kind=Kind.ISSUE, project=None if is_all else desk.project, home=desk.project).where()
    rest = f"WHERE {where} AND m.closed_ms IS NULL AND m.link = '' ORDER BY m.created_ms DESC, m.id DESC LIMIT ?"
    found = desk.store.entries(rest, *values, MEMORY_LIST_ROWS_MAX)
    others, reason = _of_others(desk, me) if is_all else ([], "")
    if as_json:
        print_json([*(entry.shown() for entry in found), *(_facts(report) for report in others)])
    elif is_all and (found or others):
        rows = [
            [f"#{each.id}", each.severity, each.component, each.title, _when(desk, each.created_ms), str(me.address)]
            for each in found
        ]
        rows += [
            ["", each.severity, each.component, each.title, _when(desk, each.reported_ms), each.matrix]
            for each in others
        ]
        table(["ID", "SEVERITY", "COMPONENT", "TITLE", "REPORTED", "BY"], rows)
    elif found:
        rows = [
            [f"#{each.id}", each.severity, each.component, each.title, _when(desk, each.created_ms)] for each in found
        ]
        table(["ID", "SEVERITY", "COMPONENT", "TITLE", "REPORTED"], rows)
    else:
        say("no open issues")
    if reason and me.has_hub:
        say(f"those of other matrices are not shown ({reason})")
    return DONE if found or others else FAILED


def _of_others(desk: Desk, me: Matrix) -> tuple[list[Report], str]:
    """Return the open issues of other matrices that are not on GitHub, and why not if the hub is not there."""
    from orchestra.matrix import reports

    async def reading(client: Client, met: Met) -> list[Report]:
        return await reports.read(client)

    found, reason = meet(desk, me, reading)
    uids = {uid for (uid,) in desk.store.rows("SELECT uid FROM memory WHERE kind = 'issue'")}
    return [each for each in found or () if each.uid not in uids and not each.is_closed and not each.link], reason


def _facts(report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    return {name: value for name, value in asdict(report).items() if value not in ("", False)}


def _when(desk: Desk, ms: int) -> str:
    return ago(ms, now_ms=desk.now_ms)
