"""`orchestra channel`: list, create, publish, tail, forget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .group import Group
from .shared import (
    FAILED,
    clean,
    client_options,
    day_and_time,
    print_json,
    print_json_line,
    say,
    table,
    text_or_stdin,
    with_client,
)

if TYPE_CHECKING:
    from orchestra.aio import Client
    from orchestra.conversation import Message

_TAIL: Final = 10


@click.group(cls=Group)
def channel() -> None:
    """Publish to named logs and follow them.

    Every hub has announcements, context, issues and status. Write NAME or channel/NAME.
    """


@channel.command("list")
@client_options
def list_(state: Path | None, address: str | None, as_json: bool) -> None:
    """Show the channels, and your cursors in them."""
    found = with_client(state, address, lambda client: client.call("channel.list"))["channels"]
    if as_json:
        print_json(found)
        return
    rows = [
        [
            each["channel"],
            each["mode"],
            *(str(each[name]) for name in ("entries", "first_seq", "last_seq", "followers")),
            each["made_by"] or "every hub",
            " ".join(f"{name}:{seq}" for name, seq in each["cursors"].items()),
        ]
        for each in found
    ]
    table(["CHANNEL", "MODE", "ENTRIES", "FIRST", "LAST", "FOLLOWERS", "MADE BY", "YOUR CURSORS"], rows)


@channel.command()
@click.argument("name")
@click.option(
    "--mode",
    type=click.Choice(["append", "overwrite"]),
    default=None,
    show_default="append",
    help="Whether entries without a name are all kept, or the newest only.",
)
@client_options
def create(name: str, mode: str | None, state: Path | None, address: str | None, as_json: bool) -> None:
    """Make a channel. One that exists is left as it is."""
    params = {"channel": address_of(name), **({"mode": mode} if mode else {})}
    made = with_client(state, address, lambda client: client.call("channel.create", **params))
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['channel']} is there; its mode is {made['mode']}")


@channel.command()
@click.argument("name")
@click.argument("text", required=False)
@click.option("--entry", default=None, help="Name of the entry; it overwrites the earlier one of this name.")
@click.option(
    "--if-version",
    type=click.IntRange(0),
    default=None,
    help="Only if the newest entry of this name has this ID; 0: only if there is none.",
)
@client_options
def publish(
    name: str,
    text: str | None,
    entry: str | None,
    if_version: int | None,
    state: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Publish TEXT to the channel NAME; without TEXT (or with -) it is read from standard input."""
    to, body = address_of(name), text_or_stdin(text)

    async def publishing(client: Client) -> int:
        return await client.publish(to, body, entry=entry, if_version=if_version)

    seq = with_client(state, address, publishing)
    if as_json:
        print_json({"seq": seq, "channel": to, "entry": entry or ""})
    else:
        click.echo(f"entry {seq} of {to} is stored")


@channel.command()
@click.argument("name")
@click.option("--from-start", is_flag=True, help="Begin with the oldest entry that is kept.")
@click.option("--after", type=click.IntRange(0), default=None, metavar="ID", help="Begin after this entry.")
@click.option(
    "--cursor",
    default=None,
    help="Begin where this name left off, and keep the place in the hub; a new one begins now, "
    "or where --from-start or --after says.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=None, help="Begin with the newest so many (10).")
@click.option("--follow", "-f", is_flag=True, help="Stay, and show what comes until Ctrl-C.")
@client_options
@click.pass_context
def tail(
    ctx: click.Context,
    name: str,
    from_start: bool,
    after: int | None,
    cursor: str | None,
    limit: int | None,
    follow: bool,
    state: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Show the newest entries of the channel NAME, or those after a place.

    With --json it is a stream: one JSON document a line.
    """
    if from_start and after is not None:
        raise click.UsageError("--from-start and --after are two places; choose one")
    begin = 0 if from_start else after
    if limit is not None and (begin is not None or cursor):
        raise click.UsageError("--limit begins at the end of the channel; leave out the other place")
    show = _show_json if as_json else _show
    reading = _Reading(address_of(name), begin, cursor, limit or _TAIL)

    async def tailing(client: Client) -> int:
        count = 0
        if begin is None and cursor is None:
            count = await reading.newest(client, show)
        elif not follow:
            count = await reading.rest(client, show)
        if follow:
            await reading.follow(client, show)
        return count

    if not with_client(state, address, tailing) and not as_json:
        say("no entries")
        ctx.exit(FAILED)


@channel.command()
@click.argument("name")
@click.argument("cursor")
@client_options
def forget(name: str, cursor: str, state: Path | None, address: str | None, as_json: bool) -> None:
    """Drop a CURSOR of yours in the channel NAME."""
    params = {"channel": address_of(name), "cursor": cursor}
    with_client(state, address, lambda client: client.call("channel.forget", **params))
    if as_json:
        print_json(params)
    else:
        click.echo(f"cursor {clean(cursor)} of {params['channel']} is dropped")


Show = Callable[[dict[str, Any]], None]


class _Reading:
    """What `tail` reads, one way after the other: `after` is the place it has come to."""

    def __init__(self, channel: str, after: int | None, cursor: str | None, count: int) -> None:
        self._channel = channel
        self._after = after
        self._cursor = cursor
        self._count = count

    async def newest(self, client: Client, show: Show) -> int:
        """Show the newest entries; return how many."""
        page = (await client.call("channel.read", channel=self._channel, newest=self._count))["entries"]
        for facts in page:
            show(facts)
        self._after = page[-1]["seq"] if page else 0
        return len(page)

    async def rest(self, client: Client, show: Show) -> int:
        """Show what is there from the place on; return how many."""
        place = self._place()
        count = 0
        while True:
            read = await client.call("channel.read", channel=self._channel, **place)
            if not count:
                _tell_missed(read["missed"])
            if not read["entries"]:
                return count
            for facts in read["entries"]:
                show(facts)
            count += len(read["entries"])
            place = {"after": read["entries"][-1]["seq"]}
            if self._cursor is not None:
                await client.call("channel.seen", channel=self._channel, seq=place["after"], cursor=self._cursor)

    async def follow(self, client: Client, show: Show) -> None:
        """Show what is there and what comes."""
        async with client.subscribe(self._channel, after=self._after, cursor=self._cursor) as entries:
            missed = 0
            async for entry in entries:
                if entries.missed > missed:
                    missed = entries.missed
                    _tell_missed(missed)
                show(_facts(entry))

    def _place(self) -> dict[str, Any]:
        found = {"after": self._after, "cursor": self._cursor}
        return {name: value for name, value in found.items() if value is not None}


def address_of(name: str) -> str:
    return name if "/" in name else f"channel/{name}"


def _facts(entry: Message) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "from": entry.sender,
        "sent_ms": entry.time_ms,
        "entry": entry.entry,
        "bytes": len(entry.body),
        "body": entry.body,
        "removed": entry.is_removed,
    }


def _show_json(facts: dict[str, Any]) -> None:
    print_json_line({name: value for name, value in facts.items() if name != "body"} | {"text": facts["body"]})


def _show(facts: dict[str, Any]) -> None:
    when = day_and_time(facts["sent_ms"])
    named = f"  [{clean(facts['entry'])}]{' removed' if facts['removed'] else ''}" if facts["entry"] else ""
    click.echo(click.style(f"{facts['seq']}  {when}  {facts['from']}{named}", bold=True))
    for line in clean(facts["body"].decode("utf-8", "replace")).splitlines():
        click.echo(f"    {line}")


def _tell_missed(missed: int) -> None:
    if missed:
        say(f"entries up to {missed} are not kept any more")
