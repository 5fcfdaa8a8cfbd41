"""One task as a process: its own group, its output as it comes, its timeout, and no child left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from orchestra.ending import how_ended
from orchestra.limits import KIB, KILL_GRACE_S

from .output import Output
from .plan import Plan
from .warden import Warden

_READ_BYTES: Final = 64 * KIB
_LOOK_S: Final = 0.05  # how late a timeout may be after the task has waited for an answer
_EOF_GRACE_S: Final = 0.5  # a child that outlived its parent may hold the pipe open; its group is killed then


@dataclass(frozen=True, slots=True)
class Ending:
    """How the process ended. `code` is empty where it ended by itself with exit code 0."""

    exit_code: int | None
    duration_ms: int
    code: str
    text: str


class _Streams(asyncio.subprocess.SubprocessStreamProtocol):
    """Tells when the process itself has ended.

    `Process.wait` waits for the end of its output too before Python 3.12.4 (gh-119710), and a child that goes on in the
    background keeps that open.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=2 * _READ_BYTES, loop=loop)
        self.exited: asyncio.Future[None] = loop.create_future()

    def process_exited(self) -> None:
        super().process_exited()
        if not self.exited.done():
            self.exited.set_result(None)


async def run(
    plan: Plan,
    output: Output,
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    warden: Warden,
    stop: asyncio.Future[str],
    printed: Callable[[bytes], None],
    waited: Callable[[], float] = lambda: 0.0,
) -> Ending:
    """Run `plan` to its end.

    `stop` ends it early when it is done. When this returns, no process of the task's group is left.

    Args:
        output: collects what it prints on standard output and standard error.
        printed: is called with each piece of it.
        waited: how many seconds so far do not count against `timeout_s`.
    """
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    watch = warden.watch()
    try:
        transport, streams = await loop.subprocess_exec(
            lambda: _Streams(loop),
            *plan.argv,
            cwd=plan.cwd or None,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.PIPE if plan.stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=watch.begin,
        )
    except (OSError, ValueError) as exc:
        watch.end()
        return Ending(None, _since(started), "not_started", _why_not_started(plan, exc))
    process, exiting = asyncio.subprocess.Process(transport, streams, loop), streams.exited
    group = process.pid
    assert process.stdout is not None
    reading = asyncio.ensure_future(_read(process.stdout, output, printed))
    feeding = asyncio.ensure_future(_feed(process, plan.stdin))
    code, text = "", ""
    try:
        # Reading may fail (a full disk under the spool), and then the task has to end too.
        watched: set[asyncio.Future[object]] = {exiting, stop, reading}  # type: ignore[arg-type]
        while not exiting.done():
            left_s = started + timeout_s + waited() - time.monotonic()
            done, _ = await asyncio.wait(
                watched, timeout=max(_LOOK_S if waited() else 0.0, left_s), return_when=asyncio.FIRST_COMPLETED
            )
            if stop in done:
                code, text = "stopped", stop.result()
            elif reading in done and (fault := reading.exception()) is not None:
                code, text = "output_failed", f"its output can't be kept: {fault}"
            elif reading in done:
                watched.discard(reading)
                continue
            elif not done and started + timeout_s + waited() > time.monotonic():
                continue
            elif not done:
                code, text = "timeout", f"it ran longer than its {timeout_s:g} s and was killed with its children"
            break
        if code:
            await _end(group, exiting)
        await exiting
        with suppress(TimeoutError, OSError):
            await asyncio.wait_for(asyncio.shield(reading), _EOF_GRACE_S)
    finally:
        _kill(group, signal.SIGKILL)
        watch.end()
        feeding.cancel()
        reading.cancel()
        await asyncio.gather(exiting, feeding, reading, return_exceptions=True)
        transport.close()  # who left the group may hold the pipe open for ever
    status = process.returncode
    if not code and status:
        if status < 0:
            code, text = "signal", f"it was ended by {how_ended(status)}"
        else:
            code, text = "exit_code", how_ended(status)
    return Ending(status if status is not None and status >= 0 else None, _since(started), code, text)


async def _read(stream: asyncio.StreamReader, output: Output, printed: Callable[[bytes], None]) -> None:
    while data := await stream.read(_READ_BYTES):
        output.add(data)
        printed(data)


async def _feed(process: asyncio.subprocess.Process, data: bytes | None) -> None:
    if data is None or process.stdin is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read all
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _end(group: int, exiting: asyncio.Future[None]) -> None:
    """Ask the whole group to end, and kill what has not after a grace."""
    _kill(group, signal.SIGTERM)
    await asyncio.wait({exiting}, timeout=KILL_GRACE_S)
    _kill(group, signal.SIGKILL)


def _kill(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _why_not_started(plan: Plan, exc: Exception) -> str:
    # The system tells the same of a folder and of a program. `Path.is_dir` would raise for a name that is too long.
    if plan.cwd and not os.path.isdir(plan.cwd):  # noqa: PTH112
        return f"working directory {_shown(plan.cwd)} is not a folder on the agent's machine; give another with --cwd"
    program = _shown(plan.argv[0])
    if isinstance(exc, FileNotFoundError):
        return f"program {program} is not found on the agent's machine"
    if isinstance(exc, OSError) and exc.errno == errno.E2BIG:
        return (
            f"{program} can't be started: its arguments are too long for the system; "
            "an agent started with --prompt-by stdin takes long prompts"
        )
    if isinstance(exc, OSError):
        return f"{program} can't be started: {os.strerror(exc.errno or 0)}"
    return f"{program} can't be started: {exc}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:197] + "...")
