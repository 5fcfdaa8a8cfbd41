"""`orchestra channel` and `orchestra context`."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from ..system.programs import ORCHESTRA, Ended, Place
from .test_mail import CONTROLS, NASTY


def _stream(ended: Ended) -> list[dict[str, Any]]:
    """What a stream says: one document a line."""
    assert (ended.code, ended.stderr) == (0, "")
    return _documents(ended.stdout)


def _documents(text: str) -> list[dict[str, Any]]:
    documents = [json.loads(line) for line in text.splitlines()]
    assert all(each.keys() == {"schema_version", "data"} for each in documents)
    return [each["data"] for each in documents]


def test_every_hub_has_four_channels_and_more_can_be_made(desk: Place) -> None:
    listed = {each["channel"]: each for each in desk.run("channel", "list", "--json").data}
    assert {"channel/announcements", "channel/context", "channel/issues", "channel/status"} <= listed.keys()
    made = desk.run("channel", "create", "made", "--mode", "overwrite")
    assert (made.code, made.stdout) == (0, "channel/made is there; its mode is overwrite\n")
    assert desk.run("channel", "create", "channel/made", "--json").data == {
        "channel": "channel/made",
        "mode": "overwrite",
    }
    assert "its mode is overwrite" in desk.run("channel", "create", "made", "--mode", "append").assert_is_one_sentence(
        5
    )
    rows = [line.split("\t") for line in desk.run("channel", "list").stdout.splitlines()]
    assert rows[0][:3] == ["CHANNEL", "MODE", "ENTRIES"]
    assert ["channel/made", "overwrite", "0"] in [row[:3] for row in rows]


def test_an_agent_may_not_make_a_channel(desk: Place, known: Callable[[str], str]) -> None:
    ended = desk.run("channel", "create", "by-agent", "--as", known("agent/maker"))
    assert "may not make the channel" in ended.assert_is_one_sentence(3)


def test_publishing_says_under_which_number_and_tail_shows_it(desk: Place) -> None:
    desk.run("channel", "create", "talk")
    first = desk.run("channel", "publish", "talk", "one line")
    assert re.fullmatch(r"entry \d+ of channel/talk is stored\n", first.stdout)
    desk.run("channel", "publish", "channel/talk", "--entry", "notes", stdin="piped\nin two lines\n")
    shown = desk.run("channel", "tail", "talk")
    assert re.fullmatch(
        r"\d+  [\d-]+ [\d:]+  operator/\S+\n    one line\n"
        r"\d+  [\d-]+ [\d:]+  operator/\S+  \[notes\]\n    piped\n    in two lines\n",
        shown.stdout,
    )
    (entry,) = _stream(desk.run("channel", "tail", "talk", "--limit", "1", "--json"))
    assert (entry["entry"], entry["text"], entry["bytes"]) == ("notes", "piped\nin two lines\n", 19)


def test_tail_begins_where_it_is_told(desk: Place) -> None:
    desk.run("channel", "create", "places")
    sent = [desk.run("channel", "publish", "places", str(i), "--json").data["seq"] for i in range(12)]

    def tail(*words: str) -> list[int]:
        return [each["seq"] for each in _stream(desk.run("channel", "tail", "places", "--json", *words))]

    assert tail() == sent[-10:]
    assert tail("--limit", "2") == sent[-2:]
    assert tail("--from-start") == sent
    assert tail("--after", str(sent[8])) == sent[9:]
    assert tail("--cursor", "mine") == [], "a new cursor begins now"
    sent.append(desk.run("channel", "publish", "places", "12", "--json").data["seq"])
    assert tail("--cursor", "mine") == sent[12:]
    nothing = desk.run("channel", "tail", "places", "--cursor", "mine")
    assert (nothing.code, nothing.stdout, nothing.stderr) == (1, "", "no entries\n")
    (listed,) = [each for each in desk.run("channel", "list", "--json").data if each["channel"] == "channel/places"]
    assert listed["cursors"] == {"mine": sent[-1]}
    assert desk.run("channel", "forget", "places", "mine").stdout == "cursor mine of channel/places is dropped\n"
    assert "has no cursor 'mine'" in desk.run("channel", "forget", "places", "mine").assert_is_one_sentence(1)
    assert tail("--cursor", "whole", "--from-start") == sent


@pytest.mark.parametrize(
    "words", [["--from-start", "--after", "1"], ["--limit", "1", "--from-start"], ["--limit", "1", "--cursor", "x"]]
)
def test_tail_begins_at_one_place(desk: Place, words: list[str]) -> None:
    assert desk.run("channel", "tail", "status", *words).code == 2


def test_following_shows_what_comes_ends_with_ctrl_c_and_keeps_its_place(desk: Place) -> None:
    desk.run("channel", "create", "live")
    for text in ("one", "two"):
        desk.run("channel", "publish", "live", text)
    tail = (*ORCHESTRA, "channel", "tail", "live", "--json", "-f", "--from-start", "--cursor", "tail")
    program = desk.start(tail, name="tail")
    program.wait_output('"two"')
    desk.run("channel", "publish", "live", "three")
    program.wait_output('"three"')
    program.signal(signal.SIGINT)
    ended = program.wait_end()
    assert (ended.code, ended.stderr) == (130, "")
    assert [each["text"] for each in _documents(ended.stdout)] == ["one", "two", "three"]
    desk.run("channel", "publish", "live", "four")
    rest = _stream(desk.run("channel", "tail", "live", "--json", "--cursor", "tail"))
    assert [each["text"] for each in rest] == ["four"]


def test_following_from_the_end_begins_with_the_newest(desk: Place) -> None:
    desk.run("channel", "create", "end")
    for text in ("one", "two"):
        desk.run("channel", "publish", "end", text)
    program = desk.start((*ORCHESTRA, "channel", "tail", "end", "--json", "--follow", "--limit", "1"), name="tail")
    program.wait_output('"two"')
    desk.run("channel", "publish", "end", "three")
    assert [each["text"] for each in _documents(program.wait_output('"three"}}\n'))] == ["two", "three"]


def test_a_channel_that_does_not_exist_says_how_to_make_it(desk: Place) -> None:
    for words in (["publish", "nowhere", "x"], ["tail", "nowhere"], ["tail", "nowhere", "-f"]):
        assert "orchestra channel create" in desk.run("channel", *words).assert_is_one_sentence(1)


def test_control_characters_of_entries_do_not_reach_the_terminal(desk: Place) -> None:
    desk.run("channel", "create", "nasty")
    desk.run("channel", "publish", "nasty", NASTY, "--entry", NASTY)
    desk.run("context", "set", NASTY, NASTY)
    for words in (["channel", "tail", "nasty"], ["context", "list"]):
        ended = desk.run(*words)
        assert ended.code == 0
        assert not CONTROLS.findall(ended.stdout)
    shown = desk.run_on_terminal("context", "get", NASTY).stdout
    assert "owned" in shown
    assert "\x1b[2J" not in shown
    assert not set("\x07\x9b\u202e") & set(shown)


def test_a_value_is_set_and_read_with_its_version(desk: Place) -> None:
    made = desk.run("context", "set", "mission", "Ship it")
    assert re.fullmatch(r"mission is version \d+\n", made.stdout)
    version = int(made.stdout.split()[-1])
    found = desk.run("context", "get", "mission")
    assert found.stdout == "Ship it", "as it was set, to the byte"
    assert found.stderr.startswith(f"version {version}, set by operator/")
    newer = desk.run("context", "set", "mission", "-", "--if-version", str(version), "--json", stdin="Ship more\n").data
    assert newer["name"] == "mission"
    again = desk.run("context", "get", "mission", "--json").data
    assert (again["value"], again["version"]) == ("Ship more\n", newer["version"])


def test_a_writer_that_has_not_seen_the_newest_version_is_told_so(desk: Place, known: Callable[[str], str]) -> None:
    other = known("matrix/writer")
    version = desk.run("context", "set", "plan", "1", "--as", other, "--json").data["version"]
    refused = desk.run("context", "set", "plan", "2", "--if-version", "0").assert_is_one_sentence(5)
    assert f"is version {version}, written by matrix/writer" in refused
    refused = desk.run(
        "channel", "publish", "context", "2", "--entry", "plan", "--if-version", "1"
    ).assert_is_one_sentence(5)
    assert f"is version {version}" in refused


def test_a_name_is_dropped(desk: Place) -> None:
    version = desk.run("context", "set", "gone", "x", "--json").data["version"]
    desk.run("context", "drop", "gone", "--if-version", str(version + 1)).assert_is_one_sentence(5)
    assert desk.run("context", "drop", "gone", "--if-version", str(version)).stdout == "gone is dropped\n"
    assert "nothing was removed" in desk.run("context", "drop", "gone").assert_is_one_sentence(1)
    assert desk.run("context", "get", "gone").code == 1
    assert "gone" not in [each["name"] for each in desk.run("context", "list", "--json").data]
    assert "  [gone] removed\n" in desk.run("channel", "tail", "context", "--after", str(version)).stdout


def test_the_context_is_listed_by_name(desk: Place) -> None:
    for name in ("zebra", "ant"):
        desk.run("context", "set", name, f"value of {name} " * 20)
    listed = [each["name"] for each in desk.run("context", "list", "--json").data]
    assert listed == sorted(listed)
    assert {"zebra", "ant"} <= set(listed)
    (row,) = [line for line in desk.run("context", "list").stdout.splitlines() if line.startswith("ant\t")]
    assert row.endswith("...")


def test_what_is_not_in_the_context_is_one_sentence(desk: Place) -> None:
    assert "see: orchestra context list" in desk.run("context", "get", "never-set").assert_is_one_sentence(1)


def test_an_empty_context_says_what_to_do(place: Place) -> None:
    place.hub()
    ended = place.run("context", "list")
    assert (ended.code, ended.stdout) == (1, "")
    assert "orchestra context set" in ended.stderr
    assert place.run("context", "list", "--json").data == []
