"""`orchestra bridge files` as a program: how it begins, what it refuses, how it ends."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta

import pytest

from ..system.programs import AGENT, ORCHESTRA, Place, free_port, wait_until


@pytest.fixture
def folders(place: Place) -> tuple[str, ...]:
    for name in ("inbox", "outbox"):
        (place.folder / name).mkdir()
    return "--inbox", "inbox", "--outbox", "outbox"


def test_a_bridge_waits_for_its_hub_says_so_once_and_ends_on_ctrl_c(place: Place, folders: tuple[str, ...]) -> None:
    port = free_port()
    place.hub(port=port).kill()
    bridge = place.start((*ORCHESTRA, "bridge", "files", *folders), name="bridge")
    wait_until(lambda: "waiting for it" in bridge.stderr, "it to say that it waits")
    hub = place.hub(port=port)
    bridge.wait_output("bridge ready")
    hub.kill()
    wait_until(lambda: bridge.stderr.count("waiting for it") == 2, "it to say that the hub is lost")
    place.hub(port=port)
    wait_until(lambda: "is connected" in bridge.stderr, "it to say that the hub is back")
    bridge.signal(signal.SIGINT)
    assert bridge.wait_end().code == 0
    assert bridge.stderr.count("waiting for it") == 2
    assert "Traceback" not in bridge.stderr


def test_a_bridge_that_is_told_to_end_waits_for_what_an_old_agent_is_doing(
    place: Place, folders: tuple[str, ...]
) -> None:
    place.hub()
    bridge = place.start((*ORCHESTRA, "bridge", "files", *folders, "--serve", "3=old-3"), name="bridge")
    bridge.wait_output("for agent/old-3")
    submitted = place.run("task", "submit", "--json", "--to", "agent/old-3", "Mend it").data["seq"]
    (file,) = wait_until(lambda: list((place.folder / "inbox" / "3").glob("*.json")), "the task's file")
    task = json.loads(file.read_text())
    file.unlink()
    bridge.signal(signal.SIGTERM)
    wait_until(lambda: "draining: 1 task is running" in bridge.stderr, "it to wait")
    result = {"task_id": task["id"], "agent_id": 3, "status": "completed", "output": "mended"}
    (place.folder / "outbox" / "3" / f"result_{task['id']}.json").write_text(json.dumps(result))
    assert bridge.wait_end().code == 0
    shown = place.run("task", "show", "--json", str(submitted)).data
    assert (shown["state"], shown["attempt"], shown["output"]) == ("completed", 1, "mended")


def test_an_inbox_has_one_bridge_at_a_time(place: Place, folders: tuple[str, ...]) -> None:
    place.hub()
    first = place.start((*ORCHESTRA, "bridge", "files", *folders, "--stop-with-stdin"), name="bridge")
    first.wait_output("bridge ready")
    sentence = place.run("bridge", "files", *folders).assert_is_one_sentence(5)
    assert "another bridge serves" in sentence
    assert first.process.stdin is not None
    first.process.stdin.close()
    assert first.wait_end().code == 0


def test_a_bridge_does_not_start_after_its_last_day_and_warns_before(place: Place, folders: tuple[str, ...]) -> None:
    today = datetime.now(UTC).date()
    sentence = place.run("bridge", "files", *folders, "--until", str(today - timedelta(days=2))).assert_is_one_sentence(
        2
    )
    assert "was to be gone" in sentence
    place.hub()
    options = ("--until", str(today + timedelta(days=3)), "--stop-with-stdin")
    bridge = place.start((*ORCHESTRA, "bridge", "files", *folders, *options), name="bridge")
    bridge.wait_output("bridge ready")
    wait_until(lambda: "days are left" in bridge.stderr, "the warning")


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("--agent-map", "coder-1"), 2, "1=coder-1"),
        (("--owner", "nobody-of-this-name"), 2, "no user"),
        (("--inbox", "missing"), 5, "is no folder"),
        (("--inbox", "shared"), 5, "chmod go-w"),
    ],
)
def test_what_can_not_be_meant_is_one_sentence(
    place: Place, folders: tuple[str, ...], options: tuple[str, ...], code: int, why: str
) -> None:
    shared = place.folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert why in place.run("bridge", "files", *folders, *options).assert_is_one_sentence(code)


def test_without_a_hub_that_was_ever_started_it_says_how_to_start_one(place: Place, folders: tuple[str, ...]) -> None:
    assert "orchestra up" in place.run("bridge", "files", *folders).assert_is_one_sentence(4)


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("--file-inbox", "inbox/1", "--", "cat"), 2, "name both folders"),
        (("--file-inbox", "inbox/1", "--file-outbox", "outbox/1", "--runner", "exec"), 2, "task files hold prompts"),
        (("--file-inbox", "inbox", "--file-outbox", "outbox/1", "--", "cat"), 5, "inbox/1"),
        (("--file-inbox", "inbox/2", "--file-outbox", "outbox/1", "--", "cat"), 5, "is no folder"),
        (("--file-inbox", "shared/1", "--file-outbox", "outbox/1", "--", "cat"), 5, "chmod go-w"),
    ],
)
def test_an_agent_says_what_is_wrong_with_its_folders(
    place: Place, options: tuple[str, ...], code: int, why: str
) -> None:
    for name in ("inbox/1", "outbox/1", "shared/1"):
        (place.folder / name).mkdir(parents=True)
    (place.folder / "shared").chmod(0o777)
    ended = place.run("coder-1", *options, program=AGENT)
    assert (ended.code, why in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr
