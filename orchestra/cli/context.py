"""`orchestra context`: what everybody should know, under names, with versions."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestra.errors import NotFound

from .group import Group
from .shared import (
    FAILED,
    ago,
    clean,
    client_options,
    fail,
    preview,
    print_json,
    say,
    table,
    text_or_stdin,
    with_client,
)

if TYPE_CHECKING:
    from orchestra.aio import Client

_PREVIEW_BYTES = 400


@click.group(cls=Group)
def context() -> None:
    """Read and set what everybody should know: mission briefs, agreements, plans.

    Each name holds one value, its newest; they are the named entries of channel/context.
    """


@context.command()
@click.argument("name")
@client_options
def get(name: str, state: Path | None, address: str | None, as_json: bool) -> None:
    """Print the value of NAME on standard output, and its version on standard error."""
    try:
        found = with_client(state, address, lambda client: client.context_get(name))
    except NotFound:
        fail(f"nothing is set under {clean(name)!r}; see: orchestra context list", FAILED)
    if as_json:
        facts = {"name": name, "version": found.version, "from": found.sender, "set_ms": found.set_ms}
        print_json({**facts, "value": found.value})
        return
    sys.stdout.buffer.write(clean(found.text).encode() if sys.stdout.isatty() else found.value)
    if sys.stdout.isatty() and not found.value.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    say(f"version {found.version}, set by {found.sender} {ago(found.set_ms, now_ms=_now_ms())}")


@context.command("set")
@click.argument("name")
@click.argument("value", required=False)
@click.option(
    "--if-version",
    type=click.IntRange(0),
    default=None,
    help="Only if this is the newest version; 0: only if there is none.",
)
@client_options
def set_(
    name: str, value: str | None, if_version: int | None, state: Path | None, address: str | None, as_json: bool
) -> None:
    """Set NAME to VALUE; without VALUE (or with -) it is read from standard input."""
    body = text_or_stdin(value)
    version = with_client(state, address, lambda client: client.context_set(name, body, if_version=if_version))
    if as_json:
        print_json({"name": name, "version": version})
    else:
        click.echo(f"{clean(name)} is version {version}")


@context.command()
@click.argument("name")
@click.option("--if-version", type=click.IntRange(1), default=None, help="Only if this is the newest version.")
@client_options
def drop(name: str, if_version: int | None, state: Path | None, address: str | None, as_json: bool) -> None:
    """Remove NAME; who follows the context is told."""
    with_client(state, address, lambda client: client.context_drop(name, if_version=if_version))
    if as_json:
        print_json({"name": name})
    else:
        click.echo(f"{clean(name)} is dropped")


@context.command("list")
@client_options
@click.pass_context
def list_(ctx: click.Context, state: Path | None, address: str | None, as_json: bool) -> None:
    """Show every name with its version, who set it, and how its value begins."""
    found = with_client(state, address, _all)
    if as_json:
        names = {"entry": "name", "seq": "version", "from": "from", "sent_ms": "set_ms", "bytes": "bytes"}
        print_json([{ours: each[theirs] for theirs, ours in names.items()} for each in found])
    elif found:
        rows = [
            [
                each["entry"],
                str(each["seq"]),
                each["from"],
                ago(each["sent_ms"], now_ms=_now_ms()),
                preview(each["body"].decode("utf-8", "replace"), 80),
            ]
            for each in found
        ]
        table(["NAME", "VERSION", "FROM", "SET", "VALUE"], rows)
    else:
        say("the context is empty; set something with: orchestra context set NAME VALUE")
        ctx.exit(FAILED)


async def _all(client: Client) -> list[dict[str, Any]]:
    from orchestra.aio import CONTEXT

    found: list[dict[str, Any]] = []
    after = 0
    while True:
        page = (await client.call("channel.read", channel=CONTEXT, after=after, cut_bytes=_PREVIEW_BYTES))["entries"]
        if not page:
            named = (each for each in found if each["entry"] and not each["removed"])
            return sorted(named, key=lambda each: str(each["entry"]))
        after = page[-1]["seq"]
        found += page


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
