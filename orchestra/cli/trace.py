"""`orchestra trace`: the story of one message or task."""

from __future__ import annotations

from pathlib import Path

import click

from .shared import client_options, day_and_time, print_json, table, with_client


@click.command()
@click.argument("seq", metavar="ID", type=click.IntRange(1))
@client_options
def trace(seq: int, state: Path | None, address: str | None, as_json: bool) -> None:
    """Tell the story of a message or task line by line; the last line says why it is not over yet."""
    found = with_client(state, address, lambda client: client.call("trace", seq=seq))
    if as_json:
        print_json(found)
        return
    rows = [[_time(line["at_ms"]), line["who"], line["what"]] for line in found["lines"]]
    table(["WHEN", "WHO", "WHAT"], rows)


def _time(ms: int) -> str:
    return f"{day_and_time(ms)}.{ms % 1000:03}"
