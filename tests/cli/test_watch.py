"""`orchestra watch`: messages as they come, and what becomes of those that were sent."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

from ..system.programs import ORCHESTRA, Place


def _documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line)["data"] for line in text.splitlines()]


def test_messages_are_shown_as_they_come_and_stay_unread(desk: Place, known: Callable[[str], str]) -> None:
    me = known("matrix/watching")
    desk.run("send", me, "one")
    program = desk.start((*ORCHESTRA, "watch", "--as", me, "--json"), name="watch")
    program.wait_output('"one"')
    desk.run("send", me, "two")
    told = program.wait_output('"two"}}\n')
    program.signal(signal.SIGINT)
    ended = program.wait_end()
    assert (ended.code, ended.stderr) == (130, "")
    assert [(each["from"], each["text"]) for each in _documents(told)] == [
        (desk.run("read", "--all", "--as", me, "--json").data[0]["from"], "one"),
        (_documents(told)[0]["from"], "two"),
    ]


def test_what_becomes_of_a_message_is_shown_until_it_was_read(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/watched")
    seq = str(desk.run("send", to, "hello", "--json").data["seq"])
    ended = desk.run("watch", seq, "--until", "delivered", "--timeout", "0.1")
    assert (ended.code, ended.stdout) == (75, f"message {seq} to {to} is stored\n")
    program = desk.start((*ORCHESTRA, "watch", seq, "--until", "acked", "--json"), name="watch")
    program.wait_output('"stored"')
    desk.run("read", seq, "--as", to)
    program.wait_output('"read"')
    desk.run("read", seq, "--ack", "--as", to)
    ended = program.wait_end()
    assert ended.code == 0
    assert [each["stage"] for each in _documents(ended.stdout)] == ["stored", "read", "acked"]


def test_a_message_that_dies_ends_with_1_and_why(desk: Place, known: Callable[[str], str]) -> None:
    to = known("matrix/dying")
    seq = str(desk.run("send", to, "hello", "--expires", "0.01", "--json").data["seq"])
    ended = desk.run("watch", seq)
    assert ended.code == 1
    assert f"message {seq} to {to} is dead: expired" in ended.stdout
    assert desk.run("watch", "999999").assert_is_one_sentence(1)
