"""The worker: takes tasks from the hub, runs them, and reports.

No task is done by two agents at once: the hub gives a task to another agent when this one was silent for LEASE_S, so a
worker whose hub has not answered it for WORK_LEASE_S, which is less, stops what it runs: also where its connection only
seems to live. When the worker itself is frozen, its warden does that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orchestra.aio import Client
from orchestra.conversation import AnswerGiven, Assigned, Canceled, Welcomed
from orchestra.errors import OrchestraError, PeerError, StaleLease
from orchestra.job import Job, decode_job
from orchestra.limits import KILL_GRACE_S, PROVE_S, WORK_LEASE_S
from orchestra.task import TaskState

from .desk import Desk
from .output import Output
from .plan import check_sender, make_plan
from .process import Ending, run
from .progress import Progress
from .settings import AgentSettings
from .warden import Warden

logger = logging.getLogger(__name__)

_STOP_S: Final = 2 * KILL_GRACE_S  # what a task that is told to stop may take, with what its end takes to be told
_PERMANENT: Final = ("not_started", "bad_option")  # another attempt would end the same way
_TEXT_CHARS_MAX: Final = 1000  # of the sentence in a report: it may name a program or folder of any length


@dataclass(slots=True)
class Running:
    """A task at work. `stop` is done to end it; `is_wanted` says whether the hub still wants its result.

    Its program asks one question at a time: `asked` have been, the last one at `asked_at` if it is still open.
    """

    assigned: Assigned
    stop: asyncio.Future[str]
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: int = 0
    asked_at: float | None = None
    waited_s: float = 0.0
    answer: asyncio.Future[str] | None = None
    is_canceled: bool = False
    is_wanted: bool = True
    is_given_back: bool = False


class Worker:
    """An agent at work. Make it with a client that offers no slots yet, and `run` it."""

    def __init__(self, settings: AgentSettings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._warden = Warden()
        self._running: dict[int, Running] = {}
        self._works: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._is_cut_off = False
        client.on_connected = self._connected
        client.on_lost = self._lost
        client.on_canceled = self._canceled
        client.on_answered = self._answered
        self._desk = Desk(settings.state.desk_of(settings.address), ask=self._ask, save=self._save)
        client.on_assigned = self._begin

    async def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Work until `drain` is called or the hub ends the conversation for good.

        Raises:
            OrchestraError: why the hub ended it (replaced, key refused, …); running tasks were stopped.
        """
        over = asyncio.ensure_future(self._client.wait_over())
        draining = asyncio.ensure_future(self._draining.wait())
        proving = asyncio.ensure_future(self._keep_lease())
        try:
            await self._desk.open()
        except OSError as exc:
            logger.warning("tasks can't ask nor leave checkpoints here: %s", exc, extra={"action": "desk_closed"})
        self._client.offer(self._settings.concurrency)
        logger.info(
            "%s takes tasks for itself%s, %d at once",
            self._client.address,
            "".join(f" and {queue}" for queue in self._settings.queues),
            self._settings.concurrency,
            extra={"action": "agent_ready"},
        )
        ready()
        try:
            await asyncio.wait({over, draining}, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                raise over.result()
            await self._finish_work()
        finally:
            over.cancel()
            draining.cancel()
            await self._stop_all("the agent stops")
            proving.cancel()
            await asyncio.gather(proving, return_exceptions=True)
            await self._desk.close()
            self._warden.close()

    def drain(self) -> None:
        """Take no new task; let the running ones end within `drain_s`, then give them back. A second call hurries."""
        if self._draining.is_set():
            self._hurrying.set()
        self._draining.set()

    async def _finish_work(self) -> None:
        self._client.offer(0)
        if self._works:
            count = len(self._works)
            told = "1 task is" if count == 1 else f"{count} tasks are"
            logger.info("draining: %s running", told, extra={"action": "draining"})
            ending = asyncio.ensure_future(asyncio.wait(self._works))
            hurrying = asyncio.ensure_future(self._hurrying.wait())
            await asyncio.wait({ending, hurrying}, timeout=self._settings.drain_s, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            hurrying.cancel()
        for running in self._running.values():
            self._give_back(running)

    async def _stop_all(self, why: str) -> None:
        for running in self._running.values():
            _stop(running, why)
        if self._works:
            _, untold = await asyncio.wait(self._works, timeout=_STOP_S)
            for work in untold:  # its process is gone; it waits for a hub that would take its result
                work.cancel()
            await asyncio.gather(*untold, return_exceptions=True)

    def _begin(self, assigned: Assigned) -> None:
        if self._draining.is_set():
            self._client.give_back(assigned, "the agent stops")
            return
        left_s = self._client.lease_left_s(WORK_LEASE_S)
        if not left_s:  # it lay here while this process was frozen: another agent may have it by now
            self._client.give_back(assigned, "its lease lapsed")
            self._client.ping()
            return
        self._warden.allow(left_s + KILL_GRACE_S)
        running = Running(assigned, asyncio.get_running_loop().create_future())
        earlier = self._running.get(assigned.seq)
        if earlier is not None:  # an attempt the hub has given up, still ending here
            earlier.is_wanted = False
            _stop(earlier, "the hub began a new attempt")
        self._running[assigned.seq] = running
        work = asyncio.ensure_future(self._work(running))
        self._works.add(work)
        work.add_done_callback(self._works.discard)

    async def _work(self, running: Running) -> None:
        assigned = running.assigned
        output = Output(self._settings.state.outputs / f"task-{assigned.seq}-{assigned.attempt}.log")
        try:
            ending = await self._run(running, output)
            await self._report(running, ending, output)
        finally:
            output.close()
            if self._running.get(assigned.seq) is running:
                del self._running[assigned.seq]

    async def _run(self, running: Running, output: Output) -> Ending:
        assigned = running.assigned
        started = time.monotonic()
        try:
            check_sender(assigned.sender, accepted=self._settings.accept_from)
            job = decode_job(assigned.body)
            plan = make_plan(
                job,
                runner=self._settings.runner,
                command=self._settings.command,
                prompt_by=self._settings.prompt_by,
            )
        except PeerError as error:
            return Ending(None, round((time.monotonic() - started) * 1000), error.code, str(error))
        logger.info("task %d from %s begins: %s", assigned.seq, assigned.sender, job.title[:100])
        checkpoint = self._settings.state.outputs / f"task-{assigned.seq}-{assigned.attempt}.checkpoint"
        try:
            left = _write_checkpoint(checkpoint, assigned.options.get("checkpoint"))
        except OSError as exc:
            return Ending(None, 0, "output_failed", f"its checkpoint can't be kept: {exc}")
        progress = Progress(lambda data: self._client.tell_progress(assigned, data))
        try:
            return await run(
                plan,
                output,
                environment={**self._environment(assigned, job), "ORCHESTRA_CHECKPOINT": left},
                timeout_s=job.timeout_s,
                warden=self._warden,
                stop=running.stop,
                printed=progress.add,
                waited=lambda: _waited_s(running),
            )
        finally:
            progress.flush()
            if left:
                checkpoint.unlink(missing_ok=True)

    async def _report(self, running: Running, ending: Ending, output: Output) -> None:
        assigned = running.assigned
        if running.is_given_back:
            self._client.give_back(assigned, "the agent stops")
            logger.info("task %d is given back", assigned.seq, extra={"action": "task_given_back"})
            return
        if not running.is_wanted:
            self._client.give_back(assigned, "the agent stopped it")
            logger.info("task %d is stopped: %s", assigned.seq, ending.text, extra={"action": "task_stopped"})
            return
        outcome = TaskState.COMPLETED
        if ending.code:
            outcome = TaskState.CANCELED if running.is_canceled else TaskState.FAILED
        report: dict[str, Any] = {
            "duration_ms": ending.duration_ms,
            "output_bytes": output.bytes,
            "is_cut": output.is_cut,
        }
        if ending.exit_code is not None:
            report["exit_code"] = ending.exit_code
        if ending.code:
            report |= {"code": ending.code, "text": ending.text[:_TEXT_CHARS_MAX]}
            if ending.code in _PERMANENT or ending.exit_code in self._settings.permanent_exit_codes:
                report["is_permanent"] = True
        if output.file is not None:
            report["output_file"] = str(output.file)
        try:
            await self._client.report(assigned, outcome, report, output.result())
        except StaleLease:
            logger.warning(
                "task %d was given to another agent meanwhile; this result is not taken",
                assigned.seq,
                extra={"action": "result_refused"},
            )
        except OrchestraError as error:
            logger.error("result of task %d is not told: %s", assigned.seq, error, extra={"action": "result_untold"})
        else:
            logger.info(
                "task %d is %s after %.1f s%s",
                assigned.seq,
                outcome,
                ending.duration_ms / 1000,
                f": {ending.text}" if ending.text else "",
                extra={"action": "task_done"},
            )

    def _environment(self, assigned: Assigned, job: Job) -> dict[str, str]:
        return {
            "ORCHESTRA_AGENT": str(self._settings.address),
            "ORCHESTRA_STATE": str(self._settings.state.path),
            "ORCHESTRA_TASK_ID": str(assigned.seq),
            "ORCHESTRA_TASK_SOCKET": str(self._desk.path),
            "ORCHESTRA_TASK_ATTEMPT": str(assigned.attempt),
            "ORCHESTRA_TASK_FROM": assigned.sender,
            "ORCHESTRA_TASK_CONTEXT": job.context,
            "ORCHESTRA_TASK_BUDGET": str(assigned.options.get("budget", "")),
        }

    async def _keep_lease(self) -> None:
        """Ask again and again whether the hub still hears us, and stop the tasks in time where it does not."""
        while True:
            left_s = self._client.lease_left_s(WORK_LEASE_S)
            if not left_s:
                self._lapsed()
            elif self._running:
                self._warden.allow(left_s + KILL_GRACE_S)
                self._client.ping()
            await asyncio.sleep(min(left_s, PROVE_S) or PROVE_S)

    # What the programs of its tasks want.

    async def _ask(self, seq: int, attempt: int, question: str) -> str:
        running = self._running_of(seq, attempt)
        async with running.asking:
            loop = asyncio.get_running_loop()
            running.asked += 1
            running.answer, running.asked_at = loop.create_future(), loop.time()
            try:
                await self._client.ask(running.assigned, running.asked, question)
                logger.info("task %d asks, and waits for an answer", seq, extra={"action": "task_asks"})
                return await running.answer
            finally:
                running.waited_s, running.asked_at = _waited_s(running), None

    async def _save(self, seq: int, attempt: int, data: bytes) -> None:
        await self._client.save_checkpoint(self._running_of(seq, attempt).assigned, data)

    def _running_of(self, seq: int, attempt: int) -> Running:
        running = self._running.get(seq)
        if running is None or running.assigned.attempt != attempt:
            raise StaleLease(f"attempt {attempt} at task {seq} does not run here any more")
        return running

    # What the connection tells.

    def _answered(self, answered: AnswerGiven) -> None:
        running = self._running.get(answered.seq)
        if running is None or running.assigned.lease != answered.lease or running.asked != answered.number:
            return
        if running.answer is not None and not running.answer.done():
            running.answer.set_result(answered.text)

    def _connected(self, welcomed: Welcomed) -> None:
        if self._is_cut_off:
            self._is_cut_off = False
            logger.info("%s is connected again", welcomed.address, extra={"action": "connected"})
        for seq in welcomed.lost:
            running = self._running.get(seq)
            if running is not None and not running.stop.done():
                running.is_wanted = False
                _stop(running, "the hub gave it to another agent")

    def _lost(self, reason: OrchestraError) -> None:
        logger.warning("hub lost: %s; trying again", reason, extra={"action": "hub_lost"})
        self._is_cut_off = True

    def _lapsed(self) -> None:
        for running in self._running.values():
            if not running.stop.done():
                logger.warning(
                    "task %d is stopped: the hub did not answer for %.0f s, so another agent may have it by now",
                    running.assigned.seq,
                    WORK_LEASE_S,
                    extra={"action": "lease_lapsed"},
                )
                running.is_wanted = False
                _stop(running, "its lease lapsed")

    def _canceled(self, canceled: Canceled) -> None:
        running = self._running.get(canceled.seq)
        if running is not None and running.assigned.lease == canceled.lease:
            running.is_canceled = True
            _stop(running, canceled.why)

    def _give_back(self, running: Running) -> None:
        if not running.stop.done():
            running.is_given_back = True
            _stop(running, "the agent stops")


def _waited_s(running: Running) -> float:
    """How long the task has waited for answers so far."""
    now = asyncio.get_running_loop().time()
    return running.waited_s + (now - running.asked_at if running.asked_at is not None else 0.0)


def _write_checkpoint(path: Path, data: object) -> str:
    """Put what an earlier attempt left where the program finds it; return the path, or nothing."""
    if not isinstance(data, bytes):
        return ""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def _stop(running: Running, why: str) -> None:
    if not running.stop.done():
        running.stop.set_result(why)
