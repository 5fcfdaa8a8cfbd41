"""The worker: with a real hub in the same loop, and with a fake client where the hub would have to misbehave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra import aio, wire
from orchestra.address import parse_peer
from orchestra.agents import process, worker
from orchestra.agents.plan import PromptBy, Runner
from orchestra.agents.settings import AgentSettings
from orchestra.agents.worker import Worker
from orchestra.conversation import Assigned, Canceled, Welcomed
from orchestra.enrol import enrol_here
from orchestra.errors import ConnectionLost, OrchestraError, Replaced, StaleLease
from orchestra.hub import tasks as hub_tasks
from orchestra.hub.service import Hub
from orchestra.hub.settings import HubSettings
from orchestra.job import Job
from orchestra.limits import OUTPUT_BYTES_MAX, WORK_LEASE_S
from orchestra.state import StateFolder
from orchestra.task import TaskState

from ..system.programs import is_alive, wait_until

BOUND_S = 20.0
AGENT = parse_peer("agent/w")
HANGS = ("sh", "-c", "sleep 600 & echo $$ $! ready; wait")


@pytest.fixture(autouse=True)
def _quick_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KILL_GRACE_S", 0.2)
    monkeypatch.setattr(worker, "_STOP_S", 1.0)


class House:
    """A hub in this loop, an operator's client, and workers."""

    def __init__(self, folder: Path) -> None:
        self.state = StateFolder(folder / "s")
        self.settings = AgentSettings(AGENT, self.state, runner=Runner.EXEC, queues=("queue/default",))
        self.operator: aio.Client
        self._hub: Hub
        self._serving: asyncio.Task[None]
        self._working: dict[Worker, tuple[asyncio.Task[None], aio.Client]] = {}

    async def open(self) -> None:
        await self.start_hub()
        self.operator = await aio.connect(state=self.state.path)

    async def close(self) -> None:
        for task, client in self._working.values():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.close()
        await self.operator.close()
        await self.stop_hub()

    async def start_hub(self) -> None:
        self._hub = Hub(HubSettings(self.state, port=0, durability="fast"))
        self._serving = asyncio.create_task(self._hub.run())

    async def stop_hub(self) -> None:
        self._hub.stop()
        await self._serving
        self._hub.close()

    async def work(self, **settings: Any) -> Worker:
        """Let a worker begin; return it once it takes tasks."""
        chosen = replace(self.settings, **settings)
        key = await enrol_here(self.state, chosen.address)
        client = await aio.connect(
            state=self.state.path, address=str(chosen.address), key=key, queues=chosen.queues, patience_s=BOUND_S
        )
        made = Worker(chosen, client)
        ready = asyncio.Event()
        self._working[made] = (asyncio.create_task(made.run(ready=ready.set)), client)
        await asyncio.wait_for(ready.wait(), BOUND_S)
        return made

    async def ended(self, made: Worker) -> None:
        """Wait until `run` of a worker has ended by itself, and say goodbye as its program does."""
        task, client = self._working[made]
        await asyncio.wait_for(task, BOUND_S)
        await client.close()

    async def submit(self, *argv: str, to: str = "queue/default", **options: Any) -> aio.SubmittedTask:
        return await self.operator.submit(to, argv=argv, **options)

    async def result(self, *argv: str, **options: Any) -> aio.TaskResult:
        return await _soon((await self.submit(*argv, **options)).result())

    async def state_of(self, task: aio.SubmittedTask) -> str:
        return str((await self.operator.call("task.get", seq=task.seq))["state"])


async def _soon(awaited: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.wait_for(awaited, BOUND_S)


async def _printed(task: aio.SubmittedTask, word: str) -> list[int]:
    """Wait until a task has printed `word`; return the numbers it printed: its processes."""
    shown = ""
    async with asyncio.timeout(BOUND_S):
        async for news in task.follow():
            shown += getattr(news, "data", b"").decode()
            if word in shown:
                break
    return [int(each) for each in shown.split() if each.isdigit()]


def _assert_gone(pids: list[int]) -> None:
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_alive, pids)), "the processes of the task to be gone")


def _in_house(folder: Path, scenario: Callable[[House], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with _house(folder) as house, asyncio.timeout(2 * BOUND_S):
            await scenario(house)

    asyncio.run(run())


@asynccontextmanager
async def _house(folder: Path) -> AsyncIterator[House]:
    house = House(folder)
    await house.open()
    try:
        yield house
    finally:
        await house.close()


# What is run.


@pytest.mark.parametrize("prompt_by", PromptBy)
def test_a_prompt_reaches_the_program_as_argument_or_on_standard_input(tmp_path: Path, prompt_by: PromptBy) -> None:
    script = 'printf "argument:%s input:" "$1"; cat'

    async def scenario(house: House) -> None:
        command = ("sh", "-c", script, "program")
        await house.work(runner=Runner.COMMAND, command=command, prompt_by=prompt_by)
        task = await house.operator.submit(prompt="two words\n")
        shown = {PromptBy.ARGUMENT: "argument:two words\n input:", PromptBy.STDIN: "argument: input:two words\n"}
        assert (await _soon(task.result())).text == shown[prompt_by]

    _in_house(tmp_path, scenario)


def test_the_argv_of_a_task_is_run_only_by_an_agent_that_was_asked_to_run_commands(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        await house.work(runner=Runner.COMMAND, command=("echo",))
        result = await house.result("touch", str(tmp_path / "made"))
        assert (result.state, result.report["code"]) == (TaskState.FAILED, "not_allowed")
        assert not (tmp_path / "made").exists()

    _in_house(tmp_path, scenario)


def test_an_agent_that_accepts_some_senders_refuses_all_others(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        await house.work(accept_from=frozenset({"matrix/friend"}))
        result = await house.result("true")
        assert (result.state, result.report["code"]) == (TaskState.FAILED, "not_allowed")
        key = await enrol_here(house.state, parse_peer("matrix/friend"))
        async with aio.connect(state=house.state.path, address="matrix/friend", key=key) as friend:
            task = await friend.submit(argv=["echo", "for you"])
            assert (await _soon(task.result())).text == "for you\n"

    _in_house(tmp_path, scenario)


def test_a_body_that_is_no_job_fails_with_a_reason_and_the_worker_goes_on(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        await house.work()
        client = house.operator
        await client._next_send("queue/default", b"\xc1 no job", wire.TASK, None)
        assert (await house.result("echo", "next")).text == "next\n"
        (failed,) = (await client.call("task.list", state="failed"))["tasks"]
        assert failed["report"]["code"] == "bad_option"

    _in_house(tmp_path, scenario)


def test_a_program_with_a_very_long_name_is_refused_with_a_short_sentence_and_the_worker_goes_on(
    tmp_path: Path,
) -> None:
    async def scenario(house: House) -> None:
        await house.work()
        result = await house.result("x" * 200_000)
        assert result.report["code"] == "not_started"
        assert (await house.result("echo", "next")).text == "next\n"

    _in_house(tmp_path, scenario)


def test_output_comes_as_progress_before_the_result(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        await house.work()
        go = tmp_path / "go"
        task = await house.submit("sh", "-c", f"echo early; while [ ! -e {go} ]; do sleep 0.02; done; echo late")
        await _printed(task, "early")
        assert await house.state_of(task) == "working"
        go.touch()
        assert (await _soon(task.result())).text == "early\nlate\n"

    _in_house(tmp_path, scenario)


def test_an_output_above_the_limit_is_cut_in_the_result_and_whole_in_a_file(tmp_path: Path) -> None:
    size = OUTPUT_BYTES_MAX + 50_000

    async def scenario(house: House) -> None:
        await house.work()
        result = await house.result("head", "-c", str(size), "/dev/zero")
        assert result.is_ok
        assert len(result.output) <= OUTPUT_BYTES_MAX
        assert (result.report["is_cut"], result.report["output_bytes"]) == (True, size)
        whole = Path(result.report["output_file"])
        assert whole.parent == house.state.outputs
        assert await asyncio.to_thread(whole.read_bytes) == bytes(size)

    _in_house(tmp_path, scenario)


def test_as_many_tasks_run_at_once_as_were_asked_for(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        await house.work(concurrency=3)
        # Each waits for the other two: with fewer at once none would ever end.
        script = 'touch "$0/$ORCHESTRA_TASK_ID"; while [ "$(ls "$0" | wc -l)" -lt 3 ]; do sleep 0.02; done'
        (tmp_path / "meet").mkdir()
        tasks = [await house.submit("sh", "-c", script, str(tmp_path / "meet")) for _ in range(3)]
        results = await _soon(asyncio.gather(*(task.result() for task in tasks)))
        assert all(result.is_ok for result in results)

    _in_house(tmp_path, scenario)


# How it is ended.


def test_cancel_stops_the_whole_process_group_and_is_reported_as_canceled(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        await house.work()
        task = await house.submit(*HANGS)
        pids = await _printed(task, "ready")
        await task.cancel()
        result = await _soon(task.result())
        assert result.state is TaskState.CANCELED
        assert result.report["text"].startswith("canceled by operator/")
        await asyncio.to_thread(_assert_gone, pids)
        assert (await house.result("echo", "next")).text == "next\n"

    _in_house(tmp_path, scenario)


def test_a_draining_worker_finishes_what_it_has_and_takes_nothing_new(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        made = await house.work()
        go = tmp_path / "go"
        task = await house.submit("sh", "-c", f"echo ready; while [ ! -e {go} ]; do sleep 0.02; done")
        await _printed(task, "ready")
        made.drain()
        later = await house.submit("true")
        go.touch()
        assert (await _soon(task.result())).is_ok
        await house.ended(made)
        assert await house.state_of(later) == "queued"

    _in_house(tmp_path, scenario)


def test_a_worker_without_tasks_drains_at_once(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        made = await house.work()
        made.drain()
        await house.ended(made)

    _in_house(tmp_path, scenario)


def test_a_second_drain_stops_the_tasks_and_gives_them_to_another(tmp_path: Path) -> None:
    script = 'if [ "$ORCHESTRA_AGENT" = agent/w ]; then sleep 600 & echo $$ $! ready; wait; fi; echo "$ORCHESTRA_AGENT"'

    async def scenario(house: House) -> None:
        made = await house.work()
        task = await house.submit("sh", "-c", script)
        pids = await _printed(task, "ready")
        made.drain()
        made.drain()
        await house.ended(made)
        await asyncio.to_thread(_assert_gone, pids)
        await house.work(address=parse_peer("agent/other"))
        result = await _soon(task.result())
        assert (result.text, result.attempt) == ("agent/other\n", 2)

    _in_house(tmp_path, scenario)


def test_a_drain_gives_back_what_takes_longer_than_it_may(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        made = await house.work(drain_s=0.1)
        task = await house.submit(*HANGS)
        pids = await _printed(task, "ready")
        made.drain()
        await house.ended(made)
        await asyncio.to_thread(_assert_gone, pids)
        assert await house.state_of(task) == "queued"

    _in_house(tmp_path, scenario)


def test_a_worker_whose_name_another_takes_stops_its_tasks_and_says_why(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        first = await house.work()
        task = await house.submit(*HANGS, to="agent/w")
        pids = await _printed(task, "ready")
        await house.work()
        with pytest.raises(Replaced):
            await house.ended(first)
        await asyncio.to_thread(_assert_gone, pids)

    _in_house(tmp_path, scenario)


# When the hub is gone.


def test_without_a_hub_for_too_long_the_tasks_are_stopped_and_done_anew_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WORK_LEASE_S", 0.5)
    monkeypatch.setattr(worker, "PROVE_S", 0.05)
    monkeypatch.setattr(aio, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(hub_tasks, "_LEASE_MS", 1000)  # which the hub that starts gives the agent to come back
    script = 'if [ "$ORCHESTRA_TASK_ATTEMPT" = 1 ]; then sleep 600 & echo $$ $! ready; wait; fi; echo again'

    async def scenario(house: House) -> None:
        await house.work()
        task = await house.submit("sh", "-c", script)
        pids = await _printed(task, "ready")
        await house.stop_hub()
        await asyncio.to_thread(_assert_gone, pids)
        await house.start_hub()
        result = await _soon(task.result())
        assert (result.text, result.attempt) == ("again\n", 2)

    _in_house(tmp_path, scenario)


def test_a_hub_that_is_back_soon_finds_the_task_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "WORK_LEASE_S", BOUND_S)

    async def scenario(house: House) -> None:
        await house.work()
        go = tmp_path / "go"
        task = await house.submit("sh", "-c", f"echo ready; while [ ! -e {go} ]; do sleep 0.02; done; echo done")
        await _printed(task, "ready")
        await house.stop_hub()
        await house.start_hub()
        go.touch()
        result = await _soon(task.result())
        assert (result.text, result.attempt) == ("ready\ndone\n", 1)

    _in_house(tmp_path, scenario)


def test_a_worker_ends_also_when_no_hub_takes_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "WORK_LEASE_S", BOUND_S)

    async def scenario(house: House) -> None:
        made = await house.work(drain_s=0.1)
        go = tmp_path / "go"
        task = await house.submit("sh", "-c", f"echo ready; while [ ! -e {go} ]; do sleep 0.02; done")
        await _printed(task, "ready")
        await house.stop_hub()
        go.touch()
        made.drain()
        await house.ended(made)
        await house.start_hub()

    _in_house(tmp_path, scenario)


def test_a_second_drain_hurries_a_worker_that_only_waits_to_tell_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WORK_LEASE_S", BOUND_S)

    async def scenario(house: House) -> None:
        made = await house.work(drain_s=600)
        go = tmp_path / "go"
        task = await house.submit("sh", "-c", f"echo ready; while [ ! -e {go} ]; do sleep 0.02; done")
        await _printed(task, "ready")
        await house.stop_hub()
        go.touch()
        made.drain()
        made.drain()
        await house.ended(made)
        await house.start_hub()

    _in_house(tmp_path, scenario)


# With a fake client: what a hub says rarely.


class FakeClient:
    """A client without a connection: a test gives it tasks and looks at what the worker says."""

    address = "agent/w"

    def __init__(self) -> None:
        self.on_connected: Callable[[Welcomed], None]
        self.on_lost: Callable[[OrchestraError], None]
        self.on_canceled: Callable[[Canceled], None]
        self.on_assigned: Callable[[Assigned], None]
        self.said: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.slots: list[int] = []
        self.pings = 0
        self.unanswered_s = 0.0
        self.shown = bytearray()
        self.refusal: OrchestraError | None = None
        self._over: asyncio.Future[OrchestraError] = asyncio.get_running_loop().create_future()

    async def wait_over(self) -> OrchestraError:
        return await asyncio.shield(self._over)

    def offer(self, slots: int) -> None:
        self.slots.append(slots)

    def lease_left_s(self, lease_s: float) -> float:
        return max(0.0, lease_s - self.unanswered_s)

    def ping(self) -> None:
        self.pings += 1

    def tell_progress(self, task: Assigned, data: bytes) -> None:
        self.shown += data
        if b"ready" in self.shown:
            self.said.put_nowait(("ready", task.lease))

    async def report(self, task: Assigned, outcome: TaskState, report: dict[str, Any], output: bytes) -> None:
        self.said.put_nowait((outcome.value, task.lease))
        if self.refusal is not None:
            raise self.refusal

    def give_back(self, task: Assigned, why: str) -> None:
        self.said.put_nowait(("given back", task.lease))


def _assigned(*argv: str, seq: int = 7, lease: int = 1) -> Assigned:
    return Assigned(seq, "operator/me", "queue/default", 0, Job(argv=argv).encode(), lease, lease, {})


def _with_fake(tmp_path: Path, scenario: Callable[[FakeClient, Worker], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        client = FakeClient()
        settings = AgentSettings(AGENT, StateFolder(tmp_path / "s"), runner=Runner.EXEC)
        made = Worker(settings, client)  # type: ignore[arg-type]
        working = asyncio.create_task(made.run())
        try:
            async with asyncio.timeout(BOUND_S):
                await scenario(client, made)
                made.drain()
                await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        assert client.slots == [1, 0]

    asyncio.run(run())


def test_a_result_that_is_not_taken_is_logged_and_the_worker_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(client: FakeClient, made: Worker) -> None:
        client.refusal = StaleLease("task 7 is not held under lease 1; stop working on it")
        client.on_assigned(_assigned("true"))
        assert await client.said.get() == ("completed", 1)
        client.refusal = None
        client.on_assigned(_assigned("true", seq=8, lease=2))
        assert await client.said.get() == ("completed", 2)

    with caplog.at_level(logging.WARNING, logger="orchestra.agents.worker"):
        _with_fake(tmp_path, scenario)
    assert [record.action for record in caplog.records] == ["result_refused"]  # type: ignore[attr-defined]
    assert "given to another agent meanwhile; this result is not taken" in caplog.text


def test_a_task_the_hub_gave_to_another_while_it_was_away_is_stopped_and_not_reported(tmp_path: Path) -> None:
    async def scenario(client: FakeClient, made: Worker) -> None:
        client.on_assigned(_assigned(*HANGS))
        assert await client.said.get() == ("ready", 1)
        client.on_lost(ConnectionLost("gone"))
        client.on_connected(Welcomed("agent/w", 1, [7]))
        assert await client.said.get() == ("given back", 1)
        await asyncio.to_thread(_assert_gone, [int(word) for word in client.shown.split() if word.isdigit()])

    _with_fake(tmp_path, scenario)


def test_a_new_attempt_of_a_task_ends_the_earlier_one_that_still_runs_here(tmp_path: Path) -> None:
    async def scenario(client: FakeClient, made: Worker) -> None:
        client.on_assigned(_assigned(*HANGS, lease=1))
        assert await client.said.get() == ("ready", 1)
        client.on_assigned(_assigned("true", lease=2))
        assert {await client.said.get(), await client.said.get()} == {("given back", 1), ("completed", 2)}

    _with_fake(tmp_path, scenario)


def test_a_task_is_stopped_when_the_hub_does_not_answer_although_the_connection_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PROVE_S", 0.02)

    async def scenario(client: FakeClient, made: Worker) -> None:
        client.on_assigned(_assigned(*HANGS))
        assert await client.said.get() == ("ready", 1)
        await asyncio.to_thread(wait_until, lambda: client.pings > 2, "the worker to ask whether its hub hears it")
        client.unanswered_s = WORK_LEASE_S
        assert await client.said.get() == ("given back", 1)
        await asyncio.to_thread(_assert_gone, [int(word) for word in client.shown.split() if word.isdigit()])

    _with_fake(tmp_path, scenario)


def test_a_task_that_comes_when_the_lease_is_over_already_is_given_back(tmp_path: Path) -> None:
    async def scenario(client: FakeClient, made: Worker) -> None:
        client.unanswered_s = WORK_LEASE_S
        client.on_assigned(_assigned("true"))
        assert await client.said.get() == ("given back", 1)
        assert client.pings == 1, "to have its lease renewed for the next"

    _with_fake(tmp_path, scenario)


def test_a_cancel_for_another_lease_is_not_for_this_attempt(tmp_path: Path) -> None:
    async def scenario(client: FakeClient, made: Worker) -> None:
        client.on_assigned(_assigned(*HANGS, lease=2))
        assert await client.said.get() == ("ready", 2)
        client.on_canceled(Canceled(7, 1, "an old one"))
        client.on_canceled(Canceled(8, 2, "of another task"))
        client.on_canceled(Canceled(7, 2, "the right one"))
        assert await client.said.get() == ("canceled", 2)

    _with_fake(tmp_path, scenario)


def test_a_task_that_arrives_while_it_drains_is_given_back(tmp_path: Path) -> None:
    async def scenario(client: FakeClient, made: Worker) -> None:
        client.on_assigned(_assigned(*HANGS, seq=7, lease=1))
        assert await client.said.get() == ("ready", 1)
        made.drain()
        client.on_assigned(_assigned("true", seq=8, lease=2))
        assert await client.said.get() == ("given back", 2)
        made.drain()
        assert await client.said.get() == ("given back", 1)

    _with_fake(tmp_path, scenario)
