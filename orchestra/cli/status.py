"""`orchestra status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .shared import ago, client_options, print_json, with_client


@click.command()
@client_options
def status(state: Path | None, address: str | None, as_json: bool) -> None:
    """Show the hub: what runs, what waits, how much is stored."""
    found = with_client(state, address, lambda client: client.call("status"))
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(_lines(found)))


def _lines(found: dict[str, Any]) -> list[str]:
    stored, tasks, counts = found["stored"], found["tasks"], found["counts"]
    peers = ", ".join(
        f"{each['online']} of {each['known']} {kind if each['known'] == 1 else plural}"
        + (f" ({each['away']} away)" if each["away"] else "")
        for kind, plural in (("agent", "agents"), ("matrix", "matrices"), ("operator", "operators"))
        if (each := found["peers"][kind])["known"]
    )
    ended = ", ".join(f"{count} {state}" for state, count in sorted(stored["tasks"].items()))
    waiting = ", ".join(f"{count} for {to}" for to, count in sorted(tasks["waiting"].items()))
    mail = ", ".join(f"{count} for {to}" for to, count in sorted(found["mailboxes"].items())[:8])
    lines = [
        f"hub       {found['version']}, process {found['pid']}, "
        f"started {ago(found['started_ms'], now_ms=found['now_ms'])}, durability {found['durability']}",
        *(f"          {endpoint}" for endpoint in found["endpoints"]),
        f"online    {peers}",
        f"tasks     {ended or 'none yet'}",
    ]
    if waiting:
        lines.append(f"waiting   tasks: {waiting}")
    if mail:
        lines.append(f"unread    messages: {mail}")
    lines.append(
        f"stored    {stored['last_seq']:,} message{'' if stored['last_seq'] == 1 else 's'} and tasks in "
        f"{(stored['database_bytes'] + stored['wal_bytes']) / 2**20:.1f} MiB, {stored['dead']} dead"
    )
    trouble = {
        name: counts[name]
        for name in (
            "refused",
            "malformed",
            "redelivered",
            "lost_leases",
            "silent",
            "slow_reader",
            "keys_refused",
            "turns_undone",
        )
        if counts.get(name)
    }
    if trouble:
        lines.append("survived  " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in trouble.items()))
    return lines
