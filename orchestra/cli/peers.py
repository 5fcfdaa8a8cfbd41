"""`orchestra peers`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from .shared import FAILED, ago, client_options, print_json, say, table, with_client


@click.command()
@click.option("--online", is_flag=True, help="Only those that are connected.")
@client_options
@click.pass_context
def peers(ctx: click.Context, online: bool, state: Path | None, address: str | None, as_json: bool) -> None:
    """Show who is known, who is connected and what they do."""
    found = with_client(state, address, lambda client: client.call("peers"))["peers"]
    shown = [peer for peer in found if peer["sessions"] or not online]
    if as_json:
        print_json(shown)
    elif shown:
        now_ms = time.time_ns() // 1_000_000
        table(["PEER", "STATE", "SINCE", "TASKS", "SERVES", "HOST"], [_row(peer, now_ms) for peer in shown])
    else:
        say("nobody is connected")
        ctx.exit(FAILED)


def _row(peer: dict[str, Any], now_ms: int) -> list[str]:
    sessions = peer["sessions"]
    slots = sum(session["slots"] for session in sessions)
    busy = sum(len(session["tasks"]) for session in sessions)
    since = min((session["since_ms"] for session in sessions), default=peer["seen_ms"])
    queues = sorted({queue for session in sessions for queue in session["queues"]})
    hosts = sorted({session.get("host", "") for session in sessions})
    return [
        peer["address"],
        "online" if sessions else "offline",
        ago(since, now_ms=now_ms) if peer["generation"] else "never",
        f"{busy} of {slots}" if slots else "",
        " ".join(queues),
        " ".join(hosts),
    ]
