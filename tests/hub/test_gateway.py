"""The gateway with real sockets: what browsers, scripts and the earlier clients say and are told."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections import Counter, deque
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from orchestra.errors import BadOption, PortInUse, TokenExpired
from orchestra.hub import gateway as gateway_module
from orchestra.hub.gateway import Gateway
from orchestra.hub.service import Hub
from orchestra.hub.settings import GatewaySettings, HubSettings
from orchestra.hub.websocket import WebLink
from orchestra.limits import GATEWAY_BURST_S, GATEWAY_MESSAGES_PER_S, GATEWAY_TURN_FRAMES_MAX, TOKEN_URL_S_MAX
from orchestra.state import StateFolder
from orchestra.wire import PONG

from .browsers import GATEWAY, Browser, address_of, browser, get, token_of, unread
from .livehub import LiveHub, live_hub, run, soon, until


def test_a_message_is_stored_pushed_and_counts_as_delivered_once_it_is_written(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path, gateway=GATEWAY) as hub,
            browser(hub, "operator/a") as sender,
            browser(hub, "matrix/m") as recipient,
        ):
            seq = (await sender.ask(type="send", to="matrix/m", content="hällo"))["seq"]
            message = await recipient.hear("message")
            assert (message["id"], message["from"], message["content"]) == (seq, "operator/a", "hällo")
            await until(lambda: hub.decider.state.roster.peers["matrix/m"].mailbox.delivered == 1)
            (reached,) = (await sender.call("message.get", seq=seq))["recipients"]
            assert (reached["stage"], reached["is_unread"]) == ("delivered", True)

    run(scenario())


def test_a_client_that_acknowledges_itself_owns_the_message_only_then(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, browser(hub, "operator/a") as sender:
            async with browser(hub, "matrix/m", "ack=1") as recipient:
                seq = (await sender.ask(type="send", to="matrix/m", content="x"))["seq"]
                await recipient.hear("message", id=seq)
                mailbox = hub.decider.state.roster.peers["matrix/m"].mailbox
                assert mailbox.waiting == 1
            async with browser(hub, "matrix/m", "ack=1") as recipient:  # it was never acknowledged
                await recipient.hear("message", id=seq, attempt=2)
                await recipient.say(type="ack", ids=[seq])
                await until(lambda: mailbox.count == 0)
            (reached,) = (await sender.call("message.get", seq=seq))["recipients"]
            assert reached["stage"] == "acked"

    run(scenario())


def test_what_was_delivered_can_be_said_to_be_read_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, browser(hub, "operator/a") as me:
            seq = (await me.ask(type="send", to="operator/a", content="note"))["seq"]
            await until(lambda: hub.decider.state.roster.peers["operator/a"].mailbox.delivered == 1)
            assert (await me.ask(type="ack", ids=[str(seq)], stage="read"))["type"] == "ok"
            (reached,) = (await me.call("message.get", seq=seq))["recipients"]
            assert reached["stage"] == "read"

    run(scenario())


def test_an_agent_of_the_earlier_system_works_unchanged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path, gateway=GATEWAY) as hub,
            browser(hub, "operator/a") as person,
            connect(address_of(hub, f"token={token_of(hub, 'agent/7')}")) as socket,
        ):
            agent = Browser(socket)
            seq = (await person.ask(type="submit", to="agent/7", prompt="review", context="the parser"))["seq"]
            task = await agent.hear("task")
            assert task.items() >= {"id": str(seq), "prompt": "review", "context": "the parser"}.items()
            assert task["priority"] == "normal"
            assert task["assigned_at"].endswith("Z")
            await person.call("task.watch", seqs=[seq])
            said: dict[str, Any] = {"type": "checkpoint", "taskId": task["id"], "summary": "half"}
            await agent.say(**said, step=1, status="progressing")
            assert await agent.hear("checkpoint_response", step=1) == {
                "type": "checkpoint_response",
                "taskId": str(seq),
                "step": 1,
                "action": "continue",
            }
            assert (await person.hear("progress"))["data"] == "[1] half\n"
            await agent.say(**said, step=2, status="need_guidance")
            await person.hear("event", event="task", state="input-required", question="half")
            await person.call("task.answer", seq=seq, text="go left")
            assert (await agent.hear("checkpoint_response", step=2))["guidance"] == "go left"
            await agent.say(type="ping")
            assert await agent.hear("pong") == {"type": "pong"}
            await agent.say(type="pong", agentId="7")
            await agent.say(type="result", taskId=task["id"], status="completed", output="done", duration_ms=12)
            result = await person.hear("result", state="completed")
            assert (result["output"], result["report"]["duration_ms"]) == ("done", 12)
            assert agent.told == []

    run(scenario())


def test_an_agent_of_the_earlier_system_comes_back_to_a_restarted_hub_with_the_url_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_ms = time.time_ns() // 1_000_000
    now_ms = started_ms
    monkeypatch.setattr("orchestra.hub.service._wall_ms", lambda: now_ms)
    hour_ms = 3_600_000

    async def work(hub: LiveHub, agent: Browser) -> None:
        async with browser(hub, "operator/a") as person:
            seq = (await person.ask(type="submit", to="agent/7", prompt="review", options={"watch": True}))["seq"]
            await agent.hear("task", id=str(seq))
            await agent.say(type="result", taskId=str(seq), status="completed", output="done", duration_ms=1)
            await person.hear("result", seq=seq, state="completed")

    async def scenario() -> None:
        nonlocal now_ms
        async with AsyncExitStack() as kept:
            async with live_hub(tmp_path, gateway=GATEWAY) as hub:
                port = int(hub.hub.gateway_url.rpartition(":")[2])
                url = address_of(hub, f"token={token_of(hub, 'agent/7', ttl_ms=8 * hour_ms)}")
                agent = Browser(await kept.enter_async_context(connect(url)))
                await work(hub, agent)
            await agent.hear("error", code="stopping")
            with pytest.raises(ConnectionClosed):
                await soon(agent.socket.recv())
        now_ms += 1_000 * int(TOKEN_URL_S_MAX)
        async with live_hub(tmp_path, gateway=GatewaySettings(port=port)) as hub:
            async with connect(url) as again:
                await work(hub, Browser(again))
            token = url.partition("token=")[2]
            with pytest.raises(TokenExpired, match="localhost"):
                hub.hub.admit(token, is_url=True, source="192.0.2.7")
            now_ms = started_ms + 8 * hour_ms
            with pytest.raises(InvalidStatus, match="401"):
                await connect(url)

    run(scenario())


def test_a_matrix_of_the_earlier_system_works_unchanged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub:
            query = {name: f"token={token_of(hub, f'matrix/{name}')}" for name in ("one", "two")}
            async with connect(address_of(hub, query["one"])) as first:
                one = Browser(first)
                assert await one.hear("registered") == {
                    "type": "registered",
                    "matrix_id": "one",
                    "online_matrices": [],
                }
                said = {"to": "two", "content": "you were away", "metadata": {"k": [1]}}
                await one.say(type="message", **said, **{"from": "three"})  # who it is from, its token says
                async with connect(address_of(hub, query["two"])) as second:
                    two = Browser(second)
                    assert (await two.hear("registered"))["online_matrices"] == ["one"]
                    assert await one.hear("presence") == {
                        "type": "presence",
                        "matrix_id": "two",
                        "status": "online",
                    }
                    message = await two.hear("message")
                    assert (
                        message.items() >= {"from": "one", "content": "you were away", "metadata": {"k": [1]}}.items()
                    )
                    await one.say(type="message", content="to all")
                    assert (await two.hear("message"))["content"] == "to all"
                    mailbox = hub.decider.state.roster.peers["matrix/two"].mailbox
                    await until(lambda: (mailbox.waiting, mailbox.count) == (0, 2))
                    await two.say(type="presence", status="away")
                    await until(lambda: mailbox.count == 0)  # it spoke after it got them: they are read
                    await one.hear("presence", matrix_id="two", status="away")
                await one.hear("presence", matrix_id="two", status="offline")
                assert one.told == []

    run(scenario())


def test_who_reconnects_is_not_forgotten_when_the_old_connection_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path, gateway=GATEWAY) as hub,
            browser(hub, "operator/a") as sender,
            browser(hub, "matrix/m") as old,
            browser(hub, "matrix/m") as new,
        ):
            await old.socket.close()
            await until(lambda: len(hub.decider.state.roster.peers["matrix/m"].sessions) == 1)
            assert (await sender.ask(type="send", to="matrix/m", content="still there?"))["type"] == "ok"
            await new.hear("message", content="still there?")

    run(scenario())


def test_who_has_no_good_token_is_told_so_before_the_upgrade(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub:
            good = token_of(hub, "operator/a")
            long_lived = token_of(hub, "operator/a", is_url=False, ttl_ms=3_600_000)
            revoked = token_of(hub, "operator/b")
            async with hub.connect("operator/c") as client:
                (known,) = (await client.call("token.list", address="operator/b"))["tokens"]
                await client.call("token.revoke", id=known["id"])
            for query in ("", "token=", "token=x", f"token={good[:-4]}", f"token={revoked}", f"token={long_lived}"):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(address_of(hub, query))
                assert refused.value.response.status_code == 401
                assert json.loads(bytes(refused.value.response.body))["code"] == "token_refused"
            for options in (
                {"additional_headers": {"Authorization": f"Bearer {long_lived}"}},
                {"subprotocols": ["orchestra.v1", f"bearer.{long_lived}"]},
            ):
                async with connect(address_of(hub), **options) as socket:
                    assert socket.subprotocol in (None, "orchestra.v1")

    run(scenario())


def test_a_session_ends_when_its_token_is_revoked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, browser(hub, "operator/a") as person:
            assert await hub_calls(hub, "token.revoke", address="operator/a") is not None
            await person.hear("error", code="token_refused")
            with pytest.raises(ConnectionClosed):
                await soon(person.socket.recv())
            assert person.socket.close_code == 4401

    async def hub_calls(hub: LiveHub, method: str, **params: Any) -> Any:
        async with hub.connect("operator/b") as client:
            return await client.call(method, **params)

    run(scenario())


def test_pages_of_other_sites_and_names_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub:
            token = token_of(hub, "operator/a", is_url=False)
            host = hub.hub.gateway_url.removeprefix("http://")
            cookie = {"Cookie": f"orchestra-{host.rpartition(':')[2]}={token}"}
            for headers, is_in in (
                ({"Origin": f"http://{host}"}, True),
                ({"Origin": "http://evil.example"}, False),
                ({"Origin": "null"}, False),
                ({"Origin": "http://localhost:1"}, False),
            ):
                for way in (cookie, {"Authorization": f"Bearer {token}"}):
                    try:
                        async with connect(address_of(hub), additional_headers={**headers, **way}, origin=None):
                            status = 101
                    except InvalidStatus as refused:
                        status = refused.response.status_code
                    assert status == (101 if is_in else 403), (headers, way)
            with pytest.raises(InvalidStatus, match="403"):  # no browser: a cookie says nothing of who sends it
                await connect(address_of(hub), additional_headers=cookie)
            assert (await get(hub, "/health", Host="evil.example"))[0] == 403
            assert (await get(hub, "/health", Host="localhost:1"))[0] == 200

    run(scenario())


def test_a_code_signs_in_once_and_leaves_a_cookie_that_scripts_cannot_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, hub.connect("operator/b") as client:
            made = await client.call("token.code")
            path = made["url"].removeprefix(hub.hub.gateway_url)
            status, headers, body = await get(hub, path)
            assert (status, headers["Location"], body) == (303, "/", b"")
            cookie = headers["Set-Cookie"]
            assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
            assert made["code"] not in cookie
            status, _, body = await get(hub, "/whoami", Cookie=cookie.partition(";")[0])
            assert (status, json.loads(body)["address"]) == (200, "operator/b")
            assert (await get(hub, path))[0] == 401
            _, headers, _ = await get(hub, "/signout")
            assert "Max-Age=0" in headers["Set-Cookie"]

    run(scenario())


def test_scripts_read_what_their_token_may_see(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, browser(hub, "operator/a") as person:
            seq = (await person.ask(type="submit", to="queue/q", argv=["ls", "-l"]))["seq"]
            bearer = {"Authorization": f"Bearer {token_of(hub, 'operator/a')}"}
            status, headers, body = await get(hub, "/tasks?state=queued", **bearer)
            assert (status, headers["Content-Type"]) == (200, "application/json")
            assert [(each["seq"], each["prompt"]) for each in json.loads(body)["tasks"]] == [(seq, "ls -l")]
            assert json.loads((await get(hub, f"/task?seq={seq}", **bearer))[2])["argv"] == ["ls", "-l"]
            assert json.loads((await get(hub, "/matrices", **bearer))[2])["matrices"] == []
            assert (await get(hub, "/status", **bearer))[0] == 200
            assert (await get(hub, "/tasks?nonsense=1", **bearer))[0] == 400
            bucket = hub.decider.state.roster.peers["operator/a"].calls
            bucket.left, bucket.at_ms = -100.0, hub.hub._turn().at_ms  # it has asked too often
            assert (await get(hub, "/tasks", **bearer))[0] == 429
            assert (await get(hub, "/tasks"))[0] == 401
            other = {"Authorization": f"Bearer {token_of(hub, 'matrix/m')}"}
            assert (await get(hub, f"/task?seq={seq}", **other))[0] == 403
            assert not any(session.peer.text == "matrix/m" for session in hub.decider.state.roster.sessions.values()), (
                "who reads has no session"
            )

    run(scenario())


def test_prometheus_reads_what_happened(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path, gateway=GATEWAY) as hub,
            browser(hub, "operator/a") as person,
            browser(hub, "agent/x", "queue=q") as agent,
        ):
            await person.ask(type="send", to="operator/a", content="note")
            seq = (await person.ask(type="submit", to="queue/q", prompt="x"))["seq"]
            await person.ask(type="submit", to="queue/nobody", prompt="x")
            await person.call("task.watch", seqs=[seq])
            task = await agent.hear("task")
            await agent.say(type="result", taskId=task["id"], status="completed")
            await person.hear("result", state="completed")
            _, headers, body = await get(hub, "/metrics")
            assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
            found = {
                (sample.name, *sample.labels.values()): sample.value
                for family in text_string_to_metric_families(body.decode())
                for sample in family.samples
            }
            assert found["orchestra_stored_total",] == 3
            assert found["orchestra_deliveries_total",] == 1
            assert found["orchestra_tasks_ended_total", "completed"] == 1
            assert found["orchestra_tasks", "queued"] == 1
            assert found["orchestra_queue_depth", "queue/nobody"] == 1
            assert found["orchestra_sessions", "websocket"] == 2
            assert found["orchestra_peers", "agent", "online"] == 1
            assert found["orchestra_start_seconds_count",] == 1
            assert found["orchestra_task_seconds_count",] == 1
            assert found["orchestra_turn_seconds_count",] >= found["orchestra_task_seconds_count",]
            assert found["orchestra_commit_seconds_bucket", "+Inf"] == found["orchestra_commit_seconds_count",] >= 3
            documented = (Path(__file__).parents[2] / "docs/gateway.md").read_text(encoding="utf-8")
            named = {name for name, *_ in found if name.startswith("orchestra_")}
            plain = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in named}
            assert not [name for name in plain if f"`{name}" not in documented]

    run(scenario())


def test_the_page_is_served_with_strict_headers_and_nothing_beside_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub:
            status, headers, body = await get(hub, "/")
            assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            assert b"<html" in body
            assert "script-src 'self'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert (await get(hub, "/", If_None_Match=headers["ETag"]))[0] == 304
            status, headers, body = await get(hub, "/", method="HEAD")
            assert (status, body) == (200, b"")
            assert int(headers["Content-Length"]) > 0
            for path in ("/nothing", "/../service.py", "/%2e%2e/service.py", "//etc/passwd", "/page/index.html"):
                assert (await get(hub, path))[0] == 404, path
            assert (await get(hub, "/health", method="DELETE"))[0] == 405
            assert json.loads((await get(hub, "/ready"))[2]) == {"status": "ready"}

    run(scenario())


def test_a_client_that_never_reads_is_closed_and_finds_its_messages_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path, gateway=GATEWAY) as hub,
            hub.connect("operator/a") as sender,
            browser(hub, "operator/b") as other,
        ):
            query = f"credit=4096&token={token_of(hub, 'matrix/slow')}"
            async with unread(hub, query):
                await until(lambda: "matrix/slow" in _online(hub))
                async with asyncio.TaskGroup() as group:
                    for _ in range(4000):  # more than the kernel and the gateway keep for one that does not read
                        group.create_task(sender.send("matrix/slow", b"x" * 4000))
                await until(lambda: hub.count("slow_reader") == 1)
                await until(lambda: "matrix/slow" not in _online(hub))
            mailbox = hub.decider.state.roster.peers["matrix/slow"].mailbox
            assert mailbox.waiting > 2000
            assert (await other.ask(type="ping"))["type"] == "pong"
            async with browser(hub, "matrix/slow") as returned:
                for _ in range(mailbox.waiting):
                    await returned.hear("message")

    run(scenario())


def test_a_client_that_leaves_anything_unread_for_too_long_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.hub.gateway.GATEWAY_STALL_S", 0.3)

    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, browser(hub, "operator/a") as sender:
            async with unread(hub, f"token={token_of(hub, 'matrix/slow')}"):
                await until(lambda: "matrix/slow" in _online(hub))
                for _ in range(16):  # more than the kernel keeps, and too few to be dropped for their number
                    assert (await sender.ask(type="send", to="matrix/slow", content="x" * 1_000_000))["type"] == "ok"
                await until(lambda: "matrix/slow" not in _online(hub))
            assert hub.count("slow_reader") == 1

    run(scenario())


def test_a_client_that_says_too_much_is_read_more_slowly(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, browser(hub, "operator/a") as person:
            (link,) = hub.hub._gateway.links
            burst = int(GATEWAY_MESSAGES_PER_S * GATEWAY_BURST_S)
            assert sum(link.pause_s(0) for _ in range(burst // 2)) == 0
            assert sum(link.pause_s(16 * 1024) for _ in range(burst // 4 - 1)) == 0  # each counts as two
            assert sum(link.pause_s(16 * 1024) > 0 for _ in range(burst // 4)) > burst // 5
            assert (await person.ask(type="ping"))["type"] == "pong"

    run(scenario())


def test_who_may_not_do_what_it_connects_for_is_told_so_and_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub:
            headers = {"Authorization": f"Bearer {token_of(hub, 'matrix/m')}"}
            async with connect(address_of(hub, "queue=q"), additional_headers=headers) as socket_:
                assert json.loads(await soon(socket_.recv()))["code"] == "not_allowed"  # only agents serve queues
                await soon(socket_.wait_closed())
                assert socket_.close_code == 1008
            status, _, body = await get(hub, "/?slots=many", Upgrade="websocket", **headers)
            assert (status, json.loads(body)["code"]) == (400, "bad_option")

    run(scenario())


def test_the_hub_stops_although_a_client_reads_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path, gateway=GATEWAY) as hub,
            hub.connect("operator/a") as sender,
            unread(hub, f"token={token_of(hub, 'matrix/slow')}"),
        ):
            await until(lambda: "matrix/slow" in _online(hub))
            for _ in range(8):
                await sender.send("matrix/slow", b"x" * 1_000_000)
            hub.hub.stop()
            await soon(hub._serving)

    run(scenario())


def test_the_hub_stops_although_a_browser_keeps_a_connection_for_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub:
            host, port = hub.hub.gateway_url.removeprefix("http://").rsplit(":", 1)
            _, writer = await asyncio.open_connection(host, int(port))
            await until(lambda: hub.hub._gateway._connections == 1)
            hub.hub.stop()
            await soon(hub._serving)
            writer.close()

    run(scenario())


def test_an_agent_that_closes_its_connection_gives_its_task_back_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path, gateway=GATEWAY) as hub,
            browser(hub, "operator/a") as person,
            browser(hub, "agent/one", "queue=q") as one,
        ):
            seq = (await person.ask(type="submit", to="queue/q", prompt="x"))["seq"]
            await one.hear("task", seq=seq)
            async with browser(hub, "agent/two", "queue=q") as two:
                await one.socket.close()
                again = await two.hear("task", seq=seq)  # and not when a lease of 10 s is over
                assert again["attempt"] == 2
                await two.say(type="result", id=1, taskId=seq, status="completed", output="done")
                await two.hear("ok", id=1)

    run(scenario())


def _online(hub: LiveHub) -> set[str]:
    return {session.peer.text for session in hub.decider.state.roster.sessions.values()}


def test_a_message_that_is_too_large_closes_its_own_connection_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            live_hub(tmp_path, gateway=GATEWAY) as hub,
            browser(hub, "operator/a") as large,
            browser(hub, "operator/b") as other,
        ):
            assert (await large.ask(type="send", to="operator/b", content="x" * (2**20 + 1)))["code"] == "too_large"
            await large.say(type="send", to="operator/b", content="x" * 2**21)
            await soon(large.socket.wait_closed())
            assert large.socket.close_code == 1009
            assert (await other.ask(type="ping"))["type"] == "pong"

    run(scenario())


def test_everybody_is_told_that_the_hub_stops(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, browser(hub, "operator/a") as person:
            hub.hub.stop()
            await person.hear("error", code="stopping")
            with pytest.raises(ConnectionClosed):
                await soon(person.socket.recv())
            assert person.socket.close_code == 1001

    run(scenario())


def test_a_port_that_is_taken_is_told_with_who_has_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"process {os.getpid()}\).*--gateway-port"):
            Hub(HubSettings(StateFolder(tmp_path / "one"), port=0, gateway=GatewaySettings(port=port)))
        hub = Hub(
            HubSettings(StateFolder(tmp_path / "two"), port=0, gateway=GatewaySettings(port=port, is_optional=True))
        )
        assert hub.gateway_url == ""  # agents come first
        hub.close()


def test_with_a_certificate_everything_is_encrypted(tmp_path: Path) -> None:
    async def scenario() -> None:
        cert = certificate(tmp_path)
        gateway = GatewaySettings(port=0, tls_cert=cert)
        trusting = ssl.create_default_context(cafile=str(cert))
        async with live_hub(tmp_path, gateway=gateway) as hub, hub.connect("operator/b") as client:
            assert hub.hub.gateway_url.startswith("https://")
            token = token_of(hub, "operator/a", is_url=False)
            async with connect(
                address_of(hub), additional_headers={"Authorization": f"Bearer {token}"}, ssl=trusting
            ) as socket_:
                await socket_.send('{"type":"ping"}')
                assert {json.loads(await soon(socket_.recv()))["type"] for _ in range(2)} == {"welcome", "pong"}
            host, port = hub.hub.gateway_url.removeprefix("https://").rsplit(":", 1)
            reader, writer = await asyncio.open_connection(host, int(port), ssl=trusting)
            code = (await client.call("token.code"))["code"]
            writer.write(f"GET /signin?code={code} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert b"; Secure" in await soon(reader.read())
            writer.close()
            with pytest.raises((ConnectionError, InvalidMessage)):
                await connect(f"ws://{host}:{port}/")

    run(scenario())


def certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "cert.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


def test_the_gateway_is_not_opened_to_other_machines_without_tls_by_accident() -> None:
    with pytest.raises(BadOption, match="--tls-cert"):
        GatewaySettings(host="0.0.0.0")
    assert not GatewaySettings(host="0.0.0.0", is_insecure=True).is_loopback
    assert GatewaySettings(host="::1").is_loopback


class _Hall:
    """A hub that peers with keys have said something to, until it takes a turn."""

    def __init__(self) -> None:
        self.woken = 0

    def has_input(self) -> bool:
        return True

    def wake(self) -> None:
        self.woken += 1


def test_writing_to_many_stops_for_what_peers_with_keys_have_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """libzmq tells once that a frame came: who looks for one has to pass that on, or nobody takes the frame."""

    async def scenario() -> None:
        hall = _Hall()
        written: list[Any] = []
        gateway = Gateway(GATEWAY, hall, counts=Counter())  # type: ignore[arg-type]
        try:
            monkeypatch.setattr(gateway, "_write", lambda link, until: written.append(link))
            for _ in range(10):
                link: Any = SimpleNamespace(is_closed=False, is_queued=False, owed=deque())
                assert gateway.send(link, [[PONG, 1]])
            gateway.pump()
            assert (len(written), hall.woken) == (4, 1)
            await until(lambda: len(written) == 10)
            assert hall.woken == 2
        finally:
            gateway.close()

    run(scenario())


def test_a_turn_takes_a_part_of_what_browsers_have_said() -> None:
    async def scenario() -> None:
        gateway = Gateway(GATEWAY, _Hall(), counts=Counter())  # type: ignore[arg-type]
        try:
            for number in range(GATEWAY_TURN_FRAMES_MAX):
                said = deque([b"first %d" % number, b"second %d" % number])
                link: Any = SimpleNamespace(said=said, identity="operator/a", free=lambda: None)
                gateway._speaking.append(link)
            taken = [each.frame for each in gateway.drain(GATEWAY_TURN_FRAMES_MAX)]
            assert taken == [b"first %d" % number for number in range(GATEWAY_TURN_FRAMES_MAX)]
            assert gateway.has_input
        finally:
            gateway.close()

    run(scenario())


def test_a_websocket_is_alive_while_something_comes_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease of what it was given runs from when it was heard last, and not from when its connection was ended."""
    monkeypatch.setattr(gateway_module, "GATEWAY_PING_S", 60.0)

    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, browser(hub, "operator/a") as me:
            heard: list[list[WebLink]] = []
            take = Gateway.heard

            def _heard(gateway: Gateway) -> list[WebLink]:
                heard.append(take(gateway))
                return heard[-1]

            monkeypatch.setattr(Gateway, "heard", _heard)
            await until(lambda: [] in heard)
            session = hub.session("operator/a")
            before_ms = session.heard_ms
            await until(lambda: len(heard) > heard.index([]) + 1)
            assert (heard[-1], session.heard_ms) == ([], before_ms)
            await me.socket.ping()
            await until(lambda: session.heard_ms > before_ms)
            assert [session.link] in heard[heard.index([]) :]

    run(scenario())


def test_a_message_does_not_wait_until_the_one_before_was_confirmed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path, gateway=GATEWAY) as hub, browser(hub, "operator/a"):
            tcp = hub.session("operator/a").link.socket.transport.get_extra_info("socket")
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(scenario())
