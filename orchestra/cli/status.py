"""`orchestra status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from orchestra.limits import STATUS_ROWS_MAX

from .shared import ago, client_options, print_json, with_client

_SHOWN: Final = 8  # of the lines that wait


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
    ended = ", ".join(f"{count:,} {state}" for state, count in sorted(stored["tasks"].items()))
    if sum(stored["tasks"].values()) >= STATUS_ROWS_MAX:
        ended += f" (of the newest {STATUS_ROWS_MAX:,})"
    waiting, mail = _fullest(tasks["waiting"], found), _fullest(found["mailboxes"], found)
    lines = [
        f"hub       {found['version']}, process {found['pid']}, "
        f"started {ago(found['started_ms'], now_ms=found['now_ms'])}, durability {found['durability']}",
        *(f"          {endpoint}" for endpoint in (*found["endpoints"], found.get("gateway")) if endpoint),
        f"online    {peers}",
        f"tasks     {ended or 'none yet'}",
    ]
    if came := found.get("came"):  # a hub that started before an upgrade does not say it
        lines.append(f"came      {_some(came['by_push'])} by push, {came['by_file']:,} by file in the last hour")
    if waiting:
        lines.append(f"waiting   tasks: {waiting}")
    if mail:
        lines.append(f"unread    messages: {mail}")
    lines += [
        f"stored    {stored['messages']:,} in all ({stored['unread']:,} unread, "
        f"{stored['entries']:,} in channels, {_some(stored['dead'])} dead)",
        f"size      {_mib(stored['used_bytes'])} of data, database {_mib(stored['database_bytes'])}, "
        f"write-ahead log {_mib(stored['wal_bytes'])}",
        *_kept(found["retention"]),
    ]
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
            "crowded_out",
            "turns_undone",
        )
        if counts.get(name)
    }
    if trouble:
        lines.append("survived  " + ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in trouble.items()))
    return lines


def _fullest(counts: dict[str, int], found: dict[str, Any]) -> str:
    """Return the longest lines of those that wait, the longest first, and since when their oldest waits."""
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    oldest, now_ms = found["oldest"], found["now_ms"]
    return ", ".join(
        f"{count:,} for {to}" + (f" (oldest {ago(oldest[to], now_ms=now_ms)})" if to in oldest else "")
        for to, count in shown
    )


def _kept(retention: dict[str, Any]) -> list[str]:
    removed = ", ".join(
        f"{retention['removed'][name]:,} {text}"
        for name, text in (
            ("messages", "messages"),
            ("tasks", "tasks"),
            ("entries", "entries"),
            ("dead", "dead letters"),
        )
        if retention["removed"].get(name)
    )
    return [
        f"kept      {retention['days']} days, dead letters {retention['dead_days']} days, "
        f"{retention['channel_entries']:,} entries of a channel, {retention['mib']:,} MiB",
        *([f"removed   {removed} since the start"] if removed else []),
    ]


def _some(count: int) -> str:
    return f"{count:,} or more" if count >= STATUS_ROWS_MAX else f"{count:,}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
