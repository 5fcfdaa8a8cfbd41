"""An agent's tasks that come as files: it does them beside those of the hub, and also where there is no hub.

A task is found by its old id. One that comes by both ways (a file, and a task of the hub whose idempotency key is that
id, with the same prompt) is run once; whoever asks second is given the same result.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from orchestra.errors import BadFile, OrchestraError, StateFault
from orchestra.job import Job
from orchestra.limits import KILL_GRACE_S, TASK_LOSSES_MAX

from .claims import Claim, Claims, Step, Way, claims_of
from .folder import Folder
from .intake import Arrival, Intake, shown
from .lock import Lock, lock_of
from .oldfile import COMPLETED, OldResult, digest_of, read_result
from .output import Output
from .plan import make_plan
from .process import Ending, run
from .reply import Replies, now_ms, own_result
from .settings import AgentSettings, FileSettings
from .slots import Slots
from .tidy import tidy
from .warden import Warden
from .watch import Watch

logger = logging.getLogger(__name__)

_TURN_S: Final = 0.02  # that the hub has to give a task before the next file gets a slot


@dataclass(slots=True)
class _Run:
    """A task at work here. `done` is its result; `stop` ends it, where it is one of a file.

    `is_told`: its result is on the way to where its orchestrator sees it, and may use its id again.
    """

    prompt: str
    name: str
    done: asyncio.Future[OldResult | None]
    stop: asyncio.Future[str]
    is_told: bool = False


class FileWork:
    """Does the tasks of one folder. Make it, and `run` it.

    Raises:
        StateFault: if another process takes the tasks of this folder.
        StorageFault: if the claims can't be kept.
    """

    def __init__(self, settings: AgentSettings, files: FileSettings, slots: Slots) -> None:
        self._settings = settings
        self._files = files
        self._slots = slots
        self._name = files.inbox.name
        try:
            self._lock = Lock(lock_of(files.inbox))
        except BlockingIOError as exc:
            raise StateFault(
                f"another agent or a bridge takes the tasks of {files.inbox}; stop that one first"
            ) from exc
        self._claims = Claims(claims_of(files.inbox.parent))
        self._intake = Intake(files.trust)
        self._replies = Replies(lambda name: files.outbox, files.trust, self._claims)
        self._watch = Watch(files.inbox.parent, folders=lambda: [self._name])
        self._warden = Warden()
        self._runs: dict[str, _Run] = {}
        self._works: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        slots.freed = lambda: self._watch.look_again(self._name)

    async def run(self) -> None:
        """Work until `drain` is called.

        Raises:
            OrchestraError: if the claims can't be kept.
        """
        await self._publish_written()
        looking = asyncio.ensure_future(self._look())
        tidying = asyncio.ensure_future(tidy(self._claims, lambda: [self._files.inbox], self._files.trust))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            watched: list[asyncio.Future[Any]] = [looking, tidying, draining, self._failed]
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in watched:
                if task.done():
                    task.result()
            looking.cancel()
            if self._works:
                await asyncio.wait(self._works, timeout=self._settings.drain_s)
        finally:
            for beside in (looking, tidying, draining):
                beside.cancel()
            for each in self._runs.values():
                if not each.stop.done():
                    each.stop.set_result("the agent stops")
            if self._works:
                await asyncio.wait(self._works, timeout=2 * KILL_GRACE_S)
            for work in self._works:  # a result that can't be written
                work.cancel()
            await asyncio.gather(looking, tidying, draining, *self._works, return_exceptions=True)
            self._warden.close()
            self._claims.close()
            self._lock.close()

    async def _publish_written(self) -> None:
        """Publish what was written when this agent was killed; where its file is still there, that comes first."""
        with Folder(self._files.inbox, self._files.trust) as folder:
            there = {os.fsencode(name) for name in folder.names()}
        for claim in self._claims.open_of(Way.BY_FILE):
            if claim.folder == self._name and claim.step is Step.WRITTEN and claim.name not in there:
                await self._replies.publish(claim)

    def drain(self) -> None:
        """Take no new file, and let the running tasks end within `drain_s`; what is stopped then is done next time."""
        self._draining.set()

    def minutes(self) -> list[int]:
        """Return how many files were answered in which minute of the last hour, for `files.tell`."""
        return self._claims.minutes(self._name, since_ms=now_ms() - 3_600_000)

    # Tasks of the hub that may be those of files too.

    async def begin_by_hub(
        self, task_id: str, job: Job, *, attempt: int, stop: asyncio.Future[str]
    ) -> OldResult | bool:
        """Return the result of a task of the hub that a file asked for before, waiting for one that runs.

        One that failed counts for the first attempt: the hub knows how often it is to be tried.

        Otherwise it is to be run; True says that `end_by_hub` is to be called then, False that a file has its id for
        something else.
        """
        running = self._runs.get(task_id)
        digest = digest_of(job.prompt)
        if running is not None and running.prompt == digest:
            waited: set[asyncio.Future[object]] = {running.done, stop}  # type: ignore[arg-type]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if running.done.done() and (found := running.done.result()) is not None:
                return found  # of an attempt that ran until now
        known = self._claims.find(self._name, task_id)
        if known is not None and known.prompt == digest and known.result:
            result = read_result(known.result, task_id=task_id)
            if result.status == COMPLETED or attempt == 1:
                return result
        if task_id in self._runs or (known is not None and known.is_open and known.prompt != digest):
            return False
        fresh = Claim(self._name, task_id, Way.BY_HUB, Step.CLAIMED, prompt=digest)
        claim = fresh if known is None or not known.is_open else replace(known, way=Way.BY_HUB, step=Step.CLAIMED)
        self._runs[task_id] = self._new_run(digest, os.fsdecode(claim.name))
        await self._claims.put(replace(claim, changed_ms=now_ms()))
        return True

    async def end_by_hub(self, task_id: str, ending: Ending, output: Output, *, is_kept: bool) -> None:
        """Keep the result of a task of the hub for a file that asks for the same; not that of one that may go on."""
        claim = self._claims.find(self._name, task_id)
        assert claim is not None, "begin_by_hub has put it there"
        if is_kept:
            result = own_result(claim, ending, output).encode()
            await self._claims.put(replace(claim, step=Step.ANSWERED, result=result, changed_ms=now_ms()))
        else:
            await self._claims.drop(claim)
        self._runs.pop(task_id).done.set_result(None)
        self._watch.look_again(self._name)

    # Files.

    async def _look(self) -> None:
        async for _ in self._watch.changes():
            try:
                self._slots.want_none()
                with Folder(self._files.inbox, self._files.trust) as folder:
                    for arrival in self._intake.read(folder, skip={each.name for each in self._runs.values()}):
                        if not self._consider(folder, arrival):
                            break
            except FileNotFoundError:
                continue
            except (BadFile, OSError) as exc:
                self._intake.tell_once(f"nothing is taken from {self._files.inbox}: {exc}")
            self._slots.tell()

    def _consider(self, folder: Folder, arrival: Arrival) -> bool:
        """Deal with one file; False if there is no slot for it."""
        place = str(arrival.task.id)
        if place in self._runs:
            if self._runs[place].prompt != arrival.task.prompt_digest and not self._runs[place].is_told:
                self._intake.refuse(folder, arrival.name, f"its id {place} is that of a task that runs now")
            return True  # else it is the same, or is looked at again when that is over
        known = self._claims.find(*arrival.place)
        if known is None:
            return self._begin(arrival, losses=0)
        is_same = known.key == arrival.key or (known.way is Way.BY_HUB and known.prompt == arrival.task.prompt_digest)
        if known.way is Way.TO_HUB and (known.is_open or is_same):
            self._leave_to_hub(folder, arrival, known)
        elif not known.is_open and is_same:
            self._start(place, arrival, self._answer(known, known.result, arrival))
        elif known.step is Step.WRITTEN:
            self._start(place, arrival, self._finish(known, arrival) if is_same else self._replies.publish(known))
        elif known.is_open and not is_same and known.way is Way.BY_FILE and folder.has(os.fsdecode(known.name)):
            self._intake.refuse(
                folder,
                arrival.name,
                f"its id {place} is that of {shown(os.fsdecode(known.name))}, which is not answered yet",
            )
        else:
            return self._begin(arrival, losses=known.losses + 1 if is_same else 0)
        return True

    def _leave_to_hub(self, folder: Folder, arrival: Arrival, known: Claim) -> None:
        """A bridge served this folder before, and had this task."""
        if known.key != arrival.key:
            self._intake.refuse(folder, arrival.name, f"its id {known.task} is that of a task that the hub has")
        elif known.step is Step.CLAIMED:
            self._intake.tell_once(
                f"{shown(arrival.name)} may be at the hub already: the bridge that took it has to run once more"
            )
        elif known.step is Step.STORED:
            arrival.put_away(folder)
        elif known.step is Step.WRITTEN:
            self._start(known.task, arrival, self._finish(known, arrival))
        else:
            self._intake.refuse(
                folder, arrival.name, "a bridge has answered it; give it another id to have it run again"
            )

    def _begin(self, arrival: Arrival, *, losses: int) -> bool:
        if not self._slots.lend():
            return False
        self._start(str(arrival.task.id), arrival, self._work(arrival, losses), is_lent=True)
        return True

    def _start(self, place: str, arrival: Arrival, doing: Coroutine[Any, Any, None], *, is_lent: bool = False) -> None:
        running = self._runs[place] = self._new_run(arrival.task.prompt_digest, arrival.name)
        work = asyncio.ensure_future(doing)
        self._works.add(work)

        def ended(work: asyncio.Task[None]) -> None:
            self._works.discard(work)
            self._runs.pop(place, None)
            if not running.done.done():
                running.done.set_result(None)
            if is_lent:
                asyncio.get_running_loop().call_later(_TURN_S, self._slots.give_back)
            else:
                self._watch.look_again(self._name)
            if not work.cancelled() and (fault := work.exception()) is not None and not self._failed.done():
                self._failed.set_exception(fault)

        work.add_done_callback(ended)

    async def _work(self, arrival: Arrival, losses: int) -> None:
        running = self._runs[str(arrival.task.id)]
        claim = arrival.claim(Way.BY_FILE, losses=losses, now_ms=now_ms())
        await self._claims.put(claim)
        output = Output(self._settings.state.outputs / f"file-{self._name}-{claim.task}.log")
        try:
            if losses > TASK_LOSSES_MAX:
                ending = Ending(None, 0, "too_many_losses", f"{losses} lives of its agent ended before it did")
            else:
                ending = await self._run(claim, arrival.task.job(), output, running.stop)
            if running.stop.done():
                await self._claims.drop(claim)  # its file is still there, and is done next time
                logger.info("task %s of %s is given back", shown(claim.task), self._files.inbox)
                return
            result = own_result(claim, ending, output)
        finally:
            output.close()
        await self._answer(claim, result.encode(), arrival)
        running.done.set_result(result)
        logger.info("task %s of %s is %s", shown(claim.task), self._files.inbox, result.status)

    async def _run(self, claim: Claim, job: Job, output: Output, stop: asyncio.Future[str]) -> Ending:
        settings = self._settings
        logger.info("task %s of %s begins: %s", shown(claim.task), self._files.inbox, job.title[:100])
        try:
            plan = make_plan(job, runner=settings.runner, command=settings.command, prompt_by=settings.prompt_by)
        except OrchestraError as error:
            return Ending(None, 0, error.code, str(error))
        environment = {
            "ORCHESTRA_AGENT": str(settings.address),
            "ORCHESTRA_STATE": str(settings.state.path),
            "ORCHESTRA_TASK_ID": claim.task,
            "ORCHESTRA_TASK_ATTEMPT": str(claim.losses + 1),
            "ORCHESTRA_TASK_FROM": "file",
            "ORCHESTRA_TASK_CONTEXT": job.context,
        }
        return await run(
            plan,
            output,
            environment=environment,
            timeout_s=job.timeout_s,
            warden=self._warden,
            stop=stop,
            printed=lambda data: None,
        )

    async def _answer(self, claim: Claim, result: bytes, arrival: Arrival) -> None:
        """Write the result, put the file away, and only then let the orchestrator see it: it may use the name again."""
        await self._finish(await self._replies.write(claim, result, keep=True), arrival)

    async def _finish(self, written: Claim, arrival: Arrival) -> None:
        with suppress(FileNotFoundError), Folder(self._files.inbox, self._files.trust) as folder:
            arrival.put_away(folder)
        self._runs[written.task].is_told = True
        await self._replies.publish(written)

    def _new_run(self, prompt: str, name: str) -> _Run:
        loop = asyncio.get_running_loop()
        return _Run(prompt, name, loop.create_future(), loop.create_future())
