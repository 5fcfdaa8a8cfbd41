"""A hub that is killed with SIGKILL and started again."""

from __future__ import annotations

import asyncio

from orchestra import aio
from orchestra.errors import ConnectionLost

from .programs import BOUND_S, Place, Reader, free_port, peer, peer_facts, wait_until

SENDS = 10_000
READER = "matrix/reader"


def test_every_send_that_was_answered_is_delivered_once_and_in_order_though_the_hub_is_killed_twice(
    place: Place,
) -> None:
    port = free_port()
    hubs = [place.hub("--durability", "full", port=port)]

    async def scenario() -> None:
        async with await peer(place, READER) as reader_client:
            reader = Reader(reader_client)
            answered: dict[int, int] = {}
            parts = {SENDS // 5: asyncio.Event(), SENDS // 2: asyncio.Event()}

            async def send(client: aio.Client, number: int) -> None:
                answered[number] = await client.send(READER, str(number).encode() + b" " * 200)
                if (reached := parts.get(len(answered))) is not None:
                    reached.set()

            async with await peer(place, "matrix/sender") as client, asyncio.TaskGroup() as sends:
                for number in range(SENDS):
                    sends.create_task(send(client, number))
                for reached in parts.values():
                    await asyncio.wait_for(reached.wait(), BOUND_S)
                    assert len(answered) < SENDS, "all was sent before the hub could be killed in the middle of it"
                    hubs[-1].kill()
                    hubs.append(place.hub("--durability", "full", port=port))

            assert len(answered) == SENDS
            await reader.wait_for("the last message", lambda: len(reader.bodies.get("matrix/sender", ())) >= SENDS)
            assert reader.bodies["matrix/sender"] == list(range(SENDS))
            in_order = [answered[number] for number in range(SENDS)]
            assert in_order == sorted(set(in_order)), "two sends share a seq, or a later one has a smaller"
            await reader.stop()

    asyncio.run(scenario())


def test_what_was_answered_is_delivered_also_when_its_sender_never_comes_back(place: Place) -> None:
    port = free_port()
    hub = place.hub("--durability", "full", port=port)

    async def scenario() -> None:
        answered: list[int] = []
        enough = asyncio.Event()

        async def send(client: aio.Client, number: int) -> None:
            try:
                await client.send(READER, str(number).encode())
            except ConnectionLost:
                return
            answered.append(number)
            if len(answered) >= 1000:
                enough.set()

        await (await peer(place, READER)).close()  # it only has to be known
        async with await peer(place, "matrix/sender") as sender, asyncio.TaskGroup() as sends:
            for number in range(SENDS):
                sends.create_task(send(sender, number))
            await asyncio.wait_for(enough.wait(), BOUND_S)
            hub.kill()
            await sender.close()

        assert len(answered) < SENDS, "all was sent before the hub could be killed in the middle of it"
        place.hub("--durability", "full", port=port)
        async with await peer(place, READER) as reader_client:
            reader = Reader(reader_client)
            await reader.wait_for(
                "all that was answered",
                lambda: set(answered) <= set(reader.bodies.get("matrix/sender", ())),
            )
            got = reader.bodies["matrix/sender"]
            assert got == sorted(set(got)), "twice, or out of order"
            await reader.stop()

    asyncio.run(scenario())


def test_a_task_survives_the_hub_and_its_result_reaches_the_waiting_client(place: Place) -> None:
    port = free_port()
    hub = place.hub(port=port)
    agent = place.agent("worker", "--queue", "default", "--concurrency", "2")
    begun, go = place.folder / "begun", place.folder / "go"
    patient = f"echo begun >> {begun}; while [ ! -e {go} ]; do sleep 0.05; done; echo done"

    async def scenario() -> None:
        async with aio.connect(state=place.state) as client:
            task = await client.submit(argv=["sh", "-c", patient])
            await asyncio.to_thread(wait_until, begun.exists, "the task to begin")
            # The agent has just heard the hub when this one is back, so it has its whole lease to find the next.
            assert (await (await client.submit(argv=["true"])).result()).is_ok
            hub.kill()
            place.hub(port=port)
            await asyncio.to_thread(wait_until, lambda: "is connected again" in agent.stderr, "the agent to be back")
            (session,) = (await peer_facts(client, "agent/worker"))["sessions"]
            go.touch()
            result = await asyncio.wait_for(task.result(), BOUND_S)
            assert session["tasks"] == [task.seq], "the agent kept its task"
            assert (result.is_ok, result.attempt, result.text) == (True, 1, "done\n")

    asyncio.run(scenario())
    assert begun.read_text() == "begun\n", "run once"
