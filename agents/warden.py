"""The warden: kills an agent's tasks when the agent dies without a word.

An agent that is killed with SIGKILL can't stop its tasks, and the hub will give them to another agent: then the work
would be done twice at once. The warden is a process of its own that reads from a pipe which process groups are alive
(`+PGID`, `-PGID`); when the pipe closes, it kills those that are left.

Started by `Warden`, as `python -m orchestra.agents.warden`. It imports next to nothing, because it sits beside every
agent.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress


class Warden:
    """The agent's end of the pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestra.agents.warden"],  # -P: nothing from the current folder
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the agent's terminal is not meant for it
        )

    def watch(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End it, with every group it still knows."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()


def main() -> None:
    """Read the pipe until it closes, then kill what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it goes when its agent goes
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
