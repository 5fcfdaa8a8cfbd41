"""Watching messages: who is told of which stage, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestra import aio, wire
from orchestra.errors import BadOption, DeadLetter, DeadlinePassed, NotAllowed, NotFound
from orchestra.hub import post as post_module
from orchestra.hub import watches as watches_module
from orchestra.limits import DELIVERY_ATTEMPTS_MAX, WATCHED_AT_ONCE_MAX
from orchestra.stage import ACKED, DELIVERED, READ
from orchestra.wire import DELIVER, EVENT, NAK

from .fakehub import FakeHub, FakePeer, codes
from .livehub import live_hub, run, soon, until


def _told(peer: FakePeer) -> list[dict[str, Any]]:
    events = peer.took(EVENT)
    assert all(name == "receipt" for _, name, _ in events)
    return [facts for _, _, facts in events]


def _stages(peer: FakePeer) -> list[str]:
    return [facts["stage"] for facts in _told(peer)]


def test_the_sender_is_told_of_each_stage_with_its_time(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    seq = sender.send("agent/a", watch=True)
    hub.clock.advance(1)
    agent.ack(*agent.took(DELIVER), stage=DELIVERED)
    facts = {"seq": seq, "to": "agent/a", "recipient": "agent/a", "stage": "delivered", "at_ms": hub.clock.now_ms}
    assert _told(sender) == [{**facts, "reason": ""}]
    agent.call("inbox.read", seqs=[seq])
    agent.call("inbox.read", seqs=[seq], ack=True)
    assert _stages(sender) == ["read", "acked"]
    assert hub.decider.post.watches.watched == {}, "nothing can follow"
    assert sender.session is not None
    assert sender.session.watched_messages == set()


def test_who_begins_to_watch_in_the_moment_a_message_is_read_is_told_so(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a"), hub.join("operator/o")
    seq = sender.send("agent/a")
    hub.say(
        (agent, [[wire.CALL, 1, "inbox.read", {"seqs": [seq]}]]),
        (sender, [[wire.CALL, 1, "message.watch", {"seqs": [seq]}]]),
    )
    (reply,) = sender.take()
    assert reply[2]["messages"][0]["recipients"][0]["stage"] == "read"


@pytest.mark.parametrize(("stage", "name"), [(READ, "read"), (ACKED, "acked")])
def test_an_ack_of_a_watched_message_is_on_disk_before_anybody_is_told(hub: FakeHub, stage: int, name: str) -> None:
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    plain = sender.send("agent/a")
    sender.send("agent/a", watch=True)
    first, second = agent.took(DELIVER)
    agent.ack(first, stage=stage)
    assert _told(sender) == [], f"nobody watches {plain}"
    with hub.deciding() as turn:
        hub.decider.receive(agent.link, "agent/a", [[wire.ACK, stage, [second[3], second[1]]]], [], turn)
        assert hub.state.writes.is_urgent()
    assert _stages(sender) == [name]


def test_an_ack_that_nobody_watches_may_wait_for_the_next_commit(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    sender.send("agent/a")
    (delivery,) = agent.took(DELIVER)
    with hub.deciding() as turn:
        hub.decider.receive(agent.link, "agent/a", [[wire.ACK, DELIVERED, [delivery[3], delivery[1]]]], [], turn)
        assert not hub.state.writes.is_urgent()
        assert hub.state.writes.held == 1


def test_the_sender_is_told_why_a_message_is_dead(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=99), hub.join("operator/o")
    sender.send("agent/a", watch=True)
    for _ in range(DELIVERY_ATTEMPTS_MAX):
        (delivery,) = agent.took(DELIVER)
        agent.say([NAK, delivery[1], delivery[3], "busy", "", 0])
        hub.tick()
    (facts,) = _told(sender)
    assert (facts["stage"], facts["reason"]) == ("dead", "too many attempts")
    assert hub.decider.post.watches.watched == {}


def test_of_a_broadcast_each_recipient_is_told_apart_also_one_that_had_no_room(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, one = hub.join("matrix/full"), hub.join("matrix/one", credit=9)
    sender = hub.join("operator/o")
    sender.send("matrix/full")
    monkeypatch.setattr(post_module, "MAILBOX_MESSAGES_MAX", 1)
    seq = sender.send("*", watch=True)
    one.ack(*one.took(DELIVER))
    told = [(facts["to"], facts["recipient"], facts["stage"], facts["reason"]) for facts in _told(sender)]
    assert told == [("*", "matrix/full", "dead", "mailbox full"), ("*", "matrix/one", "acked", "")]
    hub.clock.advance(0.001)
    found = sender.call("message.get", seq=seq)["recipients"]
    assert [(each["recipient"], each["stage"], each["reason"]) for each in found] == [
        ("matrix/full", "dead", "mailbox full"),
        ("matrix/one", "acked", ""),
    ]
    (own,) = full.call("message.get", seq=seq)["recipients"]
    assert own["recipient"] == "matrix/full", "a recipient sees its own receipts"


def test_a_watch_that_is_refused_leaves_nothing_behind(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    assert codes(sender.say(sender.sending("channel/status", watch=True))) == ["bad_option"]
    assert codes(sender.say(sender.sending("matrix/nobody", watch=True))) == ["unknown_recipient"]
    assert hub.decider.post.watches.watched == {}
    monkeypatch.setattr(watches_module, "WATCHES_MAX", 1)
    seq = sender.send("agent/a", watch=True)
    assert codes(sender.say(sender.sending("agent/a", watch=True))) == ["hub_full"]
    assert hub.owed("agent/a") == [seq]
    assert sender.call("message.watch", seqs=[seq, seq + 1]) == "hub_full"
    assert sender.call("message.watch", seqs=list(range(1, WATCHED_AT_ONCE_MAX + 2))) == "bad_option"
    hub.clock.advance(0.001)
    assert sender.call("message.unwatch", seqs=[seq, 99]) == {}
    assert hub.decider.post.watches.watched == {}
    sender.send("agent/a", watch=True)


def test_a_watch_ends_with_its_session_and_is_asked_for_again_by_the_next(hub: FakeHub) -> None:
    agent, sender = hub.join("agent/a", credit=9), hub.join("operator/o")
    seq = sender.send("agent/a", watch=True)
    sender.vanish()
    assert hub.decider.post.watches.watched == {}
    agent.ack(*agent.took(DELIVER), stage=DELIVERED)
    sender = sender.again()
    found = sender.call("message.watch", seqs=[seq, 99])
    (message,) = found["messages"]
    assert (message["seq"], message["to"], found["is_cut"]) == (seq, "agent/a", False)
    assert [(each["stage"], each["is_unread"]) for each in message["recipients"]] == [("delivered", True)]
    agent.call("inbox.read", seqs=[seq])
    assert _stages(sender) == ["read"]


def test_messages_that_one_reply_cannot_hold_are_cut_and_not_watched(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra.hub.calls.REPLY_BYTES_MAX", 300)
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    sent = [sender.send("agent/a") for _ in range(3)]
    found = sender.call("message.watch", seqs=sent)
    told = [each["seq"] for each in found["messages"]]
    assert found["is_cut"]
    assert told == sent[: len(told)] != sent
    assert sender.session is not None
    assert sender.session.watched_messages == set(told)


def test_only_its_sender_its_recipients_and_operators_see_a_message(hub: FakeHub) -> None:
    recipient, sender, other, operator = (hub.join(text) for text in ("agent/a", "matrix/m", "matrix/n", "operator/o"))
    seq = sender.send("agent/a", b"secret")
    for peer in (recipient, sender, operator):
        assert peer.call("message.get", seq=seq)["body"] == b"secret"
        assert peer.call("message.watch", seqs=[seq])["messages"]
    hub.clock.advance(0.001)
    assert other.call("message.get", seq=seq) == "not_allowed"
    assert other.call("message.watch", seqs=[seq]) == "not_allowed"
    assert other.session is not None
    assert other.session.watched_messages == set()
    assert other.call("message.get", seq=99) == "not_found"
    entry = sender.send("channel/status", b"for all")
    assert other.call("message.get", seq=entry)["recipients"] == []
    hub.clock.advance(0.001)
    task = operator.submit("agent/a")
    assert operator.call("message.get", seq=task) == "not_found"


# With real clients.


def test_a_client_waits_for_a_stage(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a") as agent, hub.connect("operator/o") as sender:
            sending = asyncio.create_task(sender.send("agent/a", "hello", wait="delivered"))
            message = await soon(anext(agent.messages(peek=True)))
            assert await soon(sending) == message.seq
            sent = await soon(sender.watch_message(message.seq))
            assert sent.stage == "delivered"
            with pytest.raises(DeadlinePassed, match=r"is delivered, and not read after 0\.01 s; it is kept"):
                await sent.reached("read", timeout_s=0.01)
            with pytest.raises(BadOption):
                await sent.reached("seen")
            waiting = asyncio.create_task(sent.reached("read"))
            await agent.mark_read([message.seq], ack=True)
            await soon(waiting)
            assert sent.stage == "acked"
            sent.forget()
            await until(lambda: not hub.decider.post.watches.watched)
            with pytest.raises(NotFound):
                await sender.watch_message(99)
            async with hub.connect("matrix/other") as other:
                with pytest.raises(NotAllowed):
                    await other.watch_message(message.seq)

    run(scenario())


def test_a_client_waits_on_over_a_lost_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a") as agent, hub.connect("operator/o") as sender:
            sent = await soon(sender.send_watched("agent/a", "hello"))
            hub.hub._kick(hub.session("operator/o").link)
            await until(lambda: not hub.decider.state.roster.peers["operator/o"].sessions)
            assert await agent.mark_read([sent.seq]) == 1
            await soon(sent.reached("read"))

    run(scenario())


def test_a_client_waits_for_every_recipient_of_a_broadcast(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as sender:  # noqa: SIM117 - too long for one
            async with hub.connect("matrix/one") as one, hub.connect("matrix/two") as two:
                sent = await soon(sender.send_watched("*", "to all"))
                assert set(sent.receipts) == {"matrix/one", "matrix/two"}
                await one.mark_read([sent.seq])
                await until(lambda: sent.receipts["matrix/one"].stage == "read")
                assert sent.stage == "stored"
                await two.mark_read([sent.seq], ack=True)
                await soon(sent.reached("read"))
                assert sent.stage == "read"

    run(scenario())


def test_who_waits_for_a_broadcast_that_nobody_gets_is_told_so_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("matrix/only") as sender:
            sent = await soon(sender.send_watched("*", "to all"))
            with pytest.raises(DeadLetter, match="the hub knows no other matrix"):
                await soon(sent.reached("delivered"))
            with pytest.raises(DeadLetter, match="the hub knows no other matrix"):
                await soon(anext(sent.follow()))

    run(scenario())


def test_a_client_follows_each_receipt_until_a_stage_or_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("operator/o") as sender:  # noqa: SIM117 - too long for one
            async with hub.connect("matrix/one") as one, hub.connect("matrix/two") as two:
                sent = await soon(sender.send_watched("*", "to all"))
                following = sent.follow("read")
                told = [(each.recipient, each.stage) for each in [await soon(anext(following)) for _ in range(2)]]
                assert sorted(told) == [("matrix/one", "stored"), ("matrix/two", "stored")]
                await one.mark_read([sent.seq])
                receipt = await soon(anext(following))
                assert (receipt.recipient, receipt.stage) == ("matrix/one", "read")
                await two.mark_read([sent.seq], ack=True)
                assert [each.stage async for each in following] == ["acked"]
                with pytest.raises(BadOption):
                    await anext(sent.follow("seen"))

    run(scenario())


def test_waiting_for_a_message_that_is_dead_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live_hub(tmp_path) as hub, hub.connect("agent/a"), hub.connect("operator/o") as sender:
            sent: aio.SentMessage = await soon(sender.send_watched("agent/a", "hello"))
            turn = hub.hub._turn()
            hub.decider.post._bury(sent.seq, hub.decider.state.roster.peers["agent/a"], "a test", turn)
            hub.hub._end_turn(turn)
            with pytest.raises(DeadLetter, match=f"message {sent.seq} to agent/a is dead: a test"):
                await sent.reached("delivered", timeout_s=5)

    run(scenario())
