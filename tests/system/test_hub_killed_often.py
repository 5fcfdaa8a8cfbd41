"""A hub that is killed with SIGKILL again and again, at full load."""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack, closing

import pytest

from orchestra import aio
from orchestra.task import TaskState

from .programs import BOUND_S, Place, Reader, free_port, peer

KILLS = 20  # times what `--faults` says
LANES = 200  # sends that each of the two senders always has open
AHEAD_MAX = 10_000  # messages of a sender that the reader may be behind: a mailbox holds 100,000
SUBMITTERS = 3
READER = "matrix/reader"
SENDERS = "matrix/one", "matrix/two"
TABLES = "message", "delivery", "dead", "task"


def test_nothing_answered_is_lost_or_comes_twice_though_the_hub_is_killed_20_times_at_full_load(
    place: Place, pytestconfig: pytest.Config
) -> None:
    kills = KILLS * pytestconfig.getoption("faults")
    port = free_port()
    hub = place.hub("--durability", "full", port=port, log_level="warning")
    for name in ("one", "two"):
        place.agent(name, "--queue", "default", "--concurrency", "2")
    told = place.folder / "told"
    chance = random.Random(20)
    answered: dict[str, dict[int, int]] = {sender: {} for sender in SENDERS}
    tasks: list[aio.TaskResult] = []
    back_s: list[float] = []
    is_enough = asyncio.Event()

    async def sending(client: aio.Client, reader: Reader) -> None:
        numbers, mine = itertools.count(), answered[client.address]

        def is_room() -> bool:
            return len(mine) - len(reader.bodies.get(client.address, ())) < AHEAD_MAX

        async def lane() -> None:
            while not is_enough.is_set():
                if not is_room():
                    await reader.wait_for("it to catch up", is_room)
                number = next(numbers)
                mine[number] = await client.send(READER, str(number).encode() + b" " * 200)

        async with asyncio.TaskGroup() as lanes:
            for _ in range(LANES):
                lanes.create_task(lane())

    async def submitting(client: aio.Client) -> None:
        script = 'echo "$ORCHESTRA_TASK_ID $ORCHESTRA_TASK_ATTEMPT" >> "$0"; echo "out $ORCHESTRA_TASK_ID"'
        while not is_enough.is_set():
            task = await client.submit(argv=["sh", "-c", script, str(told)])
            tasks.append(await asyncio.wait_for(task.result(), 2 * BOUND_S))

    async def killing(reader: Reader) -> None:
        def got() -> int:
            return sum(map(len, reader.bodies.values()))

        nonlocal hub
        for _ in range(kills):
            wanted = got() + chance.randrange(500, 3000)
            await reader.wait_for("what was sent since the last kill", lambda wanted=wanted: got() >= wanted)
            killed_at = time.monotonic()
            await asyncio.to_thread(hub.kill)
            before = got()
            hub = await asyncio.to_thread(lambda: place.hub("--durability", "full", port=port, log_level="warning"))
            await reader.wait_for("the first message after a kill", lambda before=before: got() > before)
            back_s.append(time.monotonic() - killed_at)
        is_enough.set()

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            reader_client = await stack.enter_async_context(await peer(place, READER))
            reader = Reader(reader_client)
            stack.push_async_callback(reader.stop)
            senders = [await stack.enter_async_context(await peer(place, sender)) for sender in SENDERS]
            submitter = await stack.enter_async_context(aio.connect(state=place.state))
            async with asyncio.timeout(kills / KILLS * 6 * BOUND_S):
                async with asyncio.TaskGroup() as work:
                    for each in (
                        killing(reader),
                        *(sending(sender, reader) for sender in senders),
                        *(submitting(submitter) for _ in range(SUBMITTERS)),
                    ):
                        work.create_task(each)
                for sender, mine in answered.items():
                    await reader.wait_for(
                        f"all of {sender}", lambda sender=sender, mine=mine: len(reader.bodies[sender]) >= len(mine)
                    )
            await reader_client.call("status")  # said after the last acknowledgement, so it is taken too

            for sender, mine in answered.items():
                assert reader.bodies[sender] == list(range(len(mine))), f"lost, doubled or disordered: {sender}"
                seqs = [mine[number] for number in sorted(mine)]
                assert seqs == sorted(set(seqs)), "two sends share a seq, or a later one has a smaller"

    asyncio.run(scenario())
    assert all(each.state is TaskState.COMPLETED and each.text == f"out {each.seq}\n" for each in tasks)
    attempts = Counter(tuple(map(int, line.split())) for line in told.read_text().splitlines())
    assert set(attempts.values()) == {1}, f"an attempt was run more than once: {attempts.most_common(3)}"
    assert {each.seq: each.attempt for each in tasks} == dict(sorted(attempts)), (
        "the last attempt is the one that counts"
    )
    hub.kill()
    _assert_the_database_agrees(place, messages=sum(map(len, answered.values())), tasks=len(tasks))
    back_s.sort()
    print(  # noqa: T201 - a measurement: `pytest -rP` shows it
        f"\n{kills} kills, {sum(map(len, answered.values()))} messages, {len(tasks)} tasks; from the kill to the next"
        f" delivery {statistics.median(back_s):.2f} s (median), {back_s[-1]:.2f} s (longest), a new process included"
    )


def _assert_the_database_agrees(place: Place, *, messages: int, tasks: int) -> None:
    """Look into the database of a hub that was killed: what is not in it was never there."""
    with closing(sqlite3.connect(place.state / "hub.db")) as database:
        count = {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}
        states = dict(database.execute("SELECT state, count(*) FROM task GROUP BY state").fetchall())
    assert count == {"message": messages + tasks, "delivery": 0, "dead": 0, "task": tasks}
    assert states == {"completed": tasks}
