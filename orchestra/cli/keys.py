"""`orchestra invite`, `orchestra join` and `orchestra keys`."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestra.address import Address, Kind, parse_peer
from orchestra.errors import NotFound
from orchestra.limits import INVITATION_S_MAX, INVITATION_USES_MAX, KEY_OVERLAP_S_MAX
from orchestra.state import StateFolder, default_folder

from .group import Group
from .shared import (
    CONFLICT,
    FAILED,
    Duration,
    ago,
    client_options,
    fail,
    print_json,
    say,
    state_option,
    table,
    time_and_day,
    with_client,
)

if TYPE_CHECKING:
    from orchestra.aio import Client

_OVERLAP_S = 3600.0
_HUB_OVERLAP_S = 7 * 86_400.0
_WILDCARDS = ("0.0.0.0", "[::]", "*")  # noqa: S104
_LOOPBACK = ("127.", "[::1]", "localhost")


@click.command()
@click.argument("peer", metavar="PEER")
@click.option(
    "--ttl",
    type=Duration(max_s=INVITATION_S_MAX),
    default="15m",
    show_default=True,
    help="How long the code can be used: 90s, 15m, 8h, 2d.",
)
@click.option(
    "--uses",
    type=click.IntRange(1, INVITATION_USES_MAX),
    default=1,
    show_default=True,
    help="How many keys it may enrol, all for the same PEER.",
)
@click.option(
    "--grant",
    "grants",
    multiple=True,
    show_default="what its kind may",
    help="What it may do, instead of what its kind may; may be repeated. See: orchestra keys grant --help",
)
@click.option(
    "--at", metavar="HOST[:PORT]", default=None, show_default="as the hub listens", help="Where others reach the hub."
)
@client_options
def invite(
    peer: str,
    ttl: float,
    uses: int,
    grants: tuple[str, ...],
    at: str | None,
    state: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Print a code that lets one new PEER in: agent/NAME, matrix/NAME or operator/NAME.

    Give it to `orchestra join` on the other machine. It holds a one-time secret: send it as you would a password.
    """
    from orchestra.invitation import Invitation
    from orchestra.keys import make_key_pair

    who, once = parse_peer(peer), make_key_pair()

    async def inviting(client: Client) -> dict[str, Any]:
        made = await client.call(
            "invite", address=str(who), public_key=once.public, ttl_ms=int(ttl * 1000), uses=uses, grants=list(grants)
        )
        return made | {"listens": (await client.call("status"))["endpoints"]}

    made = with_client(state, address, inviting)
    endpoints = _reachable(made["listens"], at)
    card = StateFolder(state or default_folder()).read_card()
    code = Invitation(who, replace(card, endpoints=endpoints), once.secret).encode()
    if as_json:
        print_json({"code": code, "peer": str(who), "expires_ms": made["expires_ms"], "endpoints": list(endpoints)})
        return
    click.echo(code)
    until = time_and_day(made["expires_ms"])
    say(f"lets {who} in {'once' if uses == 1 else f'{uses} times'} until {until}, at {', '.join(endpoints)}")
    say("on the other machine: orchestra join CODE   (or pipe the code in: orchestra join -)")
    if who.kind is Kind.AGENT and grants and not any(fnmatchcase(f"serve:{who}", grant) for grant in grants):
        say(f"it takes no tasks with these grants; to let it work, add: --grant serve:{who}")
    if all(_host(endpoint).startswith(_LOOPBACK) for endpoint in endpoints):
        say("the hub listens on this machine only; start it with --host 0.0.0.0 to let other machines in")


def _reachable(listens: list[str], at: str | None) -> tuple[str, ...]:
    """Return where another machine should look for the hub."""
    found: list[str] = []
    for endpoint in listens:
        if not endpoint.startswith("tcp://"):
            continue
        host, port = _host(endpoint), endpoint.rpartition(":")[2]
        if at is not None:
            named, colon, number = at.rpartition(":")
            host, port = (named, number) if colon and number.isdigit() and not at.endswith("]") else (at, port)
        elif host in _WILDCARDS:
            host = socket.getfqdn()
        found.append(f"tcp://{host}:{port}")
    return tuple(found)


def _host(endpoint: str) -> str:
    return endpoint.removeprefix("tcp://").rpartition(":")[0]


@click.command()
@click.argument("code", envvar="ORCHESTRA_INVITATION", required=False)
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def join(code: str | None, state: Path | None, as_json: bool) -> None:
    """Join a hub with the CODE of an invitation: make a key here, enrol it, and prove the connection.

    Without CODE (or with -) it is read from standard input, so that it does not show in a list of processes.
    [env: ORCHESTRA_INVITATION]
    """
    from orchestra.enrol import join as enter
    from orchestra.invitation import decode_invitation
    from orchestra.keys import fingerprint

    if code in (None, "-"):
        if sys.stdin.isatty():
            say("paste the code of the invitation, then Enter:")
        code = sys.stdin.readline()
    invitation = decode_invitation(code or "")
    folder = StateFolder(state or default_folder())
    who, mine, grants = asyncio.run(enter(folder, invitation))
    clone = _settle(who, folder)
    if as_json:
        endpoints = list(invitation.card.endpoints)
        facts = {
            "address": str(who),
            "fingerprint": mine,
            "grants": list(grants),
            "state": str(folder.path),
            "endpoints": endpoints,
            "clone": clone,
        }
        print_json(facts)
        return
    click.echo(f"{who} is in: connected to {', '.join(invitation.card.endpoints)}")
    say(f"it may: {' '.join(grants) or 'nothing'}")
    say(f"its key is {folder.key_of(who)}: {mine}, the hub's: {fingerprint(folder.read_card().public_key)}")
    where = f" --state {folder.path}" if state else ""
    as_who = "" if folder.default_peer() == who else f" --as {who}"
    following = {
        Kind.AGENT: f"orchestra-agent {who.name}{_queues(grants)}{where} -- claude -p",
        Kind.MATRIX: f"orchestra memory message --inbox{where}" if clone else f"orchestra inbox{as_who}{where}",
        Kind.OPERATOR: f"orchestra status{as_who}{where}",
    }
    if clone:
        say(f"the clone {clone} is {who} from now on")
    say(f"next: {following[who.kind]}")


def _queues(grants: tuple[str, ...]) -> str:
    """Return the options that let an agent serve what it may: the queues it was granted by name, or the default one."""
    served = [grant.removeprefix("serve:") for grant in grants if grant.startswith("serve:")]
    named = [each.removeprefix("queue/") for each in served if each.startswith("queue/") and not set("*?[") & set(each)]
    if any(fnmatchcase("queue/default", each) for each in served):
        named = ["default"]
    return "".join(f" --queue {name}" for name in named)


def _settle(who: Address, folder: StateFolder) -> str:
    """Let the clone we are in be the matrix that was let in; return where it is, or "" outside of a clone."""
    if who.kind is not Kind.MATRIX:
        return ""
    from orchestra.matrix.identity import settle

    root = settle(Path.cwd(), who, folder)
    return str(root) if root else ""


@click.group(cls=Group)
def keys() -> None:
    """Show, accept and revoke the keys that are let in; seal those that lie here."""


@keys.command("list")
@client_options
def list_(state: Path | None, address: str | None, as_json: bool) -> None:
    """Show every key and invitation, with fingerprints that two people can compare by voice."""
    from orchestra.keys import fingerprint

    found = with_client(state, address, lambda client: client.call("keys.list"))
    if as_json:
        print_json(found)
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [
        [
            each["address"],
            each["fingerprint"],
            "as its kind" if each["grants"] is None else " ".join(each["grants"]) or "nothing",
            ago(each["since_ms"], now_ms=now_ms),
            ", ".join(
                part
                for part in (
                    f"{each['sessions']} online" if each["sessions"] else "",
                    f"replaced, ends in {_minutes(each['until_ms'], now_ms)} min" if each["until_ms"] else "",
                )
                if part
            ),
        ]
        for each in found["keys"]
    ]
    rows += [
        ["?", each["fingerprint"], "", ago(each["at_ms"], now_ms=now_ms), f"pending, from {each['source'] or 'here'}"]
        for each in found["pending"]
    ]
    rows += [
        [
            each["address"],
            "invitation",
            each["grants"] or "as its kind",
            ago(each["made_ms"], now_ms=now_ms),
            _standing(each, now_ms),
        ]
        for each in found["invitations"]
    ]
    table(["PEER", "FINGERPRINT", "MAY", "SINCE", "STATE"], rows)
    say(f"the hub's key is {fingerprint(StateFolder(state or default_folder()).read_card().public_key)}")
    if found["next_key"] is not None:
        minutes = _minutes(found["next_key"]["at_ms"], now_ms)
        say(f"the hub's next key {found['next_key']['fingerprint']} takes over in {minutes} min")


def _standing(invitation: dict[str, Any], now_ms: int) -> str:
    if invitation["uses_left"] < 0:
        return "revoked"
    if not invitation["uses_left"]:
        return "used"
    if not invitation["is_open"]:
        return "expired"
    return f"open for {_minutes(invitation['expires_ms'], now_ms)} min, {invitation['uses_left']} left"


def _minutes(until_ms: int, now_ms: int) -> int:
    return max(1, round((until_ms - now_ms) / 60_000))


@keys.command()
@click.argument("peer", metavar="PEER", required=False)
@click.option(
    "--overlap",
    type=Duration(max_s=KEY_OVERLAP_S_MAX),
    default=None,
    show_default="1h, of the hub 7d",
    help="How long the old key is still let in, or the hub's is still used: 90s, 15m, 8h, 2d.",
)
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def rotate(peer: str | None, overlap: float | None, state: Path | None, as_json: bool) -> None:
    """Give PEER (without it: you) a new key; its key file must lie here. With PEER `hub`, give the hub one.

    What runs with the old key goes on, and takes the new one when the old one ends. A copy of the key file on another
    machine has to be replaced within --overlap.

    The hub's next key is told to every peer that is connected, or connects, within --overlap; then it takes over. A
    peer that was away for all of that time has to join again. With it comes a new key for tokens; the old ones stay
    good.
    """
    if peer == "hub":
        _rotate_hub(_HUB_OVERLAP_S if overlap is None else overlap, state, as_json)
        return
    if overlap is None:
        overlap = _OVERLAP_S
    from orchestra.keys import load_key, make_key_pair, replace_key

    who, path = _key_file(peer, state)
    load_key(path)
    pair = make_key_pair()

    async def rotating(client: Client) -> dict[str, Any]:
        return await client.call("keys.rotate", public_key=pair.public, overlap_ms=int(overlap * 1000))

    done = with_client(state, str(who), rotating)
    replace_key(path, pair, owner=str(who))
    if as_json:
        print_json({"address": str(who), "fingerprint": pair.fingerprint, "old_until_ms": done["until_ms"]})
        return
    click.echo(f"{who} has a new key: {pair.fingerprint}")
    until = time_and_day(done["until_ms"])
    say(f"the old one is let in until {until}; it is kept in {path}.old")


def _rotate_hub(overlap: float, state: Path | None, as_json: bool) -> None:
    asked = {"overlap_ms": int(overlap * 1000)}
    done = with_client(state, None, lambda client: client.call("hub.rotate", **asked))
    if as_json:
        print_json(done)
        return
    click.echo(f"the hub's next key is {done['fingerprint']}")
    at = time_and_day(done["at_ms"])
    say(f"it takes over at {at}; peers that are connected, or connect until then, know it and come back by themselves")


@keys.command("seal")
@click.argument("peer", metavar="PEER", required=False)
@state_option
def seal_(peer: str | None, state: Path | None) -> None:
    """Seal the key file of PEER (without it: yours) with a passphrase; with PEER `hub`, those of the hub.

    Whoever starts PEER then types the passphrase, or has it in the file that ORCHESTRA_KEY_PASSPHRASE_FILE names.
    """
    from orchestra.keys import is_sealed, load_key, save_key
    from orchestra.passphrase import passphrase

    files = _key_files(peer, state)
    word = b""
    for owner, path in files:
        if is_sealed(path):
            name = peer or owner
            fail(f"{path} is sealed already; to give it another passphrase: orchestra keys unseal {name}", CONFLICT)
    for owner, path in files:
        pair = load_key(path)
        word = word or passphrase(f"key file {path}", is_new=True)
        save_key(path, pair, owner=owner, word=word, is_new=False)
        click.echo(f"{path} is sealed")


@keys.command("unseal")
@click.argument("peer", metavar="PEER", required=False)
@state_option
def unseal_(peer: str | None, state: Path | None) -> None:
    """Take the passphrase off the key file of PEER (without it: yours); with PEER `hub`, off those of the hub."""
    from orchestra.keys import load_key, save_key

    for owner, path in _key_files(peer, state):
        save_key(path, load_key(path), owner=owner, is_new=False)
        click.echo(f"{path} needs no passphrase any more")


def _key_files(peer: str | None, state: Path | None) -> list[tuple[str, Path]]:
    """Return whose keys are meant, and where they lie."""
    if peer != "hub":
        who, path = _key_file(peer, state)
        return [(str(who), path)]
    folder = StateFolder(state or default_folder())
    found = [
        ("the hub", folder.hub_key),
        ("the hub, for tokens", folder.signing_key),
        ("the hub, for tokens", folder.signing_key.with_name(f"{folder.signing_key.name}.old")),
        ("the hub, the next one", folder.next_hub_key),
    ]
    return found[:2] + [(owner, path) for owner, path in found[2:] if path.exists()]


def _key_file(peer: str | None, state: Path | None) -> tuple[Address, Path]:
    folder = StateFolder(state or default_folder())
    who = parse_peer(peer) if peer else folder.default_peer()
    return who, folder.key_of(who)


@keys.command()
@click.argument("peer", metavar="PEER")
@click.argument("key", metavar="KEY")
@client_options
def accept(peer: str, key: str, state: Path | None, address: str | None, as_json: bool) -> None:
    """Let KEY in as PEER: a pending key by its fingerprint, or any by its 40 characters (from the peer's key file)."""
    who = str(parse_peer(peer))

    async def accepting(client: Client) -> dict[str, Any]:
        return await client.call("keys.accept", address=who, public_key=await _pending(client, key))

    done = with_client(state, address, accepting)
    if as_json:
        print_json(done)
    else:
        click.echo(f"{done['address']} may connect with the key {done['fingerprint']}")


@keys.command()
@click.argument("peer", metavar="PEER")
@click.argument("grants", metavar="[GRANT]...", nargs=-1)
@click.option("--remove", multiple=True, metavar="GRANT", help="Take this grant away; may be repeated.")
@click.option("--default", "is_default", is_flag=True, help="First go back to what its kind may.")
@client_options
def grant(
    peer: str,
    grants: tuple[str, ...],
    remove: tuple[str, ...],
    is_default: bool,
    state: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Let PEER do more, or less: GRANT is an action, or ACTION:ADDRESS with * and ? in the address.

    \b
    send:ADDRESS       send messages, live requests and entries of channels
    broadcast          send to every matrix at once
    submit:ADDRESS     submit tasks to agent/NAME or queue/NAME
    serve:ADDRESS      take the tasks of a queue, or of its own name
    channel:ADDRESS    make channels
    receive            receive what is sent to it: messages, live requests
    read:ADDRESS       read and follow channels
    observe            see the messages and tasks of all, and what happens
    manage             cancel, answer and try again the tasks of all
    administer         let peers in, say what they may do, read the audit log

    Without GRANT it shows what PEER may do. Its clients connect anew when something changes.
    """
    asked: dict[str, Any] = {"add": list(grants), "remove": list(remove), "default": is_default}
    done = with_client(state, address, lambda client: client.call("keys.grant", address=str(parse_peer(peer)), **asked))
    if as_json:
        print_json(done)
    else:
        click.echo(f"{done['address']}: {' '.join(done['grants']) or 'nothing'}{_of_kind(done)}")


def _of_kind(done: dict[str, Any]) -> str:
    return "  (what its kind may)" if done["is_default"] else ""


@keys.command()
@click.argument("key", metavar="KEY")
@client_options
def reject(key: str, state: Path | None, address: str | None, as_json: bool) -> None:
    """Hold a pending KEY (its fingerprint) no more, nor when it comes again."""

    async def rejecting(client: Client) -> dict[str, Any]:
        return await client.call("keys.reject", public_key=await _pending(client, key))

    done = with_client(state, address, rejecting)
    if as_json:
        print_json(done)
    else:
        click.echo(f"{done['fingerprint']} is rejected")


async def _pending(client: Client, key: str) -> str:
    """Return the public key that `key` means: itself, or the one pending key whose fingerprint begins so."""
    if len(key) == 40:
        return key
    wanted = "".join(key.split()).lower()
    found = [
        str(each["public_key"])
        for each in (await client.call("keys.list"))["pending"]
        if each["fingerprint"].replace(" ", "").startswith(wanted)
    ]
    if len(wanted) < 4 or len(found) != 1:
        raise NotFound(f"{key!r} is not the fingerprint of one pending key; see: orchestra keys list")
    return found[0]


@keys.command()
@click.argument("peer", metavar="PEER")
@click.option("--fingerprint", default=None, show_default="all", help="Only the key with this fingerprint.")
@click.option("--invitations", is_flag=True, help="Its open invitations instead of its keys.")
@client_options
@click.pass_context
def revoke(
    ctx: click.Context,
    peer: str,
    fingerprint: str | None,
    invitations: bool,
    state: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Let the keys of PEER in no more, and end its sessions at once. What waits for it stays."""
    who = str(parse_peer(peer))

    async def revoking(client: Client) -> list[str]:
        found = await client.call("keys.list")
        if invitations:
            chosen = [each["public"] for each in found["invitations"] if each["address"] == who and each["is_open"]]
        else:
            wanted = "".join((fingerprint or "").split()).lower()
            chosen = [
                each["public_key"]
                for each in found["keys"]
                if each["address"] == who and each["fingerprint"].replace(" ", "").startswith(wanted)
            ]
        for public_key in chosen:
            await client.call("keys.revoke", public_key=public_key)
        return chosen

    done = with_client(state, address, revoking)
    if as_json:
        print_json({"address": who, "revoked": done})
    elif done:
        what = "invitation" if invitations else "key"
        click.echo(f"{len(done)} {what}{'' if len(done) == 1 else 's'} of {who} revoked")
    if not done:
        say(f"{who} has no such {'invitation' if invitations else 'key'}; see: orchestra keys list")
        ctx.exit(FAILED)
