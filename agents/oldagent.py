"""An old agent as an agent of the hub: its tasks are written as files, and its results are read from files.

It can't be stopped, makes no progress that anybody sees, and knows of no leases. So each task has one file, whatever
happens on our side: when the hub gives a task again whose file the old agent may still have (we were killed, or lost
the hub for too long), its result is waited for and told under the new lease. What comes for a task that is no longer
ours is put away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from orchestra.aio import Client
from orchestra.errors import BadFile, NotAllowed, NotFound, PeerError, UnfinishedFile
from orchestra.job import decode_job
from orchestra.limits import FILES_KEPT_DAYS
from orchestra.task import Priority, TaskState

from .claims import Claim, Claims, Step, Way
from .folder import Folder
from .intake import Intake
from .lock import Lock, lock_of
from .oldfile import COMPLETED, OldResult, OldTask, read_result, task_of
from .output import Output
from .plan import check_sender
from .process import Ending
from .reply import now_ms
from .settings import AgentSettings, BridgeSettings
from .tidy import tidy
from .watch import Watch
from .worker import Running, Worker

logger = logging.getLogger(__name__)

_CLOSE_S: Final = 60.0  # between two looks at tasks that may be over without us


class Lookout:
    """Watches the folders of results of all old agents together: one thread, however many they are."""

    def __init__(self, outbox: Path) -> None:
        self._outbox = outbox
        self._agents: dict[str, OldAgent] = {}
        self._watch = Watch(outbox, folders=self._folders)

    def watch(self, agent: OldAgent) -> Callable[[], None]:
        """Let `agent` look when something came; return what makes it look soon in any case."""
        self._agents[agent.name] = agent
        return lambda: self._watch.look_again(agent.name)

    async def run(self) -> None:
        """Watch until this is cancelled."""
        async for names in self._watch.changes():
            for name in names:
                self._agents[name].look()

    def _folders(self) -> list[str]:
        return [name for name in self._agents if (self._outbox / name).is_dir()]


class OldAgent(Worker):
    """The worker whose work the old agent of the folder `name` does."""

    def __init__(
        self,
        settings: AgentSettings,
        client: Client,
        *,
        bridge: BridgeSettings,
        name: str,
        claims: Claims,
        lookout: Lookout,
    ) -> None:
        super().__init__(settings, client)
        self.name = name
        self._inbox, self._outbox = bridge.inbox / name, bridge.outbox / name
        self._trust = bridge.trust
        self._claims = claims
        self._intake = Intake(bridge.trust)
        self._look_again = lookout.watch(self)
        self._awaited: dict[str, asyncio.Future[OldResult]] = {}
        """Results that are waited for, by the old id of their task."""

    async def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        for folder in (self._inbox, self._outbox):
            folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(lock_of(self._inbox))
        kept = tidy(self._claims, lambda: [self._outbox], self._trust)
        beside = [asyncio.ensure_future(each) for each in (self._close_all(), kept)]
        working = asyncio.ensure_future(super().run(ready=ready))
        try:
            await asyncio.wait([working, *beside], return_when=asyncio.FIRST_COMPLETED)
            for each in (working, *beside):
                if each.done():
                    each.result()
        finally:
            self.drain()
            self.drain()  # also where this is cancelled: what the old agent has is given back, and has not failed
            for each in beside:
                each.cancel()
            await asyncio.gather(working, *beside, return_exceptions=True)
            lock.close()

    # One task.

    async def _run(self, running: Running, output: Output) -> Ending:
        assigned = running.assigned
        try:
            check_sender(assigned.sender, accepted=self._settings.accept_from)
            job = decode_job(assigned.body)
            old_id = f"hub-{assigned.seq:012}-{assigned.attempt}"
            priority = Priority(str(assigned.options.get("priority", Priority.NORMAL)))
            claim = await self._hand_over(assigned.seq, task_of(job, task_id=old_id, priority=priority))
        except PeerError as error:
            return Ending(None, 0, error.code, str(error))
        except (OSError, BadFile) as exc:
            return Ending(None, 0, "not_started", f"its file can't be written to {self._inbox}: {exc}")
        began = time.monotonic()
        answer: asyncio.Future[OldResult] = asyncio.get_running_loop().create_future()
        self._awaited[_id_of(claim)] = answer
        self._look_again()
        try:
            watched: set[asyncio.Future[object]] = {answer, running.stop}  # type: ignore[arg-type]
            await asyncio.wait(watched, timeout=job.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._awaited[_id_of(claim)]
        took_ms = round((time.monotonic() - began) * 1000)
        if answer.done():
            return _ending(answer, output, took_ms)
        await self._take_back(claim, is_over=running.is_canceled or not running.stop.done())
        if running.stop.done():
            return Ending(None, took_ms, "stopped", running.stop.result())
        return Ending(None, took_ms, "timeout", f"the old agent did not answer within {job.timeout_s:g} s")

    async def _hand_over(self, seq: int, task: OldTask) -> Claim:
        """See that the old agent has the task's file, once; return the claim that says which."""
        known = self._claims.find(self.name, f"hub-{seq}")
        with Folder(self._inbox, self._trust) as folder:
            if known is not None and known.is_open and known.prompt == task.prompt_digest:
                claim = known
            else:
                name = f"{task.id}.json"
                folder.write_draft(f".{name}", task.encode())
                claim = Claim(
                    folder=self.name,
                    task=f"hub-{seq}",
                    way=Way.TO_OLD,
                    step=Step.WRITTEN,
                    name=name.encode(),
                    prompt=task.prompt_digest,
                    seq=seq,
                    changed_ms=now_ms(),
                )
                await self._claims.put(claim)
            if claim.step is Step.WRITTEN:
                folder.publish(f".{claim.name.decode()}", claim.name.decode())
                claim = replace(claim, step=Step.STORED)
                await self._claims.put(claim)
        return claim

    async def _take_back(self, claim: Claim, *, is_over: bool) -> None:
        """Take the file away from an old agent that has not begun; of one that has, only its result can be awaited."""
        with Folder(self._inbox, self._trust) as folder:
            is_back = folder.drop(claim.name.decode())
        if is_back or is_over:
            await self._claims.drop(claim)
        if not is_back:
            logger.warning(
                "task %d is stopped, but the old agent %s may go on with it: it can't be told",
                claim.seq,
                self.name,
                extra={"action": "old_agent_goes_on"},
            )

    async def _report(self, running: Running, ending: Ending, output: Output) -> None:
        await super()._report(running, ending, output)
        claim = self._claims.find(self.name, f"hub-{running.assigned.seq}")
        if claim is not None and claim.is_open and running.is_wanted and not running.is_given_back:
            await self._close(claim)

    async def _close(self, claim: Claim) -> None:
        with Folder(self._outbox, self._trust) as folder:
            folder.take(f"result_{_id_of(claim)}.json")
        await self._claims.put(replace(claim, step=Step.ANSWERED, changed_ms=now_ms()))

    # What the old agent writes.

    def look(self) -> None:
        """Read the results that are there."""
        try:
            self._read_results()
        except FileNotFoundError:
            return
        except (OSError, BadFile) as exc:
            self._intake.tell_once(f"no results are read from {self._outbox}: {exc}")

    def _read_results(self) -> None:
        owed = {_id_of(claim) for claim in self._claims.open_of(Way.TO_OLD) if claim.folder == self.name}
        waited = []
        with Folder(self._outbox, self._trust) as folder:
            for name in folder.names(match=lambda name: name.startswith("result_hub-")):
                old_id = name.removeprefix("result_").removesuffix(".json")
                awaited = self._awaited.get(old_id)
                if awaited is None:
                    if old_id not in owed:
                        self._intake.refuse(
                            folder, name, "nobody waits for it: its task was stopped or given to another"
                        )
                elif not awaited.done() and not self._read_result(folder, name, old_id, awaited):
                    waited.append(name)
            self._intake.forget_others(folder, waited)

    def _read_result(self, folder: Folder, name: str, old_id: str, awaited: asyncio.Future[OldResult]) -> bool:
        """Read one result; False if it is to be waited for."""
        try:
            awaited.set_result(read_result(folder.read(name), task_id=old_id))
        except FileNotFoundError:
            pass
        except BadFile as fault:
            if isinstance(fault, UnfinishedFile) and not self._intake.is_over(folder, name):
                return False
            self._intake.refuse(folder, name, str(fault))
            awaited.set_exception(fault)
        return True

    async def _close_all(self) -> None:
        """Close the claims of tasks that are over without us, so that their results are put away."""
        while True:
            for claim in self._claims.open_of(Way.TO_OLD):
                if claim.folder == self.name and await self._is_over(claim) and _id_of(claim) not in self._awaited:
                    await self._close(claim)
            await asyncio.sleep(_CLOSE_S)

    async def _is_over(self, claim: Claim) -> bool:
        if now_ms() - claim.changed_ms > FILES_KEPT_DAYS * 86_400_000:
            return True
        try:
            facts = await self._client.call("task.get", seq=claim.seq)
        except NotAllowed:  # it is nobody's now and may come to us again, or it is another agent's
            return False
        except NotFound:
            return True
        return TaskState(facts["state"]).is_over


def _id_of(claim: Claim) -> str:
    return os.fsdecode(claim.name).removesuffix(".json")


def _ending(answer: asyncio.Future[OldResult], output: Output, took_ms: int) -> Ending:
    fault = answer.exception()
    if fault is not None:
        return Ending(None, took_ms, "output_failed", f"its result file is refused: {fault}")
    result = answer.result()
    output.add(result.output.encode())
    duration_ms = result.duration_ms or took_ms
    if result.status == COMPLETED:
        return Ending(None, duration_ms, "", "")
    return Ending(None, duration_ms, "agent_error", result.error)
