from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from orchestra.address import parse_peer
from orchestra.enrol import enrol_here
from orchestra.limits import BODY_BYTES_MAX
from orchestra.state import StateFolder

from ..system.programs import Place

# Clears the screen, rings, turns colours on in both ways a terminal knows, writes backwards, returns to the line start.
NASTY = "be\x1b[2J\x1b]0;owned\x07\x9b31m\u202ega\rst"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def test_send_says_under_which_number_the_message_is_stored(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/one")
    ended = desk.run("send", to, "hello")
    assert ended.code == 0
    assert re.fullmatch(rf"message \d+ to {to} is stored\n", ended.stdout)
    assert ended.stderr == ""


def test_send_as_json(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/json")
    data = desk.run("send", to, "hello", "--json").data
    assert data["to"] == to
    assert [message["seq"] for message in desk.run("inbox", "--as", to, "--json").data] == [data["seq"]]


@pytest.mark.parametrize("words", [[], ["-"]])
def test_send_takes_the_text_from_standard_input(
    desk: Place, known: Callable[[str], str], words: list[str], request: pytest.FixtureRequest
) -> None:
    to = known(f"matrix/piped-{len(words)}")
    assert desk.run("send", to, *words, stdin="from a pipe\nin two lines\n").code == 0
    (message,) = desk.run("inbox", "--as", to, "--json").data
    assert message["text"] == "from a pipe\nin two lines\n"


def test_send_without_a_text_on_a_terminal_says_what_is_missing(desk: Place) -> None:
    ended = desk.run_on_terminal("send", "matrix/one")
    assert ended.code == 2
    assert "write the text as the second argument, or pipe it in" in ended.stdout


def test_the_largest_body_is_taken_and_one_byte_more_is_refused(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/large")
    assert desk.run("send", to, stdin=b"x" * BODY_BYTES_MAX).code == 0
    ended = desk.run("send", to, stdin=b"x" * (BODY_BYTES_MAX + 1))
    assert f"the limit is {BODY_BYTES_MAX}" in ended.assert_is_one_sentence(2)
    assert len(desk.run("inbox", "--as", to, "--json").data) == 1


@pytest.mark.parametrize(
    ("to", "code", "sentence"),
    [
        ("matrix/nobody", 1, "no peer matrix/nobody is known here"),
        ("channel/nothing", 1, "channel/nothing"),
        ("queue/default", 2, "takes tasks, not messages"),
        ("nobody", 2, "is not an address"),
        ("agent/../../etc/passwd", 2, "no valid name"),
        ("agent/\x1b[2J", 2, r"'agent/\x1b[2J' has no valid name"),
    ],
)
def test_a_recipient_that_can_not_be_is_one_sentence(desk: Place, to: str, code: int, sentence: str) -> None:
    assert sentence in desk.run("send", to, "hello").assert_is_one_sentence(code)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("send", "channel/status", "x", "--expires", "1h"), 2, "an entry of channel/status does not expire"),
        (("send", "channel/status", "x", "--wait", "read"), 2, "has no receipts, so it can't be watched or waited for"),
        (("send", "channel/status", "x", "--reply-to", "999999"), 2, "999999 is no message that you sent or got"),
        (("channel", "publish", "status", "x", "--if-version", "1"), 2, "only an entry with a name has versions"),
        (("context", "set", "nothing-yet", "x", "--if-version", "5"), 5, "version 0 stands for one that is new"),
    ],
)
def test_what_the_hub_refuses_is_said_without_the_names_of_the_wire(
    desk: Place, words: tuple[str, ...], code: int, sentence: str
) -> None:
    refused = desk.run(*words).assert_is_one_sentence(code)
    assert sentence in refused
    assert "_" not in refused


def test_a_broadcast_reaches_every_matrix_also_one_that_is_away(desk: Place, known: Callable[[str], str]) -> None:
    names = [known("matrix/wide-1"), known("matrix/wide-2")]
    assert desk.run("send", "*", "to all of you").code == 0
    for name in names:
        assert "to all of you" in desk.run("inbox", "--as", name).stdout


def test_a_broadcast_that_nobody_gets_says_so_and_what_to_do(place: Place) -> None:
    place.hub()
    sent = place.run("send", "*", "to all of you")
    assert re.fullmatch(r"message \d+ to \* is stored\n", sent.stdout)
    assert sent.code == 0, "it is stored"
    assert "the hub knows no other matrix; run `orchestra memory message --inbox` in a clone" in sent.stderr
    waited = place.run("send", "*", "to all of you", "--wait", "delivered")
    assert waited.code == 1
    assert "nobody gets it" in waited.stderr
    asyncio.run(enrol_here(StateFolder(place.state), parse_peer("matrix/one")))
    assert place.run("send", "*", "to all of you").stderr == ""


def test_only_the_four_priorities_are_taken(desk: Place) -> None:
    assert desk.run("send", "matrix/one", "x", "--priority", "asap").code == 2


def test_looking_does_not_consume_and_reading_does(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/reader")
    for text in ("first", "second", "third"):
        desk.run("send", to, text)
    for _ in range(2):
        rows = [line.split("\t") for line in desk.run("inbox", "--as", to).stdout.splitlines()]
        assert rows[0] == ["ID", "FROM", "SENT", "REPLY TO", "TEXT"]
        assert [row[4] for row in rows[1:]] == ["first", "second", "third"]
    ids = [row[0] for row in rows[1:]]

    read = desk.run("read", ids[1], "--as", to)
    assert (read.code, read.stderr) == (0, "")
    assert read.stdout.startswith(f"{ids[1]}  from operator/")
    assert read.stdout.endswith("\nsecond\n\n")
    left = [message["text"] for message in desk.run("inbox", "--as", to, "--json").data]
    assert left == ["first", "third"]

    assert [message["text"] for message in desk.run("read", "--all", "--json", "--as", to).data] == ["first", "third"]
    nothing = desk.run("inbox", "--as", to)
    assert (nothing.code, nothing.stdout, nothing.stderr) == (1, "", "no unread messages\n")


def test_reading_what_is_not_there_says_so_and_still_shows_the_rest(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/partial")
    seq = desk.run("send", to, "here", "--json").data["seq"]
    ended = desk.run("read", str(seq), "999999", "--as", to)
    assert ended.code == 1
    assert "here" in ended.stdout
    assert ended.stderr == "error: no unread message 999999 to you; see: orchestra inbox\n"
    assert desk.run("read", str(seq), "--as", to).code == 1


def test_an_agent_that_runs_keeps_running_while_somebody_reads_its_mail(desk: Place) -> None:
    def worker() -> dict[str, Any]:
        (agent,) = [peer for peer in desk.run("peers", "--json").data if peer["address"] == "agent/exec-1"]
        return next(session for session in agent["sessions"] if session["slots"])

    before = worker()
    seq = str(desk.run("send", "agent/exec-1", "for you", "--json").data["seq"])
    assert "for you" in desk.run("read", seq, "--as", "agent/exec-1").stdout
    assert worker()["number"] == before["number"]


def test_what_was_dealt_with_leaves_the_inbox_too(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/dealing")
    seq = desk.run("send", to, "do this", "--json").data["seq"]
    assert desk.run("read", str(seq), "--ack", "--as", to).code == 0
    assert desk.run("inbox", "--as", to, "--json").data == []
    before = str(desk.run("send", to, "and this", "--json").data["seq"])
    assert desk.run("read", before, "--as", to).code == 0
    assert desk.run("read", before, "--as", to).code == 1, "it is not unread any more"
    ended = desk.run("read", before, "--ack", "--as", to)
    assert (ended.code, ended.stdout.splitlines()[1]) == (0, "and this")
    assert desk.run("trace", before).stdout.endswith(f"nothing is left to do: {to} has dealt with it\n")
    assert desk.run("read", before, "--ack").code == 1, "the sender has nothing to deal with"


def test_reading_needs_a_number_or_all(desk: Place) -> None:
    ended = desk.run("read")
    assert ended.code == 2
    assert "say --all" in ended.stderr


def test_an_empty_inbox_as_json_is_an_empty_list(desk: Place, known: Callable[[str], str]) -> None:
    assert desk.run("inbox", "--as", known("matrix/empty"), "--json").data == []


def test_control_characters_of_others_reach_neither_a_terminal_nor_a_pipe(
    desk: Place, known: Callable[[str], str]
) -> None:
    to = known("matrix/nasty")
    seq = str(desk.run("send", to, NASTY, "--json").data["seq"])
    for ended in (desk.run("inbox", "--as", to), desk.run("read", seq, "--as", to)):
        assert ended.code == 0
        assert not CONTROLS.findall(ended.stdout)
        assert "owned" in ended.stdout

    seq = str(desk.run("send", to, NASTY, "--json").data["seq"])
    for ended in (desk.run_on_terminal("inbox", "--as", to), desk.run_on_terminal("read", seq, "--as", to)):
        assert ended.code == 0
        assert "\x1b[2J" not in ended.stdout
        assert "\x1b]0" not in ended.stdout
        assert not set("\x07\x9b\u202e") & set(ended.stdout)
        assert "owned" in ended.stdout


def test_a_body_that_is_no_text_is_shown_with_replacement_characters(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/bytes")
    desk.run("send", to, stdin=b"\xff\xfe ok")
    assert "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} ok" in desk.run("read", "--all", "--as", to).stdout


def test_a_long_text_is_shortened_in_the_inbox_and_whole_when_read(desk: Place, known: Callable[[str], str]) -> None:
    to, text = known("matrix/long"), "word " * 100
    desk.run("send", to, text)
    assert desk.run("inbox", "--as", to).stdout.rstrip().endswith("...")
    assert text in desk.run("read", "--all", "--as", to).stdout


def test_send_waits_until_the_message_was_read(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/waited")
    ended = desk.run("send", to, "nobody reads this", "--wait", "delivered", "--timeout", "0.1")
    seq = ended.stdout.split()[1]
    assert ended.stdout == f"message {seq} to {to} is stored\n"
    assert ended.code == 75
    assert ended.stderr == (
        f"error: message {seq} to {to} is stored, and not delivered after 0.1 s; it is kept: orchestra trace {seq}\n"
    )
    ended = desk.run("send", to, "x", "--wait", "read", "--timeout", "0.1", "--json")
    assert (ended.code, json.loads(ended.stdout)["data"]["stage"]) == (75, "stored")
    assert desk.run("send", to, "x", "--timeout", "3").code == 2
    assert desk.run("send", "channel/status", "x", "--wait", "read").code == 2


def test_trace_tells_the_story_of_a_message(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/traced")
    seq = str(desk.run("send", to, "where is it", "--json").data["seq"])
    rows = [line.split("\t") for line in desk.run("trace", seq).stdout.splitlines()]
    assert rows[0] == ["WHEN", "WHO", "WHAT"]
    assert [row[1:] for row in rows[1:]][1] == ["hub", f"{to} has never connected"]
    desk.run("read", seq, "--as", to)
    lines = desk.run("trace", seq, "--json").data["lines"]
    assert [line["who"] for line in lines][1:] == [to, "hub"]
    assert lines[-1]["what"].startswith(f"nothing is left to do: {to} has read it")
    assert desk.run("trace", "999999").assert_is_one_sentence(1) == "there is no message or task 999999"


def test_a_reply_shows_its_thread_read_or_not(desk: Place, known: Callable[[str], str]) -> None:
    one, two = known("matrix/asks"), known("matrix/answers")
    first = str(desk.run("send", two, "why?", "--as", one, "--json").data["seq"])
    second = str(desk.run("send", one, "because", "--reply-to", first, "--as", two, "--json").data["seq"])
    read = desk.run("read", second, "--as", one)
    assert f"  reply to {first}, thread {first}\n" in read.stdout
    for address in (one, two):
        rows = [line.split("\t") for line in desk.run("inbox", "--thread", second, "--as", address).stdout.splitlines()]
        assert [(row[0], row[3], row[4]) for row in rows[1:]] == [(first, "", "why?"), (second, first, "because")]
    data = desk.run("inbox", "--thread", first, "--as", one, "--json").data
    assert [(each["reply_to"], each["thread"]) for each in data] == [(None, int(first)), (int(first), int(first))]
    refused = desk.run("send", one, "me too", "--reply-to", first, "--as", known("matrix/stranger"))
    assert "no message that you sent or got" in refused.assert_is_one_sentence(2)


def test_a_key_sends_once_also_in_another_process(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/keyed")
    sent = [desk.run("send", to, "once", "--key", "nightly-1", "--json").data["seq"] for _ in range(2)]
    assert sent[0] == sent[1]
    assert len(desk.run("inbox", "--as", to, "--json").data) == 1


def test_what_expires_is_a_dead_letter_that_can_be_sent_again_or_dropped(
    desk: Place, known: Callable[[str], str]
) -> None:
    to = known("matrix/late")
    ended = desk.run("send", to, "too late", "--expires", "0.01s", "--wait", "delivered", "--timeout", "30")
    seq = ended.stdout.split()[1]
    assert (ended.code, ended.stdout) == (1, f"message {seq} to {to} is dead\n")
    assert f"message {seq} to {to} is dead: expired; see: orchestra trace {seq}" in ended.stderr
    rows = [line.split("\t") for line in desk.run("dead", "list").stdout.splitlines()]
    assert rows[0] == ["ID", "FROM", "TO", "DIED", "REASON", "TEXT"]
    assert [row[5] for row in rows if row[0] == seq] == ["too late"]
    assert f"for {to}: expired" in desk.run("dead", "show", seq).stdout
    assert desk.run("dead", "resend", seq, "--as", to).code == 3, "it is not the recipient's"
    again = desk.run("dead", "resend", seq)
    new = again.stdout.split()[-1]
    assert again.stdout == f"message {seq} to {to} is sent again as {new}\n"
    assert f"sent again as {new} by operator/" in desk.run("dead", "show", seq).stdout
    other = desk.run("send", to, "x", "--expires", "0.01s", "--wait", "read", "--timeout", "30").stdout.split()[1]
    assert desk.run("dead", "show", other, "--json").data["dead"][0]["reason"] == "expired"
    assert desk.run("dead", "drop", other).stdout == "1 dead letter is dropped\n"
    assert other not in {str(each["seq"]) for each in desk.run("dead", "list", "--json", "--limit", "5").data}
    assert "no dead letter" in desk.run("dead", "show", "999999").assert_is_one_sentence(1)
