"""A real disk that is full in the middle of the load, and has room again later."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

from orchestra import aio
from orchestra.address import parse_peer
from orchestra.enrol import enrol_here
from orchestra.errors import OrchestraError, StorageFault
from orchestra.state import HubCard, StateFolder, this_operator
from orchestra.task import TaskState

from .mounts import on_small_disk
from .programs import BOUND_S, HUB, Place, Program, Reader

DISK_BYTES = 24 * 2**20
ROOM_BYTES = 6 * 2**20  # what the ballast leaves; SQLite folds its log in at 4 MiB, and needs as much again
BODY_BYTES = 2000
LANES = 50
SUBMITTERS = 4
READER, SENDER, WORKER = "matrix/reader", "matrix/sender", "agent/worker"


def test_nothing_is_lost_or_doubled_when_the_disk_is_full_in_the_middle_of_the_load(place: Place) -> None:
    place.state.mkdir(mode=0o700)
    hub = place.start(on_small_disk(place.state, DISK_BYTES, (*HUB, "--port", "0")), name="hub")
    hub.wait_output("hub ready")
    disk = Path(f"/proc/{hub.pid}/root{place.state}")
    ballast = disk / "ballast"
    here = _same_hub(disk, place.folder / "here")
    answered: dict[int, int] = {}
    done: list[aio.TaskResult] = []
    lost: list[OrchestraError] = []
    is_full, is_over = asyncio.Event(), asyncio.Event()

    async def sending(sender: aio.Client) -> None:
        async def lane() -> None:
            nonlocal count
            while not is_over.is_set():
                number, count = count, count + 1
                answered[number] = await sender.send(READER, str(number).encode() + b" " * BODY_BYTES)

        count = 0
        async with asyncio.TaskGroup() as lanes:
            for _ in range(LANES):
                lanes.create_task(lane())

    async def submitting(client: aio.Client) -> None:
        while not is_over.is_set():
            done.append(await (await client.submit(WORKER, argv=["x"])).result())

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            clients = {
                name: await stack.enter_async_context(await _peer(here, name))
                for name in (READER, SENDER, "operator/far")
            }
            worker = await stack.enter_async_context(await _peer(here, WORKER, slots=SUBMITTERS))
            runs: list[int] = []
            working = asyncio.ensure_future(_work(worker, runs))
            stack.callback(working.cancel)
            reader, sender = Reader(clients[READER]), clients[SENDER]
            stack.push_async_callback(reader.stop)

            def was_lost(reason: OrchestraError) -> None:
                lost.append(reason)
                is_full.set()

            async def filling() -> None:
                await reader.wait_for("some messages", lambda: len(reader.bodies.get(SENDER, ())) > 100)
                _fill(ballast, leave_bytes=ROOM_BYTES)
                await asyncio.wait_for(is_full.wait(), 2 * BOUND_S)
                while not await _is_told_of_full_disk(here):  # folding in its log may have made room once more
                    pass
                before = len(answered)
                ballast.unlink()
                await reader.wait_for("messages after it", lambda: len(reader.bodies[SENDER]) > before + 10 * LANES)
                is_over.set()

            sender.on_lost = was_lost
            async with asyncio.timeout(4 * BOUND_S), asyncio.TaskGroup() as work:
                for each in (
                    filling(),
                    sending(sender),
                    *(submitting(clients["operator/far"]) for _ in range(SUBMITTERS)),
                ):
                    work.create_task(each)
            await reader.wait_for("all messages", lambda: len(reader.bodies[SENDER]) >= len(answered))

            assert all(isinstance(reason, StorageFault) for reason in lost), lost
            assert reader.bodies[SENDER] == list(range(len(answered))), "lost, doubled or disordered"
            seqs = [answered[number] for number in sorted(answered)]
            assert seqs == sorted(set(seqs))
            assert all(each.is_ok for each in done)
            assert sorted(set(runs)) == sorted(each.seq for each in done), (
                "a task was not run, or one was that is unknown"
            )
            await clients[READER].call("status")  # said after the last acknowledgement
            status = await sender.call("status")
            assert status["mailboxes"] == {}
            assert status["stored"]["tasks"] == {"completed": len(done)}
            assert status["counts"]["turns_undone"] >= 2

    asyncio.run(scenario())
    assert "Traceback" not in hub.stderr
    assert "commit failed" in hub.stderr
    _stop(hub)


def _same_hub(disk: Path, folder: Path) -> StateFolder:
    """Return a state folder outside of the hub's disk, for its clients."""
    there, here = StateFolder(disk), StateFolder(folder)
    here.make()
    card = there.read_card()
    here.write_card(HubCard(card.endpoints[-1:], card.public_key))
    for path in (here.key_of(this_operator()), there.key_of(this_operator())):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copy2(there.key_of(this_operator()), here.key_of(this_operator()))
    return here


async def _peer(here: StateFolder, address: str, *, slots: int = 0) -> aio.Client:
    key = await enrol_here(here, parse_peer(address))
    return await aio.connect(state=here.path, address=address, key=key, slots=slots)


async def _work(worker: aio.Client, runs: list[int]) -> None:
    while True:
        task = await worker.next_assignment()
        runs.append(task.seq)
        worker.report(task, TaskState.COMPLETED, {}, b"")


async def _is_told_of_full_disk(here: StateFolder) -> bool:
    """Connect; whether that was refused because nothing can be written."""
    try:
        await (await aio.connect(state=here.path)).close()
    except StorageFault:
        return True
    return False


def _fill(ballast: Path, *, leave_bytes: int) -> None:
    free = shutil.disk_usage(ballast.parent).free
    with ballast.open("wb") as file:
        file.write(bytes(max(0, free - leave_bytes)))


def _stop(hub: Program) -> None:
    hub.process.terminate()
    assert hub.wait_end().code == 0
