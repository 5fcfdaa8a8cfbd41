"""`orchestra audit`: who let whom in, and proof that nothing of it was changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestra.audit import FIRST, Entry, first_break
from orchestra.errors import BadOption

from .group import Group
from .shared import FAILED, client_options, day_and_time, fail, print_json, table, with_client

if TYPE_CHECKING:
    from orchestra.aio import Client

_PAGE = 1000


@click.group(cls=Group)
def audit() -> None:
    """Show and verify the log of every decision about keys."""


@audit.command()
@click.option("--limit", type=click.IntRange(1, _PAGE), default=20, show_default=True, help="How many at most.")
@client_options
def tail(limit: int, state: Path | None, address: str | None, as_json: bool) -> None:
    """Show the newest entries, the oldest of them first."""

    async def reading(client: Client) -> list[Entry]:
        last_n = (await client.call("audit.list", count=1))["last_n"]
        return _entries(await client.call("audit.list", after=max(0, last_n - limit), count=limit))

    entries = with_client(state, address, reading)
    if as_json:
        print_json([_facts(entry) for entry in entries])
        return
    rows = [
        [str(entry.n), day_and_time(entry.at_ms), entry.actor or "-", entry.action, entry.subject or "-", entry.detail]
        for entry in entries
    ]
    table(["N", "AT", "BY", "WHAT", "PEER", "DETAIL"], rows)


@audit.command()
@click.option(
    "--expect",
    default=None,
    metavar="N:HASH",
    help="An earlier answer of this command: that entry must still be there, unchanged.",
)
@client_options
def verify(expect: str | None, state: Path | None, address: str | None, as_json: bool) -> None:
    """Check that no entry was changed, inserted or removed.

    Keep the answer somewhere else: only a later --expect can tell that the end of the log was cut off.
    """
    entries = with_client(state, address, _all)
    broken = first_break(entries)
    if broken is not None:
        fail(f"the audit log was changed: entry {broken} does not follow from the one before it", FAILED)
    if expect is not None:
        number, _, digest = expect.partition(":")
        if not number.isdigit() or not digest:
            raise BadOption("--expect must be N:HASH, as an earlier `orchestra audit verify` printed it")
        found = next((entry for entry in entries if entry.n == int(number)), None)
        if found is None or not found.digest.hex().startswith(digest.lower()):
            fail(f"the audit log was changed: entry {number} is {'gone' if found is None else 'another'}", FAILED)
    last = entries[-1] if entries else None
    mark = f"{last.n}:{last.digest.hex()}" if last else f"0:{FIRST.hex()}"
    if as_json:
        print_json({"entries": len(entries), "mark": mark})
    else:
        click.echo(f"{len(entries)} entries, none changed; {mark}")


@audit.command()
@client_options
def export(state: Path | None, address: str | None, as_json: bool) -> None:
    """Print the whole log, one JSON object per line."""
    for entry in with_client(state, address, _all):
        click.echo(json.dumps(_facts(entry), ensure_ascii=False))


async def _all(client: Client) -> list[Entry]:
    found: list[Entry] = []
    while page := _entries(await client.call("audit.list", after=found[-1].n if found else 0, count=_PAGE)):
        found += page
    return found


def _entries(reply: dict[str, Any]) -> list[Entry]:
    return [Entry(**entry) for entry in reply["entries"]]


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "n": entry.n,
        "at_ms": entry.at_ms,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
        "digest": entry.digest.hex(),
    }
