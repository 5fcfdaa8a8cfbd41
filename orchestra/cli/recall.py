"""`orchestra memory recall` and `list`: what looks into a memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .desk import Desk, about, desk_at, filter_options, line_of, lines_of, memory_options, preview_of, tokens_in
from .shared import FAILED, ago, clean, print_json, say, table

if TYPE_CHECKING:
    from orchestra.memory.entry import Entry
    from orchestra.memory.filters import Filters
    from orchestra.memory.recall import Open, Recalled


@click.command()
@click.argument("question", nargs=-1)
@click.option("--index", "is_index", is_flag=True, help="Numbers and titles only.")
@click.option("--full", "is_full", is_flag=True, help="Everything that each memory says.")
@filter_options(limit=8)
@memory_options
@click.pass_context
def recall(
    ctx: click.Context,
    /,
    question: tuple[str, ...],
    is_index: bool,
    is_full: bool,
    limit: int,
    memory: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Find memories again: `recall why does the hub hang on start`.

    '#42' shows that memory, session_42 that session. Without a question: the last session, its next steps, open issues,
    unread messages, and what is known best. What you get says which sources answered.
    """
    from orchestra.memory.recall import recall as answer
    from orchestra.memory.recall import what_is_open

    text = " ".join(question)
    with desk_at(memory, project=chosen.pop("project")) as desk:
        filters = filters_of(desk, **chosen)
        if not text.strip():
            ctx.exit(_show_open(desk, what_is_open(desk.store, filters), as_json=as_json))
        found = answer(desk.store, text, filters, count_max=limit, meaning=desk.semantics)
        if as_json:
            print_json(_facts(desk, found, text, is_index=is_index))
        else:
            _show(desk, found, is_index=is_index, is_full=is_full)
        if not found.hits:
            ctx.exit(FAILED)


def filters_of(desk: Desk, *, is_all: bool, since: str | None, **chosen: Any) -> Filters:
    """Return what the options of `filter_options` choose."""
    from orchestra.memory.filters import Filters
    from orchestra.memory.when import since_ms

    return Filters(
        **{name: value for name, value in chosen.items() if value is not None},
        since_ms=since_ms(since, now_ms=desk.now_ms) if since else 0,
        project=None if is_all else desk.project,
        home=desk.project,
    )


def _show(desk: Desk, found: Recalled, *, is_index: bool, is_full: bool) -> None:
    from orchestra.memory.notebook import validation_counts
    from orchestra.memory.question import Aim

    counts = validation_counts(desk.store, (hit.entry.id for hit in found.hits))
    lines: list[str] = []
    for hit in found.hits:
        if is_index:
            lines.append(f"#{hit.entry.id}\t{clean(hit.entry.title)}")
            continue
        lines.append(line_of(hit.entry, now_ms=desk.now_ms, validations=counts.get(hit.entry.id, 0), with_project=True))
        if is_full or found.aim is not Aim.SEARCH:
            lines += [*lines_of(hit.entry), *_witnesses(desk, hit.entry.id)]
        elif preview := preview_of(hit.entry):
            lines.append(f"    {preview}")
        if hit.is_fresh:
            lines.append("    new: only its words were compared")
        if hit.also:
            lines.append(f"    the same in other words: {', '.join(f'#{id}' for id in hit.also)}")
    if lines:
        click.echo("\n".join(lines))
    for note in found.notes:
        say(note)
    say(f"{len(found.hits)} found{_by(found)}" + (f", about {tokens_in(lines):,} tokens" if lines else ""))
    if found.near.model and not found.near.by:
        say(f"only words were compared: {found.near.reason}")
    elif found.waiting:
        say(f"{found.waiting:,} new {'memory was' if found.waiting == 1 else 'memories were'} compared by words alone")


def _witnesses(desk: Desk, id: int) -> list[str]:
    from orchestra.memory.notebook import validations

    return [
        clean(f"    validated by {author}, {ago(at_ms, now_ms=desk.now_ms)}{f': {note}' if note else ''}")
        for author, at_ms, note in validations(desk.store, id)
    ]


def _by(found: Recalled) -> str:
    from orchestra.memory.recall import MEANING

    names = [f"{each} ({found.near.by})" if each == MEANING else each for each in found.sources]
    return f" by {' and '.join(names)}" if names else ""


def _facts(desk: Desk, found: Recalled, text: str, *, is_index: bool) -> dict[str, Any]:
    from orchestra.memory.notebook import validation_counts

    counts = validation_counts(desk.store, (hit.entry.id for hit in found.hits))
    hits = []
    for hit in found.hits:
        said = {"id": hit.entry.id, "title": hit.entry.title} if is_index else hit.entry.shown()
        extra = {"score": round(hit.score, 4), "validations": counts.get(hit.entry.id, 0), "also": list(hit.also)}
        extra["is_fresh"] = hit.is_fresh
        hits.append({**said, **extra})
    near = found.near
    return {
        "question": text,
        "sources": list(found.sources),
        "notes": list(found.notes),
        "meaning": {"by": near.by, "model": near.model, "reason": near.reason, "waiting": found.waiting},
        "found": hits,
    }


def _show_open(desk: Desk, found: Open, *, as_json: bool) -> int:
    groups = (("open issues", found.issues), ("unread messages", found.messages), ("known well", found.learnings))
    is_empty = found.session is None and not any(entries for _, entries in groups)
    if as_json:
        print_json(
            {
                "session": found.session.shown() if found.session else None,
                "issues": [each.shown() for each in found.issues],
                "messages": [each.shown() for each in found.messages],
                "learnings": [each.shown() for each in found.learnings],
            }
        )
    elif is_empty:
        say(f'nothing is remembered of {desk.project} yet; start with: orchestra memory learn "…"')
    else:
        click.echo("\n".join(_open_lines(desk, found.session, groups)))
    return FAILED if is_empty else 0


def _open_lines(desk: Desk, session: Entry | None, groups: tuple[tuple[str, list[Entry]], ...]) -> list[str]:
    lines: list[str] = []
    if session is not None:
        lines += [click.style("last session", bold=True), line_of(session, now_ms=desk.now_ms), *lines_of(session)]
    for heading, entries in groups:
        if entries:
            lines += ["", click.style(heading, bold=True), *(line_of(each, now_ms=desk.now_ms) for each in entries)]
    return lines[1:] if lines[0] == "" else lines


@click.command(name="list")
@filter_options(limit=20)
@click.option("--forgotten", "with_forgotten", is_flag=True, help="Also what was forgotten or superseded.")
@memory_options
@click.pass_context
def list_(ctx: click.Context, /, limit: int, memory: Path | None, as_json: bool, **chosen: Any) -> None:
    """List memories, the newest first."""
    with desk_at(memory, project=chosen.pop("project")) as desk:
        where, values = filters_of(desk, **chosen).where()
        found = desk.store.entries(f"WHERE {where} ORDER BY m.created_ms DESC, m.id DESC LIMIT ?", *values, limit)
        if as_json:
            print_json([entry.shown() for entry in found])
        elif found:
            rows = [
                [f"#{each.id}", about(each, now_ms=desk.now_ms, with_project=chosen["is_all"]), each.title]
                for each in found
            ]
            table(["ID", "WHAT", "TITLE"], rows)
        else:
            say("nothing found; `orchestra memory list --all` shows every project")
    if not found:
        ctx.exit(FAILED)
