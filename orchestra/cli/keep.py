"""`orchestra memory export`, `import` and `purge`: what goes out, comes in, and is gone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from orchestra.errors import StorageFault
from orchestra.memory.words import Kind

from .desk import agreed, desk_at, memory_options, project_option
from .shared import FAILED, clean, print_json, say
from .tend import numbers

_MISFITS_SHOWN = 20


@click.command()
@click.argument("path", default="-", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
@memory_options
def export(path: Path, memory: Path | None, as_json: bool) -> None:
    """Write the whole memory as JSON Lines, to PATH or (-) standard output; `import` reads it back exactly."""
    from orchestra.memory.exchange import lines_out

    is_stdout = str(path) == "-"
    if is_stdout and as_json:
        raise click.UsageError("what goes to standard output is JSON already; name a file to use --json")
    with desk_at(memory) as desk:
        lines = lines_out(desk.store)
        count = -1  # the header
        if is_stdout:
            for line in lines:
                click.echo(line)
            return
        try:
            with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
                try:
                    for line in lines:
                        file.write(f"{line}\n")
                        count += 1
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(path)
                except BaseException:
                    Path(file.name).unlink()
                    raise
        except OSError as exc:
            raise StorageFault(f"{path} can't be written: {exc.strerror}; choose another file") from exc
    if as_json:
        print_json({"path": str(path), "memories": count})
    else:
        click.echo(f"{path} holds {memories_of(count)}")


@click.command(name="import")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@project_option
@memory_options
@click.pass_context
def import_(ctx: click.Context, path: Path, project: str | None, memory: Path | None, as_json: bool) -> None:
    """Take in an export of a memory, Beads' issues.jsonl, or the agents.db of the earlier system.

    Safe to repeat: what is here already stays, or is brought up to date. What does not fit is reported, and ends with
    exit code 1.
    """
    from orchestra.memory import exchange, source

    with desk_at(memory, project=project) as desk:
        form, records, report = source.read(path, project=desk.project)
        done = exchange.take_in(desk.store, records, report)
    if as_json:
        print_json(
            {
                "format": form,
                "added": done.added,
                "updated": done.updated,
                "unchanged": done.unchanged,
                "renumbered": {str(old): new for old, new in done.renumbered.items()},
                "misfits": done.misfits,
            }
        )
    else:
        click.echo(f"{form}: {done.added:,} added, {done.updated:,} updated, {done.unchanged:,} were here already")
        if done.renumbered:
            click.echo(f"{len(done.renumbered):,} have another number here, because theirs was taken")
        for misfit in done.misfits[:_MISFITS_SHOWN]:
            say(f"did not fit: {clean(misfit)}")
        if len(done.misfits) > _MISFITS_SHOWN:
            say(f"and {len(done.misfits) - _MISFITS_SHOWN} more; --json shows all of them")
    if done.misfits:
        ctx.exit(FAILED)


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--kind", type=click.Choice([each.value for each in Kind]), default=None, help="All of this kind.")
@click.option("--before", default=None, help="All that are older: 12h, 3d, 2w, 1m, 1y or 2026-11-24.")
@click.option("--all", "is_all", is_flag=True, help="In every project, not only in this one.")
@click.option("-y", "--yes", "is_yes", is_flag=True, help="Don't ask.")
@project_option
@memory_options
@click.pass_context
def purge(
    ctx: click.Context,
    ids: tuple[str, ...],
    kind: str | None,
    before: str | None,
    is_all: bool,
    is_yes: bool,
    project: str | None,
    memory: Path | None,
    as_json: bool,
) -> None:
    """Remove memories for good: these numbers, or by --kind and --before; without any, what was forgotten."""
    from orchestra.memory import notebook
    from orchestra.memory.when import since_ms

    if ids and (kind or before):
        raise click.UsageError("give numbers, or --kind and --before")
    with desk_at(memory, project=project) as desk:
        if ids:
            chosen = [entry.id for entry in notebook.get(desk.store, numbers(ids))]
        else:
            rows = desk.store.rows(
                "SELECT id FROM memory WHERE (? OR project = ?) AND (kind = ? OR ?) AND created_ms < ? "
                "AND (forgotten_ms IS NOT NULL OR ?)",
                is_all,
                desk.project,
                kind,
                kind is None,
                since_ms(before, now_ms=desk.now_ms) if before else desk.now_ms + 1,
                bool(kind or before),
            )
            chosen = [id for (id,) in rows]
        what = f"Remove {memories_of(len(chosen))} for good?"
        is_done = bool(chosen) and (is_yes or not as_json) and agreed(what, is_yes=is_yes)
        count = notebook.purge(desk.store, chosen) if is_done else 0
    if as_json:
        print_json({"is_done": is_done, "ids": chosen})
    elif not chosen:
        say("there is nothing to remove")
    elif is_done:
        click.echo(f"{count:,} removed")
    if not chosen or not (is_done or as_json):
        ctx.exit(FAILED)


def memories_of(count: int) -> str:
    return f"{count:,} {'memory' if count == 1 else 'memories'}"
