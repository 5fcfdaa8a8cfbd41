"""JSON and records, without sockets: the document, the manners, and whatever a client may make up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.address import Kind, parse_address
from orchestra.errors import BadAddress, BadOption, Malformed
from orchestra.hub.calls import METHODS
from orchestra.hub.dialogue import _FORMS, _TOLD, Dialogue, Wishes, read_wishes
from orchestra.hub.vocabulary import read_message, write_message
from orchestra.wire import pack

from . import spoken
from .fakehub import FakeHub, FakePeer, new_epoch


class Talker:
    """A client of the gateway on a hub without sockets. All that it is told has to be in the document."""

    def __init__(self, hub: FakeHub, text: str, query: str = "", *, is_modern: bool = True) -> None:
        address = parse_address(text)
        if text not in hub.state.roster.peers:
            hub.enrol(text)
        self._hub = hub
        self._peer = FakePeer(hub, text)
        hub._peers[self._peer.link] = self._peer
        wishes = read_wishes(query, kind=address.kind, is_modern=is_modern)
        self.dialogue = Dialogue(address, wishes, moment=lambda at_ms: "2026-01-31T14:05:00.000Z")
        self.told: list[dict[str, Any]] = []
        self._pass_on(self.dialogue.hello(epoch=new_epoch(), about={}))

    def say_text(self, text: str | bytes) -> None:
        records, answers = self.dialogue.hear(text)
        self._told(answers)
        self._pass_on(records)

    def say(self, **message: Any) -> None:
        self.say_text(json.dumps(message))

    def hear(self) -> list[dict[str, Any]]:
        """Take what came since the last look, of this turn and of others."""
        self._listen()
        told, self.told = self.told, []
        return told

    def tick(self) -> None:
        """The gateway looks after its connections."""
        self._told(self.dialogue.news())
        for owed in self.dialogue.written():
            self._hub.say_frames((self._peer, pack([owed])))

    def _pass_on(self, records: list[Any]) -> None:
        for record in records:
            try:
                frame = pack([record])
            except (ValueError, OverflowError, TypeError, RecursionError):
                self._told(self.dialogue.refused(record, Malformed("it can't be put on the wire")))
            else:
                self._hub.say_frames((self._peer, frame))
        self._listen()

    def _listen(self) -> None:
        while records := self._peer.take():
            for record in records:
                self._told(self.dialogue.tell(record))
            for owed in self.dialogue.written():
                self._hub.say_frames((self._peer, pack([owed])))

    def _told(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            told = json.loads(write_message(message))
            spoken.check(told)
            self.told.append(told)


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    with TemporaryDirectory() as folder:
        hub = FakeHub(Path(folder))
        try:
            yield hub
        finally:
            hub.close()


# The document.


def test_the_document_has_every_type_with_the_fields_that_the_code_reads() -> None:
    described = spoken.messages(spoken.SAID)
    assert described.keys() == _FORMS.keys()
    for name, form in _FORMS.items():
        schema = described[name]
        fields = {*form.required, *form.optional}
        assert set(form.required) | {"type"} == set(schema["required"]), name
        assert fields <= schema["properties"].keys(), name
        assert schema["properties"].keys() - fields <= {"type", "id", "agentId"}, name


def test_the_document_tells_of_both_sides_and_refers_to_nothing_that_is_not_there() -> None:
    document = spoken.document()
    assert document["asyncapi"].startswith("3.")
    assert len(_TOLD) >= 12
    for refs in (_refs(document),):
        for ref in refs:
            found: Any = document
            for part in ref.removeprefix("#/").split("/"):
                found = found[part]
    operations = document["operations"]
    assert len(operations["say"]["messages"]) == len(spoken.messages(spoken.SAID))
    assert len(operations["hear"]["messages"]) == len(spoken.messages(spoken.TOLD))


def _refs(value: Any) -> Iterator[str]:
    for name, each in value.items() if isinstance(value, dict) else enumerate(value):
        if name == "$ref":
            yield each
        elif isinstance(each, dict | list):
            yield from _refs(each)


# What anybody may say.

_ADDRESSES = ["agent/a", "matrix/m", "operator/o", "queue/q", "channel/context", "*", "m", "agent/nobody"]
_KNOWN: dict[str, list[Any]] = {
    "to": _ADDRESSES,
    "method": sorted(METHODS),
    "params": [{"seq": 1}, {"seqs": [1, 2]}, {"channel": "channel/context"}, {"seq": 1, "lease": 1, "data": "x"}, {}],
    "options": [{"priority": "high"}, {"watch": True}, {"key": "k"}, {"depends_on": [1]}, {"metadata": {"a": 1.5}}],
    "taskId": [1, 2, "1", "2", "3"],
    "ids": [[1], ["2", 3], [2**70]],
    "request": [1],
}
_ANYTHING = spoken.made_up(_KNOWN).map(json.dumps) | st.text(max_size=60) | st.binary(max_size=20)


@settings(max_examples=60, deadline=None)
@given(said=st.lists(st.tuples(st.integers(0, 3), _ANYTHING), max_size=25))
def test_whatever_clients_say_the_hub_stays_up_and_says_only_what_is_documented(said: list[tuple[int, Any]]) -> None:
    with fake_hub() as hub:
        talkers = [
            Talker(hub, "agent/a", "slots=3&queue=q", is_modern=False),
            Talker(hub, "matrix/m", is_modern=False),
            Talker(hub, "operator/o", "ack=1"),
            Talker(hub, "agent/b", "queue=q&credit=1"),
        ]
        for number, text in said:
            talkers[number].say_text(text)
            for each in talkers:
                each.hear()
        talkers[2].say(type="ping", id="still there")
        assert {"type": "pong", "id": "still there"} in talkers[2].hear()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "malformed"),
        ("42", "malformed"),
        ("[]", "malformed"),
        ("{}", "malformed"),
        ('{"type":1}', "malformed"),
        ('{"type":"nonsense"}', "malformed"),
        (b"\x00", "malformed"),
        ('{"type":"send","to":"agent/a","content":NaN}', "malformed"),
        ("[" * 100_000, "malformed"),
        ('{"type":"send","to":"agent/a","content":"\\ud800"}', "malformed"),
        ('{"type":"call","method":"inbox","params":{"after":' + "9" * 30 + "}}", "malformed"),
        ('{"type":"message","content":5}', "bad_option"),
        ('{"type":"message","content":{"a":1}}', "bad_option"),
        ('{"type":"message"}', "bad_option"),
        ('{"type":"send","to":"agent/a","content":{"base64":"!"}}', "bad_option"),
        ('{"type":"call","id":[1],"method":"inbox"}', "bad_option"),
        ('{"type":"submit","to":"queue/q"}', "bad_option"),
        ('{"type":"submit","to":"queue/q","prompt":"x","timeout_s":1e999}', "malformed"),
        ('{"type":"result","taskId":"7","status":"completed"}', "stale_lease"),
        ('{"type":"message","to":"no such name!","content":"x"}', "bad_address"),
        ('{"type":"message","to":"nobody","content":"x"}', "unknown_recipient"),
    ],
)
def test_what_is_wrong_is_answered_with_what_is_wrong(text: str | bytes, code: str) -> None:
    with fake_hub() as hub:
        talker = Talker(hub, "matrix/m", is_modern=False)
        talker.hear()
        talker.say_text(text)
        (answer,) = talker.hear()
        assert (answer["type"], answer["code"]) == ("error", code)
        assert answer["message"]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"type": "presence", "status": "busy"}, "status must be online or away"),
        ({"type": "message", "to": "Two", "content": "x"}, "'matrix/Two' has no valid name after the slash; a name is"),
    ],
)
def test_what_is_wrong_is_told_in_the_words_of_the_client(message: dict[str, str], told: str) -> None:
    with fake_hub() as hub:
        talker = Talker(hub, "matrix/m", is_modern=False)
        talker.hear()
        talker.say(**message)
        (answer,) = talker.hear()
        assert answer["message"].startswith(told)


def test_a_field_that_is_null_is_as_one_that_is_not_there() -> None:
    with fake_hub() as hub:
        matrix, agent = Talker(hub, "matrix/m", is_modern=False), Talker(hub, "agent/a", is_modern=False)
        other = Talker(hub, "matrix/other", is_modern=False)
        matrix.say(type="message", to=None, content="to all", metadata=None, id=None)
        assert "to all" in [each.get("content") for each in other.hear()]
        Talker(hub, "operator/o").say(type="submit", to="agent/a", prompt="review", context=None)
        (task,) = agent.hear()
        agent.say(type="result", taskId=task["id"], status="completed", output=None, duration_ms=None, error=None)
        assert hub.join("operator/o").call("task.get", seq=int(task["id"]))["state"] == "completed"
        for missing in ({"content": None}, {"content": "x", "id": None, "type": None}):
            matrix.hear()
            matrix.say(**{"type": "message", **missing})
            assert [each["type"] for each in matrix.hear()] == ["error"]


# The manners.


def test_bytes_that_are_no_text_come_as_base64_and_say_so() -> None:
    with fake_hub() as hub:
        modern, old = Talker(hub, "operator/o"), Talker(hub, "matrix/m", is_modern=False)
        modern.say(type="send", id=1, to="matrix/m", content={"base64": "/wA="})
        modern.say(type="send", id=2, to="operator/o", content={"base64": "/wA="})
        assert [each["content"] for each in modern.hear() if each["type"] == "message"] == [{"base64": "/wA="}]
        (message,) = [each for each in old.hear() if each["type"] == "message"]
        assert (message["content"], message["metadata"]) == ("/wA=", {"encoding": "base64"})


def test_what_json_does_not_have_is_told_as_text() -> None:
    told = json.loads(write_message({"type": "x", "a": float("nan"), "b": {b"k": b"v"}, "c": [float("inf")], "d": 1.5}))
    assert told == {"type": "x", "a": "nan", "b": {"k": "v"}, "c": ["inf"], "d": 1.5}


def test_a_client_gets_no_more_messages_than_it_asked_for_until_it_acknowledges_some() -> None:
    with fake_hub() as hub:
        reader, sender = Talker(hub, "matrix/m", "ack=1&credit=2"), Talker(hub, "operator/o")
        for number in range(4):
            sender.say(type="send", to="matrix/m", content=str(number))
        first = [each["id"] for each in reader.hear() if each["type"] == "message"]
        assert len(first) == 2
        reader.say(type="ack", ids=first)
        assert len([each for each in reader.hear() if each["type"] == "message"]) == 2
        assert hub.state.roster.peers["matrix/m"].mailbox.count == 2


def test_a_thousand_matrices_that_come_at_once_are_told_in_one_list_and_not_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestra.hub.presence.LIST_ROWS_MAX", 30)  # so that a list comes in several replies
    with fake_hub() as hub:
        watching = Talker(hub, "matrix/watching", is_modern=False)
        assert [each["online_matrices"] for each in watching.hear()] == [[]]
        crowd = [Talker(hub, f"matrix/m{number:03}", is_modern=False) for number in range(100)]
        assert watching.hear() == []
        watching.tick()
        (registered,) = watching.hear()
        assert registered["online_matrices"] == [f"m{number:03}" for number in range(100)]
        hub.lose(crowd[7]._peer)
        Talker(hub, "matrix/late", is_modern=False)
        assert watching.hear() == []
        watching.tick()
        told = {each["matrix_id"]: each["status"] for each in watching.hear() if each["type"] == "presence"}
        assert told == {"m007": "offline", "late": "online"}
        watching.tick()
        assert watching.hear() == []


def test_an_agent_gives_back_what_it_does_not_take() -> None:
    with fake_hub() as hub:
        agent, person = Talker(hub, "agent/a"), Talker(hub, "operator/o")
        person.say(type="submit", to="a", prompt="x")  # a bare name is an agent's
        (task,) = [each for each in agent.hear() if each["type"] == "task"]
        agent.say(type="nak", taskId=task["id"], message="not today", delay_ms=0)
        (again,) = [each for each in agent.hear() if each["type"] == "task"]
        assert again["attempt"] == 2


def test_an_output_that_is_too_long_is_cut_and_says_so() -> None:
    with fake_hub() as hub:
        agent, person = Talker(hub, "agent/a", is_modern=False), Talker(hub, "operator/o")
        person.say(type="submit", id=1, to="agent/a", prompt="x")
        (task,) = agent.hear()
        agent.say(type="result", taskId=task["id"], status="error", output="é" * 300_000)
        person.say(type="call", id=2, method="task.get", params={"seq": int(task["id"])})
        (found,) = [each["result"] for each in person.hear() if each["type"] == "reply"]
        assert found["state"] == "failed"
        assert found["report"]["is_cut"]
        assert found["report"]["output_bytes"] == 600_000


def test_two_clients_ask_each_other_live() -> None:
    with fake_hub() as hub:
        asker, other = Talker(hub, "operator/o"), Talker(hub, "matrix/m")
        asker.say(type="request", id=1, to="matrix/m", content="there?")
        (answer,) = [each for each in asker.hear() if each["type"] == "error"]
        assert (answer["id"], answer["code"]) == (1, "offline")  # it has not said that it answers
        assert other.hear()[0]["type"] == "welcome"
        answering = Talker(hub, "matrix/m", "answers=1")
        asker.say(type="request", id=2, to="matrix/m", content="there?", timeout_ms=1000)
        (request,) = [each for each in answering.hear() if each["type"] == "request"]
        assert (request["from"], request["content"]) == ("operator/o", "there?")
        answering.say(type="response", request=request["request"], content="yes")
        assert asker.hear() == [{"type": "response", "id": 2, "content": "yes"}]


def test_wishes_that_do_not_exist_are_refused() -> None:
    assert read_wishes("token=x&ack=1&credit=0&queue=q", kind=Kind.AGENT, is_modern=False) == Wishes(
        acks=True, credit=0, slots=1, queues=("queue/q",)
    )
    for query in ("nonsense=1", "ack=2", "credit=-1", "credit=99999", "slots=x", "queue=agent/x/y", "protocol=v9"):
        with pytest.raises((BadOption, BadAddress)):
            read_wishes(query, kind=Kind.AGENT, is_modern=False)


@given(st.text())
def test_reading_takes_anything(text: str) -> None:
    with suppress(Malformed):
        assert type(read_message(text)) is dict
