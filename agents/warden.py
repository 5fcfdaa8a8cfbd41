"""The warden: kills an agent's tasks when the agent dies without a word.

An agent that is killed with SIGKILL can't stop its tasks, and the hub will give them to another agent: then the work
would be done twice at once. The warden is a process of its own that reads from a pipe which process groups are alive
(`+WATCH PGID`, `-WATCH`); when the pipe closes, it kills those that are left. A task's process announces itself, before
its program begins: whatever happens to the agent meanwhile, nothing runs that the warden does not know of.

An agent that is frozen (SIGSTOP, or a machine that has no time for it) keeps its pipe and stops nothing either. So it
also says until when its tasks may run (`=SECONDS`, of the clock that never jumps); what is left then is killed.

Started by `Warden`, as `python -m orchestra.agents.warden`. It imports next to nothing, because it sits beside every
agent.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress


class Warden:
    """The agent's end of the pipe."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestra.agents.warden"],  # -P: nothing from the current folder
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the agent's terminal is not meant for it
        )

    def watch(self) -> Watch:
        """Return a watch for one process group that is about to begin."""
        assert self._process.stdin is not None
        return Watch(self._process.stdin.fileno(), next(self._numbers))

    def allow(self, seconds: float) -> None:
        """Let the tasks run for so long; said again and again, since those that run then are killed."""
        assert self._process.stdin is not None
        _tell(self._process.stdin.fileno(), f"={time.monotonic() + seconds:.3f}\n")

    def close(self) -> None:
        """End it, with every group it still knows."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


class Watch:
    """What the warden knows of one process group. A warden that was killed is told nothing: the tasks go on."""

    def __init__(self, pipe: int, number: int) -> None:
        self._pipe = pipe
        self._number = number

    def begin(self, group: int | None = None) -> None:
        """Announce the group, by default the one that the calling process leads.

        It is called in the child between fork and exec, beside threads that are gone there: nothing but one write.
        """
        _tell(self._pipe, f"+{self._number} {os.getpid() if group is None else group}\n")

    def end(self) -> None:
        """The group is gone, or never began."""
        _tell(self._pipe, f"-{self._number}\n")


def _tell(pipe: int, line: str) -> None:
    with suppress(BrokenPipeError):
        os.write(pipe, line.encode())  # shorter than PIPE_BUF: never mixed with another's


def main() -> None:
    """Read the pipe until it closes, then kill what is left; kill also what runs longer than it may."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it goes when its agent goes
    groups: dict[str, int] = {}
    until: float | None = None
    pipe, rest = sys.stdin.fileno(), b""
    while True:
        left_s = None if until is None or not groups else max(0.0, until - time.monotonic())
        if not select.select([pipe], [], [], left_s)[0]:
            _kill(groups)
            continue
        data = os.read(pipe, 65_536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            until = _take_in(line.decode(), groups, until)
    _kill(groups)


def _take_in(line: str, groups: dict[str, int], until: float | None) -> float | None:
    """Take in one line; return until when the groups may run."""
    what, (watch, _, group) = line[:1], line[1:].partition(" ")
    if what == "=":
        return float(watch)
    if what == "+":
        groups[watch] = int(group)
    else:
        groups.pop(watch, None)
    return until


def _kill(groups: dict[str, int]) -> None:
    for pgid in groups.values():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pgid, signal.SIGKILL)
    groups.clear()


if __name__ == "__main__":
    main()
