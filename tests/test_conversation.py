"""The client's side of the wire. Pure: what comes in are records, what comes out are happenings."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from orchestra import wire
from orchestra.conversation import (
    Answered,
    Assigned,
    Canceled,
    Changed,
    Conversation,
    Ended,
    Finished,
    Message,
    Missed,
    Presence,
    Progressed,
    Receipted,
    Refused,
    Replied,
    Requested,
    SeenSeqs,
    Slowed,
    Stored,
    Welcomed,
)
from orchestra.errors import ConnectionLost, Replaced, StaleLease, StorageFault
from orchestra.limits import CALLS_OPEN_MAX, LIST_ITEMS_MAX, LIST_ROWS_MAX, SENDS_UNANSWERED_MAX
from orchestra.stage import DELIVERED
from orchestra.wire import (
    ACK,
    BYE,
    CALL,
    CANCEL,
    CREDIT,
    DELIVER,
    ERROR,
    EVENT,
    HELLO,
    MESSAGE,
    NAK,
    OK,
    PING,
    PONG,
    PROGRESS,
    REPLY,
    REQUEST,
    RESPONSE,
    RESULT,
    SEND,
    TASK,
    WELCOME,
    Record,
)

from .hub.fakehub import FakeHub, FakePeer

EPOCH = b"epoch--1"


def _welcome(kept: tuple[int, ...] = ()) -> Record:
    return [WELCOME, 1, "agent/a", 1, 1, 0, list(kept), {}]


def _open(**options: Any) -> Conversation:
    talk = Conversation(EPOCH, **options)
    assert talk.received([_welcome()]) == [Welcomed("agent/a", 1, [])]
    return talk


def _reopen(talk: Conversation, kept: tuple[int, ...] = ()) -> list[Any]:
    talk.lost()
    return talk.received([_welcome(kept)])


def _delivery(seq: int, *, lease: int = 7, attempt: int = 1, kind: int = MESSAGE, to: str = "agent/a") -> Record:
    return [DELIVER, lease, attempt, seq, "operator/o", to, kind, 5, None, b"body"]


# Opening.


def test_nothing_is_said_before_welcome() -> None:
    talk = Conversation(EPOCH)
    talk.send("agent/b", b"", MESSAGE, None)
    talk.call("status", {})
    assert talk.take() == []
    talk.received([_welcome()])
    assert [record[0] for record in talk.take()] == [SEND, CALL]
    assert talk.take() == []


def test_hello_says_who_this_is_and_what_it_holds() -> None:
    talk = _open(address="agent/a", credit=10, slots=2, queues=["queue/q"], about={"host": "box"})
    talk.received([_delivery(1, kind=TASK, lease=3), _delivery(2), _delivery(3)])
    assert talk.hello() == [
        HELLO, 1, 1, "agent/a", EPOCH, 8, 2, ["queue/q"], [[1, 3]], {"host": "box"},
    ]  # fmt: skip


@pytest.mark.parametrize("code", ["version_mismatch", "wrong_name", "hub_full", "bad_option"])
def test_a_hello_that_is_refused_ends_the_connection(code: str) -> None:
    (ended,) = Conversation(EPOCH).received([[ERROR, HELLO, 0, code, "why"]])
    assert isinstance(ended, Ended)
    assert (ended.error.code, str(ended.error)) == (code, "why")


def test_a_bye_of_the_hub_says_whether_to_come_back() -> None:
    (replaced,) = _open().received([[BYE, "replaced", "another process"]])
    (storage,) = _open().received([[BYE, "storage", "disk"]])
    (silent,) = _open().received([[BYE, "silent", "nothing was heard"]])
    assert isinstance(replaced, Ended)
    assert isinstance(replaced.error, Replaced)
    assert replaced.error.is_fatal
    assert isinstance(storage.error, StorageFault)
    assert not storage.error.is_fatal
    assert not silent.error.is_fatal


@pytest.mark.parametrize("verb", [SEND, CALL, ACK, wire.PING])
def test_a_hub_that_knows_no_session_ends_the_connection_and_nothing_is_given_up(verb: int) -> None:
    talk = _open()
    n = talk.send("agent/b", b"", MESSAGE, None)
    ref = talk.call("status", {})
    talk.take()
    happened = talk.received([[ERROR, verb, n if verb == SEND else ref, "no_session", "say HELLO first"]])
    assert [type(each) for each in happened] == [Ended]
    assert not happened[0].error.is_fatal
    _reopen(talk)
    assert [record[0] for record in talk.take()] == [SEND, CALL]


def test_what_became_possible_between_hello_and_welcome_is_told_with_welcome() -> None:
    talk = Conversation(EPOCH, credit=0, slots=1)
    talk.hello()
    talk.credit = 256
    talk.allow(256)
    talk.offer(0)
    talk.received([_welcome()])
    assert talk.take() == [[CREDIT, 256, 0]]


def test_a_message_that_was_read_between_hello_and_welcome_makes_room() -> None:
    talk = _open(credit=10)
    talk.received([_delivery(1), _delivery(2)])
    talk.lost()
    assert talk.hello()[5] == 8
    talk.ack([1])
    talk.allow(1)
    talk.received([_welcome()])
    assert talk.take() == [[CREDIT, 1, None]]


def test_a_welcome_after_which_nothing_is_new_is_answered_with_nothing() -> None:
    talk = Conversation(EPOCH, credit=10, slots=2)
    talk.hello()
    talk.received([_welcome()])
    assert talk.take() == []


# Sends.


def test_sends_are_numbered_and_answered_in_ranges() -> None:
    talk = _open()
    assert [talk.send("agent/b", b"", MESSAGE, None) for _ in range(3)] == [1, 2, 3]
    assert [record[:2] for record in talk.take()] == [[SEND, 1], [SEND, 2], [SEND, 3]]
    assert talk.received([[OK, 1, 40, 2]]) == [Stored(1, 40), Stored(2, 41)]
    assert talk.unanswered == 1
    assert talk.received([[OK, 1, 40, 3]]) == [Stored(3, 42)], "an answer that comes twice happens once"


def test_what_was_not_answered_is_said_again_in_order_with_the_same_numbers() -> None:
    talk = _open()
    sent = [talk.send("agent/b", b"%d" % i, MESSAGE, None) for i in range(5)]
    first = talk.take()
    talk.received([[OK, 1, 1, 1], [ERROR, SEND, 3, "mailbox_full", "why"]])
    assert talk.lost() == []
    talk.send("agent/b", b"later", MESSAGE, None)
    talk.received([_welcome()])
    again = talk.take()
    assert [record[1] for record in again] == [2, 4, 5, 6]
    assert again[:3] == [first[1], first[3], first[4]]
    assert sent == [1, 2, 3, 4, 5]


def test_a_refused_send_is_told_once_and_not_said_again() -> None:
    talk = _open()
    talk.send("agent/b", b"", MESSAGE, None)
    (refused,) = talk.received([[ERROR, SEND, 1, "unknown_recipient", "no peer"]])
    assert isinstance(refused, Refused)
    assert (refused.what, refused.ref, refused.error.code) == (SEND, 1, "unknown_recipient")
    assert talk.received([[ERROR, SEND, 1, "unknown_recipient", "no peer"]]) == []
    talk.take()
    _reopen(talk)
    assert talk.take() == []


def test_a_conversation_is_full_at_its_limit() -> None:
    talk = _open()
    for _ in range(SENDS_UNANSWERED_MAX):
        assert not talk.is_full
        talk.send("agent/b", b"", MESSAGE, None)
    assert talk.is_full
    talk.received([[OK, 1, 1, 1]])
    assert not talk.is_full


# Messages.


def test_a_message_is_handed_on_and_acknowledged_with_its_lease() -> None:
    talk = _open()
    (message,) = talk.received([_delivery(9, lease=4, attempt=2)])
    assert message == Message(9, "operator/o", "agent/a", 5, b"body", 2, 4, {})
    talk.ack([9])
    talk.ack([9])
    assert talk.take() == [[ACK, 3, [9, 4]]]


def test_a_message_that_comes_again_is_not_handed_on_again() -> None:
    talk = _open()
    talk.received([_delivery(9, lease=4)])
    talk.ack([9])
    talk.take()
    assert talk.received([_delivery(9, lease=5, attempt=2)]) == []
    assert talk.take() == [[ACK, 3, [9, 5]], [CREDIT, 1, None]]


def test_a_message_that_comes_again_while_it_is_read_is_acknowledged_under_its_newest_lease() -> None:
    talk = _open()
    talk.received([_delivery(9, lease=4)])
    _reopen(talk)
    assert talk.received([_delivery(9, lease=5, attempt=2)]) == []
    talk.take()
    talk.ack([9])
    assert talk.take() == [[ACK, 3, [9, 5]]]


def test_what_was_acknowledged_without_a_hub_is_acknowledged_when_it_comes_again() -> None:
    talk = _open()
    talk.received([_delivery(9)])
    talk.lost()
    talk.ack([9])
    talk.received([_welcome()])
    assert talk.take() == []
    assert talk.received([_delivery(9, lease=8)]) == []
    assert [ACK, 3, [9, 8]] in talk.take()


def test_what_was_only_delivered_is_said_to_be_so_again() -> None:
    talk = _open()
    talk.received([_delivery(9, lease=4)])
    talk.ack([9], DELIVERED)
    assert talk.take() == [[ACK, DELIVERED, [9, 4]]]
    talk.received([_delivery(9, lease=5, attempt=2)])
    assert talk.take()[0] == [ACK, DELIVERED, [9, 5]]


def test_many_acknowledgements_fit_the_wire() -> None:
    talk = _open()
    talk.received([_delivery(seq) for seq in range(1, 5001)])
    talk.ack(range(1, 5001))
    records = talk.take()
    for frame in wire.encode(records):
        assert wire.Decoder(wire.FROM_PEER).decode(frame)[1] == []
    assert sum(len(record[2]) for record in records) == 10_000
    assert all(len(record[2]) <= LIST_ITEMS_MAX for record in records)


def test_what_was_seen_is_remembered_within_a_bound() -> None:
    seen = SeenSeqs()
    assert seen.add(1)
    assert not seen.add(1)
    for seq in range(2, SeenSeqs.SEQS_MAX + 10):
        assert seen.add(seq)
    assert not seen.add(SeenSeqs.SEQS_MAX)
    assert len(seen._seqs) == SeenSeqs.SEQS_MAX


# Channels.


def test_an_entry_needs_no_acknowledgement_and_comes_once() -> None:
    talk = _open()
    ref = talk.subscribe("channel/status", None)
    talk.received([[REPLY, ref, {"after": 10}]])
    entry = _delivery(11, lease=0, to="channel/status")
    assert [each.seq for each in talk.received([entry, entry])] == [11]
    talk.take()
    assert talk.received([_delivery(12, lease=0, to="channel/other")]) == []
    assert talk.take() == [], "entries take no credit of messages, so none is given back"


@pytest.mark.parametrize("after", [None, 0, 10])
def test_a_subscription_goes_on_where_it_was_after_a_reconnect(after: int | None) -> None:
    talk = _open()
    ref = talk.subscribe("channel/status", after)
    (first,) = talk.take()
    assert first[3] == {"channel": "channel/status"} | ({} if after is None else {"after": after})
    talk.received([[REPLY, ref, {"after": 10}]])
    _reopen(talk)
    assert talk.take()[0][3] == {"channel": "channel/status", "after": 10 if after is None else after}
    talk.received([[REPLY, ref + 1, {"after": 10}], _delivery(15, lease=0, to="channel/status")])
    _reopen(talk)
    assert [record[3] for record in talk.take()] == [{"channel": "channel/status", "after": 15}]


def test_entries_of_an_earlier_subscription_are_not_taken_for_those_of_the_next() -> None:
    talk = _open()
    ref = talk.subscribe("channel/status", None)
    talk.received([[REPLY, ref, {"after": 10}]])
    talk.unsubscribe("channel/status")
    again = talk.subscribe("channel/status", 0)
    late, first = (_delivery(seq, lease=0, to="channel/status") for seq in (11, 1))
    found = talk.received([late, [REPLY, again - 1, {}], [REPLY, again, {"after": 0}], first, late])
    assert [each.seq for each in found if isinstance(each, Message)] == [1, 11]


def test_what_was_thrown_away_unread_comes_again_after_a_reconnect() -> None:
    talk = _open()
    ref = talk.subscribe("channel/status", None)
    talk.received([[REPLY, ref, {"after": 10}], *(_delivery(seq, lease=0, to="channel/status") for seq in (11, 12))])
    talk.rewind("channel/status", 11)
    talk.rewind("channel/other", 11)
    _reopen(talk)
    assert talk.take()[0][3] == {"channel": "channel/status", "after": 11}
    found = talk.received([[REPLY, ref + 1, {"after": 11}], _delivery(12, lease=0, to="channel/status")])
    assert [each.seq for each in found if isinstance(each, Message)] == [12]


def test_a_cursor_says_where_to_begin_and_after_a_reconnect_the_client_does() -> None:
    talk = _open()
    ref = talk.subscribe("channel/status", 0, cursor="c")
    assert talk.take()[0][3] == {"channel": "channel/status", "after": 0, "cursor": "c"}
    talk.received([[REPLY, ref, {"after": 7}]])
    _reopen(talk)
    assert talk.take()[0][3] == {"channel": "channel/status", "after": 7}
    talk.seen("channel/status", 9, cursor="c")
    talk.seen("channel/status", 9, cursor=None)
    assert [record[3].get("cursor") for record in talk.take()] == ["c", None]


def test_entries_that_were_removed_are_told_with_the_place_and_on_the_way() -> None:
    talk = _open()
    ref = talk.subscribe("channel/status", 3)
    found = talk.received([[REPLY, ref, {"after": 3, "missed": 9}], [EVENT, "channel", {"channel": "c", "missed": 12}]])
    assert [each for each in found if isinstance(each, Missed)] == [Missed("channel/status", 9), Missed("c", 12)]


def test_who_unsubscribed_does_not_subscribe_again() -> None:
    talk = _open()
    ref = talk.subscribe("channel/status", None)
    talk.received([[REPLY, ref, {"after": 1}]])
    talk.unsubscribe("channel/status")
    talk.unsubscribe("channel/status")
    assert [record[2] for record in talk.take()] == ["subscribe", "unsubscribe"]


def test_who_follows_a_channel_asks_again_when_the_hub_had_no_time_for_it() -> None:
    talk = _open()
    talk.received([[REPLY, talk.subscribe("channel/status", 3), {"after": 3}]])
    talk.received([_delivery(5, lease=0, to="channel/status")])
    _reopen(talk)
    asked = talk.take()[-1]
    assert talk.received([[ERROR, CALL, asked[1], "rate_limited", "wait 0.001 s"]]) == [Slowed()]
    assert talk.take() == [], "not at once"
    talk.watch_again()
    assert talk.take() == [asked]
    found = talk.received([[REPLY, asked[1], {"after": 5}], _delivery(6, lease=0, to="channel/status")])
    assert [each.seq for each in found if isinstance(each, Message)] == [6]


@pytest.mark.parametrize("is_lost", [False, True])
def test_who_follows_no_more_while_the_hub_has_no_time_for_it_is_said_in_that_order(is_lost: bool) -> None:
    talk = _open()
    ref = talk.subscribe("channel/status", 0)
    talk.take()
    talk.received([[ERROR, CALL, ref, "rate_limited", "wait 0.001 s"]])
    if is_lost:
        talk.lost()
    talk.unsubscribe("channel/status")
    if is_lost:
        talk.received([_welcome(())])
    assert [record[2] for record in talk.take()] == ["subscribe", "unsubscribe"]
    (refused,) = talk.received([[ERROR, CALL, ref, "rate_limited", "wait 0.001 s"]])
    assert isinstance(refused, Refused), "nobody wants it any more"


# Tasks.


def test_a_task_is_held_until_the_hub_has_its_result() -> None:
    talk = _open()
    (task,) = talk.received([_delivery(5, lease=3, kind=TASK)])
    assert isinstance(task, Assigned)
    n = talk.result(5, 3, "completed", {}, b"out")
    assert talk.hello()[8] == [[5, 3]]
    assert talk.received([[OK, n, 5, 1]]) == [Stored(n, 5)]
    assert talk.hello()[8] == []


def test_a_result_is_said_again_after_a_reconnect() -> None:
    talk = _open()
    talk.received([_delivery(5, lease=3, kind=TASK)])
    talk.result(5, 3, "completed", {}, b"out")
    talk.take()
    _reopen(talk, kept=(5,))
    assert talk.take() == [[RESULT, 1, 5, 3, "completed", {}, b"out"]]


def test_tasks_the_hub_gave_to_others_are_named_and_let_go() -> None:
    talk = _open()
    talk.received([_delivery(5, kind=TASK), _delivery(6, kind=TASK)])
    assert _reopen(talk, kept=(6,)) == [Welcomed("agent/a", 1, [5])]
    assert talk.hello()[8] == [[6, 7]]


def test_a_refused_result_lets_the_task_go() -> None:
    talk = _open()
    talk.received([_delivery(5, kind=TASK)])
    talk.result(5, 7, "completed", {}, b"")
    (refused,) = talk.received([[ERROR, RESULT, 1, "stale_lease", "stop"]])
    assert isinstance(refused.error, StaleLease)
    assert talk.hello()[8] == []


def test_a_task_is_given_back_once_and_under_its_lease_alone() -> None:
    talk = _open()
    talk.received([_delivery(5, lease=3, kind=TASK)])
    talk.give_back(5, 2, "given_back", "")
    assert talk.take() == []
    talk.give_back(5, 3, "given_back", "draining")
    talk.give_back(5, 3, "given_back", "draining")
    assert talk.take() == [[NAK, 3, 5, "given_back", "draining", 0]]
    assert talk.hello()[8] == []


def test_an_agent_whose_progress_is_refused_is_told_to_stop() -> None:
    talk = _open()
    talk.received([_delivery(5, lease=3, kind=TASK)])
    talk.progress(5, 3, b"x")
    (canceled,) = talk.received([[ERROR, PROGRESS, 5, "stale_lease", "stop"]])
    assert canceled[:2] == (5, 3)
    assert talk.hello()[8] == []


def test_a_cancel_is_passed_on() -> None:
    assert _open().received([[CANCEL, 5, 3, "why"]]) == [Canceled(5, 3, "why")]


# Watching.


def test_what_happens_to_a_watched_task_is_passed_on() -> None:
    talk = _open()
    talk.watches(5)
    facts = {"seq": 5, "state": "working"}
    assert talk.received(
        [[EVENT, "task", facts], [PROGRESS, 5, 1, b"x"], [RESULT, 5, 1, "completed", {"exit_code": 0}, b"out"]]
    ) == [Changed(5, facts), Progressed(5, 1, b"x"), Finished(5, 1, "completed", {"exit_code": 0}, b"out")]
    assert talk.received([[EVENT, "unknown", {}]]) == []


def test_watched_tasks_are_asked_for_after_a_reconnect_until_they_are_over() -> None:
    talk = _open()
    for seq in (5, 6):
        talk.watches(seq)
    talk.received([[RESULT, 6, 1, "completed", {}, b""]])
    _reopen(talk)
    (call,) = talk.take()
    assert call[2:] == ["task.watch", {"seqs": [5]}]
    facts = {"seq": 5, "state": "completed", "attempt": 2, "report": {}, "output": b"out"}
    happened = talk.received([[REPLY, call[1], {"tasks": [facts], "is_cut": False}]])
    assert happened[0] == Finished(5, 2, "completed", {}, b"out")
    _reopen(talk)
    assert talk.take() == []


def test_watched_tasks_are_asked_for_again_when_the_hub_had_no_time_for_it() -> None:
    talk = _open()
    talk.watches(5)
    _reopen(talk)
    (call,) = talk.take()
    assert talk.received([[ERROR, CALL, call[1], "rate_limited", "wait 0.001 s"]]) == [Slowed()]
    assert talk.take() == [], "not at once"
    talk.watch_again()
    assert talk.take() == [call]
    talk.received([[ERROR, CALL, call[1], "rate_limited", "wait 0.001 s"]])
    _reopen(talk)
    assert call in talk.take()
    talk.watch_again()
    assert talk.take() == [], "the new connection said it"


def test_a_task_whose_answer_was_lost_is_watched_when_it_is_said_again() -> None:
    talk = _open()
    talk.send("queue/q", b"", TASK, {"watch": True})
    talk.take()
    _reopen(talk)
    talk.take()
    assert talk.received([[OK, 1, 77, 1]]) == [Stored(1, 77)]
    assert talk.take()[0][2:] == ["task.watch", {"seqs": [77]}]


def test_a_watched_message_is_told_of_and_asked_for_again_after_a_reconnect() -> None:
    talk = _open()
    n = talk.send("agent/a", b"", MESSAGE, {"watch": True})
    talk.received([[OK, n, 77, 1]])
    talk.take()
    facts = {"seq": 77, "to": "agent/a", "recipient": "agent/a", "stage": "read", "at_ms": 5, "reason": ""}
    assert talk.received([[EVENT, "receipt", facts]]) == [Receipted(77, "agent/a", "agent/a", "read", 5, "")]
    _reopen(talk)
    (call,) = talk.take()
    assert call[2:] == ["message.watch", {"seqs": [77]}]
    recipients = [{"recipient": "agent/a", "stage": "acked", "reason": "", "receipts": [{"at_ms": 9}]}]
    message = {"seq": 77, "to": "agent/a", "recipients": recipients, "is_cut": False}
    told = talk.received([[REPLY, call[1], {"messages": [message], "is_cut": False}]])
    assert told[0] == Receipted(77, "agent/a", "agent/a", "acked", 9, "")
    talk.unwatch_message(77)
    assert talk.take()[0][2:] == ["message.unwatch", {"seqs": [77]}]
    _reopen(talk)
    assert [each[2] for each in talk.take()] == ["message.unwatch"], "only what was not answered"


def test_of_messages_that_one_reply_could_not_hold_the_rest_is_asked_for() -> None:
    talk = _open()
    (ref,) = talk.watch_messages([1, 2, 3])
    talk.take()
    message = {"seq": 1, "to": "agent/a", "recipients": [], "is_cut": False}
    talk.received([[REPLY, ref, {"messages": [message], "is_cut": True}]])
    assert talk.take()[0][2:] == ["message.watch", {"seqs": [2, 3]}]


@pytest.mark.parametrize(("kind", "method"), [(MESSAGE, "message.watch"), (TASK, "task.watch")])
def test_of_what_was_stored_under_a_key_the_hub_is_asked_where_it_is(kind: int, method: str) -> None:
    talk = _open()
    n = talk.send("agent/a", b"", kind, {"watch": True, "key": "k"})
    talk.received([[OK, n, 77, 1]])
    assert [each[2:] for each in talk.take() if each[0] == CALL] == [[method, {"seqs": [77]}]]


def test_any_number_of_watched_tasks_is_asked_for_in_calls_the_hub_takes() -> None:
    talk = _open()
    for seq in range(1, 6001):
        talk.watches(seq)
    _reopen(talk)
    calls = talk.take()
    for frame in wire.encode(calls):
        assert wire.Decoder(wire.FROM_PEER).decode(frame)[1] == []
    assert [seq for call in calls for seq in call[3]["seqs"]] == list(range(1, 6001))
    assert all(len(call[3]["seqs"]) <= LIST_ROWS_MAX for call in calls)


def test_outcomes_that_were_cut_are_asked_for_again() -> None:
    talk = _open()
    (ref,) = talk.watch([1, 2, 3])
    talk.take()
    facts = {"seq": 1, "state": "completed", "attempt": 1, "report": {}, "output": b"large"}
    talk.received([[REPLY, ref, {"tasks": [facts], "is_cut": True}]])
    assert talk.take()[0][2:] == ["task.watch", {"seqs": [2, 3]}]


# Calls and requests.


def test_a_call_is_answered_once_and_said_again_until_it_is() -> None:
    talk = _open()
    ref = talk.call("status", {"a": 1})
    talk.take()
    _reopen(talk)
    assert talk.take() == [[CALL, ref, "status", {"a": 1}]]
    assert talk.received([[REPLY, ref, {"x": 1}]]) == [Replied(CALL, ref, {"x": 1})]
    assert talk.received([[REPLY, ref, {"x": 1}], [ERROR, CALL, ref, "internal", ""]]) == []


def test_a_request_is_answered_or_lost_with_the_connection() -> None:
    talk = _open()
    answered, lost = talk.request("agent/b", 100, b"1"), talk.request("agent/b", 100, b"2")
    assert talk.received([[RESPONSE, answered, b"yes"]]) == [Replied(REQUEST, answered, b"yes")]
    (refused,) = talk.lost()
    assert (refused.what, refused.ref, type(refused.error)) == (REQUEST, lost, ConnectionLost)
    talk.received([_welcome()])
    assert talk.take() == []
    assert talk.received([[RESPONSE, lost, b"late"], [ERROR, REQUEST, lost, "offline", ""]]) == []


def test_what_another_asks_is_passed_on() -> None:
    talk = _open()
    assert talk.received([[REQUEST, 4, "agent/b", 500, b"?"]]) == [Requested(4, "agent/b", 500, b"?")]
    talk.respond(4, "", b"!")
    assert talk.take() == [[RESPONSE, 4, "", b"!"]]


def test_the_answer_to_a_ping_tells_which_one_it_was() -> None:
    talk = _open()
    talk.ping(42)
    assert talk.take() == [[PING, 42]]
    assert talk.received([[PONG, 42]]) == [Answered(42)]


def test_what_only_means_something_now_is_not_kept_for_later() -> None:
    talk = Conversation(EPOCH)
    talk.progress(1, 1, b"")
    talk.allow(5)
    talk.offer(2)
    talk.respond(1, "", b"")
    talk.ping(1)
    talk.bye()
    talk.received([_welcome()])
    assert talk.take() == []
    assert talk.hello()[6] == 2, "but what is offered is said with HELLO"


def test_numbers_of_no_known_meaning_are_ignored() -> None:
    talk = _open()
    assert (
        talk.received([[OK, 99, 1, 5], [REPLY, 99, {}], [RESPONSE, 99, b""], [ERROR, CALL, 99, "internal", ""]]) == []
    )
    (refused,) = talk.received([[ERROR, 0, 0, "malformed", "frame"]])
    assert isinstance(refused, Refused)


# Both sides.


class Client:
    """A conversation on links that break."""

    def __init__(self, hub: FakeHub, text: str, **options: Any) -> None:
        hub.enrol(text)
        self.hub = hub
        self.peer = FakePeer(hub, text)
        self.talk = Conversation(self.peer.epoch, address=text, **options)
        self.happened: list[Any] = []

    def connect(self) -> None:
        """Break the link, as a network does, and make a new one."""
        self.happened += self.talk.lost()
        if self.peer.session is not None:
            self.peer.vanish()
        self.peer = FakePeer(self.hub, self.peer.text, epoch=self.peer.epoch)
        self._say([self.talk.hello()], is_heard=True)

    def speak(self, *, is_said: bool = True, is_heard: bool = True) -> None:
        records = self.talk.take()
        if is_said:
            self._say(records, is_heard=is_heard)

    def _say(self, records: list[Record], *, is_heard: bool) -> None:
        for frame in wire.encode(records):
            self.hub.say_frames((self.peer, frame))
        told = self.peer.take()
        if is_heard:
            self.happened += self.talk.received(told)

    def took(self, kind: type) -> list[Any]:
        found = [each for each in self.happened if isinstance(each, kind)]
        self.happened = [each for each in self.happened if not isinstance(each, kind)]
        return found


@pytest.mark.parametrize("seed", range(8))
def test_over_links_that_break_everything_arrives_once_and_in_order(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    hub = FakeHub(tmp_path)
    sender, reader = Client(hub, "matrix/m"), Client(hub, "agent/a", credit=8)
    stored: dict[int, int] = {}
    got: list[Message] = []
    in_hand: list[int] = []
    sent = 0

    def step(client: Client) -> None:
        fate = chance.random()
        if fate < 0.1:
            client.connect()
        elif fate < 0.2 and client.talk.is_open:
            client.speak(is_heard=False)  # the answers are lost with the link
            client.connect()
        elif fate < 0.3 and client.talk.is_open:
            client.speak(is_said=False)
            client.connect()
        elif fate < 0.32:
            hub.restart()
            for each in (sender, reader):
                each.connect()
        else:
            client.speak()

    def look() -> None:
        for happening in sender.took(Stored):
            assert happening.n not in stored, "stored twice"
            stored[happening.n] = happening.seq
        assert sender.took(Refused) == []
        for message in reader.took(Message):
            got.append(message)
            in_hand.append(message.seq)

    for each in (sender, reader):
        each.connect()
    while sent < 300 or len(got) < 300 or len(stored) < 300 or in_hand:
        if sent < 300:
            sent += 1
            sender.talk.send("agent/a", b"%d" % sent, MESSAGE, None)
        if in_hand and chance.random() < 0.6:
            reader.talk.ack([in_hand.pop(0)])
            reader.talk.allow(1)
        step(chance.choice((sender, reader)))
        hub.clock.advance(0.05)
        if chance.random() < 0.2:
            for each in (sender, reader):
                each.talk.ping(0)
                each.speak()
            hub.tick()
        look()
        assert hub.clock.at_ms < 10_000_000, "it takes for ever"
    assert [message.body for message in got] == [b"%d" % n for n in range(1, 301)]
    assert [message.seq for message in got] == [stored[n] for n in range(1, 301)]
    assert hub.messages() == 300
    for _ in range(3):
        reader.connect()
        reader.speak()
    assert hub.owed("agent/a") == []
    hub.close()


# Presence.


def _facts(address: str, state: str = "online") -> dict[str, Any]:
    return {
        "address": address,
        "state": state,
        "since_ms": 5,
        "away_ms": None,
        "away_text": None,
        "session_count": 1,
        "hosts": ["box"],
    }


def test_where_everybody_stands_is_told_page_by_page_and_then_as_it_changes() -> None:
    talk = _open()
    ref = talk.watch_presence()
    assert talk.take() == [[CALL, ref, "presence.watch", {}]]
    first, replied = talk.received([[REPLY, ref, {"peers": [_facts("agent/a")], "is_cut": True}]])
    assert first == Presence("agent/a", "online", 5, None, 1, ("box",))
    assert isinstance(replied, Replied)
    ((_, ref, *asked),) = talk.take()
    assert asked == ["presence.watch", {"after": "agent/a"}]
    second, _ = talk.received([[REPLY, ref, {"peers": [_facts("agent/b")], "is_cut": False}]])
    assert isinstance(second, Presence)
    assert second.address == "agent/b"
    assert talk.take() == []
    (changed,) = talk.received([[EVENT, "presence", _facts("agent/a", "offline")]])
    assert isinstance(changed, Presence)
    assert changed.state == "offline"


def test_after_a_reconnect_everybody_is_asked_for_again_from_the_start() -> None:
    talk = _open()
    ref = talk.watch_presence()
    talk.received([[REPLY, ref, {"peers": [_facts("agent/a")], "is_cut": True}]])
    _reopen(talk)
    assert [each[2:] for each in talk.take()] == [["presence.watch", {"after": "agent/a"}], ["presence.watch", {}]]


def test_who_watches_no_more_is_told_nothing_of_it() -> None:
    talk = _open()
    ref = talk.watch_presence()
    talk.unwatch_presence()
    assert [each[2] for each in talk.take()] == ["presence.watch", "presence.unwatch"]
    (replied,) = talk.received([[REPLY, ref, {"peers": [_facts("agent/a")], "is_cut": True}]])
    assert isinstance(replied, Replied)
    _reopen(talk)
    assert "presence.watch" not in [each[2] for each in talk.take()]


# Many CALLs.


def test_no_more_calls_are_said_at_once_than_the_hub_takes_also_after_a_reconnect() -> None:
    talk = _open()
    refs = [talk.call("status", {}) for _ in range(3 * CALLS_OPEN_MAX)]
    assert [each[1] for each in talk.take()] == refs[:CALLS_OPEN_MAX]
    talk.received([[REPLY, refs[0], {}], [ERROR, CALL, refs[1], "not_found", "no"]])
    assert [each[1] for each in talk.take()] == refs[CALLS_OPEN_MAX : CALLS_OPEN_MAX + 2]
    _reopen(talk)
    assert [each[1] for each in talk.take()] == refs[2 : CALLS_OPEN_MAX + 2]
    said = refs[2 : CALLS_OPEN_MAX + 2]
    answered = list(refs[:2])
    while said:
        answered += said
        talk.received([[REPLY, ref, {}] for ref in said])
        said = [each[1] for each in talk.take()]
    assert answered == refs
