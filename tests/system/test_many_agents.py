"""Hundreds of agents that connect in the same moment."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

import pytest

from orchestra import aio
from orchestra.keys import make_key_pair
from orchestra.state import HubCard, StateFolder
from orchestra.task import TaskState

from .programs import BOUND_S, Place, may_open, open_files, peer, resident_bytes, wait_until

AGENTS = 500
FILES = 12 * AGENTS  # a client has some ten: its sockets, their signals, its context's
FEW_FILES = 160  # of a hub: it has some thirty of its own, and keeps 64
CROWD = 110  # more than it has files for
KIB = 2**10
CONNECTION_BYTES_MAX = 256 * KIB  # several times what one costs, far below what would hurt


@pytest.fixture
def many_files() -> Iterator[None]:
    with may_open(FILES):
        yield


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_500_agents_that_connect_at_once_are_all_welcomed_each_gets_its_own_and_all_leave(
    place: Place, many_files: None, transport: str
) -> None:
    hub = place.hub("--durability", "fast", log_level="warning")
    folder = StateFolder(place.state)
    there = StateFolder(place.folder / "there")
    there.make()
    card = folder.read_card()
    there.write_card(HubCard(tuple(each for each in card.endpoints if each.startswith(transport)), card.public_key))
    keys = {f"agent/a{number}": make_key_pair() for number in range(AGENTS)}

    async def scenario() -> None:
        async with (
            aio.connect(state=folder.path) as operator,
            AsyncExitStack() as stack,
            asyncio.timeout(2 * BOUND_S),
        ):
            for name, key in keys.items():
                await operator.call("keys.accept", address=name, public_key=key.public)
            bytes_before, files_before = resident_bytes(hub.pid), open_files(hub.pid)
            agents = await asyncio.gather(
                *(
                    stack.enter_async_context(
                        aio.connect(
                            state=there.path, address=name, key=key, slots=1, queues=["queue/all"], patience_s=BOUND_S
                        )
                    )
                    for name, key in keys.items()
                )
            )
            assert {agent.address for agent in agents} == set(keys)
            assert (await operator.call("status"))["peers"]["agent"]["online"] == AGENTS
            each_bytes = (resident_bytes(hub.pid) - bytes_before) // AGENTS
            assert each_bytes < CONNECTION_BYTES_MAX
            print(f"\n{AGENTS} agents over {transport}: {each_bytes / KIB:.0f} KiB of the hub's memory each")  # noqa: T201 - measured

            await asyncio.gather(*(operator.send(name, name) for name in keys))
            assert await asyncio.gather(*map(_first_message, agents)) == list(keys)
            tasks = await asyncio.gather(*(operator.submit("queue/all", argv=["true"]) for _ in keys))
            done = await asyncio.gather(*map(_one_task, agents))
            assert sorted(done) == [task.seq for task in tasks], "each agent got one, and each task was given once"
            for task in tasks:
                assert (await task.result()).is_ok

            await asyncio.gather(*(agent.close() for agent in agents))
            status = await operator.call("status")
            assert status["peers"]["agent"]["online"] == 0
            assert status["counts"].get("slow_reader", 0) == status["counts"].get("redelivered", 0) == 0
            await asyncio.to_thread(
                wait_until, lambda: open_files(hub.pid) <= files_before, "the hub to close all connections"
            )

    asyncio.run(scenario())
    assert hub.stderr == "", "there was something to warn of"


async def _first_message(agent: aio.Client) -> str:
    messages = agent.messages()
    text = (await anext(messages)).text
    await messages.aclose()
    return text


async def _one_task(agent: aio.Client) -> int:
    task = await agent.next_assignment()
    await agent.report(task, TaskState.COMPLETED, {}, b"")
    return task.seq


def test_a_hub_that_has_hardly_a_file_left_says_so_serves_whom_it_has_and_takes_others_later(
    place: Place, many_files: None
) -> None:
    hub = place.hub(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES)))

    async def scenario() -> None:
        async with (
            await peer(place, "matrix/one") as one,
            await peer(place, "matrix/two") as two,
            AsyncExitStack() as stack,
        ):
            lost: list[str] = []
            for client in (one, two):
                client.on_lost = lambda reason: lost.append(str(reason))
            crowd = [asyncio.ensure_future(_crowd(place)) for _ in range(CROWD)]
            stack.push_async_callback(_disperse, crowd)
            await asyncio.to_thread(wait_until, lambda: "were turned away" in hub.stderr, "the hub to say so")
            messages = two.messages()
            for number in range(500):
                await asyncio.wait_for(one.send("matrix/two", str(number)), BOUND_S)
                assert (await asyncio.wait_for(anext(messages), BOUND_S)).text == str(number)
            assert not all(each.done() for each in crowd), "there was room for all"
            await _disperse(crowd)
            async with asyncio.timeout(BOUND_S):
                await (await _crowd(place)).close()
            assert lost == []

    asyncio.run(scenario())
    assert hub.stderr.count("were turned away") < 5, "once is enough"
    assert "Traceback" not in hub.stderr


async def _crowd(place: Place) -> aio.Client:
    """Connect as this user's operator, who may have many sessions."""
    return await aio.connect(state=place.state, patience_s=None)


async def _disperse(crowd: Sequence[asyncio.Future[aio.Client]]) -> None:
    """Let nobody connect any more, and close who has."""
    for each in crowd:
        each.cancel()
    ended = await asyncio.gather(*crowd, return_exceptions=True)
    await asyncio.gather(*(each.close() for each in ended if isinstance(each, aio.Client)))
