"""The bridge from the old file inboxes, with programs of the old kind on the other side."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from orchestra import aio

from .oldstyle import OldAgent, OldOrchestrator
from .programs import BOUND_S, ORCHESTRA, Ended, Place, Program, free_port, wait_until

TASKS = 1000
WRITERS = 3
BRIDGE_KILLS = 120, 280, 440, 600, 800  # once so many results have come
HUB_KILLS = 200, 700

TELLS = ("sh", "-c", 'echo "$2" >> "$1"; echo "did $2"', "sh")


def bridge(place: Place, *options: str, log_level: str = "warning") -> Program:
    inbox, outbox = folders(place)
    where = ("--inbox", str(inbox), "--outbox", str(outbox))
    program = place.start(
        (*ORCHESTRA, "bridge", "files", *where, "--stop-with-stdin", "--log-level", log_level, *options), name="bridge"
    )
    program.wait_output("bridge ready")
    return program


def folders(place: Place) -> tuple[Path, Path]:
    inbox, outbox = place.folder / "inbox", place.folder / "outbox"
    inbox.mkdir(exist_ok=True)
    outbox.mkdir(exist_ok=True)
    return inbox, outbox


def test_1000_files_of_three_writers_come_back_once_though_the_bridge_and_the_hub_are_killed(place: Place) -> None:
    port, told = free_port(), place.folder / "told"
    hub = place.hub(port=port, log_level="warning")
    for name in ("1", "coder-2"):
        place.agent(name, "--concurrency", "4", "--log-level", "warning", command=(*TELLS, str(told)))
    agents = "--agent-map", "1=agent/1,2=coder-2"
    running = bridge(place, *agents)
    old = OldOrchestrator(*folders(place))

    def write(writer: int) -> None:
        for number in range(writer, TASKS, WRITERS):
            old.submit(1 + number % 2, {"id": f"t{number}", "prompt": f"task {number}"})

    writers = [threading.Thread(target=write, args=(each,)) for each in range(WRITERS)]
    for writer in writers:
        writer.start()
    for count in sorted((*BRIDGE_KILLS, *HUB_KILLS)):
        old.wait(count, bound_s=2 * BOUND_S)
        if count in HUB_KILLS:
            hub.kill()
            hub = place.hub(port=port, log_level="warning")
        else:
            running.kill()
            running = bridge(place, *agents)
    old.wait(TASKS, bound_s=2 * BOUND_S)
    for writer in writers:
        writer.join()
    running.signal(signal.SIGTERM)
    assert running.wait_end().code == 0
    old.collect()

    assert old.came == Counter({f"t{number}": 1 for number in range(TASKS)}), "a result for each task, once"
    ran = Counter(told.read_text().splitlines())
    assert ran == Counter({f"task {number}": 1 for number in range(TASKS)}), "each task was run once"
    for number in range(TASKS):
        result = old.results[f"t{number}"]
        assert (result["status"], result["output"]) == ("completed", f"did task {number}\n")
    inbox, outbox = folders(place)
    assert not list(inbox.glob("*/*.json"))
    assert len(list(inbox.glob("*/.taken/*.json"))) == TASKS
    assert not list(outbox.glob("*/.*")), "no draft is left"


def test_an_old_agent_does_each_task_of_the_hub_once_though_the_bridge_and_the_hub_are_killed(place: Place) -> None:
    port = free_port()
    hub = place.hub(port=port, log_level="warning")
    served = "--serve", "3=old-3+review"
    running = bridge(place, *served)
    begun, go_on = threading.Event(), threading.Event()

    def work(task: dict[str, Any]) -> str:
        if task["prompt"] == "task 3":
            begun.set()
            assert go_on.wait(BOUND_S)
        if task["prompt"] == "task 7":
            raise ValueError("no such branch")
        return f"did {task['prompt']}"

    old = OldAgent(3, *folders(place), work=work)

    async def scenario() -> None:
        nonlocal hub, running
        async with aio.connect(state=place.state) as client, asyncio.timeout(2 * BOUND_S):
            to = ("agent/old-3", "queue/review")
            tasks = [await client.submit(to[number % 2], prompt=f"task {number}") for number in range(12)]
            await asyncio.to_thread(begun.wait, BOUND_S)
            running.kill()
            await asyncio.to_thread(hub.kill)
            hub = await asyncio.to_thread(lambda: place.hub(port=port, log_level="warning"))
            running = await asyncio.to_thread(lambda: bridge(place, *served))
            go_on.set()
            results = [await task.result() for task in tasks]
        for number, result in enumerate(results):
            wanted = (False, "no such branch") if number == 7 else (True, f"did task {number}")
            assert (result.is_ok, result.text) == wanted
        assert results[3].attempt == 2, "its bridge was killed; its result was taken under the next lease"

    try:
        asyncio.run(scenario())
    finally:
        old.stop()
    assert len(old.done) == len(set(old.done)) == 12, "each was asked once"
    running.signal(signal.SIGTERM)
    assert running.wait_end().code == 0
    inbox, outbox = folders(place)
    assert not list(inbox.glob("3/*.json"))
    assert not list(outbox.glob("3/*.json"))


def test_an_old_orchestrator_is_served_without_a_hub_and_beside_one_and_what_comes_by_both_ways_runs_once(
    place: Place,
) -> None:
    told = place.folder / "told"
    inbox, outbox = folders(place)
    old = OldOrchestrator(inbox, outbox)
    for folder in (inbox / "1", outbox / "1"):
        folder.mkdir()
    files = ("--file-inbox", str(inbox / "1"), "--file-outbox", str(outbox / "1"))
    agent = place.agent("coder-1", *files, "--concurrency", "2", command=(*TELLS, str(told)))
    for number in range(20):
        old.submit(1, {"id": f"t{number}", "prompt": f"task-{number}"})
    old.wait(20, bound_s=BOUND_S)
    assert "until then only files are served" in agent.stderr

    place.hub(log_level="warning")
    agent.wait_output("agent ready: agent/coder-1")

    def submit(number: int) -> Ended:
        words = ("task", "submit", "--wait", "--key", f"t{number}", "--to", "agent/coder-1", f"task-{number}")
        return place.run(*words)

    assert submit(3).stdout == "did task-3\n", "it came as a file before"
    assert submit(20).stdout == "did task-20\n"
    for number in range(20, 30):
        old.submit(1, {"id": f"t{number}", "prompt": f"task-{number}"})
    old.wait(30, bound_s=BOUND_S)
    came = "came      2 by push, 29 by file in the last hour"  # task 20 was pushed before it came as a file
    wait_until(lambda: came in place.run("status").stdout, "the hub to be told what came by file")
    agent.signal(signal.SIGTERM)
    assert agent.wait_end().code == 0
    assert old.came == Counter({f"t{number}": 1 for number in range(30)})
    assert Counter(told.read_text().split()) == Counter({f"task-{number}": 1 for number in range(30)})
    assert {result["output"] for result in old.results.values()} == {f"did task-{number}\n" for number in range(30)}


def test_an_agent_that_is_killed_does_the_tasks_of_its_files_when_it_returns_and_answers_each_once(
    place: Place,
) -> None:
    told = place.folder / "told"
    inbox, outbox = folders(place)
    old = OldOrchestrator(inbox, outbox)
    for folder in (inbox / "1", outbox / "1"):
        folder.mkdir()
    options = ("--file-inbox", str(inbox / "1"), "--file-outbox", str(outbox / "1"), "--concurrency", "4")
    agent = place.agent("coder-1", *options, command=(*TELLS, str(told)))
    for number in range(120):
        old.submit(1, {"id": number, "prompt": f"task-{number}"})
    for count in (10, 40, 70):
        old.wait(count, bound_s=BOUND_S)
        agent.kill()
        agent = place.agent("coder-1", *options, command=(*TELLS, str(told)))
    old.wait(120, bound_s=BOUND_S)
    agent.signal(signal.SIGTERM)
    assert agent.wait_end().code == 0
    old.collect()
    assert old.came == Counter(range(120))
    assert not list(inbox.glob("1/*.json"))
    ran = Counter(told.read_text().split())
    assert set(ran) == {f"task-{number}" for number in range(120)}
    assert sum(ran.values()) <= 120 + 3 * 4, "only those that ran when it was killed were run again"
