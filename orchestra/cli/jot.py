"""`orchestra memory learn` and `save`: what writes a memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestra.limits import MEMORY_TEXT_CHARS_MAX
from orchestra.memory.words import CATEGORIES, Confidence, Kind, category_of

from .desk import Desk, author_option, desk_at, memory_options, project_option, tags_option, visibility_option
from .shared import print_json

if TYPE_CHECKING:
    from orchestra.memory.entry import Entry


@click.command()
@click.argument("words", metavar="[CATEGORY] TITLE [TEXT]", nargs=-1, required=True)
@click.option("--lesson", default="", help="What follows from it.")
@click.option("--prevention", default="", help="How to keep it from happening again.")
@click.option("--context", default="", help="When and where it was learned.")
@click.option("--source", default="", help="Where it comes from: a file, a page, a commit.")
@click.option(
    "--confidence",
    type=click.Choice([each.value for each in Confidence]),
    default=Confidence.LOW.value,
    show_default=True,
    help="How sure you are; `validate` raises it.",
)
@click.option("--supersedes", type=click.IntRange(1), default=None, help="Number of the memory that this one replaces.")
@tags_option
@visibility_option
@project_option
@author_option
@memory_options
def learn(
    words: tuple[str, ...], project: str | None, author: str, memory: Path | None, as_json: bool, **told: Any
) -> None:
    """Keep something that was learned.

    CATEGORY is one of performance, architecture, tooling, process, debugging, security, testing, philosophy, principle,
    insight, pattern, retrospective; without it the words decide. TEXT says more than the title; - reads it from
    standard input.
    """
    from orchestra.memory.entry import Entry

    category, title, body = _read(words)
    with desk_at(memory, project=project) as desk:
        entry = Entry(
            kind=Kind.LEARNING,
            category=category,
            title=title,
            body=body,
            project=desk.project,
            author=author,
            **told,
        )
        _stored(desk, entry, as_json=as_json)


def _read(words: tuple[str, ...]) -> tuple[str, str, str]:
    """Return category, title and text of what stands on the command line."""
    category, rest = (words[0], words[1:]) if words[0] in CATEGORIES and len(words) > 1 else ("", words)
    if len(rest) > 2:
        wrong = "" if category else f"; {words[0]!r} is no category, there are: {', '.join(CATEGORIES)}"
        raise click.UsageError(f"give [CATEGORY] TITLE [TEXT], each in quotes{wrong}")
    title, body = rest[0], rest[1] if len(rest) == 2 else ""
    if len(rest) == 2 and not category and " " not in title:
        raise click.UsageError(f"{title!r} is no category; there are: {', '.join(CATEGORIES)}")
    if body == "-":
        body = sys.stdin.read(MEMORY_TEXT_CHARS_MAX + 1)
    return category or category_of(f"{title} {body}", otherwise="insight"), title, body


@click.command()
@click.argument("summary", required=False)
@click.option("--win", "wins", multiple=True, help="What went well; may be repeated.")
@click.option("--challenge", "challenges", multiple=True, help="What was hard; may be repeated.")
@click.option("--learning", "learnings", multiple=True, help="What was understood; may be repeated.")
@click.option("--next", "next_steps", multiple=True, help="What to do next; may be repeated.")
@click.option("--text", "body", default="", help="What else there is to say.")
@tags_option
@visibility_option
@project_option
@author_option
@memory_options
def save(
    summary: str | None, project: str | None, author: str, memory: Path | None, as_json: bool, **told: Any
) -> None:
    """Keep what this session did, so that the next one can go on.

    In a git clone the branch, the commits since the last session, and the files that changed are kept with it. Without
    SUMMARY the last commit is the summary. `orchestra memory distill` makes learnings of it.
    """
    from orchestra.memory.entry import Entry
    from orchestra.memory.git import work_in

    with desk_at(memory, project=project) as desk:
        sql = "SELECT max(created_ms) FROM memory WHERE kind = ? AND project = ?"
        last_ms = desk.store.rows(sql, Kind.SESSION, desk.project)[0][0] or 0
        work = work_in(Path.cwd(), since_ms=last_ms)
        if summary is None and not work.commits:
            raise click.UsageError("give a SUMMARY: git knows of no commit since the last session")
        entry = Entry(
            kind=Kind.SESSION,
            title=summary if summary is not None else work.commits[0].partition(" ")[2],
            branch=work.branch,
            commits=work.commits,
            files=work.files,
            project=desk.project,
            author=author,
            **told,
        )
        _stored(desk, entry, as_json=as_json)


def _stored(desk: Desk, entry: Entry, *, as_json: bool) -> None:
    from orchestra.memory import notebook

    (stored,) = notebook.add(desk.store, [entry], now_ms=desk.now_ms)
    if as_json:
        print_json(stored.shown())
        return
    more = ""
    if stored.kind == Kind.SESSION and stored.branch:
        more = f": {stored.branch}, {_counted(stored.commits, 'commit')}, {_counted(stored.files, 'file')}"
    click.echo(f"{stored.kind} #{stored.id} is stored{more}")


def _counted(items: tuple[str, ...], word: str) -> str:
    return f"{len(items)} {word}{'' if len(items) == 1 else 's'}"
