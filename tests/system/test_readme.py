"""What the README says to type, typed."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from .programs import Place, is_alive, wait_until

GIT = ("git", "-c", "user.name=A Person", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with three commits."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    subprocess.run([*GIT, "init", "-q"], cwd=folder, check=True)
    for number in (1, 2, 3):
        subprocess.run([*GIT, "commit", "-q", "--allow-empty", "-m", f"Change {number}"], cwd=folder, check=True)
    return folder


def test_up_then_a_task_in_a_checkout_then_messages_then_ctrl_c(place: Place, checkout: Path) -> None:
    up = place.up()
    assert "orchestra task submit --wait" in up.stdout

    log = subprocess.run(["git", "log", "--oneline", "-3"], cwd=checkout, capture_output=True, text=True, check=True)
    ran = place.run("task", "submit", "--wait", "--", "git", "log", "--oneline", "-3", folder=checkout)
    assert (ran.code, ran.stdout) == (0, log.stdout)
    assert len(ran.stdout.splitlines()) == 3
    assert ran.stderr.startswith("task 1 completed after ")

    status = place.run("status")
    assert "online    2 of 2 agents, 1 of 1 operator\n" in status.stdout
    assert "tasks     1 completed\n" in status.stdout
    assert place.run("task", "list").stdout.splitlines()[1].startswith("1\tcompleted\tqueue/default\tagent/exec-")

    me = json.loads(place.run("peers", "--json").stdout)["data"][-1]["address"]
    assert place.run("send", me, "hello").stdout == f"message 2 to {me} is stored\n"
    assert place.run("inbox").stdout.endswith("\thello\n")
    assert "hello" in place.run("read", "--all").stdout
    assert place.run("inbox").code == 1

    everyone = _pids(place)
    up.signal(signal.SIGINT)
    ended = up.wait_end()
    assert (ended.code, ended.stderr) == (0, "\nstopping; running tasks may finish\n")
    assert len(everyone) == 3
    wait_until(lambda: not any(map(is_alive, everyone)), "the hub and the agents to be gone")


def _pids(place: Place) -> list[int]:
    """Return the processes of the hub and of its agents."""
    status = json.loads(place.run("status", "--json").stdout)["data"]
    peers = json.loads(place.run("peers", "--json").stdout)["data"]
    agents = [int(each["pid"]) for peer in peers for each in peer["sessions"] if peer["address"].startswith("agent/")]
    return [status["pid"], *agents]
