"""The server as a model's program uses it: the SDK's own client, over real pipes, with a hub, without, and across."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from orchestra.mcp.clients import FILES, NAME

from ..system.programs import BOUND_S, ORCHESTRA, PYTHON, Place, free_port, peer, wait_until

DOCS = Path(__file__).parents[2] / "docs" / "mcp.md"
TOOLS = {
    "get_inbox", "send_message", "update_shared_context", "get_shared_context", "assign_task", "get_task", "list_peers",
    "recall", "learn", "report_issue", "memory_stats",
}  # fmt: skip


class Model:
    """A client of one server."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Return the structured answer."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert json.loads(result.content[0].text) == result.structured_content, "both say the same"
        return result.structured_content

    async def fails(self, tool: str, **arguments: Any) -> str:
        """Return the sentence of an answer that is an error."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error
        return str(result.content[0].text)

    async def until(self, tool: str, is_so: Callable[[Any], Any], **arguments: Any) -> Any:
        """Ask again and again until the answer is so: what a hub does elsewhere tells nobody here."""
        async with asyncio.timeout(BOUND_S):
            while not is_so(found := await self.call(tool, **arguments)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    for name in ("web", "api"):
        subprocess.run(["git", "init", "-q", str(tmp_path / name)], check=True)
    yield place
    place.close()


@asynccontextmanager
async def model(machine: Place, clone: str = "web") -> AsyncIterator[Model]:
    command, *args = (*ORCHESTRA, "mcp")
    started = StdioServerParameters(command=command, args=args, env=machine.env(), cwd=machine.folder / clone)
    with (machine.folder / f"mcp-{clone}.log").open("a") as log:
        async with Client(stdio_client(started, errlog=log), read_timeout_seconds=BOUND_S) as client:
            yield Model(client)
    said = (machine.folder / f"mcp-{clone}.log").read_text()
    assert "Traceback" not in said, said


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 4 * BOUND_S))


def test_without_a_hub_the_memory_works_and_what_needs_one_says_so(machine: Place) -> None:
    async def scenario() -> None:
        async with model(machine) as web:
            assert web.client.server_info.name == NAME
            listed = (await web.client.list_tools()).tools
            assert {tool.name for tool in listed} == TOOLS
            assert set(re.findall(r"^\| `([a-z_]+)` \|", DOCS.read_text(), re.MULTILINE)) == TOOLS
            assert all(tool.output_schema and tool.description for tool in listed)
            assert (await web.call("learn", title="The hub hangs on start", lesson="Remove its socket"))["id"] == 1
            found = await web.call("recall", question="why does the hub hang?", full=True)
            assert [each["id"] for each in found["found"]] == [1]
            assert "Remove its socket" in found["found"][0]["text"]
            sent = await web.call("send_message", text="Hello all")
            assert (sent["is_sent"], sent["hub"]["waiting"]) == (False, 1)
            assert "no hub was started" in sent["hub"]["reason"]
            reported = await web.call("report_issue", title="Saving hangs", severity="critical", component="sqlite")
            assert not reported["is_published"]
            assert [each["kind"] for each in (await web.call("recall"))["found"]] == ["issue"]
            set_ = await web.call("update_shared_context", content="Ship 1.0")
            assert (set_["version"], set_["is_published"]) == (0, False)
            shared = await web.call("get_shared_context")
            assert (shared["text"], shared["is_live"]) == ("Ship 1.0", False)
            for tool, arguments in (("assign_task", {"prompt": "x"}), ("get_task", {"id": 1}), ("list_peers", {})):
                assert "the hub is not there" in await web.fails(tool, **arguments)
            stats = await web.call("memory_stats")
            assert (stats["kinds"]["message"], stats["hub"]["waiting"], stats["hub"]["is_connected"]) == (1, 3, False)
        shown = machine.run("memory", "message", "--inbox", folder=machine.folder / "web").stdout
        assert "waiting\tHello all" in shown, "the same memory, by the command line"

    run(scenario())


def test_bad_arguments_are_told_and_nothing_is_stored(machine: Place) -> None:
    async def scenario() -> None:
        async with model(machine) as web:
            assert "'critical', 'high', 'medium' or 'low'" in await web.fails("report_issue", title="x", severity="bad")
            assert "is not an address" in await web.fails("send_message", text="x", to="nowhere/x")
            assert "needs a text" in await web.fails("send_message", text=" ")
            assert "there is no memory #9" in await web.fails("send_message", text="x", reply_to=9)
            assert "is no time" in await web.fails("recall", question="x", since="soon")
            assert "needs a title" in await web.fails("learn", title="\n")
            assert "1 to 200 characters" in await web.fails("update_shared_context", content="x", name="a\nb")
            assert (await web.call("memory_stats"))["exists"] is False

    run(scenario())


def test_two_clones_talk_and_share_through_the_hub(machine: Place) -> None:
    async def scenario() -> None:
        machine.hub()
        async with model(machine) as web, model(machine, "api") as api:
            await api.call("get_inbox")
            for number in range(20):
                sent = await web.call("send_message", text=f"number {number}", to="api")
                assert sent["is_sent"]
                found = await api.until("get_inbox", lambda found, n=number: found["unread"] == n + 1)
                assert found["messages"][0]["text"] == f"number {number}"
            first = found["messages"][-1]
            assert (first["sender"], first["recipient"], first["is_unread"]) == ("matrix/web", "matrix/api", True)
            read = await api.call("get_inbox", mark_read=True)
            assert all(each["is_unread"] for each in read["messages"]), "they were, until now"
            after = await api.call("get_inbox", since_hours=1)
            assert (after["unread"], [each["is_unread"] for each in after["messages"]]) == (0, [False] * 20)
            assert machine.run("inbox", "--as", "matrix/api").code == 1, "the hub knows that they were read"
            await api.call("send_message", text="Seen", to="web", reply_to=first["id"])
            (answer,) = (await web.until("get_inbox", lambda found: found["unread"]))["messages"]
            assert (answer["text"], answer["thread"] != "") == ("Seen", True)
            assert "no peer matrix/nobody is known" in await web.fails("send_message", text="x", to="nobody")
            assert (await web.call("get_inbox"))["hub"]["waiting"] == 0, "what was refused is not kept"

            version = (await web.call("update_shared_context", content="Ship 1.0"))["version"]
            shared = await api.call("get_shared_context")
            assert (shared["text"], shared["version"], shared["set_by"]) == ("Ship 1.0", version, "matrix/web")
            assert machine.run("context", "get", "shared").stdout == "Ship 1.0"
            refusal = await api.fails("update_shared_context", content="Ship 2.0", if_version=0)
            assert "(conflict)" in refusal
            await api.call("update_shared_context", content="Ship 2.0", if_version=version)
            assert (await web.call("get_shared_context"))["text"] == "Ship 2.0"
            assert "there are: shared" in await web.fails("get_shared_context", name="mission")

    run(scenario())


def test_a_model_gives_work_to_an_agent_and_sees_who_is_there(machine: Place) -> None:
    async def scenario() -> None:
        machine.hub()
        agent = machine.agent("worker", "--queue", "review", command=("echo", "done:"))
        async with model(machine) as web:
            task = await web.call("assign_task", prompt="Review it", to="queue/review", key="once")
            again = await web.call("assign_task", prompt="Review it", to="queue/review", key="once")
            assert again["id"] == task["id"]
            found = await web.until("get_task", lambda found: found["state"] == "completed", id=task["id"])
            assert (found["agent"], found["output"], found["exit_code"]) == ("agent/worker", "done: Review it\n", 0)
            waits = await web.call("assign_task", prompt="Nobody does it", to="queue/empty", priority="high")
            assert (await web.call("get_task", id=waits["id"]))["why"]
            assert "(not_found)" in await web.fails("get_task", id=999_999)
            assert "(bad_address)" in await web.fails("assign_task", prompt="x", to="matrix/web")
            peers = {each["address"]: each for each in (await web.call("list_peers"))["peers"]}
            assert peers["agent/worker"]["serves"] == ["queue/review"]
            assert peers["matrix/web"]["state"] == "online"
            agent.kill()
            here = await web.until("list_peers", lambda found: len(found["peers"]) == 1, only_online=True)
            assert here["peers"][0]["address"] == "matrix/web"

    run(scenario())


def test_across_a_restart_of_the_hub_nothing_is_lost_or_doubled(machine: Place) -> None:
    async def scenario() -> None:
        port = free_port()
        async with model(machine) as web, model(machine, "api") as api:
            await web.call("send_message", text="before there was a hub")
            await web.call("update_shared_context", content="mine")
            hub = machine.hub(port=port)
            for each in (api, web):
                await each.until("get_inbox", lambda found: found["hub"]["is_connected"])
            await web.until("get_inbox", lambda found: not found["hub"]["waiting"])
            await web.call("send_message", text="first", to="api")
            await api.until("get_inbox", lambda found: found["unread"])
            hub.kill()
            await web.until("get_inbox", lambda found: not found["hub"]["is_connected"])
            kept = await web.call("send_message", text="while it was away", to="api")
            assert not kept["is_sent"]
            assert (await web.call("get_shared_context"))["is_live"] is False
            machine.hub(port=port)
            found = await api.until("get_inbox", lambda found: "while it was away" in json.dumps(found))
            texts = [each["text"] for each in found["messages"] if each["recipient"] != "*"]
            assert texts == ["while it was away", "first"]
            assert (await api.until("get_shared_context", lambda found: found["is_live"]))["text"] == "mine"

    run(scenario())


def test_the_server_ends_with_its_input_or_a_signal_and_without_the_extra_says_what_to_install(machine: Place) -> None:
    folder = machine.folder / "web"
    ended = machine.run("mcp", folder=folder)
    assert (ended.code, ended.stdout) == (0, "")
    for number in (signal.SIGINT, signal.SIGTERM):
        server = machine.start([*ORCHESTRA, "mcp", "--log-level", "info"], folder=folder)
        wait_until(lambda server=server: "is without its hub" in server.stderr, "the server")  # type: ignore[misc]
        server.signal(number)
        assert (server.wait_end().code, "Traceback" in server.stderr) == (0, False)
    hidden = "import sys; sys.modules['mcp'] = None; from orchestra.cli import main; main()"
    said = machine.run("-c", hidden, "mcp", folder=folder, program=PYTHON)
    assert "pip install 'agent-orchestra[mcp]'" in said.assert_is_one_sentence(1)


def test_the_configuration_that_is_printed_starts_the_server(machine: Place) -> None:
    folder = machine.folder / "web"
    options = ("--matrix", "shop", "--memory", "x.db")
    chosen = ["--memory", str(folder / "x.db"), "--state", str(machine.state), "--matrix", "shop"]
    for client in FILES:
        printed = machine.run("mcp", "--print-config", client, *options, folder=folder)
        assert FILES[client] in printed.stderr
        read = tomllib.loads if client == "codex" else json.loads
        server = read(printed.stdout)["mcp_servers" if client == "codex" else "mcpServers"][NAME]
        assert server == {"command": sys.executable, "args": ["-m", "orchestra", "mcp", *chosen]}
    assert not (folder / ".orchestra").exists()
    ended = machine.run(*server["args"], folder=machine.folder, program=[server["command"]])
    assert ended.code == 0, ended.stderr


def test_a_message_of_a_person_reaches_the_model(machine: Place) -> None:
    async def scenario() -> None:
        machine.hub()
        async with model(machine) as web:
            await web.call("get_inbox")
            async with await peer(machine, "operator/ann") as person:
                await person.send("matrix/web", "Please stop", wait="delivered", timeout_s=BOUND_S)
            (message,) = (await web.until("get_inbox", lambda found: found["unread"]))["messages"]
            assert (message["sender"], message["text"]) == ("operator/ann", "Please stop")
            assert "Please stop" in json.dumps(await web.call("recall"))

    run(scenario())
