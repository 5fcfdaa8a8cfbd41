"""`orchestra up`: what it starts, it ends, however it is ended itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path

import pytest

from orchestra.address import parse_peer
from orchestra.enrol import enrol_here
from orchestra.state import StateFolder, this_operator

from ..system.programs import ORCHESTRA, Place, is_alive, wait_until


def _everyone(place: Place) -> list[int]:
    """Return the processes of the hub and its two agents, which must not outlive the test."""
    hub = place.run("status", "--json").data["pid"]
    peers = place.run("peers", "--json").data
    agents = [int(each["pid"]) for peer in peers for each in peer["sessions"] if peer["address"].startswith("agent/")]
    assert len(agents) == 2
    place.pids += [hub, *agents]
    return [hub, *agents]


def _assert_all_end(pids: list[int]) -> None:
    wait_until(lambda: not any(map(is_alive, pids)), "what `orchestra up` started to be gone")


def test_the_summary_says_what_runs_where_and_what_to_type_next(place: Place) -> None:
    lines = [line.strip() for line in place.up().stdout.splitlines()]
    assert lines[1] == "The orchestra is up."
    assert re.fullmatch(r"hub +tcp://127\.0\.0\.1:\d+  \(encrypted; on this machine also ipc\)", lines[3])
    assert lines[4] == "agents  agent/exec-1 and agent/exec-2 serve queue/default"
    assert lines[5] == f"(they run commands from {this_operator()} alone)"
    assert lines[6] == f"state   {place.state}"
    assert lines[7] == "page    off"
    assert lines[-1] == "Ctrl-C stops everything."
    # The state folder is where the environment says, so what to type needs no --state.
    for number, words in enumerate((["task", "submit"], ["status"], ["send"]), start=-5):
        assert lines[number].startswith(f"orchestra {' '.join(words)}")
        assert "--state" not in lines[number]


def test_what_it_says_to_type_has_the_state_folder_where_that_is_an_unusual_one(place: Place) -> None:
    elsewhere = place.folder / "elsewhere"
    up = place.up("--state", str(elsewhere))
    typed = [line.split() for line in up.stdout.splitlines() if line.startswith("  orchestra ")]
    assert len(typed) == 3
    for words in typed:
        assert words[words.index("--state") + 1] == str(elsewhere)
    (status,) = [words for words in typed if words[1] == "status"]
    assert place.run(*status[1:]).code == 0


def test_keys_are_made_on_the_first_start_and_kept_on_the_next(place: Place) -> None:
    kept = []
    for _ in range(2):
        up = place.up()
        kept.append({path.name: path.read_text() for path in (place.state / "keys").iterdir()})
        assert all(path.stat().st_mode & 0o077 == 0 for path in (place.state, *(place.state / "keys").iterdir()))
        up.signal(signal.SIGINT)
        assert up.wait_end().code == 0
    assert kept[0].keys() == {
        "hub.key",
        "hub-tokens.key",
        "agent-exec-1.key",
        "agent-exec-2.key",
        f"{str(this_operator()).replace('/', '-')}.key",
    }
    assert kept[0] == kept[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_when_it_is_told_to_end_it_ends_everything_and_says_so(place: Place, number: signal.Signals) -> None:
    up = place.up()
    pids = _everyone(place)
    up.signal(number)
    ended = up.wait_end()
    assert (ended.code, ended.stderr) == (0, "\nstopping; running tasks may finish\n")
    assert not [pid for pid in pids if is_alive(pid)]


def test_when_it_is_killed_everything_ends_by_itself(place: Place) -> None:
    up = place.up()
    pids = _everyone(place)
    up.kill()
    _assert_all_end(pids)


def test_a_running_task_may_finish_when_it_is_told_to_end(place: Place) -> None:
    up = place.up("--verbose")
    begun, go, done = (place.folder / name for name in ("begun", "go", "done"))
    script = 'touch "$0"; while [ ! -e "$1" ]; do sleep 0.05; done; touch "$2"'
    assert place.run("task", "submit", "--", "sh", "-c", script, *map(str, (begun, go, done))).code == 0
    wait_until(begun.exists, "the task to begin")
    pids = _everyone(place)
    up.signal(signal.SIGINT)
    wait_until(lambda: "draining: 1 task is running" in up.stderr, "the agent to wait for its task")
    go.touch()
    assert up.wait_end().code == 0
    assert done.exists()
    _assert_all_end(pids)
    assert "is completed after" in up.stderr, "the hub was there to take the result"


def test_when_one_part_dies_it_says_which_and_ends_the_rest(place: Place) -> None:
    up = place.up()
    pids = _everyone(place)
    os.kill(pids[0], signal.SIGKILL)
    ended = up.wait_end()
    assert ended.code == 1
    assert "the hub has ended (SIGKILL); stopping the rest" in ended.stderr
    assert "Traceback" not in ended.stderr
    _assert_all_end(pids)


def test_its_agents_take_tasks_from_this_user_alone(place: Place) -> None:
    place.up()
    asyncio.run(enrol_here(StateFolder(place.state), parse_peer("matrix/other")))
    ended = place.run("task", "submit", "--as", "matrix/other", "--wait", "--", "id")
    assert (ended.code, ended.stdout) == (1, "")
    assert f"this agent takes tasks from {this_operator()} only, not from matrix/other" in ended.stderr


def test_files_in_the_current_folder_are_not_taken_for_modules(place: Place) -> None:
    trap = place.folder / "project"
    (trap / "orchestra").mkdir(parents=True)
    for name in ("orchestra/__init__.py", "select.py", "queue.py", "msgpack.py"):
        (trap / name).write_text(f"open({str(place.folder / 'sprung')!r}, 'a').write({name!r})\nraise SystemExit(9)\n")
    up = place.start((*ORCHESTRA, "up", "--port", "0"), folder=trap)
    up.wait_output("Ctrl-C stops everything.")
    assert place.run("task", "submit", "--wait", "--", "echo", "ok", folder=trap).stdout == "ok\n"
    assert not (place.folder / "sprung").exists()


def test_the_verbose_one_shows_what_the_hub_and_the_agents_log(place: Place) -> None:
    up = place.up("--verbose")
    assert re.search(r"INFO +hub .* serves ", up.stderr)
    assert re.search(r"INFO +agent/exec-1 takes tasks for itself and queue/default", up.stderr)


def test_the_quiet_one_says_nothing_on_standard_error(place: Place) -> None:
    up = place.up()
    assert place.run("task", "submit", "--wait", "--", "true").code == 0
    assert up.stderr == ""


def test_status_as_json_says_which_durability_was_asked_for(place: Place) -> None:
    place.up("--durability", "fast")
    assert json.loads(place.run("status", "--json").stdout)["data"]["durability"] == "fast"


def test_the_state_folder_is_made_also_below_folders_that_are_not_there(place: Place) -> None:
    deep: Path = place.folder / "a" / "b"
    place.up("--state", str(deep))
    assert deep.stat().st_mode & 0o077 == 0
