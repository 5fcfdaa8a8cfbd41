"""Processes that are stopped (SIGSTOP) for longer than a lease, and go on (SIGCONT)."""

from __future__ import annotations

import asyncio
import signal

import pytest

from orchestra import aio
from orchestra.limits import LEASE_S

from .programs import BOUND_S, ORCHESTRA, TASK, Place, Reader, peer, wait_until, words

READER = "matrix/reader"
SENDS = 2000

pytestmark = pytest.mark.timeout(4 * BOUND_S)


def test_the_tasks_of_a_frozen_agent_are_done_by_another_and_its_late_results_are_refused(place: Place) -> None:
    place.hub()
    frozen = place.agent("one", "--queue", "default", "--concurrency", "2")
    endless, late, go = (place.folder / name for name in ("endless", "late", "late.go"))

    async def scenario() -> None:
        async with aio.connect(state=place.state) as client:
            tasks = {told: await client.submit(argv=["sh", "-c", TASK, str(told)]) for told in (endless, late)}
            waiting = place.start((*ORCHESTRA, "task", "watch", str(tasks[endless].seq), "--json"))
            for told in tasks:
                await asyncio.to_thread(wait_until, lambda told=told: words(told), "the tasks to begin")
            place.pids += [int(pid) for told in tasks for _, pid in words(told)]

            for each in (frozen, waiting):
                each.signal(signal.SIGSTOP)
            await asyncio.to_thread(place.agent, "two", "--queue", "default", "--concurrency", "2")
            go.touch()  # it ends while its agent can't tell
            for task in tasks.values():
                result = await asyncio.wait_for(task.result(), LEASE_S + BOUND_S)
                assert (result.is_ok, result.attempt, result.text) == (True, 2, "attempt 2\n")
            assert [agent for agent, _ in words(endless)] == ["agent/one", "agent/two"]

            for each in (frozen, waiting):
                each.signal(signal.SIGCONT)
            await asyncio.to_thread(wait_until, lambda: "is connected again" in frozen.stderr, "the agent to be back")
            task = await client.submit("agent/one", argv=["echo", "as before"])
            assert (await asyncio.wait_for(task.result(), BOUND_S)).text == "as before\n"
            for task in tasks.values():
                assert (await client.call("task.get", seq=task.seq))["attempt"] == 2
            assert (await asyncio.to_thread(waiting.wait_end)).code == 0

    asyncio.run(scenario())
    assert "Traceback" not in frozen.stderr


def test_after_a_frozen_hub_goes_on_nothing_is_lost_doubled_or_done_by_two_at_once(place: Place) -> None:
    hub = place.hub("--durability", "full")
    for name in ("one", "two"):
        place.agent(name, "--queue", "default")
    told = place.folder / "told"

    async def scenario() -> None:
        async with await peer(place, READER) as reader_client:
            reader = Reader(reader_client)
            async with await peer(place, "matrix/sender") as sender, aio.connect(state=place.state) as client:
                task = await client.submit(argv=["sh", "-c", TASK, str(told)])
                await asyncio.to_thread(wait_until, lambda: words(told), "the task to begin")
                place.pids += [int(pid) for _, pid in words(told)]
                first = [await sender.send(READER, str(number)) for number in range(SENDS // 2)]
                was_lost = asyncio.Event()
                for each in (reader_client, sender, client):
                    each.on_lost = lambda reason: was_lost.set()
                hub.signal(signal.SIGSTOP)
                rest = asyncio.ensure_future(
                    asyncio.gather(*(sender.send(READER, str(number)) for number in range(SENDS // 2, SENDS)))
                )
                # More than a lease, and too little for all to notice: until the first of them does.
                await asyncio.wait_for(was_lost.wait(), LEASE_S + BOUND_S)
                assert not rest.done()
                hub.signal(signal.SIGCONT)

                seqs = [*first, *await asyncio.wait_for(rest, BOUND_S)]
                assert seqs == sorted(set(seqs))
                await reader.wait_for("all messages", lambda: len(reader.bodies.get("matrix/sender", ())) >= SENDS)
                assert reader.bodies["matrix/sender"] == list(range(SENDS))

                result = await asyncio.wait_for(task.result(), BOUND_S)
                assert result.attempt > 1, "its agent stopped it, since the hub was silent for longer than the lease"
                assert (result.is_ok, result.text) == (True, f"attempt {result.attempt}\n")
                assert len(words(told)) == 2, (
                    "an attempt that was given to a dead connection may be skipped, but not begun"
                )
                await reader.stop()

    asyncio.run(scenario())
    assert "Traceback" not in hub.stderr
