"""An agent whose tasks come as files, alone and beside those of a real hub in the same loop."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra import aio
from orchestra.address import parse_peer
from orchestra.agents import process
from orchestra.agents.claims import Claim, Claims, Step, Way, claims_of
from orchestra.agents.filework import FileWork
from orchestra.agents.oldfile import digest_of, key_of
from orchestra.agents.place import folder_of_agent
from orchestra.agents.reply import now_ms
from orchestra.agents.settings import AgentSettings, FileSettings
from orchestra.agents.sharing import SharingWorker
from orchestra.agents.slots import Slots
from orchestra.agents.trust import Trust
from orchestra.errors import StateFault
from orchestra.state import StateFolder, this_operator
from orchestra.terms import Terms

from ..hub.livehub import LiveHub, live_hub, run, soon, until

ME = os.geteuid()
AGENT = parse_peer("agent/coder-1")
TELLS = ("sh", "-c", 'echo "$2" >> "$1"; echo "did $2"', "sh")
WAITS = ("sh", "-c", 'echo "$2" >> "$1"; while [ ! -e "$1.go" ]; do sleep 0.02; done; echo "did $2"', "sh")


@pytest.fixture(autouse=True)
def _quick_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KILL_GRACE_S", 0.2)


class House:
    """The folders of the old agent 1, and a program that tells in `told` what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inbox, self.outbox = folder / "inbox" / "1", folder / "outbox" / "1"
        for path in (self.inbox, self.outbox):
            path.mkdir(parents=True)
        self.told = folder / "told"
        self.program = TELLS

    def settings(self, **chosen: Any) -> AgentSettings:
        files = FileSettings(self.inbox, self.outbox, Trust(ME, "me", ME, 10_000))
        state = StateFolder(self.folder / "state")
        plain = AgentSettings(AGENT, state, command=(*self.program, str(self.told)), files=files, drain_s=0)
        return replace(plain, **chosen)

    @asynccontextmanager
    async def work(self, slots: Slots | None = None, **chosen: Any) -> AsyncIterator[FileWork]:
        settings = self.settings(**chosen)
        assert settings.files is not None
        work = FileWork(settings, settings.files, slots or Slots(settings.concurrency))
        running = asyncio.ensure_future(work.run())
        try:
            yield work
        finally:
            work.drain()
            await running

    def drop(self, name: str = "a.json", **fields: Any) -> None:
        (self.inbox / name).write_text(json.dumps({"id": "t7", "prompt": "x", **fields}))

    def result(self, task: str = "t7") -> dict[str, Any]:
        return dict(json.loads((self.outbox / f"result_{task}.json").read_text()))

    def has_result(self, task: str = "t7") -> bool:
        return (self.outbox / f"result_{task}.json").exists()

    def ran(self) -> list[str]:
        return self.told.read_text().split() if self.told.exists() else []

    async def claim(self, claim: Claim) -> None:
        claims = Claims(claims_of(self.inbox.parent))
        await claims.put(claim)
        claims.close()

    def claimed(self, way: Way, step: Step, **fields: Any) -> Claim:
        """Return what is known of `a.json`."""
        key = key_of(str(self.inbox), b"a.json", (self.inbox / "a.json").read_bytes())
        return replace(Claim("1", "t7", way, step, key, b"a.json", digest_of("x"), changed_ms=now_ms()), **fields)


@asynccontextmanager
async def both(house: House, hub: LiveHub, **chosen: Any) -> AsyncIterator[aio.Client]:
    """Let the agent do tasks of the hub and of files; give this user's client."""
    slots = Slots(1)
    async with (
        hub.connect(str(this_operator())) as client,
        hub.connect(str(AGENT)) as mine,
        house.work(slots) as files,
    ):
        worker = SharingWorker(house.settings(state=hub.folder, **chosen), mine, slots=slots, files=files)
        ready = asyncio.Event()
        running = asyncio.ensure_future(worker.run(ready=ready.set))
        await soon(ready.wait())
        try:
            yield client
        finally:
            worker.drain()
            await running


def test_a_task_of_a_file_is_run_without_any_hub_and_answered_by_a_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        async with old.work():
            old.drop()
            await until(old.has_result, "the result")
            result = old.result()
            assert (result["task_id"], result["agent_id"]) == ("t7", 1)
            assert (result["status"], result["output"], result["exit_code"]) == ("completed", "did x\n", 0)
            await until((old.inbox / ".taken" / "a.json").exists, "the file to be put away")

    run(scenario())


def test_a_program_that_fails_or_is_not_there_is_an_error_with_its_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        old.program = ("sh", "-c", "echo oh; exit 3")
        async with old.work():
            old.drop()
            await until(old.has_result, "the result")
            assert (old.result()["status"], old.result()["output"], old.result()["error"]) == (
                "error",
                "oh\n",
                "exit code 3",
            )
            old.drop(id="t8", working_dir="/nowhere")
            await until(lambda: old.has_result("t8"), "the result")
            assert "not a folder" in old.result("t8")["error"]

    run(scenario())


def test_what_a_program_is_told_of_a_task_of_a_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        old.program = (
            sys.executable,
            "-c",
            "import os; print({k: v for k, v in os.environ.items() if 'ORCHESTRA_T' in k})",
        )
        async with old.work():
            old.drop(context="c")
            await until(old.has_result, "the result")
            told = old.result()["output"]
            for name, value in (("TASK_ID", "t7"), ("TASK_FROM", "file"), ("TASK_CONTEXT", "c"), ("TASK_ATTEMPT", "1")):
                assert f"'ORCHESTRA_{name}': '{value}'" in told

    run(scenario())


def test_a_file_that_is_dropped_again_is_answered_again_and_not_run_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        async with old.work():
            for _ in range(2):
                old.drop()
                await until(lambda: old.has_result() and not list(old.inbox.glob("*.json")), "the result")
                (old.outbox / "result_t7.json").unlink()
            old.drop(prompt="y")
            await until(old.has_result, "the result of another task under that id")
        assert old.ran() == ["x", "y"]

    run(scenario())


def test_the_same_id_and_file_name_may_be_used_again_as_soon_as_its_result_is_seen(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        async with old.work():
            for number in range(15):
                old.drop(prompt=f"p{number}")
                await until(old.has_result, "the result")
                assert old.result()["output"] == f"did p{number}\n"
                (old.outbox / "result_t7.json").unlink()
        assert old.ran() == [f"p{number}" for number in range(15)]

    run(scenario())


def test_a_task_whose_agent_was_killed_is_run_again_and_not_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        old.drop()
        await old.claim(old.claimed(Way.BY_FILE, Step.CLAIMED))
        async with old.work():
            await until(old.has_result, "the result")
        assert old.ran() == ["x"]
        old.drop(prompt="x", context="again")
        await old.claim(old.claimed(Way.BY_FILE, Step.CLAIMED, losses=5))
        async with old.work():
            await until(lambda: old.result()["status"] == "error", "the result")
            assert "ended before it did" in old.result()["error"]
        assert old.ran() == ["x"]

    run(scenario())


@pytest.mark.parametrize("way", [Way.BY_FILE, Way.TO_HUB])
def test_a_result_that_was_written_is_published_after_a_crash(tmp_path: Path, way: Way) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        old.drop()
        (old.outbox / ".result_t7.draft").write_text('{"output": "before the crash"}')
        await old.claim(old.claimed(way, Step.WRITTEN))
        async with old.work():
            await until(lambda: old.has_result() and not list(old.inbox.glob("*.json")), "the result")
            assert old.result()["output"] == "before the crash"
        assert old.ran() == []

    run(scenario())


@pytest.mark.parametrize(
    ("step", "left", "told"),
    [
        (Step.CLAIMED, True, "may be at the hub already"),
        (Step.STORED, False, ""),
        (Step.ANSWERED, False, "is refused: a bridge has answered it"),
    ],
)
def test_what_a_bridge_took_from_this_folder_is_not_run(
    tmp_path: Path, step: Step, left: bool, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        old.drop()
        await old.claim(old.claimed(Way.TO_HUB, step))
        async with old.work():
            old.drop("b.json", id="t8", prompt="y")
            await until(lambda: old.has_result("t8"), "the result of the other task")
            assert (old.inbox / "a.json").exists() is left
        assert old.ran() == ["y"]
        assert told in caplog.text

    run(scenario())


def test_a_stop_gives_a_running_task_back_to_its_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        old.program = WAITS
        async with old.work():
            old.drop()
            await until(old.ran, "the task to begin")
        assert not old.has_result()
        (tmp_path / "told.go").touch()
        async with old.work():
            await until(old.has_result, "the result")
            assert old.result()["output"] == "did x\n"

    run(scenario())


def test_a_folder_has_one_reader(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        async with old.work():
            with pytest.raises(StateFault, match="another agent or a bridge"):
                async with old.work():
                    pass

    run(scenario())


def test_the_folder_of_all_agents_is_told_from_that_of_one(tmp_path: Path) -> None:
    old = House(tmp_path)
    with pytest.raises(StateFault, match=r"holds folders of several agents.*/1$"):
        folder_of_agent(old.inbox.parent, "--file-inbox")
    assert folder_of_agent(old.inbox, "--file-inbox") == old.inbox


@pytest.mark.parametrize("is_file_first", [True, False])
def test_a_task_that_comes_by_both_ways_is_run_once(tmp_path: Path, is_file_first: bool) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        async with live_hub(tmp_path) as hub, both(old, hub) as client:
            if is_file_first:
                old.drop()
                await until(old.has_result, "the result of the file")
            task = await client.submit(str(AGENT), prompt="x", key="t7")
            result = await soon(task.result())
            assert (result.is_ok, result.text) == (True, "did x\n")
            if not is_file_first:
                old.drop()
                await until(old.has_result, "the result of the file")
                assert old.result()["output"] == "did x\n"
            assert old.ran() == ["x"]
            other = await client.submit(str(AGENT), prompt="y", key="t8")
            await soon(other.result())
            assert old.ran() == ["x", "y"]

    run(scenario())


@pytest.mark.parametrize("is_file_first", [True, False])
def test_a_task_that_comes_by_the_other_way_while_it_runs_waits_for_that_result(
    tmp_path: Path, is_file_first: bool
) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        old.program = WAITS
        slots = Slots(2)
        async with (
            live_hub(tmp_path) as hub,
            hub.connect(str(this_operator())) as client,
            hub.connect(str(AGENT)) as mine,
            old.work(slots) as files,
        ):
            settings = replace(old.settings(), state=hub.folder, concurrency=2)
            worker = SharingWorker(settings, mine, slots=slots, files=files)
            running = asyncio.ensure_future(worker.run())
            if is_file_first:
                old.drop()
                await until(old.ran, "the task to begin")
            task = await client.submit(str(AGENT), prompt="x", key="t7")
            await until(old.ran, "the task to begin")
            if not is_file_first:
                old.drop()
            old.drop("b.json", id="t7", prompt="another")
            await until((old.inbox / ".refused" / "b.json").exists, "another task under that id to be refused")
            (tmp_path / "told.go").touch()
            assert (await soon(task.result())).text == "did x\n"
            await until(old.has_result, "the result of the file")
            assert old.ran() == ["x"]
            worker.drain()
            await running

    run(scenario())


def test_a_sender_whose_tasks_are_not_run_is_told_no_result_of_a_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        async with live_hub(tmp_path) as hub, both(old, hub, accept_from=frozenset({"matrix/other"})) as client:
            old.drop()
            await until(old.has_result, "the result of the file")
            result = await soon((await client.submit(str(AGENT), prompt="x", key="t7")).result())
            assert (result.report["code"], result.text) == ("not_allowed", "")

    run(scenario())


def test_a_task_of_the_hub_that_fails_is_tried_again_as_its_terms_say(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        old.program = ("sh", "-c", 'echo "$2" >> "$1"; [ "$(wc -l < "$1")" -gt 1 ] && echo "did $2"', "sh")
        async with live_hub(tmp_path) as hub, both(old, hub) as client:
            terms = Terms(max_attempts=2, backoff_ms=1)
            task = await client.submit(str(AGENT), prompt="x", key="t7", terms=terms)
            result = await soon(task.result())
            assert (result.is_ok, result.attempt) == (True, 2)
            old.drop()
            await until(old.has_result, "the result of the file")
            assert old.ran() == ["x", "x"]

    run(scenario())


def test_files_and_the_hub_share_the_slots_and_none_of_them_starves(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = House(tmp_path)
        async with live_hub(tmp_path) as hub, both(old, hub) as client:
            for number in range(6):
                old.drop(f"{number}.json", id=f"f{number}", prompt=f"file-{number}")
            tasks = [await client.submit(str(AGENT), prompt=f"hub-{number}") for number in range(6)]
            for task in tasks:
                assert (await soon(task.result())).is_ok
            await until(lambda: all(old.has_result(f"f{number}") for number in range(6)), "the results of the files")
            ran = old.ran()
            assert sorted(ran) == sorted([f"{way}-{number}" for way in ("file", "hub") for number in range(6)])
            attempts = [(await client.call("task.get", seq=task.seq))["attempt"] for task in tasks]
            assert sum(attempts) < 2 * len(tasks), (
                "what the hub gives is only given back where a file came at that moment"
            )
            turns = [name.partition("-")[0] for name in ran]
            assert turns != sorted(turns), f"all of one way came first: {ran}"
            assert turns != sorted(turns, reverse=True), f"all of one way came first: {ran}"

    run(scenario())


def test_slots_are_never_lent_twice() -> None:
    offered: list[int] = []
    slots = Slots(2)
    slots.offer = offered.append
    slots.begin_by_hub()
    assert slots.lend()
    assert offered == [1]
    assert not slots.lend()
    assert offered == [1, 0], "the next that is free is for the file"
    slots.end_by_hub()
    assert slots.lend()
    assert not slots.is_free
    slots.give_back()
    slots.give_back()
    slots.want_none()
    slots.tell()
    assert offered[-1] == 2
