"""An old agent behind the hub: a real hub in the same loop, and a test that reads and writes the files."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra import aio
from orchestra.address import parse_peer
from orchestra.agents.claims import Claim, Claims, Step, Way, claims_of
from orchestra.agents.oldagent import Lookout, OldAgent
from orchestra.agents.oldfile import OldTask
from orchestra.agents.reply import now_ms
from orchestra.agents.settings import AgentSettings, BridgeSettings
from orchestra.agents.trust import Trust
from orchestra.job import Job
from orchestra.state import this_operator
from orchestra.task import TaskState

from ..hub.livehub import LiveHub, live_hub, run, soon, until

ME = os.geteuid()
AGENT = parse_peer("agent/old-3")


class House:
    """A hub, this user's client, and the folders of the old agent 3."""

    def __init__(self, folder: Path, hub: LiveHub, client: aio.Client) -> None:
        self.hub, self.client = hub, client
        self.inbox, self.outbox = folder / "inbox", folder / "outbox"
        self.key = hub.enrol(str(AGENT))
        for path in (self.inbox, self.outbox):
            path.mkdir()

    @asynccontextmanager
    async def serving(self, **settings: Any) -> AsyncIterator[OldAgent]:
        bridge: Any = BridgeSettings(
            this_operator(),
            self.hub.folder,
            self.inbox,
            self.outbox,
            None,
            Trust(ME, "me", ME, 100_000),  # type: ignore[arg-type]
        )
        claims = Claims(claims_of(self.inbox))
        async with self.hub.connect(str(AGENT), key=self.key, queues=["queue/q"]) as client:
            chosen = replace(AgentSettings(AGENT, self.hub.folder, queues=("queue/q",), drain_s=0), **settings)
            lookout = Lookout(self.outbox)
            old = OldAgent(chosen, client, bridge=bridge, name="3", claims=claims, lookout=lookout)
            looking = asyncio.ensure_future(lookout.run())
            running = asyncio.ensure_future(old.run())
            try:
                yield old
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
        claims.close()

    def files(self) -> list[Path]:
        return sorted((self.inbox / "3").glob("*.json"))

    async def task(self) -> dict[str, Any]:
        """Wait for a task, and take its file as an old agent does."""
        await until(self.files, "a task's file")
        (path,) = self.files()
        found = json.loads(path.read_text())
        path.unlink()
        return dict(found)

    def answer(self, task: dict[str, Any], output: str = "done", status: str = "completed", **fields: Any) -> Path:
        path = self.outbox / "3" / f"result_{task['id']}.json"
        result = {"task_id": task["id"], "agent_id": 3, "status": status, "output": output, "duration_ms": 5, **fields}
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result))
        return path


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    async with live_hub(folder) as hub, hub.connect(str(this_operator())) as client:
        yield House(folder, hub, client)


def test_a_task_of_the_hub_is_done_by_an_old_agent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.serving():
            job = Job("Mend it", cwd="/srv", context='{"context": "c", "session_id": "s9"}')
            task = await old.client.submit_job("queue/q", job, priority="high")
            asked = await old.task()
            assert asked == {
                "id": asked["id"],
                "prompt": "Mend it",
                "priority": "high",
                "context": "c",
                "working_dir": "/srv",
                "session_id": "s9",
            }
            path = old.answer(asked)
            result = await soon(task.result())
            assert (result.state, result.text, result.report["duration_ms"]) == (TaskState.COMPLETED, "done", 5)
            await until(lambda: not path.exists(), "the result to be put away")

    run(scenario())


def test_an_error_of_an_old_agent_is_a_failed_task_with_its_output(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.serving():
            task = await old.client.submit(str(AGENT), prompt="x")
            old.answer(await old.task(), "no such branch\nmore", "error")
            result = await soon(task.result())
            assert (result.state, result.text) == (TaskState.FAILED, "no such branch\nmore")
            assert (result.report["code"], result.report["text"]) == ("agent_error", "no such branch")

    run(scenario())


def test_an_old_agent_is_given_one_task_at_a_time_and_no_commands(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.serving():
            tasks = [await old.client.submit("queue/q", prompt=str(number)) for number in range(3)]
            command = await old.client.submit("queue/q", argv=["true"])
            for number, task in enumerate(tasks):
                asked = await old.task()
                assert asked["prompt"] == str(number)
                old.answer(asked, str(number))
                assert (await soon(task.result())).text == str(number)
            assert "prompts, not commands" in (await soon(command.result())).report["text"]

    run(scenario())


@pytest.mark.parametrize("where", ["draft", "published", "handed over", "begun"])
def test_a_task_is_asked_once_wherever_the_bridge_was_killed(tmp_path: Path, where: str) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old:
            task = await old.client.submit("queue/q", prompt="x")
            asked = OldTask("hub-of-a-life-before", "x")
            (old.inbox / "3").mkdir()
            if where != "begun":
                name = f"{'.' if where == 'draft' else ''}{asked.id}.json"
                (old.inbox / "3" / name).write_bytes(asked.encode())
            step = Step.WRITTEN if where in ("draft", "published") else Step.STORED
            claims = Claims(claims_of(old.inbox))
            name = f"{asked.id}.json"
            await claims.put(
                Claim(
                    "3",
                    f"hub-{task.seq}",
                    Way.TO_OLD,
                    step,
                    "",
                    name.encode(),
                    asked.prompt_digest,
                    seq=task.seq,
                    changed_ms=now_ms(),
                )
            )
            claims.close()
            async with old.serving():
                if where != "begun":
                    assert (await old.task())["id"] == asked.id
                old.answer({"id": asked.id}, "after the crash")
                assert (await soon(task.result())).text == "after the crash"
                assert not old.files()

    run(scenario())


@pytest.mark.parametrize("is_told", [True, False])
def test_a_result_is_taken_under_the_lease_of_the_attempt_that_came_after_a_stop(tmp_path: Path, is_told: bool) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old:
            async with old.serving() as first:
                task = await old.client.submit("queue/q", prompt="x")
                asked = await old.task()
                if is_told:
                    first.drain()
            async with old.serving():
                old.answer(asked, "it went on meanwhile")
                result = await soon(task.result())
                assert (result.text, result.attempt) == ("it went on meanwhile", 2)
                assert not old.files(), "it was asked once"

    run(scenario())


def test_a_claim_of_another_hub_is_not_taken_for_a_task_of_this_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old:
            task = await old.client.submit("queue/q", prompt="x")
            claims = Claims(claims_of(old.inbox))
            await claims.put(
                Claim(
                    "3",
                    f"hub-{task.seq}",
                    Way.TO_OLD,
                    Step.STORED,
                    "",
                    b"old.json",
                    "other",
                    seq=task.seq,
                    changed_ms=now_ms(),
                )
            )
            claims.close()
            async with old.serving():
                old.answer(await old.task(), "of this one")
                assert (await soon(task.result())).text == "of this one"

    run(scenario())


def test_a_task_that_is_cancelled_is_taken_away_or_its_late_result_is_put_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.serving():
            waiting = await old.client.submit("queue/q", prompt="x")
            await until(old.files, "the file")
            await waiting.cancel()
            assert (await soon(waiting.result())).state is TaskState.CANCELED
            assert not old.files(), "it had not begun"

            begun = await old.client.submit("queue/q", prompt="y")
            asked = await old.task()
            await begun.cancel()
            assert (await soon(begun.result())).state is TaskState.CANCELED
            late = old.answer(asked)
            await until(
                (old.outbox / "3" / ".refused" / f"{late.name}.reason").exists, "the late result to be put away"
            )

    run(scenario())


def test_a_task_may_take_no_longer_than_its_timeout(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.serving():
            task = await old.client.submit("queue/q", prompt="x", timeout_s=0.05)
            result = await soon(task.result())
            assert (result.state, result.report["code"]) == (TaskState.FAILED, "timeout")
            assert not old.files()

    run(scenario())


@pytest.mark.parametrize(
    ("fields", "mode", "why"),
    [
        ({"status": "done"}, 0o644, "status must be"),
        ({"task_id": "other"}, 0o644, "task_id"),
        ({}, 0o666, "others may write"),
    ],
)
def test_a_result_that_is_not_to_be_trusted_fails_the_task_with_the_reason(
    tmp_path: Path, fields: dict[str, Any], mode: int, why: str
) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.serving():
            task = await old.client.submit("queue/q", prompt="x")
            asked = await old.task()
            draft = old.answer({**asked, "id": "draft"})
            draft.chmod(mode)
            draft.write_text(draft.read_text().replace('"draft"', json.dumps(asked["id"])))
            if fields:
                draft.write_text(json.dumps({**json.loads(draft.read_text()), **fields}))
            draft.rename(draft.with_name(f"result_{asked['id']}.json"))
            result = await soon(task.result())
            assert result.report["code"] == "output_failed"
            assert why in result.report["text"]

    run(scenario())


def test_a_task_is_given_back_when_the_bridge_ends_and_its_file_is_taken_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.serving() as serving:
            task = await old.client.submit("queue/q", prompt="x")
            await until(old.files, "the file")
            serving.drain()
            await until(lambda: not old.files(), "the file to be taken away")
            facts = await old.client.call("task.get", seq=task.seq)
            assert facts["state"] in ("working", "queued", "scheduled")

    run(scenario())
