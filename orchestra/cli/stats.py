"""`orchestra memory stats`: what the memory holds, and how its indexes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .desk import desk_at, memory_options
from .shared import ago, clean, print_json


@click.command()
@memory_options
def stats(memory: Path | None, as_json: bool) -> None:
    """Show what the memory holds, and how its index is."""
    from orchestra.memory.health import semantics_of
    from orchestra.memory.stats import stats_of

    with desk_at(memory) as desk:
        found = stats_of(desk.store, now_ms=desk.now_ms)
        found["meaning"] = semantics_of(desk.store, desk.semantics)
        proven = desk.store.entries(
            "WHERE m.confidence = 'proven' AND m.forgotten_ms IS NULL ORDER BY m.updated_ms DESC, m.id DESC LIMIT 5"
        )
        sessions = desk.store.entries(
            "WHERE m.kind = 'session' AND m.forgotten_ms IS NULL ORDER BY m.created_ms DESC, m.id DESC LIMIT 3"
        )
    if as_json:
        print_json(found)
        return
    if not found["exists"]:
        click.echo(f"memory    {found['path']}: nothing is stored yet")
        return
    click.echo(f"memory    {found['path']}, {found['bytes'] / 2**20:.1f} MiB")
    forgotten = f"; {found['forgotten']} forgotten" if found["forgotten"] else ""
    click.echo(f"stored    {_counted(found['kinds'], is_plural=True)}{forgotten}")
    learnings = found["learnings"]
    if learnings["confidence"]:
        validated = {"validation": learnings["validations"]}
        click.echo(f"learnings {_counted(learnings['confidence'])}; {_counted(validated, is_plural=True)}")
        click.echo(f"          {_counted(learnings['categories'])}")
    if found["open_issues"]:
        click.echo(f"open      issues: {_counted(found['open_issues'])}")
    if found["unread_messages"]:
        click.echo(f"unread    {found['unread_messages']} messages")
    if found["waiting_for_hub"]:
        click.echo(f"waiting   {found['waiting_for_hub']} for the hub; see: orchestra memory message --outbox")
    if found["sessions"]["total"]:
        click.echo(f"sessions  {found['sessions']['week']} this week, {found['sessions']['month']} in 30 days")
        for each in sessions:
            click.echo(f"          #{each.id} {ago(each.created_ms, now_ms=desk.now_ms)}: {clean(each.title)}")
    for number, each in enumerate(proven):
        click.echo(f"{'' if number else 'proven':<9} #{each.id} {clean(each.title)}")
    if len(found["projects"]) > 1:
        click.echo(f"projects  {_counted(found['projects'])}")
    fulltext = "on" if found["fulltext"] == "on" else "damaged and taken off; run: orchestra memory reindex"
    click.echo(f"full text {fulltext}")
    for number, line in enumerate(_meaning(found["meaning"], now_ms=desk.now_ms)):
        click.echo(f"{'' if number else 'meaning':<9} {line}")


def _meaning(found: dict[str, Any], *, now_ms: int) -> list[str]:
    """Return how vectors and index are, in words."""
    if found["backend"] == "off":
        return [f"off: {found['reason']}"]
    lines = [f"{found['vectors'].get(found['model'], 0):,} vectors of {found['model']}"]
    others = {name: count for name, count in found["vectors"].items() if name != found["model"]}
    if others:
        lines[0] += f"; of other models, not used: {_counted(others)}"
    if found["waiting"]:
        oldest = ago(found["oldest_waiting_ms"], now_ms=now_ms)
        lines.append(f"{found['waiting']:,} memories wait for their vector, the oldest since {oldest}")
    if found["failing"]:
        ids = ", ".join(f"#{each['id']}" for each in found["failing"][:5])
        lines.append(clean(f"no vector can be made for {ids}: {found['failing'][0]['error']}"))
    if found.get("fault"):
        lines.append(clean(f"no vectors can be made: {found['fault']}"))
    lines.append(_backend(found, now_ms=now_ms))
    if found.get("set_aside"):
        lines.append(f"set aside: {', '.join(found['set_aside'])}")
    lines.append(f"indexer: process {found['indexer']}" if found["indexer"] else "indexer: not running")
    return lines


def _backend(found: dict[str, Any], *, now_ms: int) -> str:
    if found["backend"] == "chromadb":
        behind = f"{found['behind']:,} vectors behind" if found["behind"] else "in step"
        return f"ChromaDB {found['chromadb']}: {behind}, checked {ago(found['checked_ms'], now_ms=now_ms)}"
    return f"searched exactly{': ' if found['reason'] else ''}{clean(found['reason'])}"


def _counted(counts: dict[str, int], *, is_plural: bool = False) -> str:
    found = [
        f"{count:,} {clean(name) or 'without'}{'s' if is_plural and count > 1 else ''}"
        for name, count in counts.items()
        if count
    ]
    return ", ".join(found) or "none"
