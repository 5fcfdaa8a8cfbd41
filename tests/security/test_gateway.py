"""The gateway's port: tokens that are changed, forged, stolen or over, and connections that never come to the point."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus

from orchestra.hub import gateway as gateway_module
from orchestra.limits import LOBBY_PER_SOURCE_MAX
from orchestra.token import Claims, TokenKey, open_token, sign

from ..hub.browsers import GATEWAY, address_of, browser, get, token_of
from ..hub.livehub import BOUND_S, LiveHub, live_hub, run, soon, trickle, until

STRANGERS = 300
HEADER = b"X-Slow: " + b"x" * 8000 + b"\r\n"


def _target(hub: LiveHub) -> tuple[str, int]:
    host, port = hub.hub.gateway_url.removeprefix("http://").rsplit(":", 1)
    return host, int(port)


async def _refused(hub: LiveHub, token: str) -> str:
    """Return the code with which a token is refused, over each of its ways; all have to agree."""
    codes = set()
    for query, options in (
        (f"token={token}", {}),
        ("", {"additional_headers": {"Authorization": f"Bearer {token}"}}),
        ("", {"subprotocols": ["orchestra.v1", f"bearer.{token}"]}),
    ):
        if "=" in token and "subprotocols" in options:
            continue  # no client can say that
        with pytest.raises(InvalidStatus) as refused:
            await connect(address_of(hub, query), **options)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 401
        codes.add(json.loads(bytes(refused.value.response.body))["code"])
    (code,) = codes
    return str(code)


def _parts(token: str) -> tuple[bytes, bytes, str]:
    """Return claims, signature and footer."""
    _, _, body, footer = token.split(".")
    data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    return data[:-64], data[-64:], footer


def _joined(claims: bytes, signature: bytes, footer: str, *, head: str = "v4.public") -> str:
    return f"{head}.{base64.urlsafe_b64encode(claims + signature).rstrip(b'=').decode()}.{footer}"


def _with_other_claims(token: str) -> str:
    claims, signature, footer = _parts(token)
    return _joined(claims.replace(b"matrix/m", b"operator/o"), signature, footer)


def _signed_by_another(token: str) -> str:
    """Forge a token with a key of one's own, under the name of the hub's key."""
    claims, _, footer = _parts(token)
    own = TokenKey(bytes(32))
    said = json.loads(claims)
    forged = sign(Claims(said["sub"], said["aud"], said["jti"], 0, 2**42, 2**42), own)
    return _joined(*_parts(forged)[:2], footer)


CHANGES: dict[str, Callable[[str], str]] = {
    "another name": _with_other_claims,
    "another key": _signed_by_another,
    "the last bit of the signature": lambda token: _joined(
        _parts(token)[0], _parts(token)[1][:-1] + bytes([_parts(token)[1][-1] ^ 1]), _parts(token)[2]
    ),
    "no signature": lambda token: _joined(_parts(token)[0], b"", _parts(token)[2]),
    "zeros for a signature": lambda token: _joined(_parts(token)[0], bytes(64), _parts(token)[2]),
    "no footer": lambda token: token.rpartition(".")[0],
    "another version": lambda token: _joined(*_parts(token), head="v3.public"),
    "another purpose": lambda token: _joined(*_parts(token), head="v4.local"),
    "a JWT without an algorithm": lambda token: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcGVyYXRvci9vIn0.",
    "padding": lambda token: f"{token}=",
}


def test_a_changed_or_forged_token_lets_nobody_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub:
            hub.enrol("operator/o")
            token = token_of(hub, "matrix/m")
            for what, change in CHANGES.items():
                assert await _refused(hub, change(token)) == "token_refused", what
            assert hub.decider.state.roster.sessions == {}
            async with connect(address_of(hub, f"token={token}")):
                assert len(hub.decider.state.roster.sessions) == 1, "as it was, it is good"

    run(scenario())


def test_a_token_of_another_hub_lets_nobody_in_also_where_both_know_the_peer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path / "one", gateway=GATEWAY) as one,
            live_hub(tmp_path / "two", gateway=GATEWAY) as two,
        ):
            two.enrol("operator/o")
            assert await _refused(two, token_of(one, "operator/o")) == "token_refused"
            signer = one.decider.tokens._signer
            claims = open_token(token_of(one, "operator/o"), signer.keys())
            two.decider.tokens._keys.update(signer.keys())  # even a hub with a copy of the key is another hub
            assert await _refused(two, sign(claims, signer.key)) == "token_refused"

    run(scenario())


def test_an_expired_token_and_those_of_a_revoked_key_let_nobody_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, hub.connect("operator/o") as operator:
            short = token_of(hub, "matrix/m", ttl_ms=1)
            assert await _refused(hub, short) == "token_expired"
            good = token_of(hub, "matrix/m")
            (key,) = [public for public, text in hub.decider.state.keys.items() if text == "matrix/m"]
            await soon(operator.call("keys.revoke", public_key=key))
            assert await _refused(hub, good) == "token_refused"

    run(scenario())


def test_a_token_to_look_at_things_changes_nothing_and_makes_nothing(tmp_path: Path) -> None:
    """Stolen from a page, it is worth what was given to it, whatever its peer may."""

    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, hub.connect("operator/o") as operator:
            made = await soon(operator.call("token.create", address="operator/o", ttl_ms=60_000, grants=["observe"]))
            headers = {"Authorization": f"Bearer {made['token']}"}
            async with connect(address_of(hub), additional_headers=headers, subprotocols=["orchestra.v1"]) as socket:  # type: ignore[list-item]
                for message in (
                    {"type": "call", "method": "keys.list", "params": {}},
                    {"type": "call", "method": "keys.rotate", "params": {"public_key": "x" * 40, "overlap_ms": 0}},
                    {"type": "call", "method": "token.create", "params": {"address": "operator/o", "ttl_ms": 1000}},
                    {"type": "call", "method": "token.code", "params": {}},
                    {"type": "send", "to": "operator/o", "content": "x"},
                    {"type": "submit", "to": "queue/q", "prompt": "x"},
                ):
                    await socket.send(json.dumps({**message, "id": "1"}))
                    answer: dict[str, Any] = {}
                    while answer.get("id") != "1":
                        answer = json.loads(await soon(socket.recv()))
                    assert answer["type"] == "error", message
                    assert answer["code"] in ("not_allowed", "bad_option", "unknown_method"), (message, answer)
            assert list(hub.store.rows("SELECT count(*) FROM message")) == [(0,)]

    run(scenario())


@pytest.mark.parametrize("said", [b"", b"GET /?token=", b"GET / HTTP/1.1\r\n" + 10 * HEADER], ids=len)
def test_who_never_comes_to_the_point_is_bounded_and_others_come_in(tmp_path: Path, said: bytes) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, browser(hub, "operator/inside") as inside:
            with ExitStack() as strangers:
                for _ in range(STRANGERS):
                    stranger = strangers.enter_context(socket.socket())
                    stranger.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(stranger, _target(hub))
                    with suppress(OSError):
                        stranger.send(said)
                crowd = STRANGERS - LOBBY_PER_SOURCE_MAX
                await until(lambda: hub.count("lobby_full") + hub.count("crowded_out") >= crowd)
                assert len(hub.hub._gateway._lobby) <= LOBBY_PER_SOURCE_MAX
                assert (await inside.ask(type="send", to="operator/inside", content="x"))["type"] == "ok"
                async with asyncio.timeout(BOUND_S):
                    while True:
                        try:
                            async with browser(hub, "operator/late"):
                                break
                        except (OSError, InvalidMessage):  # it tries again until the first make room
                            await asyncio.sleep(0.02)

    run(scenario())


def test_a_request_a_byte_at_a_time_ends_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "_OPEN_S", 0.3)

    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub:
            await trickle(_target(hub), b"", b"GET / HTTP/1.1\r\n" + HEADER)
            assert (await get(hub, "/health"))[0] == 200

    run(scenario())
