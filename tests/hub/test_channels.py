"""Channels: following, catching up, falling behind."""

from __future__ import annotations

from orchestra import wire
from orchestra.limits import (
    SUBSCRIPTIONS_MAX,
)
from orchestra.wire import CREDIT, DELIVER

from .fakehub import FakeHub, seqs


def test_a_subscriber_gets_what_comes_from_now_on(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m", credit=5), hub.join("agent/a")
    sender.send("channel/status", b"before")
    assert reader.call("subscribe", channel="channel/status") == {"channel": "channel/status", "after": 1}
    seq = sender.send("channel/status", b"after")
    (entry,) = reader.take()
    assert entry == [
        DELIVER, 0, 1, seq, "agent/a", "channel/status", wire.MESSAGE, hub.clock.now_ms, None, b"after",
    ]  # fmt: skip


def test_a_subscriber_from_a_seq_gets_what_it_missed_and_then_what_comes(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m", credit=100), hub.join("agent/a")
    sent = [sender.send("channel/status") for _ in range(10)]
    reader.call("subscribe", channel="channel/status", after=sent[3])
    assert seqs(reader.take()) == sent[4:]
    seq = sender.send("channel/status")
    assert seqs(reader.take()) == [seq]


def test_an_entry_published_in_the_turn_of_the_subscription_comes_once(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m", credit=100), hub.join("agent/a")
    sent = [sender.send("channel/status") for _ in range(3)]
    hub.say(
        (reader, [[wire.CALL, 9, "subscribe", {"channel": "channel/status", "after": 0}]]),
        (sender, [sender.sending("channel/status")]),
    )
    assert seqs(reader.take()) == [*sent, sent[-1] + 1]


def test_catching_up_goes_no_faster_than_the_credit_and_loses_nothing(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m", credit=2), hub.join("agent/a")
    sent = [sender.send("channel/status") for _ in range(7)]
    reader.call("subscribe", channel="channel/status", after=0)
    got = seqs(reader.take())
    assert got == sent[:2]
    while more := seqs(reader.allow(2)):
        assert len(more) <= 2
        got += more
        if len(sent) < 12:
            sent.append(sender.send("channel/status"))
    assert got == sent


def test_a_subscriber_that_fell_behind_gets_the_rest_with_its_next_credit(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m", credit=1), hub.join("agent/a")
    reader.call("subscribe", channel="channel/status")
    sent = [sender.send("channel/status") for _ in range(5)]
    assert seqs(reader.take()) == sent[:1]
    hub.say((reader, [[CREDIT, 2, None], [CREDIT, 1, None], [CREDIT, 10, None]]))
    assert seqs(reader.take()) == sent[1:]


def test_who_unsubscribes_or_leaves_gets_no_more(hub: FakeHub) -> None:
    reader, leaver, sender = hub.join("matrix/m", credit=5), hub.join("matrix/n", credit=5), hub.join("agent/a")
    for peer in (reader, leaver):
        peer.call("subscribe", channel="channel/status")
    reader.call("unsubscribe", channel="channel/status")
    assert reader.call("unsubscribe", channel="channel/never-was") == "unknown_recipient"
    leaver.vanish()
    sender.send("channel/status")
    assert (reader.take(), leaver.take()) == ([], [])


def test_a_channel_that_does_not_exist_cannot_be_followed(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    reader = hub.join("matrix/m")
    for channel in ("channel/none", "agent/a", "queue/q", "*", "../x", ""):
        assert reader.call("subscribe", channel=channel) == "unknown_recipient"


def test_one_session_follows_a_bounded_number_of_channels(hub: FakeHub) -> None:
    with hub.deciding():
        for i in range(SUBSCRIPTIONS_MAX + 1):
            hub.state.id_of(f"channel/c{i}")
    reader = hub.join("matrix/m")
    for i in range(SUBSCRIPTIONS_MAX):
        hub.clock.advance(0.001)  # calls are counted by the millisecond
        assert "after" in reader.call("subscribe", channel=f"channel/c{i}")
    hub.clock.advance(0.001)
    assert reader.call("subscribe", channel=f"channel/c{SUBSCRIPTIONS_MAX}") == "hub_full"
    assert "after" in reader.call("subscribe", channel="channel/c0")
