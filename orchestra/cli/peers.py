"""`orchestra peers`, `orchestra away` and `orchestra online`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from orchestra.errors import UnknownRecipient

from .shared import (
    FAILED,
    ago,
    clean,
    client_options,
    console,
    draw,
    print_json,
    print_json_line,
    say,
    table,
    with_client,
)

if TYPE_CHECKING:
    from rich.table import Table

    from orchestra.aio import Client
    from orchestra.conversation import Presence

_REDRAWS_A_SECOND: Final = 4.0
_WATCH_COLUMNS: Final = ["PEER", "STATE", "SINCE", "SESSIONS", "HOST"]


@click.command()
@click.argument("who", metavar="[PEER]", required=False)
@click.option("--online", is_flag=True, help="Only those that are connected.")
@click.option("--watch", is_flag=True, help="Stay, and show who comes and goes until Ctrl-C.")
@client_options
@click.pass_context
def peers(
    ctx: click.Context,
    who: str | None,
    online: bool,
    watch: bool,
    state: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Show who is known, who is connected and what they do; of one PEER also its sessions."""
    if who is not None:
        if watch or online:
            raise click.UsageError("--watch and --online are for all peers; leave PEER away")
        _show_one(with_client(state, address, lambda client: _peer(client, who)), as_json=as_json)
        return
    if watch:
        with_client(state, address, lambda client: _watch(client, as_json=as_json, online=online))
        return
    found = with_client(state, address, _all_peers)
    shown = [peer for peer in found if peer["sessions"] or not online]
    if as_json:
        print_json(shown)
    elif shown:
        now_ms = _now_ms()
        table(["PEER", "STATE", "SINCE", "TASKS", "SERVES", "HOST", "MAY"], [_row(peer, now_ms) for peer in shown])
    else:
        say("nobody is connected")
        ctx.exit(FAILED)


_for_option = click.option(
    "--for", "whom", metavar="ADDRESS", default=None, show_default="yourself", help="Another peer; for operators."
)


@click.command()
@click.argument("text", required=False, default="")
@_for_option
@client_options
def away(text: str, whom: str | None, state: Path | None, address: str | None, as_json: bool) -> None:
    """Say that you are away, and with TEXT why; it stays until `orchestra online`."""
    _set("away", text, whom, state, address, as_json)


@click.command()
@_for_option
@client_options
def online(whom: str | None, state: Path | None, address: str | None, as_json: bool) -> None:
    """Say that you are back."""
    _set("online", "", whom, state, address, as_json)


def _set(presence: str, text: str, whom: str | None, state: Path | None, address: str | None, as_json: bool) -> None:
    params = {"state": presence, **({"text": text} if text else {}), **({"address": whom} if whom else {})}
    found = with_client(state, address, lambda client: client.call("presence.set", **params))
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['address']} is {_away(text) if presence == 'away' else 'not away any more'}")


async def _all_peers(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = await client.call("peers", **({"after": found[-1]["address"]} if found else {}))
        found += page["peers"]
        if not page["is_cut"]:
            return found


async def _peer(client: Client, who: str) -> dict[str, Any]:
    for found in await _all_peers(client):
        if found["address"] == who:
            return found
    raise UnknownRecipient(f"no peer {who} is known here; `orchestra peers` lists those that are")


def _show_one(peer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(peer)
        return
    now_ms = _now_ms()
    seen = "" if peer["sessions"] or peer["since_ms"] is None else f", last seen {ago(peer['seen_ms'], now_ms=now_ms)}"
    lines = [
        ("peer", f"{peer['address']}  generation {peer['generation']}"),
        ("state", f"{_state(peer['state'], peer['away_text'])}, since {_since(peer['since_ms'], now_ms)}{seen}"),
        ("may", f"{' '.join(peer['grants']) or 'nothing'}{'  (what its kind may)' if peer['is_default'] else ''}"),
        ("mail", f"{peer['unread']} unread, {peer['waiting']} of them not delivered"),
    ]
    if peer["slots"]:
        lines.append(("tasks", f"{peer['busy']} of {peer['slots']}"))
    for name, value in lines:
        click.echo(f"{name:<10}{clean(value)}")
    if peer["sessions"]:
        click.echo()
        columns = ["SESSION", "SINCE", "HOST", "PID", "PROGRAM", "SERVES", "TASKS"]
        table(columns, [_session_row(session, now_ms) for session in peer["sessions"]])


def _session_row(session: dict[str, Any], now_ms: int) -> list[str]:
    return [
        str(session["number"]),
        ago(session["since_ms"], now_ms=now_ms),
        *(str(session.get(name, "")) for name in ("host", "pid", "program")),
        " ".join(session["queues"]),
        " ".join(map(str, session["tasks"])),
    ]


async def _watch(client: Client, *, as_json: bool, online: bool) -> None:
    """Show presence as it changes: a live table on a terminal, a line for each change where it is piped."""
    if as_json or not sys.stdout.isatty():
        await _watch_lines(client, as_json=as_json, online=online)
        return
    from rich.live import Live

    known: dict[str, Presence] = {}

    def drawn() -> Table:
        shown = [each for each in sorted(known.copy().values()) if each.session_count or not online]
        return draw(_WATCH_COLUMNS, [_watched_row(each) for each in shown])

    with Live(console=console(), get_renderable=drawn, refresh_per_second=_REDRAWS_A_SECOND):
        async for presence in client.watch_presence():
            known[presence.address] = presence


async def _watch_lines(client: Client, *, as_json: bool, online: bool) -> None:
    if not as_json:
        click.echo("\t".join(_WATCH_COLUMNS))
    shown: set[str] = set()
    async for presence in client.watch_presence():
        if online and not presence.session_count and presence.address not in shown:
            continue
        (shown.add if presence.session_count else shown.discard)(presence.address)
        if as_json:
            print_json_line(presence._asdict())
        else:
            click.echo("\t".join(clean(cell) for cell in _watched_row(presence)))


def _row(peer: dict[str, Any], now_ms: int) -> list[str]:
    sessions = peer["sessions"]
    queues = sorted({queue for session in sessions for queue in session["queues"]})
    return [
        peer["address"],
        _state(peer["state"], peer["away_text"]),
        _since(peer["since_ms"], now_ms),
        f"{peer['busy']} of {peer['slots']}" if peer["slots"] else "",
        " ".join(queues),
        " ".join(peer["hosts"]),
        "as its kind" if peer["is_default"] else " ".join(peer["grants"]) or "nothing",
    ]


def _watched_row(presence: Presence) -> list[str]:
    return [
        presence.address,
        _state(presence.state, presence.away_text),
        _since(presence.since_ms, _now_ms()),
        str(presence.session_count),
        " ".join(presence.hosts),
    ]


def _state(state: str, away_text: str | None) -> str:
    if away_text is None:
        return state
    return _away(away_text) if state == "away" else f"{state}, {_away(away_text)}"


def _away(text: str) -> str:
    return f"away: {text}" if text else "away"


def _since(since_ms: int | None, now_ms: int) -> str:
    return "never" if since_ms is None else ago(since_ms, now_ms=now_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
