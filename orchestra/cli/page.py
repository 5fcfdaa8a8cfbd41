"""`orchestra page`: the way into the live page."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path

import click

from .shared import FAILED, client_options, fail, print_json, say, with_client


@click.command()
@click.option("--open", "is_opened", is_flag=True, help="Open it in your browser.")
@client_options
def page(is_opened: bool, state: Path | None, address: str | None, as_json: bool) -> None:
    """Print a link that signs you in at the live page, once."""
    made = with_client(state, address, lambda client: client.call("token.code"))
    if not made["url"]:
        fail("this hub serves no page; start it without --no-gateway, on a port that is free", FAILED)
    if as_json:
        print_json({"url": made["url"], "address": made["address"], "expires_ms": made["expires_ms"]})
        return
    click.echo(made["url"])
    until = time.strftime("%H:%M", time.localtime(made["expires_ms"] / 1000))
    say(f"it signs {made['address']} in, once, until {until}")
    if is_opened and not webbrowser.open(made["url"]):
        fail("no browser was found here; open the link yourself", FAILED)
