"""Channels: publishing, overwriting, following, catching up, falling behind."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra import limits, wire
from orchestra.hub import channels, cursors
from orchestra.hub.channel import APPEND, OVERWRITE
from orchestra.limits import CHANNELS_MAX, ENTRY_NAME_CHARS_MAX, FOLLOWER_BYTES_MAX, SUBSCRIPTIONS_MAX, WINDOW_MESSAGES
from orchestra.wire import CALL, CREDIT, DELIVER, ERROR, EVENT, OK, REPLY, Record

from .fakehub import FakeHub, FakePeer, codes, seqs

STATUS = "channel/status"
CONTEXT = "channel/context"


def _refusal(told: list[Record]) -> tuple[str, str]:
    (error,) = [record for record in told if record[0] == ERROR]
    return error[3], error[4]


def _see(peer: FakePeer, channel: str, seq: int, **params: Any) -> list[Record]:
    """Say what was seen; return what came of it."""
    peer.ref += 1
    told = peer.say([CALL, peer.ref, "channel.seen", {"channel": channel, "seq": seq, **params}])
    return [record for record in told if record[0] != REPLY]


# Following.


def test_a_subscriber_gets_what_comes_from_now_on(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m"), hub.join("agent/a")
    sender.send(STATUS, b"before")
    assert reader.call("subscribe", channel=STATUS) == {"channel": STATUS, "after": 1, "missed": 0}
    seq = sender.send(STATUS, b"after")
    (entry,) = reader.take()
    assert entry == [DELIVER, 0, 1, seq, "agent/a", STATUS, wire.MESSAGE, hub.clock.now_ms, None, b"after"]


def test_a_subscriber_from_a_seq_gets_what_it_missed_and_then_what_comes(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m"), hub.join("agent/a")
    sent = [sender.send(STATUS) for _ in range(10)]
    reader.call("subscribe", channel=STATUS, after=sent[3])
    assert seqs(reader.take()) == sent[4:]
    seq = sender.send(STATUS)
    assert seqs(reader.take()) == [seq]


def test_an_entry_published_in_the_turn_of_the_subscription_comes_once(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m"), hub.join("agent/a")
    sent = [sender.send(STATUS) for _ in range(3)]
    hub.say(
        (reader, [[CALL, 9, "subscribe", {"channel": STATUS, "after": 0}]]),
        (sender, [sender.sending(STATUS)]),
    )
    assert seqs(reader.take()) == [*sent, sent[-1] + 1]


def test_a_reader_is_sent_no_more_ahead_of_what_it_has_seen_than_it_asked_for(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m"), hub.join("agent/a")
    sent = [sender.send(STATUS) for _ in range(7)]
    reader.call("subscribe", channel=STATUS, after=0, credit=2)
    got = seqs(reader.take())
    assert got == sent[:2]
    while more := seqs(_see(reader, STATUS, got[-1])):
        assert len(more) <= 2
        got += more
        if len(sent) < 12:
            sent.append(sender.send(STATUS))
    assert got == sent


def test_a_reader_that_fell_behind_gets_the_rest_once_it_has_seen_more(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m"), hub.join("agent/a")
    reader.call("subscribe", channel=STATUS, credit=3)
    sent = [sender.send(STATUS) for _ in range(5)]
    assert seqs(reader.take()) == sent[:3]
    assert seqs(_see(reader, STATUS, sent[0])) == sent[3:4]
    told = reader.say(*([CALL, 90 + i, "channel.seen", {"channel": STATUS, "seq": sent[3]}] for i in range(3)))
    assert seqs(told) == sent[4:], "asking three times in one turn doubles nothing"
    assert seqs(reader.say()) == []
    sent.append(sender.send(STATUS))
    assert seqs(reader.take()) == sent[5:], "it has caught up, and is pushed again"


def test_catching_up_goes_beyond_one_page(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m"), hub.join("agent/a")
    sender.say(*(sender.sending(STATUS) for _ in range(WINDOW_MESSAGES + 5)))
    reader.call("subscribe", channel=STATUS, after=0, credit=4000)
    assert len(reader.take()) == WINDOW_MESSAGES + 5


def test_a_reader_that_never_reads_holds_up_nobody_and_costs_no_memory(hub: FakeHub) -> None:
    stuck, reader, sender = hub.join("matrix/stuck"), hub.join("matrix/m"), hub.join("agent/a")
    for peer in (stuck, reader):
        peer.call("subscribe", channel=CONTEXT, credit=4)
    sent = []
    for i in range(50):
        sent.append(sender.send(CONTEXT, b"x", entry=f"name-{i % 3}"))
        assert seqs(reader.take()) == [sent[-1]]
        _see(reader, CONTEXT, sent[-1])
    assert seqs(stuck.take()) == sent[:4]
    assert stuck.session is not None
    (follower,) = stuck.session.subscriptions.values()
    assert [seq for seq, _ in follower.on_way] == sent[:4]
    assert seqs(_see(stuck, CONTEXT, sent[3])) == sent[-3:], "catching up, it gets the newest of each name"
    sent.append(sender.send(CONTEXT, b"x", entry="name-0"))
    assert seqs(stuck.take()) == sent[-1:]


def test_entries_take_no_credit_of_messages_and_messages_none_of_entries(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m", credit=1), hub.join("operator/o")
    reader.call("subscribe", channel=STATUS, credit=2)
    entries = [sender.send(STATUS) for _ in range(5)]
    letters = [sender.send("matrix/m") for _ in range(3)]
    assert seqs(reader.take()) == [*entries[:2], letters[0]]
    assert seqs(reader.say([CREDIT, 1, None])) == letters[1:2]
    assert seqs(_see(reader, STATUS, entries[1])) == entries[2:4]


def test_who_only_follows_a_channel_is_sent_none_of_its_mail(hub: FakeHub) -> None:
    reader, sender = hub.join("operator/o"), hub.join("matrix/m")
    sender.send("operator/o")
    reader.call("subscribe", channel=STATUS)
    sender.send("operator/o")
    seq = sender.send(STATUS)
    assert seqs(reader.take()) == [seq]


def test_who_unsubscribes_or_leaves_gets_no_more(hub: FakeHub) -> None:
    reader, leaver, sender = hub.join("matrix/m"), hub.join("matrix/n"), hub.join("agent/a")
    for peer in (reader, leaver):
        peer.call("subscribe", channel=STATUS)
    reader.call("unsubscribe", channel=STATUS)
    assert reader.call("unsubscribe", channel="channel/never-was") == "unknown_recipient"
    leaver.vanish()
    sender.send(STATUS)
    assert (reader.take(), leaver.take()) == ([], [])
    assert hub.decider.channels.all[STATUS].followers == {}


def test_a_channel_that_does_not_exist_cannot_be_followed_read_or_published_to(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    reader = hub.join("matrix/m")
    for channel in ("channel/none", "agent/a", "queue/q", "*", "../x", ""):
        for method in ("subscribe", "channel.read"):
            assert reader.call(method, channel=channel) == "unknown_recipient"
    code, text = _refusal(reader.say(reader.sending("channel/none")))
    assert (code, "orchestra channel create" in text) == ("unknown_recipient", True)


@pytest.mark.parametrize("credit", [0, 4097])
def test_a_window_is_bounded(hub: FakeHub, credit: int) -> None:
    assert hub.join("matrix/m").call("subscribe", channel=STATUS, credit=credit) == "bad_option"


def test_one_session_follows_a_bounded_number_of_channels(hub: FakeHub) -> None:
    reader = hub.join("matrix/m")
    for i in range(SUBSCRIPTIONS_MAX):
        hub.clock.advance(0.001)  # calls are counted by the millisecond
        reader.call("channel.create", channel=f"channel/c{i}")
        assert "after" in reader.call("subscribe", channel=f"channel/c{i}")
    hub.clock.advance(0.001)
    assert reader.call("subscribe", channel=STATUS) == "hub_full"
    assert "after" in reader.call("subscribe", channel="channel/c0")


def test_large_entries_are_on_their_way_only_up_to_a_number_of_bytes(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m"), hub.join("agent/a")
    reader.call("subscribe", channel=STATUS)
    large = b"x" * (FOLLOWER_BYTES_MAX // 4)
    sent = [sender.send(STATUS, large) for _ in range(7)]
    assert seqs(reader.take()) == sent[:4], "live"
    assert seqs(_see(reader, STATUS, sent[2])) == sent[4:7]
    sent += [sender.send(STATUS, large) for _ in range(9)]
    reader.call("subscribe", channel=STATUS, after=0)
    assert seqs(reader.take()) == sent[:4], "catching up"
    got = sent[:4]
    while more := seqs(_see(reader, STATUS, got[-1])):
        assert len(more) <= 4
        got += more
    assert got == sent


# Entries with names.


def test_a_named_entry_overwrites_the_earlier_one_for_those_who_come_later(hub: FakeHub) -> None:
    follower, sender = hub.join("matrix/f"), hub.join("agent/a")
    follower.call("subscribe", channel=STATUS)
    sent = [sender.send(STATUS, b"1", entry="a"), sender.send(STATUS, b"2"), sender.send(STATUS, b"3", entry="b")]
    sent.append(sender.send(STATUS, b"4", entry="a"))
    told = follower.take()
    assert seqs(told) == sent, "who follows gets each as it happens"
    assert [record[8] for record in told] == [{"entry": "a"}, None, {"entry": "b"}, {"entry": "a"}]
    late = hub.join("matrix/late")
    late.call("subscribe", channel=STATUS, after=0)
    assert seqs(late.take()) == sent[1:]
    assert hub.messages() == 4, "the overwritten one stays in the log of messages"


def test_a_name_that_is_overwritten_in_one_turn_leaves_the_last(hub: FakeHub) -> None:
    sender, late = hub.join("agent/a"), hub.join("matrix/late")
    (ok,) = sender.say(*(sender.sending(STATUS, body, entry="a") for body in (b"1", b"2", b"3")))
    assert ok == [OK, 1, 1, 3]
    late.call("subscribe", channel=STATUS, after=0)
    assert [record[9] for record in late.take()] == [b"3"]


def test_a_channel_that_overwrites_keeps_the_newest_and_hands_it_to_a_new_subscriber_at_once(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m")
    for body in (b"old", b"new"):
        sender.send(CONTEXT, body)
    named = sender.send(CONTEXT, b"mission", entry="mission")
    assert reader.call("subscribe", channel=CONTEXT)["after"] == 0
    assert [record[9] for record in reader.take()] == [b"new", b"mission"]
    assert hub.column("SELECT seq FROM entry ORDER BY seq") == [named - 1, named]


def test_a_writer_that_has_not_seen_the_newest_version_is_told_who_wrote_it(hub: FakeHub) -> None:
    one, two = hub.join("matrix/one"), hub.join("matrix/two")
    first = one.send(CONTEXT, b"1", entry="plan", if_version=0)
    second = two.send(CONTEXT, b"2", entry="plan", if_version=first)
    for version in (0, first, second + 1):
        code, text = _refusal(one.say(one.sending(CONTEXT, b"3", entry="plan", if_version=version)))
        assert code == "conflict"
        assert f"is version {second}, written by matrix/two" in text
    code, text = _refusal(one.say(one.sending(CONTEXT, b"3", entry="other", if_version=9)))
    assert (code, "does not exist" in text) == ("conflict", True)
    assert one.send(CONTEXT, b"3", entry="plan") > second, "who does not ask is not told"


def test_of_two_writers_in_one_turn_the_second_is_refused(hub: FakeHub) -> None:
    one, two = hub.join("matrix/one"), hub.join("matrix/two")
    hub.say(
        (one, [one.sending(CONTEXT, b"1", entry="plan", if_version=0)]),
        (two, [two.sending(CONTEXT, b"2", entry="plan", if_version=0)]),
    )
    assert [record[0] for record in one.take()] == [OK]
    assert codes(two.take()) == ["conflict"]
    assert two.call("channel.read", channel=CONTEXT, entry="plan")["entries"][0]["body"] == b"1"


def test_an_entry_without_a_name_has_a_version_where_the_channel_overwrites(hub: FakeHub) -> None:
    one = hub.join("matrix/one")
    seq = one.send(CONTEXT, b"1", if_version=0)
    assert codes(one.say(one.sending(CONTEXT, b"2", if_version=0))) == ["conflict"]
    one.send(CONTEXT, b"2", if_version=seq)
    assert codes(one.say(one.sending(STATUS, b"2", if_version=0))) == ["bad_option"]


def test_versions_survive_a_crash_and_a_repeated_write_is_the_same(hub: FakeHub) -> None:
    one = hub.join("matrix/one")
    first = one.send(CONTEXT, b"1", entry="plan", if_version=0)
    second = one.send(CONTEXT, b"2", entry="plan", if_version=first)
    hub.restart()
    again = one.again()
    again.take()
    assert again.say([wire.SEND, 2, CONTEXT, wire.MESSAGE, b"2", {"entry": "plan", "if_version": first}]) == [
        [OK, 2, second, 1]
    ]
    code, text = _refusal(again.say(again.sending(CONTEXT, b"3", entry="plan", if_version=first)))
    assert (code, f"version {second}, written by matrix/one" in text) == ("conflict", True)
    assert again.send(CONTEXT, b"3", entry="plan", if_version=second)


@pytest.mark.parametrize(
    "options",
    [
        {"entry": ""},
        {"entry": 7},
        {"entry": "x" * (ENTRY_NAME_CHARS_MAX + 1)},
        {"entry": "x", "if_version": -1},
        {"entry": "x", "if_version": True},
        {"entry": "x", "if_version": "1"},
    ],
)
def test_an_option_of_an_entry_that_can_not_be_is_refused(hub: FakeHub, options: dict[str, Any]) -> None:
    sender = hub.join("operator/o")
    assert codes(sender.say(sender.sending(CONTEXT, **options))) == ["bad_option"]
    assert hub.messages() == 0


@pytest.mark.parametrize("to", ["matrix/m", "*"])
def test_only_entries_of_channels_have_names(hub: FakeHub, to: str) -> None:
    hub.enrol("matrix/m")
    sender = hub.join("operator/o")
    assert codes(sender.say(sender.sending(to, entry="x"))) == ["bad_option"]


def test_names_are_bounded_and_a_refused_one_changes_nothing(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = hub.join("operator/o")
    monkeypatch.setattr(channels, "ENTRY_NAMES_PER_CHANNEL_MAX", 2)
    monkeypatch.setattr(channels, "ENTRY_NAMES_MAX", 3)
    for name in ("a", "b", "a"):
        sender.send(STATUS, entry=name)
    assert codes(sender.say(sender.sending(STATUS, entry="c"))) == ["hub_full"]
    sender.send(CONTEXT, entry="a")
    assert codes(sender.say(sender.sending(CONTEXT, entry="b"))) == ["hub_full"]
    assert [sender.send(STATUS, entry=name) for name in ("a", "b")]
    hub.restart()
    again = hub.join("operator/o")
    assert codes(again.say(again.sending(CONTEXT, entry="b"))) == ["hub_full"]


def test_a_name_is_removed_and_who_follows_or_comes_late_is_told(hub: FakeHub) -> None:
    follower, sender = hub.join("matrix/f"), hub.join("operator/o")
    follower.call("subscribe", channel=CONTEXT)
    version = sender.send(CONTEXT, b"1", entry="plan")
    seq = sender.send(CONTEXT, b"", entry="plan", remove=True)
    assert [record[8] for record in follower.take()] == [{"entry": "plan"}, {"entry": "plan", "remove": True}]
    assert sender.call("channel.read", channel=CONTEXT, entry="plan") == "not_found"
    (entry,) = sender.call("channel.read", channel=CONTEXT)["entries"]
    assert (entry["seq"], entry["entry"], entry["removed"]) == (seq, "plan", True)
    assert codes(sender.say(sender.sending(CONTEXT, entry="plan", if_version=version))) == ["conflict"]
    sender.send(CONTEXT, b"2", entry="plan", if_version=0)
    hub.restart()
    again = hub.join("operator/o")
    listed = {each["channel"]: each for each in again.call("channel.list")["channels"]}
    assert listed[CONTEXT]["entries"] == 2
    assert again.call("channel.read", channel=CONTEXT, entry="plan")["entries"][0]["body"] == b"2"


def test_removing_makes_room_for_another_name(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "ENTRY_NAMES_MAX", 1)
    sender = hub.join("operator/o")
    sender.send(STATUS, entry="a")
    assert codes(sender.say(sender.sending(STATUS, entry="b"))) == ["hub_full"]
    sender.send(STATUS, entry="a", remove=True)
    sender.send(STATUS, entry="b")


def test_a_removal_that_can_not_be_is_refused_and_changes_nothing(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    version = sender.send(CONTEXT, entry="plan")
    for code, options in (
        ("not_found", {"entry": "none", "remove": True}),
        ("conflict", {"entry": "plan", "remove": True, "if_version": version + 1}),
        ("bad_option", {"remove": True}),
        ("bad_option", {"entry": "plan", "remove": False}),
    ):
        assert codes(sender.say(sender.sending(CONTEXT, **options))) == [code]
    sender.send(CONTEXT, entry="plan", remove=True, if_version=version)


# Reading without following.


def test_a_channel_is_read_in_parts_from_a_seq_or_from_its_end(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    sent = [sender.send(STATUS, b"body-%d" % i) for i in range(5)]
    sent.append(sender.send(STATUS, b"named", entry="n"))

    def read(**params: Any) -> list[int]:
        return [each["seq"] for each in sender.call("channel.read", channel=STATUS, **params)["entries"]]

    assert read() == sent
    assert read(after=sent[1], count=2) == sent[2:4]
    assert read(newest=2) == sent[-2:]
    assert read(newest=2, after=sent[4]) == sent[-1:]
    (entry,) = sender.call("channel.read", channel=STATUS, newest=1, cut_bytes=2)["entries"]
    assert entry == {
        "seq": sent[-1], "from": "operator/o", "sent_ms": hub.clock.now_ms, "entry": "n", "removed": False,
        "bytes": 5, "body": b"na",
    }  # fmt: skip
    assert sender.call("channel.read", channel=STATUS, entry="none") == "not_found"
    assert sender.call("channel.read", channel=STATUS, count=0) == "bad_option"


# Making channels.


def test_a_channel_is_made_once_and_outlives_the_hub(hub: FakeHub) -> None:
    maker = hub.join("matrix/m")
    made = maker.call("channel.create", channel="channel/builds")
    assert made == {"channel": "channel/builds", "mode": APPEND}
    assert maker.call("channel.create", channel="channel/builds") == made, "safe to repeat"
    assert maker.call("channel.create", channel="channel/builds", mode=OVERWRITE) == "conflict"
    assert maker.call("channel.create", channel="channel/state", mode=OVERWRITE)["mode"] == OVERWRITE
    seq = maker.send("channel/builds", entry="x")
    hub.restart()
    maker = hub.join("matrix/m")
    listed = {each["channel"]: each for each in maker.call("channel.list")["channels"]}
    assert list(listed) == sorted([*channels.BUILT_IN, "channel/builds", "channel/state"])
    assert listed["channel/builds"] == {
        "channel": "channel/builds", "mode": APPEND, "made_by": "matrix/m", "made_ms": hub.clock.now_ms,
        "trimmed_seq": 0, "first_seq": seq, "last_seq": seq, "entries": 1, "followers": 0, "cursors": {},
    }  # fmt: skip
    assert listed["channel/state"]["mode"] == OVERWRITE
    assert listed[CONTEXT]["made_by"] == ""


def test_the_list_of_channels_counts_what_a_reader_would_get_and_who_follows(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m"), hub.join("operator/o")
    reader.call("subscribe", channel=STATUS, cursor="mine")
    sent = [sender.send(STATUS, entry="a"), sender.send(STATUS), sender.send(STATUS, entry="a")]
    listed = {each["channel"]: each for each in reader.call("channel.list")["channels"]}
    status = listed[STATUS]
    assert (status["first_seq"], status["last_seq"], status["entries"]) == (sent[1], sent[2], 2)
    assert (status["followers"], status["cursors"]) == (1, {"mine": 0})
    others = {each["channel"]: each for each in sender.call("channel.list")["channels"]}
    assert others[STATUS]["cursors"] == {}, "a cursor is its peer's own"


@pytest.mark.parametrize("name", ["agent/x", "*", "channel/", "channel/UP", "builds", "queue/q"])
def test_only_channels_can_be_made(hub: FakeHub, name: str) -> None:
    assert hub.join("operator/o").call("channel.create", channel=name) == "bad_address"


def test_who_may_make_channels_how_many_and_of_which_mode(hub: FakeHub) -> None:
    assert hub.join("agent/a").call("channel.create", channel="channel/x") == "not_allowed"
    maker = hub.join("operator/o")
    assert maker.call("channel.create", channel="channel/x", mode="queue") == "bad_option"
    for i in range(CHANNELS_MAX - len(channels.BUILT_IN)):
        hub.clock.advance(0.001)
        assert "mode" in maker.call("channel.create", channel=f"channel/c{i}")
    assert maker.call("channel.create", channel="channel/x") == "hub_full"


# Cursors.


def test_a_cursor_goes_on_after_what_was_confirmed_also_after_a_crash(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m")
    before = sender.send(STATUS)
    assert reader.call("subscribe", channel=STATUS, cursor="c")["after"] == before, "a new one begins now"
    sent = [sender.send(STATUS) for _ in range(4)]
    reader.take()
    _see(reader, STATUS, sent[1], cursor="c")
    reader.vanish()
    sent.append(sender.send(STATUS))
    hub.restart()
    back = hub.join("matrix/m")
    assert back.call("subscribe", channel=STATUS, cursor="c", after=0)["after"] == sent[1], "its place counts"
    assert seqs(back.take()) == sent[2:]


def test_a_new_cursor_is_kept_before_anything_was_confirmed(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m")
    reader.call("subscribe", channel=STATUS, cursor="now")
    hub.clock.advance(0.001)
    assert reader.call("channel.read", channel=STATUS, cursor="start", after=0)["entries"] == []
    hub.restart()
    sent = [hub.join("operator/o").send(STATUS) for _ in range(2)]
    back = hub.join("matrix/m")
    assert [each["seq"] for each in back.call("channel.read", channel=STATUS, cursor="now")["entries"]] == sent
    back.call("subscribe", channel=STATUS, cursor="now")
    assert seqs(back.take()) == sent
    sender.take()


def test_a_cursor_never_goes_back_nor_beyond_what_there_is(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m"), hub.join("operator/o")
    reader.call("subscribe", channel=STATUS, cursor="c")
    sent = [sender.send(STATUS) for _ in range(3)]
    for seq in (sent[1], sent[0], 2**62):
        _see(reader, STATUS, seq, cursor="c")
        place = hub.column("SELECT seq FROM cursor")
        assert place == ([sent[2]] if seq > sent[2] else [sent[1]])


def test_a_cursor_belongs_to_its_peer_and_its_sessions_share_it(hub: FakeHub) -> None:
    sender, other = hub.join("operator/o"), hub.join("matrix/other")
    one, two = hub.join("matrix/m"), hub.join("matrix/m")
    one.call("subscribe", channel=STATUS, cursor="c")
    sent = [sender.send(STATUS) for _ in range(3)]
    _see(one, STATUS, sent[0], cursor="c")
    assert two.call("subscribe", channel=STATUS, cursor="c")["after"] == sent[0]
    assert other.call("subscribe", channel=STATUS, cursor="c")["after"] == sent[2]
    assert codes(_see(other, STATUS, 1, cursor="never")) == ["not_found"]


def test_a_cursor_is_forgotten_when_asked_and_then_begins_anew(hub: FakeHub) -> None:
    reader, sender = hub.join("matrix/m"), hub.join("operator/o")
    reader.call("subscribe", channel=STATUS, cursor="c")
    seq = sender.send(STATUS)
    assert reader.call("channel.forget", channel=STATUS, cursor="c") == {}
    assert reader.call("channel.forget", channel=STATUS, cursor="c") == "not_found"
    assert reader.call("subscribe", channel=STATUS, cursor="c")["after"] == seq
    told = reader.say(
        [CALL, 91, "channel.forget", {"channel": STATUS, "cursor": "c"}],
        [CALL, 92, "subscribe", {"channel": STATUS, "cursor": "c", "after": 0}],
        [CALL, 93, "channel.forget", {"channel": STATUS, "cursor": "c"}],
    )
    assert codes(told) == []
    assert hub.column("SELECT count(*) FROM cursor") == [0]


def test_cursors_are_bounded_for_a_peer_and_for_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "CURSORS_PER_PEER_MAX", 2)
    monkeypatch.setattr(cursors, "CURSORS_MAX", 3)
    one, two = hub.join("matrix/one"), hub.join("matrix/two")
    for name in ("a", "b", "a"):
        assert "after" in one.call("subscribe", channel=STATUS, cursor=name)
    assert one.call("subscribe", channel=STATUS, cursor="c") == "hub_full"
    two.call("subscribe", channel=STATUS, cursor="a")
    assert two.call("subscribe", channel=STATUS, cursor="b") == "hub_full"
    one.call("channel.forget", channel=STATUS, cursor="a")
    assert "after" in two.call("subscribe", channel=STATUS, cursor="b")
    for name in ("", "x" * (ENTRY_NAME_CHARS_MAX + 1)):
        assert one.call("subscribe", channel=STATUS, cursor=name) == "bad_option"
    assert limits.CURSORS_MAX > limits.CURSORS_PER_PEER_MAX


def test_who_comes_back_after_entries_were_removed_is_told(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m")
    sent = [sender.send(STATUS) for _ in range(5)]
    hub.decider.channels.all[STATUS].trimmed_seq = sent[2]
    assert reader.call("subscribe", channel=STATUS, after=sent[0])["missed"] == sent[2]
    assert reader.call("subscribe", channel=STATUS, after=sent[2])["missed"] == 0
    assert reader.call("channel.read", channel=STATUS, after=0)["missed"] == sent[2]


def test_a_follower_that_is_behind_is_told_once_what_was_removed_before_it_got_it(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m")
    reader.call("subscribe", channel=STATUS, credit=1)
    sent = [sender.send(STATUS) for _ in range(6)]
    assert seqs(reader.take()) == sent[:1]
    hub.store.database.execute_sql("DELETE FROM entry WHERE seq <= ?", (sent[3],))
    hub.decider.channels.all[STATUS].trimmed_seq = sent[3]
    told = _see(reader, STATUS, sent[0])
    assert told[0] == [EVENT, "channel", {"channel": STATUS, "missed": sent[3]}]
    assert seqs(told) == sent[4:5]
    assert [record[0] for record in _see(reader, STATUS, sent[4])] == [DELIVER]


def test_a_follower_that_is_behind_what_is_all_gone_is_pushed_again(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m")
    reader.call("subscribe", channel=STATUS, credit=1)
    sent = [sender.send(STATUS) for _ in range(3)]
    reader.take()
    hub.store.database.execute_sql("DELETE FROM entry")
    hub.decider.channels.all[STATUS].trimmed_seq = sent[2]
    assert [record[0] for record in _see(reader, STATUS, sent[0])] == [EVENT]
    assert seqs(reader.say()) == []
    seq = sender.send(STATUS)
    assert seqs(reader.take()) == [seq]
