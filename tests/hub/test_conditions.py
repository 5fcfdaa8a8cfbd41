"""Keys, threads, expiry and rates: what a sender may ask of a send, and what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestra import wire
from orchestra.hub import post as post_module
from orchestra.limits import DELIVERY_LEASE_S, WINDOW_MESSAGES
from orchestra.stage import DELIVERED
from orchestra.wire import DELIVER, ERROR, NAK, OK, SEND

from .fakehub import FakeHub, FakePeer, codes, pass_time, seqs
from .livehub import live_hub, run, soon


def _dead(hub: FakeHub) -> list[tuple[int, str]]:
    return [(seq, reason) for seq, reason in hub.rows("SELECT seq, reason FROM dead ORDER BY seq")]


def _expire(hub: FakeHub, seconds: float) -> None:
    hub.clock.advance(seconds)
    hub.tick()


# Keys.


def test_the_same_key_again_is_answered_with_the_first_seq_and_stores_nothing(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    seq = sender.send("agent/a", b"once", key="k")
    assert sender.send("agent/a", b"twice", key="k") == seq
    hub.restart()
    assert hub.join("operator/o").send("agent/a", b"in another life", key="k") == seq
    assert hub.join("operator/p").send("agent/a", b"another's", key="k") == seq + 1
    assert hub.messages() == 2
    assert [each[8:] for each in agent.took(DELIVER)] == [[None, b"once"]], "the key is between its sender and the hub"


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize(("to", "kind"), [("agent/b", wire.MESSAGE), ("agent/a", wire.TASK), ("queue/q", wire.TASK)])
def test_a_key_that_was_used_for_something_else_is_a_conflict(
    hub: FakeHub, to: str, kind: int, is_committed: bool
) -> None:
    hub.enrol("agent/a", "agent/b")
    sender = hub.join("operator/o")
    first, second = sender.sending("agent/a", key="k"), sender.sending(to, kind=kind, key="k")
    told = [*sender.say(first), *sender.say(second)] if is_committed else sender.say(first, second)
    assert codes(told) == ["conflict"]
    assert "was used for message 1 to agent/a" in next(record for record in told if record[0] == wire.ERROR)[4]
    assert hub.messages() == 1


def test_two_sends_under_one_key_in_one_turn_are_one(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    one, two = hub.join("operator/o"), hub.join("operator/o")
    twice = [one.sending("agent/a", key="k") for _ in range(2)]
    hub.say((one, twice), (two, [two.sending("agent/a", key="k")]))
    assert one.take() == [[OK, 1, 1, 1], [OK, 2, 1, 1]]
    assert two.take() == [[OK, 1, 1, 1]]
    assert hub.owed("agent/a") == [1]


def test_a_repeated_send_under_a_key_that_was_not_stored_is_still_answered(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    seq = sender.send("agent/a", key="k")
    again = sender.sending("agent/a", key="k")
    sender.say(again, sender.sending("agent/a"))
    assert sender.say(again) == [[OK, again[1], seq, 1]], "its number was used, and its row never was"


def test_a_task_is_submitted_once_under_a_key(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    seq = sender.submit("queue/q", key="job")
    assert sender.submit("queue/q", key="job") == seq
    assert hub.rows("SELECT count(*) FROM task") == [(1,)]


def test_a_send_that_is_refused_leaves_its_key_free(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    assert codes(sender.say(sender.sending("agent/a", key="k"))) == ["unknown_recipient"]
    hub.enrol("agent/a")
    assert sender.send("agent/a", key="k") == 1


@pytest.mark.parametrize("key", ["", "x" * 129, 1, None, b"k", ["k"], True])
def test_what_is_no_key_is_refused(hub: FakeHub, key: Any) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    assert codes(sender.say([SEND, 1, "agent/a", wire.MESSAGE, b"", {"key": key}])) == ["bad_option"]
    assert hub.messages() == 0


# Threads.


def test_replies_share_the_thread_of_the_first_message(hub: FakeHub) -> None:
    one, two = hub.join("matrix/one", credit=9), hub.join("matrix/two", credit=9)
    first = one.send("matrix/two", b"why?")
    second = two.send("matrix/one", b"because", reply_to=first)
    third = one.send("matrix/two", b"I see", reply_to=second)
    assert [each[8] for each in one.took(DELIVER)] == [{"reply_to": first, "thread": first}]
    assert [each[8] for each in two.took(DELIVER)] == [None, {"reply_to": second, "thread": first}]
    for seq in (first, second, third):
        found = one.call("message.thread", seq=seq)
        assert (found["thread"], [each["seq"] for each in found["messages"]]) == (first, [first, second, third])
        hub.clock.advance(0.001)
    assert [each["is_unread"] for each in found["messages"]] == [False, True, False]
    cut = one.call("message.thread", seq=first, count=2)
    assert ([each["seq"] for each in cut["messages"]], cut["is_cut"]) == ([first, second], True)


def test_a_thread_shows_each_reader_what_it_sent_or_got(hub: FakeHub) -> None:
    one, two, sender = hub.join("matrix/one"), hub.join("matrix/two"), hub.join("operator/o")
    hub.enrol("matrix/three")
    first = sender.send("*", b"to all")
    mine = one.send("operator/o", b"from one", reply_to=first)
    two.send("operator/o", b"from two", reply_to=first)
    assert [each["seq"] for each in one.call("message.thread", seq=first)["messages"]] == [first, mine]
    assert len(sender.call("message.thread", seq=mine)["messages"]) == 3
    hub.clock.advance(0.001)
    assert two.call("message.thread", seq=mine) == "not_allowed"


def test_nobody_replies_to_what_is_none_of_its_business(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender, stranger = hub.join("operator/o"), hub.join("matrix/m")
    letter, task, entry = sender.send("agent/a"), sender.submit("agent/a"), sender.send("channel/status")
    before = hub.messages()
    for reply_to in (letter, task, 99, 0, -1, 2**63 - 1, "1", None, True):
        told = stranger.say([SEND, 1, "operator/o", wire.MESSAGE, b"", {"reply_to": reply_to}])
        assert codes(told) == ["bad_option"]
    assert hub.messages() == before
    assert stranger.send("operator/o", reply_to=entry), "a channel's entries are everybody's"
    broadcast = sender.send("*")
    assert stranger.send("operator/o", reply_to=broadcast)
    newcomer = hub.join("matrix/new")
    assert codes(newcomer.say(newcomer.sending("operator/o", reply_to=broadcast))) == ["bad_option"]


# Expiry.


def test_a_message_that_is_not_delivered_in_time_is_dead_also_after_a_restart(hub: FakeHub) -> None:
    hub.enrol("agent/a", "agent/b")
    sender = hub.join("operator/o")
    late, later = sender.send("agent/a", expires_ms=10_000), sender.send("agent/a", expires_ms=3_600_000)
    plain = sender.send("agent/b")
    _expire(hub, 9.999)
    assert _dead(hub) == []
    hub.restart()
    _expire(hub, 0.001)
    assert _dead(hub) == [(late, "expired")]
    assert (hub.owed("agent/a"), hub.peer("agent/a").mailbox.count) == ([later], 1)
    _expire(hub, 3600)
    assert _dead(hub) == [(late, "expired"), (later, "expired")]
    assert (hub.owed("agent/a"), hub.owed("agent/b")) == ([], [plain])
    assert hub.rows("SELECT count(*) FROM expiry") == [(0,)]
    assert seqs(hub.join("agent/a", credit=9).take()) == []


def test_who_watches_is_told_that_a_message_expired(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    sender.send("agent/a", expires_ms=1000, watch=True)
    _expire(hub, 1)
    assert [(each[2]["stage"], each[2]["reason"]) for each in sender.took(wire.EVENT)] == [("dead", "expired")]


def test_what_was_delivered_in_time_does_not_expire(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=2), hub.join("operator/o")
    unread, in_hand, waiting = (sender.send("agent/a", expires_ms=1000) for _ in range(3))
    first, second = agent.took(DELIVER)
    agent.ack(first, stage=DELIVERED)
    _expire(hub, 2)
    assert _dead(hub) == [(waiting, "expired")]
    assert hub.owed("agent/a") == [unread, in_hand]
    agent.ack(second)
    assert hub.owed("agent/a") == [unread]
    assert hub.peer("agent/a").mailbox.count == 1


@pytest.mark.parametrize("how", ["given back", "lost", "silent", "restart"])
def test_what_comes_back_after_its_time_is_dead(hub: FakeHub, how: str) -> None:
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    seq = sender.send("agent/a", expires_ms=1000)
    (delivery,) = agent.took(DELIVER)
    _expire(hub, 2)
    assert _dead(hub) == []
    if how == "given back":
        agent.say([NAK, delivery[1], seq, "", "", 0])
    elif how == "lost":
        agent.vanish()
    elif how == "silent":
        pass_time(hub, agent, DELIVERY_LEASE_S)
    else:
        hub.restart()
        assert seqs(hub.join("agent/a", credit=9).take()) == []
    assert _dead(hub) == [(seq, "expired")]
    assert (hub.owed("agent/a"), hub.peer("agent/a").mailbox.count) == ([], 0)


def test_many_that_expire_at_once_take_several_ticks(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_module, "EXPIRIES_A_TICK_MAX", 100)
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    count = 250
    assert count < WINDOW_MESSAGES
    sender.say(*(sender.sending("agent/a", expires_ms=1000) for _ in range(count)))
    hub.clock.advance(1)
    left = []
    for _ in range(4):
        hub.tick()
        left.append(hub.peer("agent/a").mailbox.count)
    assert left == [150, 50, 0, 0]
    assert len(_dead(hub)) == count


def test_a_message_beyond_the_window_expires_too(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.hub.mailbox.WINDOW_MESSAGES", 2)
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    sent = [sender.send("agent/a", **({"expires_ms": 1000} if n == 4 else {})) for n in range(6)]
    _expire(hub, 1)
    assert _dead(hub) == [(sent[4], "expired")]
    assert seqs(hub.join("agent/a", credit=9).take()) == [*sent[:4], sent[5]]


def test_a_message_that_was_read_before_it_expired_is_not_dead(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a"), hub.join("operator/o")
    seq = sender.send("agent/a", expires_ms=1000)
    hub.clock.advance(1)
    with hub.deciding() as turn:
        hub.decider.receive(agent.link, "agent/a", [[wire.CALL, 1, "inbox.read", {"seqs": [seq]}]], [], turn)
        hub.decider.tick(turn)
    assert _dead(hub) == []
    assert hub.peer("agent/a").mailbox.count == 0


def test_a_broadcast_expires_for_each_recipient_that_did_not_get_it(hub: FakeHub) -> None:
    one, sender = hub.join("matrix/one", credit=9), hub.join("operator/o")
    hub.enrol("matrix/away", "matrix/gone")
    seq = sender.send("*", expires_ms=1000)
    one.ack(*one.took(DELIVER))
    _expire(hub, 1)
    found = sender.call("message.get", seq=seq)["recipients"]
    assert {each["recipient"]: each["stage"] for each in found} == {
        "matrix/one": "acked", "matrix/away": "dead", "matrix/gone": "dead",
    }  # fmt: skip


@pytest.mark.parametrize("expires_ms", [0, -1, 2**60, 1.5, "10", None, True])
def test_what_is_no_time_to_live_is_refused(hub: FakeHub, expires_ms: Any) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    told = sender.say([SEND, 1, "agent/a", wire.MESSAGE, b"", {"expires_ms": expires_ms}])
    assert codes(told) == ["bad_option"]
    assert codes(sender.say(sender.sending("channel/status", expires_ms=5))) == ["bad_option"]


# Rates.


def _sent(peer: FakePeer, count: int) -> int:
    """Send so many; return how many were taken."""
    told = peer.say(*(peer.sending("agent/a") for _ in range(count)))
    assert {each[3] for each in told if each[0] == ERROR} <= {"rate_limited"}
    return sum(each[3] for each in told if each[0] == OK)


def test_a_sender_may_send_its_rate_and_is_told_when_to_try_again(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender, other = hub.join("operator/o"), hub.join("matrix/m")
    hub.decider.conditions.sends_per_second = 10
    assert _sent(sender, 30) == 20, "two seconds of its rate at once"
    (error,) = sender.say(sender.sending("agent/a"))
    assert error[3:] == ["rate_limited", "operator/o may send 10 messages a second; try again in 0.1 s"]
    hub.clock.advance(0.5)
    assert _sent(sender, 9) == 5
    assert _sent(other, 9) == 9, "each has its own"
    hub.clock.advance(1.5)
    assert _sent(sender, 30) == 15
    hub.clock.advance(9)
    assert _sent(sender, 30) == 20, "what was not used is not saved up"


def test_without_a_rate_nobody_is_counted(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    assert _sent(sender, 900) == 900
    assert hub.peer("operator/o").sends.at_ms == 0


# With real clients.


def test_a_client_replies_expires_and_sends_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/one") as one, hub.connect("matrix/two") as two:
            seq = await soon(one.send("matrix/two", "why?", key="k", expires_s=60))
            again = await soon(one.send_watched("matrix/two", "why?", key="k"))
            assert again.seq == seq
            message = await soon(anext(two.messages()))
            assert (message.reply_to, message.thread) == (None, seq)
            answer = await soon(two.reply(message, "because"))
            (reply,) = await one.inbox()
            assert (reply.seq, reply.reply_to, reply.thread, reply.sender) == (answer, seq, seq, "matrix/two")
            assert [each.text for each in await two.thread(answer)] == ["why?", "because"]
            assert await two.mark_read([seq], ack=True) == 1
            await soon(again.reached("acked"))

    run(scenario())
