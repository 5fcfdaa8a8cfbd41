"""The bridge with a real hub in the same loop, and an agent that answers as a test likes."""

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
from orchestra.agents.agentmap import parse_map
from orchestra.agents.bridge import Bridge
from orchestra.agents.claims import Claim, Claims, Step, Way, claims_of
from orchestra.agents.lock import Lock, hold_inbox, lock_of
from orchestra.agents.oldfile import digest_of, key_of
from orchestra.agents.settings import BridgeSettings
from orchestra.agents.trust import Trust
from orchestra.conversation import Assigned
from orchestra.errors import StateFault, StorageFault
from orchestra.job import Job, decode_job
from orchestra.state import this_operator
from orchestra.task import TaskState

from ..hub.livehub import LiveHub, live_hub, run, until

ME = os.geteuid()


class House:
    """A hub, an agent `agent/1` that does what `answer` says, and folders that a bridge may serve."""

    def __init__(self, folder: Path, hub: LiveHub, agent: aio.Client) -> None:
        self.hub, self.agent = hub, agent
        self.jobs: list[Job] = []
        self.held: list[Assigned] = []
        self.is_busy = False
        self.inbox, self.outbox = folder / "inbox", folder / "outbox"
        for path in (self.inbox / "1", self.outbox):
            path.mkdir(parents=True)
        agent.on_assigned = self._assigned
        agent.offer(16)

    def _assigned(self, assigned: Assigned) -> None:
        self.jobs.append(decode_job(assigned.body))
        self.held.append(assigned)
        if not self.is_busy:
            self.answer()

    def answer(self, outcome: TaskState = TaskState.COMPLETED, **report: Any) -> None:
        while self.held:
            assigned = self.held.pop()
            self.agent.report(assigned, outcome, report, decode_job(assigned.body).prompt.encode())

    def drop(self, name: str = "a.json", **fields: Any) -> Path:
        path = self.inbox / "1" / name
        path.write_text(json.dumps({"id": 7, "prompt": "x", **fields}))
        return path

    def result(self, task: object = 7) -> dict[str, Any]:
        return dict(json.loads((self.outbox / "1" / f"result_{task}.json").read_text()))

    def has_result(self, task: object = 7) -> bool:
        return (self.outbox / "1" / f"result_{task}.json").exists()

    def has(self, place: str, name: str = "a.json") -> bool:
        return (self.inbox / "1" / place / name).exists()

    def claim(self, **fields: Any) -> Claim:
        """Return what is known of `a.json` at some step."""
        data = (self.inbox / "1" / "a.json").read_bytes()
        key = key_of(str(self.inbox / "1"), b"a.json", data)
        known = Claim("1", "7", Way.TO_HUB, Step.CLAIMED, key, b"a.json", digest_of("x"), 1, address="agent/1")
        return replace(known, **fields)

    @asynccontextmanager
    async def claims(self) -> AsyncIterator[Claims]:
        claims = Claims(claims_of(self.inbox))
        yield claims
        claims.close()

    @asynccontextmanager
    async def bridge(self, agents: str = "") -> AsyncIterator[Bridge]:
        operator = this_operator()
        settings = BridgeSettings(
            operator,
            self.hub.folder,
            self.inbox,
            self.outbox,
            parse_map(agents, []),
            Trust(ME, "me", ME, 10_000),
        )
        async with self.claims() as claims, self.hub.connect(str(operator)) as client:
            bridge = Bridge(settings, client, claims)
            running = asyncio.ensure_future(bridge.run())
            try:
                yield bridge
                assert not running.done(), running
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    async with live_hub(folder) as hub, hub.connect("agent/1", slots=0) as agent:
        yield House(folder, hub, agent)


def test_a_file_becomes_a_task_and_its_result_a_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.bridge():
            old.drop(priority="high", working_dir="/srv", context="c")
            await until(old.has_result, "the result")
            assert old.jobs == [Job(prompt="x", cwd="/srv", context="c")]
            result = old.result()
            assert (result["task_id"], result["agent_id"]) == (7, 1), "numbers stay numbers"
            assert (result["status"], result["output"]) == ("completed", "x")
            assert result["started_at"] <= result["completed_at"]
            assert old.has(".taken")
            assert not old.has("")

    run(scenario())


def test_a_task_that_failed_is_answered_with_an_error_and_its_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.bridge():
            old.is_busy = True
            old.drop()
            await until(lambda: old.held, "the task")
            old.answer(TaskState.FAILED, text="exit code 3", exit_code=3)
            await until(old.has_result, "the result")
            assert (old.result()["status"], old.result()["error"]) == ("error", "exit code 3")

    run(scenario())


def test_a_file_that_is_dropped_again_is_answered_again_and_not_run_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.bridge():
            for _ in range(3):
                old.drop()
                await until(old.has_result, "the result")
                (old.outbox / "1" / "result_7.json").unlink()
            assert len(old.jobs) == 1

    run(scenario())


def test_the_same_id_and_file_name_may_be_used_again_as_soon_as_its_result_is_seen(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.bridge():
            for number in range(30):
                old.drop(prompt=str(number))
                await until(old.has_result, "the result")
                assert old.result()["output"] == str(number)
                (old.outbox / "1" / "result_7.json").unlink()
            assert [job.prompt for job in old.jobs] == [str(number) for number in range(30)]

    run(scenario())


def test_an_id_that_is_not_answered_yet_is_refused_for_another_task_and_taken_afterwards(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old, old.bridge():
            old.is_busy = True
            old.drop()
            await until(lambda: old.held, "the task")
            old.drop("b.json", prompt="other")
            await until(lambda: old.has(".refused", "b.json.reason"), "the refusal")
            why = (old.inbox / "1" / ".refused" / "b.json.reason").read_text()
            assert why == "its id 7 is that of a.json, which is not answered yet\n"
            old.answer()
            await until(lambda: old.has_result() and old.result()["output"] == "x", "the result")
            old.is_busy = False
            old.drop("b.json", prompt="other")
            await until(lambda: old.result()["output"] == "other", "the result of the other task")

    run(scenario())


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_bridge_that_was_killed_around_its_send_sends_once(tmp_path: Path, is_sent: bool) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old:
            old.drop()
            claim = old.claim()
            async with old.claims() as claims:
                await claims.put(claim)
            if is_sent:
                async with old.hub.connect(str(this_operator())) as client:
                    await client.store_job("agent/1", Job(prompt="x"), key=claim.key)
            async with old.bridge("1=queue/other" if is_sent else ""):  # what was sent stays where it went
                await until(old.has_result, "the result")
            assert len(old.jobs) == 1

    run(scenario())


def test_a_bridge_that_was_killed_before_it_put_the_file_away_does_so_and_waits_for_the_result(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old:
            old.is_busy = True
            old.drop()
            async with old.hub.connect(str(this_operator())) as client:
                seq = await client.store_job("agent/1", Job(prompt="x"), key=old.claim().key)
            async with old.claims() as claims:
                await claims.put(old.claim(step=Step.STORED, seq=seq))
            async with old.bridge():
                await until(lambda: old.has(".taken"), "the file to be put away")
                old.answer()
                await until(old.has_result, "the result")
            assert len(old.jobs) == 1

    run(scenario())


@pytest.mark.parametrize("is_published", [True, False])
def test_a_result_is_published_once_though_the_bridge_was_killed_around_that(
    tmp_path: Path, is_published: bool
) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old:
            (old.outbox / "1").mkdir()
            if not is_published:
                (old.outbox / "1" / ".result_7.draft").write_text("{}")
            old.drop()
            claim = old.claim(step=Step.WRITTEN, seq=1)
            (old.inbox / "1" / "a.json").unlink()
            async with old.claims() as claims:
                await claims.put(claim)
            async with old.bridge() as bridge:
                await until(lambda: not bridge._claims.open_of(Way.TO_HUB), "the claim to be over")
                assert old.has_result() is not is_published, "who read it may have removed it"
            assert not old.jobs

    run(scenario())


def test_results_that_come_while_the_bridge_is_down_are_written_when_it_returns(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old:
            old.is_busy = True
            async with old.bridge():
                old.drop()
                await until(lambda: old.has(".taken") and old.held, "the task")
            old.answer()
            assert not old.has_result()
            async with old.bridge():
                await until(old.has_result, "the result")

    run(scenario())


def test_a_file_for_an_agent_that_is_not_known_yet_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("orchestra.agents.bridge._ABSENT_S", 0.02)
    monkeypatch.setattr("orchestra.agents.watch.FILE_SWEEP_S", 0.05)

    async def scenario() -> None:
        async with house(tmp_path) as old:
            old.drop()
            async with old.bridge("1=late"):
                await until(
                    lambda: "wait for agent/late: no peer agent/late is known" in caplog.text, "the log to say so"
                )
                old.hub.enrol("agent/late")
                await until(lambda: old.has(".taken"), "the file to be taken")
            assert not old.has(".refused")

    run(scenario())


def test_what_the_hub_refuses_is_put_away_and_what_it_lost_is_answered_with_an_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old:
            old.drop()
            async with old.claims() as claims:
                await claims.put(old.claim(step=Step.STORED, seq=999))
            taken = old.drop("b.json", id=8)
            async with old.hub.connect(str(this_operator())) as client:  # its key is used for something else
                await client.send("agent/1", "x", key=key_of(str(old.inbox / "1"), b"b.json", taken.read_bytes()))
            async with old.bridge():
                await until(lambda: old.has(".refused", "b.json.reason"), "the refusal")
                assert "the hub does not take it" in (old.inbox / "1" / ".refused" / "b.json.reason").read_text()
                await until(old.has_result, "the result")
                assert "does not have task 999 any more" in old.result()["error"]

    run(scenario())


def test_a_result_that_can_not_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("orchestra.agents.reply._PAUSE_S", 0.02)

    async def scenario() -> None:
        async with house(tmp_path) as old, old.bridge():
            (old.outbox / "1").write_text("no folder")
            old.drop()
            await until(lambda: "can't be written to" in caplog.text, "the log to say so")
            (old.outbox / "1").unlink()
            await until(old.has_result, "the result")

    run(scenario())


def test_folders_that_are_not_mapped_or_served_by_an_agent_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as old:
            for name in ("2", "3"):
                (old.inbox / name).mkdir()
                (old.inbox / name / "a.json").write_text('{"id": 1, "prompt": "x"}')
            lock = Lock(lock_of(old.inbox / "3"))
            async with old.bridge("1=agent/1,3=agent/1"):
                old.drop()
                await until(old.has_result, "the result of the folder that is its own")
            lock.close()
            assert (old.inbox / "2" / "a.json").exists()
            assert (old.inbox / "3" / "a.json").exists()
            assert "2 is left alone" in caplog.text
            assert "3 is left to the agent that serves it" in caplog.text

    run(scenario())


def test_files_wait_in_their_folder_while_too_many_tasks_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.agents.bridge.FILES_OPEN_MAX", 2)

    async def scenario() -> None:
        async with house(tmp_path) as old:
            old.is_busy = True
            for number in range(5):
                old.drop(f"{number}.json", id=number)
            async with old.bridge():
                await until(lambda: len(old.held) == 2, "two tasks")
                old.is_busy = False
                old.answer()
                await until(lambda: all(old.has_result(number) for number in range(5)), "all results")

    run(scenario())


def test_an_inbox_has_one_bridge(tmp_path: Path) -> None:
    lock = hold_inbox(tmp_path)
    with pytest.raises(StateFault, match="another bridge serves"):
        hold_inbox(tmp_path)
    lock.close()
    hold_inbox(tmp_path).close()


def test_a_damaged_file_of_claims_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "claims").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageFault, match="move it away"):
        Claims(tmp_path / "claims")


def test_what_is_claimed_is_found_again_and_forgotten_in_its_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        claim = Claim("1", "7", Way.BY_FILE, Step.CLAIMED, "k", b"\xff.json", "p", 1, 3, "agent/1", 2, 5, b"r")
        assert parse_peer(claim.address)
        claims = Claims(tmp_path / "claims")
        await asyncio.gather(claims.put(claim), claims.put(replace(claim, task="8", step=Step.ANSWERED)))
        claims.close()
        claims = Claims(tmp_path / "claims")
        assert (claims.find("1", "7"), claims.find("1", "9")) == (claim, None)
        assert claims.open_of(Way.BY_FILE) == [claim]
        claims.prune(now_ms=40 * 86_400_000)
        assert (claims.find("1", "7"), claims.find("1", "8")) == (claim, None), "what is open stays"
        await claims.drop(claim)
        assert claims.find("1", "7") is None
        claims.close()

    run(scenario())
