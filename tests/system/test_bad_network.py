"""Peers whose network cuts, delays, trickles, stalls and forgets; and who lose nothing by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from orchestra import aio
from orchestra.address import parse_peer
from orchestra.enrol import enrol_here
from orchestra.keys import save_key
from orchestra.limits import LEASE_S
from orchestra.state import HubCard, StateFolder

from .programs import AGENT, BOUND_S, LEASH, TASK, Place, Program, Reader, environment, wait_until, words
from .proxy import Proxy, plan, proxy, suffer

READER, SENDER = "matrix/reader", "matrix/sender"
SPELLS = 16
SENDS = 500
LANES = 50
SUBMITTERS = 2

pytestmark = pytest.mark.timeout(8 * BOUND_S)


@dataclass
class Far:
    """A state folder on the other side of a bad network."""

    place: Place
    folder: StateFolder
    network: Proxy

    async def peer(self, address: str) -> aio.Client:
        return await aio.connect(state=self.folder.path, address=address, key=await self._key(address))

    async def agent(self, name: str, *options: str) -> Program:
        """Start an agent here, as a process."""
        save_key(self.folder.key_of(parse_peer(f"agent/{name}")), await self._key(f"agent/{name}"), owner=name)
        argv = (*AGENT, name, *LEASH, *options, "--runner", "exec")
        program = self.place.start(argv, name=name, env=environment(self.folder.path))
        await asyncio.to_thread(program.wait_output, "agent ready")
        return program

    async def _key(self, address: str) -> aio.KeyPair:
        return await enrol_here(StateFolder(self.place.state), parse_peer(address))


@asynccontextmanager
async def far(place: Place, name: str = "far") -> AsyncIterator[Far]:
    card = StateFolder(place.state).read_card()
    async with proxy(card.endpoints[-1]) as network:
        folder = StateFolder(place.folder / name)
        folder.make()
        folder.write_card(HubCard((network.endpoint,), card.public_key))
        yield Far(place, folder, network)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(2 * metafunc.config.getoption("faults")))


def test_nothing_is_lost_or_doubled_through_a_network_that_has_all_troubles(place: Place, seed: int) -> None:
    hub = place.hub("--durability", "fast")
    told = place.folder / "told"
    answered: dict[int, int] = {}
    tasks: list[aio.TaskResult] = []
    is_over = asyncio.Event()

    async def sending(sender: aio.Client) -> None:
        async def lane() -> None:
            nonlocal count
            while not is_over.is_set():
                number, count = count, count + 1
                answered[number] = await sender.send(READER, str(number).encode() + b" " * 500)

        count = 0
        async with asyncio.TaskGroup() as lanes:
            for _ in range(LANES):
                lanes.create_task(lane())

    async def submitting(client: aio.Client) -> None:
        script = 'echo "$ORCHESTRA_TASK_ID $ORCHESTRA_TASK_ATTEMPT" >> "$0"; echo "out $ORCHESTRA_TASK_ID"'
        while not is_over.is_set():
            task = await client.submit(argv=["sh", "-c", script, str(told)])
            tasks.append(await task.result())

    async def scenario() -> None:
        async with far(place) as there, AsyncExitStack() as stack, asyncio.timeout(4 * BOUND_S):
            for name in ("one", "two"):
                await there.agent(name, "--queue", "default", "--concurrency", "2")
            addresses = READER, SENDER, "operator/far"
            clients = [await stack.enter_async_context(await there.peer(address)) for address in addresses]
            reader_client, sender, submitter = clients
            reader = Reader(reader_client)
            stack.push_async_callback(reader.stop)

            async def trouble() -> None:
                await suffer(there.network, seed, SPELLS)
                is_over.set()

            async with asyncio.TaskGroup() as work:
                for each in (trouble(), sending(sender), *(submitting(submitter) for _ in range(SUBMITTERS))):
                    work.create_task(each)
            await reader.wait_for("all messages", lambda: len(reader.bodies.get(SENDER, ())) >= len(answered))
            assert there.network.accepted > len(clients) + 2, "nobody had to connect again"

            assert reader.bodies[SENDER] == list(range(len(answered))), "lost, doubled or disordered"
            seqs = [answered[number] for number in sorted(answered)]
            assert seqs == sorted(set(seqs)), "two sends share a seq, or a later one has a smaller"
            assert all(each.is_ok and each.text == f"out {each.seq}\n" for each in tasks)
            attempts = Counter(tuple(map(int, line.split())) for line in told.read_text().splitlines())
            assert set(attempts.values()) == {1}, "an attempt was run more than once"
            assert {each.seq: each.attempt for each in tasks} == dict(sorted(attempts)), "the last attempt counts"

            await reader_client.call("status")  # said after the last acknowledgement
            status = await submitter.call("status")
            assert status["mailboxes"] == {}
            assert status["stored"]["tasks"] == {"completed": len(tasks)}

    try:
        asyncio.run(scenario())
    except BaseException:
        print(f"seed {seed}: {plan(seed, SPELLS)}")  # noqa: T201 - to repeat it
        raise
    assert "Traceback" not in hub.stderr


def test_connections_that_lead_nowhere_are_given_up_by_both_sides_and_no_task_runs_twice_at_once(place: Place) -> None:
    hub = place.hub("--durability", "fast")
    ways = {"up": ("up",), "down": ("down",), "both": ("up", "down")}

    async def scenario() -> None:
        async with AsyncExitStack() as stack, aio.connect(state=place.state) as client:
            theres = {name: await stack.enter_async_context(far(place, name)) for name in ways}
            tasks, told = {}, {name: place.folder / f"told-{name}" for name in ways}
            for name, there in theres.items():
                await there.agent(name, "--queue", "default")
                tasks[name] = await client.submit(argv=["sh", "-c", TASK, str(told[name])])
                await asyncio.to_thread(wait_until, lambda name=name: words(told[name]), "the task to begin")
                place.pids += [int(pid) for _, pid in words(told[name])]
            both = theres["both"]
            reader_client, sender = [
                await stack.enter_async_context(await both.peer(address)) for address in (READER, SENDER)
            ]
            reader = Reader(reader_client)
            stack.push_async_callback(reader.stop)
            first = [await sender.send(READER, str(number)) for number in range(SENDS)]

            for name, there in theres.items():
                there.network.swallow(*ways[name])
            rest = [asyncio.ensure_future(sender.send(READER, str(SENDS + number))) for number in range(SENDS)]
            await asyncio.to_thread(place.agent, "well", "--queue", "default", "--concurrency", str(len(ways)))

            for name, task in tasks.items():
                result = await asyncio.wait_for(task.result(), LEASE_S + BOUND_S)
                assert result.attempt > 1
                assert (result.is_ok, result.text) == (True, f"attempt {result.attempt}\n"), name
            seqs = [*first, *await asyncio.wait_for(asyncio.gather(*rest), LEASE_S + BOUND_S)]
            assert seqs == sorted(set(seqs))
            await reader.wait_for("all messages", lambda: len(reader.bodies.get(SENDER, ())) >= 2 * SENDS)
            assert reader.bodies[SENDER] == list(range(2 * SENDS))
            for name in ways:
                task = await client.submit(f"agent/{name}", argv=["echo", "as before"])
                assert (await asyncio.wait_for(task.result(), LEASE_S + BOUND_S)).text == "as before\n"

    asyncio.run(scenario())
    assert "Traceback" not in hub.stderr
