"""Agents that are killed with SIGKILL, and many tasks over two agents."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

from orchestra import aio
from orchestra.limits import LEASE_S

from .programs import BOUND_S, Place, is_alive, wait_until

TASKS = 200

# Tells where it runs; the first attempt then never ends, and neither does its child.
FIRST_HANGS = """
sleep 600 & echo "$ORCHESTRA_AGENT $$ $!" >> "$0"
[ "$ORCHESTRA_TASK_ATTEMPT" = 1 ] && wait
kill $!; echo "done by attempt $ORCHESTRA_TASK_ATTEMPT"
"""


def test_another_agent_does_the_task_of_one_that_was_killed_and_nothing_of_the_first_attempt_is_left(
    place: Place,
) -> None:
    place.hub()
    agents = {f"agent/{name}": place.agent(name, "--queue", "default") for name in ("one", "two")}
    told = place.folder / "told"

    async def scenario() -> None:
        async with aio.connect(state=place.state) as client:
            task = await client.submit(argv=["sh", "-c", FIRST_HANGS, str(told)])
            ((killed, *pids),) = await asyncio.to_thread(wait_until, lambda: _told(told), "the task to begin")
            place.pids += map(int, pids)
            agents[killed].kill()
            result = await asyncio.wait_for(task.result(), LEASE_S + BOUND_S)
            assert (result.is_ok, result.attempt, result.text) == (True, 2, "done by attempt 2\n")
            _, (other, *_) = _told(told)
            assert {killed, other} == set(agents)
            assert not [pid for pid in pids if is_alive(int(pid))]

    asyncio.run(scenario())


def test_the_task_of_a_killed_agent_is_dead_long_before_its_lease_ends(place: Place) -> None:
    place.hub()
    agent = place.agent("one", "--queue", "default")
    told = place.folder / "told"

    async def scenario() -> None:
        async with aio.connect(state=place.state) as client:
            task = await client.submit(argv=["sh", "-c", FIRST_HANGS, str(told)])
            ((_, *pids),) = await asyncio.to_thread(wait_until, lambda: _told(told), "the task to begin")
            place.pids += map(int, pids)
            agent.kill()
            await asyncio.to_thread(
                wait_until, lambda: not any(is_alive(int(pid)) for pid in pids), "the task's processes to die"
            )
            assert (await client.call("task.get", seq=task.seq))["state"] == "working", "its lease has not ended yet"

    asyncio.run(scenario())


def test_200_tasks_over_two_agents_all_come_back_and_each_was_run_once(place: Place) -> None:
    place.hub()
    for name in ("one", "two"):
        place.agent(name, "--queue", "default")
    told = place.folder / "told"

    async def scenario() -> None:
        async with aio.connect(state=place.state) as client, asyncio.timeout(2 * BOUND_S):
            script = 'echo "$ORCHESTRA_TASK_ID $ORCHESTRA_AGENT" >> "$0"; echo "out $ORCHESTRA_TASK_ID"'
            tasks = await asyncio.gather(*(client.submit(argv=["sh", "-c", script, str(told)]) for _ in range(TASKS)))
            results = await asyncio.gather(*(task.result() for task in tasks))
        assert [result.text for result in results] == [f"out {task.seq}\n" for task in tasks]
        assert all(result.is_ok and result.attempt == 1 for result in results)
        assert Counter(seq for seq, _ in _told(told)) == Counter(str(task.seq) for task in tasks)
        shares = Counter(agent for _, agent in _told(told))
        assert set(shares) == {"agent/one", "agent/two"}, shares

    asyncio.run(scenario())


def test_an_agent_that_is_told_to_end_finishes_its_task_and_takes_no_other(place: Place) -> None:
    place.hub()
    agent = place.agent("one", "--queue", "default")
    told, go = place.folder / "told", place.folder / "go"
    script = 'echo "$ORCHESTRA_AGENT $$" >> "$0"; while [ ! -e "$1" ]; do sleep 0.05; done; echo done'

    async def scenario() -> None:
        async with aio.connect(state=place.state) as client:
            task = await client.submit(argv=["sh", "-c", script, str(told), str(go)])
            await asyncio.to_thread(wait_until, lambda: _told(told), "the task to begin")
            agent.signal(signal.SIGTERM)
            await asyncio.to_thread(wait_until, lambda: "draining" in agent.stderr, "the agent to drain")
            waiting = await client.submit(argv=["true"])
            go.touch()
            assert (await asyncio.wait_for(task.result(), BOUND_S)).text == "done\n"
            assert (await asyncio.to_thread(agent.wait_end)).code == 0
            assert (await client.call("task.get", seq=waiting.seq))["state"] == "queued"

    asyncio.run(scenario())


def _told(path: Path) -> list[list[str]]:
    """Return the words of each whole line that the tasks wrote."""
    return (
        [line.split() for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if (path.exists())
        else []
    )
