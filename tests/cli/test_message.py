"""`orchestra memory message` between clones of one machine, with a hub and without."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from ..system.programs import Ended, Place


class Clones(Place):
    """A machine with clones; a hub may run."""

    def clone(self, path: str) -> Clone:
        folder = self.folder / path
        folder.mkdir(parents=True)
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
        return Clone(self, folder)


class Clone:
    def __init__(self, place: Place, folder: Path) -> None:
        self._place = place
        self.folder = folder

    def message(self, *words: str, **options: object) -> Ended:
        return self._place.run("memory", "message", *words, folder=self.folder, **options)  # type: ignore[arg-type]

    def memory(self, *words: str, **options: object) -> Ended:
        return self._place.run("memory", *words, folder=self.folder, **options)  # type: ignore[arg-type]

    def states(self) -> dict[str, str]:
        """Return the state of each message, by its text."""
        return {each["text"]: each["state"] for each in json.loads(self.message("--inbox", "--json").stdout)["data"]}


@pytest.fixture
def machine(tmp_path: Path) -> Clones:
    return Clones(tmp_path)


@pytest.fixture(autouse=True)
def _nothing_is_left(machine: Clones) -> object:
    yield
    machine.close()


def test_without_a_hub_a_message_is_kept_and_goes_once_when_it_comes(machine: Clones) -> None:
    web, api = machine.clone("web"), machine.clone("api")
    kept = web.message("Hello all")
    assert (kept.code, kept.stdout) == (0, "message #1 to every matrix is kept\n")
    assert "it is sent when a command or service of matrix/web meets the hub" in kept.stderr
    assert web.message("To api", "--to", "../api", "--json").data["to"] == "matrix/api"
    assert web.states() == {"Hello all": "waiting", "To api": "waiting"}
    assert "waiting   2 for the hub" in web.memory("stats").stdout
    hub = machine.hub()
    assert api.message("--unread").code == 1
    assert web.message("--inbox").stderr.endswith("what waited was sent: #1, #2\n")
    assert web.states() == {"Hello all": "sent", "To api": "sent"}
    assert api.states() == {"Hello all": "new", "To api": "new"}
    hub.kill()
    away = api.message("--inbox")
    assert (away.code, len(away.stdout.splitlines())) == (0, 3)
    assert "this is what the memory knows (" in away.stderr
    assert api.message("--read", "1").code == 0
    machine.hub()
    assert api.states() == {"Hello all": "read", "To api": "new"}
    seqs = [each["text"] for each in machine.run("inbox", "--as", "matrix/api", "--json").data]
    assert seqs == ["To api"], "the hub was told what was read while it was away"


def test_a_message_is_seen_read_answered_and_cleared(machine: Clones) -> None:
    web, api = machine.clone("web"), machine.clone("api")
    machine.hub()
    api.message("--inbox")
    sent = web.message("Is the API frozen?\nI need to know.", "--to", "api")
    assert re.fullmatch(r"message #1 to matrix/api is sent: \d+ at the hub\n", sent.stdout)
    shown = api.message("--unread")
    assert shown.stdout.splitlines()[1].split("\t")[1:3] == ["matrix/web", "matrix/api"]
    assert shown.stdout.splitlines()[1].split("\t")[4:] == ["new", "Is the API frozen? I need to know."]
    assert shown.stderr == "1 unread\n"
    assert "1 messages" in api.memory("stats").stdout
    read = api.message("--read", "#1")
    assert read.stdout.endswith("Is the API frozen?\nI need to know.\n\n")
    assert (api.message("--unread").code, api.message("--unread").stderr) == (1, "no unread messages\n")
    assert api.states() == {"Is the API frozen?\nI need to know.": "read"}
    assert api.message("Since noon", "--reply-to", "1").stdout.startswith("message #2 to matrix/web is sent")
    (answer,) = [each for each in web.message("--inbox", "--json").data if each["from"] == "matrix/api"]
    assert answer["thread"] == sent.stdout.split()[-4]
    assert web.message("--clear").stdout == "1 message cleared\n"
    assert web.states() == {"Is the API frozen?\nI need to know.": "sent"}
    assert machine.run("inbox", "--as", "matrix/web").code == 1


def test_a_recipient_is_named_by_name_address_or_path(machine: Clones) -> None:
    web, api = machine.clone("a/web"), machine.clone("b/web")
    machine.hub()
    for clone in (web, api):
        clone.message("--inbox")
    below = api.folder / "src"
    below.mkdir()
    for to in (str(api.folder), "../../b/web", str(below), "matrix/web-2", "web-2"):
        assert web.message("hello", "--to", to, "--json").data["to"] == "matrix/web-2"
    assert web.message("hello", "--to", "operator/nobody").assert_is_one_sentence(1).startswith("no peer operator/")
    assert "is no folder" in web.message("hello", "--to", "./none").assert_is_one_sentence(5)
    assert web.message("hello", "--to", "channel/x").code == 2
    assert "hello" in api.states()


def test_what_the_hub_refuses_is_not_kept_and_what_it_refuses_later_says_so(machine: Clones) -> None:
    web = machine.clone("web")
    web.message("too early", "--to", "matrix/nobody")
    machine.hub()
    told = web.message("--outbox")
    assert told.stdout.splitlines()[1].startswith("#1\tmessage\tmatrix/nobody\ttoo early\tno peer matrix/nobody")
    assert "orchestra memory forget 1" in told.stderr
    assert web.states() == {"too early": "refused"}
    assert web.message("now", "--to", "nobody").assert_is_one_sentence(1).startswith("no peer matrix/nobody is known")
    assert web.states() == {"too early": "refused"}
    web.memory("forget", "1")
    ended = web.message("--outbox")
    assert (ended.code, ended.stderr) == (1, "nothing waits for the hub\n")


def test_what_other_commands_send_and_read_as_the_matrix_is_in_its_inbox_too(machine: Clones) -> None:
    web, api = machine.clone("web"), machine.clone("api")
    for clone in (web, api):
        clone.message("before there was a hub")
    machine.hub()
    for clone in (web, api):
        clone.message("--outbox")
    assert machine.run("send", "matrix/web", "from a person").code == 0
    as_web = {"folder": web.folder, "env": machine.env(ORCHESTRA_ADDRESS="matrix/web")}
    sent = machine.run("send", "matrix/api", "by send as web", **as_web)  # type: ignore[arg-type]
    assert sent.code == 0, sent.stderr
    machine.run("send", "matrix/web", "another")
    assert machine.run("read", "--all", **as_web).code == 0  # type: ignore[arg-type]
    assert web.states() == {
        "before there was a hub": "sent",
        "from a person": "read",
        "by send as web": "sent",
        "another": "read",
    }
    assert api.states()["by send as web"] == "new"


@pytest.mark.parametrize(
    "words", [[], ["Text", "--inbox"], ["--inbox", "--unread"], ["--inbox", "--to", "x"], ["--clear", "--read", "1"]]
)
def test_message_does_one_thing_at_a_time(machine: Clones, words: list[str]) -> None:
    assert "give a TEXT, or one of" in machine.clone("web").message(*words).stderr


def test_a_matrix_of_another_machine_is_the_clone_it_joined_in(machine: Clones) -> None:
    web = machine.clone("web")
    machine.hub()
    web.message("--inbox")
    invitation = machine.run("invite", "matrix/far", "--json").data["code"]
    there = Clones(machine.folder / "there")
    there.folder.mkdir()
    far = there.clone("api")
    joined = there.run("join", "-", folder=far.folder, stdin=invitation)
    assert joined.code == 0, joined.stderr
    assert "api is matrix/far from now on\nnext: orchestra memory message --inbox" in joined.stderr
    assert web.message("hello", "--to", "far").code == 0
    assert far.states() == {"hello": "new"}
    other = there.clone("web")
    ended = other.message("hi")
    assert "orchestra invite matrix/web" in ended.stderr, "no operator's key is there: it has to be invited"
    assert (ended.code, ended.stdout) == (0, "message #1 to every matrix is kept\n")


def test_issues_of_other_matrices_are_listed(machine: Clones) -> None:
    web, api = machine.clone("web"), machine.clone("api")
    assert web.memory("issue", "Kept while no hub is there").stderr == ""
    hub = machine.hub()
    told = web.memory("issue", "Saving hangs", "-s", "critical", "-c", "chromadb")
    assert (told.stdout, told.stderr) == ("issue #2 is stored\n", "")
    web.memory("issue", "A secret", "--visibility", "private")
    assert api.memory("issue", "--list").code == 1
    api.memory("issue", "Of its own", "-s", "low")
    rows = [row.split("\t") for row in api.memory("issue", "--list", "--all").stdout.splitlines()]
    assert rows[0] == ["ID", "SEVERITY", "COMPONENT", "TITLE", "REPORTED", "BY"]
    assert [[row[0], row[1], row[3], row[5]] for row in rows[1:]] == [
        ["#1", "low", "Of its own", "matrix/api"],
        ["", "critical", "Saving hangs", "matrix/web"],
        ["", "medium", "Kept while no hub is there", "matrix/web"],
    ]
    web.memory("issue", "--close", "2")
    found = api.memory("issue", "--list", "--all", "--json").data
    assert [each["title"] for each in found] == ["Of its own", "Kept while no hub is there"]
    assert found[1]["matrix"] == "matrix/web"
    hub.kill()
    away = api.memory("issue", "--list", "--all")
    assert (away.code, len(away.stdout.splitlines())) == (0, 2)
    assert "those of other matrices are not shown (" in away.stderr


def test_a_fault_of_the_state_folder_holds_up_no_save(machine: Clones) -> None:
    web = machine.clone("web")
    machine.hub()
    web.message("--inbox")
    (web.folder / ".orchestra" / "matrix.toml").write_text("name = ")
    told = web.memory("issue", "Saving hangs")
    assert (told.code, told.stdout) == (0, "issue #1 is stored\n")
    assert "matrix.toml can't be read" in told.stderr
    assert web.message("hello").stdout == "message #2 to every matrix is kept\n"
    (web.folder / ".orchestra" / "matrix.toml").unlink()
    assert web.message("--inbox").stderr.endswith("what waited was sent: #1, #2\n")
