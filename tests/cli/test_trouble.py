"""What goes wrong on a machine: one clear sentence, the right exit code, nothing half-written."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from orchestra.state import StateFolder, this_operator

from ..system.programs import AGENT, HUB, ORCHESTRA, Place, free_port

UP = (*ORCHESTRA, "up")
OPERATOR_KEY = StateFolder(Path()).key_of(this_operator())


def _made(place: Place) -> None:
    """Leave a state folder behind as a hub does that was stopped."""
    hub = place.hub()
    hub.signal(signal.SIGTERM)
    assert hub.wait_end().code == 0


def _content(database: Path) -> list[str]:
    """Return everything that a database holds."""
    with closing(sqlite3.connect(database)) as connection:
        return [str(connection.execute("PRAGMA user_version").fetchone()), *connection.iterdump()]


def _mend(sentence: str) -> None:
    """Do what a sentence ends with."""
    command = shlex.split(sentence.rpartition("mend it with: ")[2])
    assert command[0] == "chmod", sentence
    subprocess.run(command, check=True)


# The hub is not there.


@pytest.mark.parametrize(
    "words", [["status"], ["inbox"], ["send", "matrix/x", "hello"], ["task", "submit", "--", "true"]]
)
def test_without_a_hub_a_command_says_how_to_start_one(place: Place, words: list[str]) -> None:
    sentence = place.run(*words).assert_is_one_sentence(4)
    assert str(place.state) in sentence
    assert sentence.endswith("run: orchestra up")
    assert not place.state.exists(), "a question made a folder"


def test_a_hub_that_was_stopped_does_not_answer(place: Place) -> None:
    _made(place)
    said = place.run("status").assert_is_one_sentence(4)
    assert "no hub answers at tcp://127.0.0.1:" in said
    assert said.endswith("; start it there: orchestra up")


def test_another_program_at_the_address_of_the_hub_is_not_taken_for_it(place: Place) -> None:
    first, second = place.below("1"), place.below("2")
    for each in (first, second):
        each.hub()
    card = (second.state / "hub.toml").read_text().splitlines()[1]
    mine = (first.state / "hub.toml").read_text().splitlines()
    (first.state / "hub.toml").write_text("\n".join([mine[0], card, mine[2]]))
    assert "does not have the hub's key" in first.run("status").assert_is_one_sentence(4)


def test_an_agent_waits_for_a_hub_that_is_not_there_yet(place: Place) -> None:
    _made(place)
    agent = place.start((*AGENT, "early", "--runner", "exec"), name="early")
    place.hub()
    assert agent.wait_output("agent ready: agent/early\n")


def test_an_agent_that_waits_for_a_hub_ends_when_it_is_told_to(place: Place) -> None:
    _made(place)
    agent = place.start((*AGENT, "early", "--runner", "exec", "--stop-with-stdin"), name="early")
    agent.signal(signal.SIGTERM)
    assert agent.wait_end().stderr.count("Traceback") == 0


# Keys.


def test_a_key_that_others_may_read_is_refused_with_the_command_that_mends_it(place: Place) -> None:
    place.hub()
    (place.state / OPERATOR_KEY).chmod(0o644)
    sentence = place.run("status").assert_is_one_sentence(3)
    assert "may be read by others" in sentence
    _mend(sentence)
    assert place.run("status").code == 0


@pytest.mark.parametrize("program", [HUB, UP])
def test_a_hub_key_that_others_may_read_is_refused_with_the_command_that_mends_it(
    place: Place, program: tuple[str, ...]
) -> None:
    _made(place)
    (place.state / "keys/hub.key").chmod(0o640)
    sentence = place.run("--port", "0", program=program).assert_is_one_sentence(3)
    assert "keys/hub.key may be read by others" in sentence
    _mend(sentence)
    place.hub()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage\n",
        b"\xff\xfe\x00",
        b'curve\n    public-key = "short"\n    secret-key = "short"\n',
        b'curve\n    public-key = "' + b"~" * 40 + b'"\n    secret-key = "' + b"~" * 40 + b'"\n',
    ],
    ids=["empty", "words", "bytes", "short", "no Z85"],
)
@pytest.mark.parametrize("name", ["keys/hub.key", str(OPERATOR_KEY)])
def test_a_key_file_that_is_none_is_refused_by_name_and_left_as_it_is(place: Place, name: str, content: bytes) -> None:
    _made(place)
    path = place.state / name
    path.write_bytes(content)
    assert name in place.run("--port", "0", program=HUB).assert_is_one_sentence(3)
    assert path.read_bytes() == content
    if name != "keys/hub.key":
        assert name in place.run("status").assert_is_one_sentence(3)


def test_a_key_file_that_is_a_folder_is_refused(place: Place) -> None:
    _made(place)
    path = place.state / "keys/hub.key"
    path.unlink()
    path.mkdir()
    assert "can't be read: Is a directory" in place.run("--port", "0", program=HUB).assert_is_one_sentence(3)


def test_an_agent_without_a_key_and_without_the_right_to_make_one_says_so(place: Place) -> None:
    _made(place)
    (place.state / OPERATOR_KEY).unlink()
    ended = place.run("new", "--runner", "exec", "--log-level", "error", program=AGENT)
    assert "agent-new.key" in ended.assert_is_one_sentence(3)


def test_a_key_that_the_hub_does_not_know_is_refused_with_what_to_do(place: Place) -> None:
    place.hub()
    other = place.below("other")
    _made(other)
    path = place.state / OPERATOR_KEY
    path.write_bytes((other.state / OPERATOR_KEY).read_bytes())
    sentence = place.run("status").assert_is_one_sentence(3)
    assert sentence.endswith("does not know this key; ask its operator to accept it")


# The state folder.


@pytest.mark.parametrize("program", [HUB, UP])
def test_a_state_folder_that_others_may_enter_is_refused_with_the_command_that_mends_it(
    place: Place, program: tuple[str, ...]
) -> None:
    place.state.mkdir()
    place.state.chmod(0o755)
    sentence = place.run("--port", "0", program=program).assert_is_one_sentence(5)
    assert "others may enter the state folder" in sentence
    assert list(place.state.iterdir()) == []
    _mend(sentence)
    place.hub()


def test_a_state_folder_that_is_a_file_is_wrong_usage(place: Place) -> None:
    place.state.write_text("")
    assert "is a file" in place.run("--port", "0", program=HUB).stderr
    assert place.run("status").code == 2


def test_a_state_folder_that_can_not_be_made_is_one_sentence(place: Place) -> None:
    (place.folder / "file").write_text("")
    ended = place.run("--port", "0", "--state", str(place.folder / "file" / "s"), program=HUB)
    assert "can't be made: Not a directory" in ended.assert_is_one_sentence(5)


def test_a_second_hub_on_the_same_state_folder_names_the_first_and_leaves_it_alone(place: Place) -> None:
    hub = place.hub()
    card = (place.state / "hub.toml").read_bytes()
    for program in (HUB, UP):
        sentence = place.run("--port", "0", program=program).assert_is_one_sentence(5)
        assert f"a hub is running with this state folder (process {hub.pid})" in sentence
    assert (place.state / "hub.toml").read_bytes() == card
    assert place.run("status").code == 0


@pytest.mark.parametrize("program", [HUB, UP])
def test_a_port_in_use_is_one_sentence_and_the_next_port_works(place: Place, program: tuple[str, ...]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sentence = place.run("--port", str(port), program=program).assert_is_one_sentence(5)
    assert sentence == f"tcp://127.0.0.1:{port} is in use by another program; choose another port with --port"
    assert not (place.state / "hub.toml").exists(), "it told where it is, and is not"
    place.hub()


def test_an_address_that_is_not_of_this_machine_is_one_sentence(place: Place) -> None:
    ended = place.run("--host", "192.0.2.1", "--port", "0", program=HUB)
    assert "can't listen on tcp://192.0.2.1:0" in ended.assert_is_one_sentence(5)


def test_a_state_folder_of_a_newer_version_is_refused_and_not_touched(place: Place) -> None:
    _made(place)
    database = place.state / "hub.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = _content(database)
    sentence = place.run("--port", "0", program=HUB).assert_is_one_sentence(5)
    assert "is of version 99" in sentence
    assert "upgrade agent-orchestra" in sentence
    assert _content(database) == before


def test_a_database_that_is_none_is_refused_and_not_touched(place: Place) -> None:
    _made(place)
    database = place.state / "hub.db"
    garbage = b"this is no database\n" * 500
    database.write_bytes(garbage)
    sentence = place.run("--port", "0", program=HUB).assert_is_one_sentence(1)
    assert "move it away to start empty" in sentence
    assert database.read_bytes() == garbage


def test_a_damaged_card_of_the_hub_says_that_the_next_start_writes_it_anew(place: Place) -> None:
    hub = place.hub()
    (place.state / "hub.toml").write_text("endpoints = [\x00")
    assert "start the hub again to write it anew" in place.run("status").assert_is_one_sentence(5)
    hub.kill()
    place.hub()
    assert place.run("status").code == 0


def test_a_path_too_long_for_a_socket_leaves_tcp(place: Place) -> None:
    deep = place.below("x" * 120)
    hub = deep.hub()
    assert "ipc://" not in hub.stdout
    assert deep.run("status").code == 0


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_state_folder_that_can_not_be_written_is_one_sentence(place: Place) -> None:
    place.state.mkdir(mode=0o500)
    ended = place.run("--port", "0", program=HUB)
    assert "can't be written; choose another with --state" in ended.assert_is_one_sentence(5)


# Agents.


def test_an_agent_whose_name_another_process_takes_over_ends_and_says_so(place: Place) -> None:
    place.hub()
    first = place.agent("twin")
    place.agent("twin")
    ended = first.wait_end()
    assert ended.code == 5
    assert ended.stderr.splitlines()[-1] == "error: another process works as agent/twin now"
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Missing argument 'NAME'"),
        (["x"], "name the program that gets the prompts after --"),
        (["x", "--runner", "exec", "--", "true"], "the runner exec takes no COMMAND"),
        (["../x", "--runner", "exec"], "'../x' is not an address"),
        (["operator/x", "--runner", "exec"], "operator/x is not an agent"),
        (["X Y", "--runner", "exec"], "no valid name"),
        (["x", "--runner", "exec", "--queue", "agent/y"], "agent/y is not a queue"),
        (["x", "--runner", "exec", "--concurrency", "0"], "0 must be a whole number, at least 1"),
        (["x", "--runner", "exec", "--accept-from", "me"], "'me' is not an address"),
        (["x", "--", "no-such-program"], "there is no program no-such-program on this machine"),
    ],
)
def test_wrong_usage_of_an_agent_is_explained(place: Place, words: list[str], sentence: str) -> None:
    ended = place.run(*words, program=AGENT)
    assert ended.code == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_hub_can_come_back_at_its_port_at_once(place: Place) -> None:
    port = free_port()
    for _ in range(3):
        place.hub(port=port).kill()
    place.hub(port=port)
    assert place.run("status").code == 0
