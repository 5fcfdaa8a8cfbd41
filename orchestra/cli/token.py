"""`orchestra token`: what lets browsers and other clients without a key into the gateway."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestra.address import parse_peer
from orchestra.errors import NotFound
from orchestra.limits import TOKEN_S_MAX, TOKEN_URL_S_MAX

from .group import Group
from .shared import FAILED, Duration, ago, client_options, print_json, say, table, time_and_day, with_client

if TYPE_CHECKING:
    from orchestra.aio import Client

_PREFIX_CHARS_MIN = 4


@click.group(cls=Group)
def token() -> None:
    """Make and revoke tokens: they let browsers in."""


@token.command()
@click.option(
    "--for", "whom", metavar="PEER", default=None, show_default="yourself", help="Another peer; for administrators."
)
@click.option(
    "--ttl",
    type=Duration(max_s=TOKEN_S_MAX),
    default="8h",
    show_default=True,
    help="When it ends, and with it what it opened: 90s, 15m, 8h, 2d.",
)
@click.option(
    "--grant",
    "grants",
    multiple=True,
    show_default="all that its peer may",
    help="All that it may do of what its peer may; may be repeated. See: orchestra keys grant --help",
)
@click.option(
    "--url",
    "is_url",
    is_flag=True,
    help=f"For a URL (?token=…): it opens connections from other machines for {TOKEN_URL_S_MAX / 60:.0f} minutes only.",
)
@client_options
def create(
    whom: str | None,
    ttl: float,
    grants: tuple[str, ...],
    is_url: bool,
    state: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Print a new token. Who has it is its peer until it ends: keep it as you would a password."""
    asked: dict[str, Any] = {
        "ttl_ms": int(ttl * 1000),
        "url": is_url,
        **({"address": str(parse_peer(whom))} if whom else {}),
        **({"grants": list(grants)} if grants else {}),
    }
    made = with_client(state, address, lambda client: client.call("token.create", **asked))
    if as_json:
        print_json(made)
        return
    click.echo(made["token"])
    opens = f", opens connections from other machines until {time_and_day(made['expires_ms'])}" if is_url else ""
    say(f"token {made['id']} of {made['address']} ends {time_and_day(made['ends_ms'])}{opens}")
    say(f"it may: {' '.join(made['grants']) or 'nothing'}")
    say(f"take it back with: orchestra token revoke {made['id']}")


@token.command()
@client_options
def code(state: Path | None, address: str | None, as_json: bool) -> None:
    """Print a code that signs you in at the gateway's page, once."""
    made = with_client(state, address, lambda client: client.call("token.code"))
    if as_json:
        print_json(made)
        return
    click.echo(made["url"] or made["code"])
    say(f"signs {made['address']} in, once, until {time_and_day(made['expires_ms'])}")


@token.command("list")
@click.option("--for", "whom", metavar="PEER", default=None, show_default="all you may see", help="Only those of PEER.")
@client_options
@click.pass_context
def list_(ctx: click.Context, whom: str | None, state: Path | None, address: str | None, as_json: bool) -> None:
    """Show the tokens that have not ended: yours, or everybody's for administrators."""
    asked = {"address": str(parse_peer(whom))} if whom else {}
    found = with_client(state, address, lambda client: client.call("token.list", **asked))
    if as_json:
        print_json(found)
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [
        [
            each["id"],
            each["address"],
            "as its peer" if each["grants"] is None else " ".join(each["grants"]) or "nothing",
            ago(each["made_ms"], now_ms=now_ms),
            each["made_by"],
            _standing(each),
        ]
        for each in found["tokens"]
    ]
    if rows:
        table(["TOKEN", "PEER", "MAY", "MADE", "BY", "STATE"], rows)
    else:
        say("no token is in use; make one with: orchestra token create")
        ctx.exit(FAILED)


@token.command()
@click.argument("token_id", metavar="[TOKEN]", required=False)
@click.option("--all", "whom", metavar="PEER", default=None, help="All tokens of PEER until now, instead of one.")
@client_options
def revoke(token_id: str | None, whom: str | None, state: Path | None, address: str | None, as_json: bool) -> None:
    """Let TOKEN (its id, as `token list` shows it) in no more, and end what it opened, at once."""
    if (token_id is None) is (whom is None):
        raise click.UsageError("name one TOKEN, or --all and a PEER")

    async def revoking(client: Client) -> dict[str, Any]:
        if whom is not None:
            return await client.call("token.revoke", address=str(parse_peer(whom)))
        found = await _whole(client, token_id or "")
        return {"id": found} | await client.call("token.revoke", id=found)

    done = with_client(state, address, revoking)
    if as_json:
        print_json(done)
    else:
        click.echo(f"token {done['id']} of {done['address']} revoked" if token_id else f"all of {whom} revoked")


async def _whole(client: Client, start: str) -> str:
    """Return the id of the one token in use whose id begins so."""
    tokens = (await client.call("token.list"))["tokens"]
    found = [each["id"] for each in tokens if each["id"].startswith(start) and each["revoked_ms"] is None]
    if len(start) < _PREFIX_CHARS_MIN or len(found) != 1:
        shown = f"{start[:8]}…" if len(start) > 16 else start  # somebody may have given the token itself
        raise NotFound(f"{shown!r} is not the id of one token in use; see: orchestra token list")
    return str(found[0])


def _standing(token: dict[str, Any]) -> str:
    if token["revoked_ms"] is not None:
        return "revoked"
    online = f"{token['sessions']} online, " if token["sessions"] else ""
    return f"{online}ends {time_and_day(token['ends_ms'])}"
