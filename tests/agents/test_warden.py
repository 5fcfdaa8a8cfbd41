"""The warden, as a process: what it is for is a killed agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestra.agents.warden import Warden

from ..system.programs import PYTHON, is_alive, wait_until

# An agent that dies without a word: it has a task (whose process group is given) and never says that it ended.
AGENT_KILLED = """
import os, signal, sys
from orchestra.agents.warden import Warden
warden = Warden()
warden.watch().begin(int(sys.argv[1]))
print(warden._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

# An agent that is killed by the very process it starts, which then lives on as the task's program.
AGENT_KILLED_AT_THE_FORK = """
import os, signal, subprocess
from orchestra.agents.warden import Warden
watch = Warden().watch()
def begin():
    watch.begin()
    os.write(1, b"%d" % os.getpid())
    os.kill(os.getppid(), signal.SIGKILL)
subprocess.Popen(["sleep", "600"], start_new_session=True, preexec_fn=begin)
"""


@pytest.fixture
def group() -> Iterator[subprocess.Popen[bytes]]:
    """A process group of a shell and its child."""
    process = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo $!; wait"], start_new_session=True, stdout=subprocess.PIPE
    )
    yield process
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _child(group: subprocess.Popen[bytes]) -> int:
    assert group.stdout is not None
    return int(group.stdout.readline())


def test_when_the_agent_is_killed_its_groups_are_killed_and_the_warden_ends(group: subprocess.Popen[bytes]) -> None:
    child = _child(group)
    agent = subprocess.run(
        [*PYTHON, "-c", AGENT_KILLED, str(group.pid)], capture_output=True, text=True, timeout=30, check=False
    )
    assert agent.returncode == -signal.SIGKILL, agent.stderr
    assert group.wait(30) == -signal.SIGKILL
    wait_until(lambda: not is_alive(child), "the child of the task to be gone")
    wait_until(lambda: not is_alive(int(agent.stdout)), "the warden to end")


def test_a_group_whose_watch_ended_is_left_alone(group: subprocess.Popen[bytes]) -> None:
    child = _child(group)
    warden = Warden()
    watch = warden.watch()
    watch.begin(group.pid)
    watch.end()
    warden.close()
    assert group.poll() is None
    assert is_alive(child)
    _end(group, child)


def test_closing_ends_what_is_still_watched(group: subprocess.Popen[bytes]) -> None:
    child = _child(group)
    warden = Warden()
    warden.watch().begin(group.pid)
    warden.close()
    assert group.wait(30) == -signal.SIGKILL
    wait_until(lambda: not is_alive(child), "the child of the task to be gone")


def test_what_runs_longer_than_its_agent_may_let_it_is_killed_and_a_later_group_is_not(
    group: subprocess.Popen[bytes],
) -> None:
    child = _child(group)
    warden = Warden()
    warden.allow(600)
    warden.watch().begin(group.pid)
    warden.allow(0)  # as if the agent had been frozen since it said so
    assert group.wait(30) == -signal.SIGKILL
    wait_until(lambda: not is_alive(child), "the child of the task to be gone")
    warden.allow(600)
    later = subprocess.Popen(["sleep", "600"], start_new_session=True)
    watch = warden.watch()
    watch.begin(later.pid)
    watch.end()
    warden.close()
    assert later.poll() is None
    later.kill()
    later.wait()


def test_a_group_that_is_gone_does_not_keep_the_warden_from_the_next(group: subprocess.Popen[bytes]) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    gone.wait()
    warden = Warden()
    warden.watch().begin(gone.pid)
    warden.watch().begin(group.pid)
    warden.close()
    assert group.wait(30) == -signal.SIGKILL


def test_a_process_announces_itself_before_its_program_begins() -> None:
    """The agent may be killed before it gets to know that the process began."""
    agent = subprocess.run([*PYTHON, "-c", AGENT_KILLED_AT_THE_FORK], stdout=subprocess.PIPE, timeout=30, check=False)
    assert agent.returncode == -signal.SIGKILL
    task = int(agent.stdout)
    wait_until(lambda: not is_alive(task), "the task to be gone")


def test_a_program_that_could_not_begin_is_not_watched(group: subprocess.Popen[bytes]) -> None:
    child = _child(group)
    warden = Warden()
    watch = warden.watch()
    with pytest.raises(FileNotFoundError):
        subprocess.Popen(["no-such-program"], preexec_fn=lambda: watch.begin(group.pid))
    watch.end()
    warden.close()
    assert group.poll() is None
    _end(group, child)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_meant_for_the_agent_does_not_end_the_warden(
    group: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    warden = Warden()
    warden.watch().begin(group.pid)
    stat = wait_until(lambda: _ignores(warden._process.pid), "the warden to ignore signals")
    assert stat
    warden._process.send_signal(number)
    warden.close()
    assert group.wait(30) == -signal.SIGKILL, "it ended before it did its work"


def _ignores(pid: int) -> bool:
    """Whether the process ignores the three signals already: it has to start before it can."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        pytest.skip("what another process ignores is read from /proc")
    (line,) = [line for line in status.splitlines() if line.startswith("SigIgn")]
    mask = int(line.split()[1], 16)
    return all(mask >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def _end(group: subprocess.Popen[bytes], child: int) -> None:

    os.killpg(group.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(child), "the child of the task to be gone")
