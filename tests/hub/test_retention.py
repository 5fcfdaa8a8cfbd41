"""Retention: what is over goes in its time, and what is not never does."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from orchestra import wire
from orchestra.limits import (
    ORIGIN_KEPT_DAYS,
    RETENTION_FLOOR_S,
    RETENTION_REST_S,
    RETENTION_STEP_BYTES,
    RETENTION_STEP_PAGES,
    RETENTION_STEP_ROWS,
)

from .fakehub import FakeHub, FakePeer, codes, seqs

DAY_S = 86_400


def _later(hub: FakeHub, *peers: FakePeer, days: float) -> None:
    """Let days pass, over which `peers` stay connected."""
    hub.clock.advance(days * DAY_S)
    for peer in peers:
        hub.say((peer, [[wire.PING, 0]]))
        peer.take()
    hub.tick()


def _stored(hub: FakeHub) -> list[int]:
    return hub.column("SELECT seq FROM message ORDER BY seq")


# Messages.


def test_a_message_that_was_acknowledged_goes_after_its_days_and_its_receipts_with_it(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m", credit=9)
    sender.send("matrix/m")
    (first,) = reader.take()
    reader.say([wire.NAK, first[1], first[3], "busy", "", 0])
    hub.tick()
    reader.ack(*reader.take())
    _later(hub, sender, reader, days=20)
    young = sender.send("matrix/m")
    reader.ack(*reader.take())
    assert hub.retain() == Counter()
    assert hub.column("SELECT why FROM failed_delivery") == ["did not take it: busy"]
    _later(hub, sender, reader, days=11)
    assert hub.retain() == Counter(messages=1, receipts=1)
    assert _stored(hub) == [young]
    assert hub.column("SELECT first_seq FROM receipt") == [young]
    assert hub.column("SELECT why FROM failed_delivery") == []


def test_a_message_that_is_owed_or_unread_never_goes(hub: FakeHub) -> None:
    hub.enrol("matrix/away")
    sender, reader = hub.join("operator/o"), hub.join("matrix/m", credit=9)
    waiting, unread = sender.send("matrix/away"), sender.send("matrix/m")
    (delivery,) = reader.take()
    reader.say([wire.ACK, 1, [delivery[3], delivery[1]]])
    _later(hub, sender, reader, days=400)
    assert hub.retain()["messages"] == 0
    assert _stored(hub) == [waiting, unread]
    assert seqs(hub.join("matrix/away", credit=9).take()) == [waiting]


def test_a_message_that_was_read_late_stays_for_its_days_from_then(hub: FakeHub) -> None:
    hub.enrol("matrix/m")
    sender = hub.join("operator/o")
    sender.send("matrix/m")
    _later(hub, sender, days=40)
    reader = hub.join("matrix/m", credit=9)
    reader.ack(*reader.take())
    assert hub.owed("matrix/m") == []
    assert hub.retain()["messages"] == 0
    _later(hub, sender, reader, days=31)
    assert hub.retain()["messages"] == 1


def test_a_broadcast_goes_when_the_last_of_its_recipients_has_it(hub: FakeHub) -> None:
    sender, one = hub.join("operator/o"), hub.join("matrix/one", credit=9)
    hub.enrol("matrix/two")
    sender.send("*")
    one.ack(*one.take())
    _later(hub, sender, one, days=40)
    assert hub.retain()["messages"] == 0
    two = hub.join("matrix/two", credit=9)
    two.ack(*two.take())
    assert hub.retain()["messages"] == 1


def test_a_time_in_the_future_holds_up_nothing_that_follows_it(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m", credit=99)
    hub.clock.jump(3650 * DAY_S)
    future = sender.send("matrix/m")
    hub.clock.jump(-3650 * DAY_S)
    sender.send("matrix/m")
    reader.ack(*reader.take())
    assert hub.retain()["messages"] == 0
    _later(hub, sender, reader, days=31)
    assert hub.retain()["messages"] == 1
    assert _stored(hub) == [future]


# Tasks.


def test_a_finished_task_goes_with_all_of_it_and_an_unfinished_one_never(hub: FakeHub) -> None:
    sender, agent = hub.join("operator/o"), hub.join("agent/a", slots=2)
    done = sender.submit("agent/a")
    agent.result(*agent.took(wire.DELIVER))
    canceled = sender.submit("queue/q")
    sender.call("task.cancel", seq=canceled)
    working, waiting = sender.submit("agent/a"), sender.submit("queue/q")
    _later(hub, sender, agent, days=29)
    assert hub.retain()["tasks"] == 0
    _later(hub, sender, agent, days=2)
    assert hub.retain() == Counter(tasks=2)
    assert _stored(hub) == [working, waiting]
    for table, column in (("task", "seq"), ("attempt", "task"), ("checkpoint", "task")):
        assert not set(hub.column(f"SELECT {column} FROM {table}")) & {done, canceled}, table
    assert sender.call("task.get", seq=done) == "not_found"
    hub.restart()
    assert hub.task(waiting).body == b"job"


def test_a_task_that_ended_late_stays_for_its_days_from_then(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    seq = sender.submit("queue/q")
    _later(hub, sender, days=40)
    sender.call("task.cancel", seq=seq)
    assert hub.retain()["tasks"] == 0
    _later(hub, sender, days=31)
    assert hub.retain()["tasks"] == 1


# Dead letters.


def _dead_letter(hub: FakeHub) -> tuple[FakePeer, int]:
    """Return the sender of a message that is dead, and its seq."""
    hub.enrol("matrix/m")
    sender = hub.join("operator/o")
    seq = sender.send("matrix/m")
    with hub.deciding() as turn:
        hub.state.writes.dead.append((seq, hub.peer("matrix/m").id, "too many attempts", turn.now_ms))
        hub.state.writes.settled.append((hub.peer("matrix/m").id, 2, seq))
    return sender, seq


def test_dead_letters_have_a_time_of_their_own_and_keep_their_messages(hub: FakeHub) -> None:
    sender, _ = _dead_letter(hub)
    _later(hub, sender, days=89)
    assert hub.retain() == Counter()
    _later(hub, sender, days=2)
    assert hub.retain() == Counter(dead=1)
    assert hub.retain() == Counter(messages=1)


def test_a_dead_letter_that_was_dropped_stays_as_long_as_any_message(hub: FakeHub) -> None:
    sender, seq = _dead_letter(hub)
    assert sender.call("dead.drop", seqs=[seq]) not in ("not_found", "unknown_method", "bad_option")
    _later(hub, sender, days=31)
    assert hub.retain() == Counter(dead=1)


# Channels.


def test_a_channel_keeps_its_newest_entries_and_says_up_to_where_the_others_are_gone(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    entries = [sender.send("channel/status", b"%d" % i) for i in range(10)]
    other = sender.send("channel/issues")
    hub.tick(2)
    assert hub.retain(channel_entries=4) == Counter(entries=6)
    assert hub.column("SELECT seq FROM entry ORDER BY seq") == [*entries[6:], other]
    assert len(_stored(hub)) == 11, "its sender may still repeat a send"
    reader = hub.join("matrix/m")
    assert reader.call("subscribe", channel="channel/status", after=0)["missed"] == entries[5]
    assert seqs(reader.take()) == entries[6:]
    hub.restart()
    channel = hub.decider.channels.all["channel/status"]
    assert (channel.count, channel.trimmed_seq) == (4, entries[5])
    _later(hub, days=1)
    assert hub.retain(channel_entries=2) == Counter(entries=2, messages=2)


def test_entries_go_after_their_days_but_the_newest_of_each_name(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    sender.send("channel/context", b"old brief")
    brief = sender.send("channel/context", b"brief")
    named = sender.send("channel/status", b"named", entry="build")
    sender.send("channel/status", b"plain")
    _later(hub, sender, days=400)
    assert hub.retain(channel_entries=1) == Counter(messages=2, entries=1)
    assert _stored(hub) == [brief, named]
    hub.restart()
    reader = hub.join("matrix/m")
    reader.call("subscribe", channel="channel/context")
    assert [record[-1] for record in reader.took(wire.DELIVER)] == [b"brief"]


def test_a_channel_full_of_names_is_left_as_it_is(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    for i in range(5):
        sender.send("channel/status", b"x", entry=f"n{i}")
    hub.tick(2)
    assert hub.retain(channel_entries=2) == Counter()


# Size.


def _fill(hub: FakeHub, count: int = 30) -> tuple[FakePeer, FakePeer]:
    """Send and acknowledge so many messages of 100 kB."""
    sender, reader = hub.join("operator/o"), hub.join("matrix/m", credit=99)
    for _ in range(count):
        sender.send("matrix/m", b"x" * 100_000)
    reader.ack(*reader.take())
    return sender, reader


def test_above_its_size_the_oldest_go_first_and_only_until_it_fits(hub: FakeHub) -> None:
    _later(hub, *_fill(hub), days=1)
    assert hub.store.used_bytes() > 3_000_000
    went = hub.retain(mib=2)["messages"]
    assert 0 < went < 30
    assert 2 * 2**20 - 2 * RETENTION_STEP_BYTES < hub.store.used_bytes() <= 2 * 2**20
    assert _stored(hub) == list(range(went + 1, 31))


def test_what_is_young_stays_however_large_the_database(hub: FakeHub) -> None:
    sender, _ = _fill(hub)
    hub.clock.advance(RETENTION_FLOOR_S - 1)
    hub.say((sender, [[wire.PING, 0]]))
    assert hub.retain(mib=1) == Counter()


def test_pages_that_are_free_are_given_back_a_few_at_a_time(hub: FakeHub) -> None:
    def pages() -> int:
        return int(hub.column("SELECT page_count FROM pragma_page_count")[0])

    _later(hub, *_fill(hub), days=31)
    assert not hub.store.shrink(), "none is free yet"
    assert hub.retain()["messages"] == 30
    before = pages()
    assert hub.store.shrink()
    assert 0 < before - pages() <= RETENTION_STEP_PAGES
    while hub.store.shrink():
        assert pages() > 0
    assert pages() < before / 3


# Numbers, and the lives of clients.


def test_no_number_is_given_out_twice_also_when_the_newest_rows_are_gone(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m", credit=9)
    seq = sender.send("matrix/m")
    reader.ack(*reader.take())
    _later(hub, sender, reader, days=31)
    assert hub.retain()["messages"] == 1
    assert _stored(hub) == []
    hub.restart()
    assert hub.join("operator/o").send("matrix/m") == seq + 1


def test_what_is_not_accounted_for_yet_stays(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    saved, unsaved = (sender.send("channel/status") for _ in range(2))
    assert hub.column("SELECT saved_seq FROM hub") == [saved]
    hub.clock.advance(31 * DAY_S)
    assert hub.retain()["messages"] == 1
    assert _stored(hub) == [unsaved]


def test_the_lives_of_clients_go_once_nothing_of_them_is_left(hub: FakeHub) -> None:
    reader = hub.join("matrix/m", credit=9)
    for _ in range(5):
        sender = hub.join("operator/o")
        sender.send("matrix/m")
        sender.vanish()
    reader.ack(*reader.take())
    _later(hub, reader, days=ORIGIN_KEPT_DAYS + 1)
    assert hub.retain() == Counter(), "their messages are there"
    _later(hub, reader, days=30)
    assert hub.retain() == Counter(messages=5, origins=5, receipts=1)
    assert hub.rows("SELECT * FROM origin") == []
    back = FakePeer(hub, "operator/o", epoch=sender.epoch)
    back.hello()
    back.n = sender.n
    seq = back.send("matrix/m")
    hub.restart()
    assert hub.owed("matrix/m") == [seq]
    assert hub.peer("matrix/m").mailbox.count == 1


def test_a_client_that_is_silent_for_long_and_then_sends_is_still_known(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m", credit=9)
    sender.send("matrix/m")
    reader.ack(*reader.take())
    for _ in range(3):
        hub.clock.advance(20 * DAY_S)
        hub.say((sender, [[wire.PING, 0]]), (reader, [[wire.PING, 0]]))
        hub.retain()
    assert sender.session is not None
    reader.send("operator/o")  # which lets the hub save, so that it does not save again soon
    seq = sender.send("matrix/m")
    assert hub.column("SELECT m.seq FROM message m JOIN origin o ON o.id = m.origin") == [seq - 1, seq]
    hub.restart()
    assert hub.owed("matrix/m") == [seq]


def test_a_send_that_is_repeated_while_it_is_kept_gets_its_answer(hub: FakeHub) -> None:
    sender, reader = hub.join("operator/o"), hub.join("matrix/m", credit=9)
    first, second = sender.send("matrix/m"), sender.send("matrix/m")
    reader.ack(*reader.take())
    _later(hub, sender, reader, days=6)
    hub.retain()
    again = sender.again()
    told = again.say(*([wire.SEND, n, "matrix/m", wire.MESSAGE, b"hi", None] for n in (1, 2)))
    assert [record[:3] for record in told if record[0] == wire.OK] == [[wire.OK, 1, first], [wire.OK, 2, second]]
    assert codes(told) == []


# Slices.


def test_a_slice_holds_no_more_rows_than_its_bound(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    count = 3 * RETENTION_STEP_ROWS
    hub.say((sender, [sender.sending("channel/status", b"x") for _ in range(count)]))
    _later(hub, sender, days=31)
    sizes = [len(each.messages) for each in hub.slices(hub.retention())]
    assert sum(sizes) == count
    assert max(sizes) <= RETENTION_STEP_ROWS


def test_a_slice_holds_no_more_bytes_than_its_bound_and_one_message(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    for _ in range(6):
        sender.send("channel/status", b"x" * 600_000)
    _later(hub, sender, days=31)
    assert [len(each.messages) for each in hub.slices(hub.retention())][:4] == [2, 2, 2, 0]


def test_a_log_of_which_all_is_owed_is_walked_in_slices_too(hub: FakeHub) -> None:
    hub.enrol("matrix/m")
    sender = hub.join("operator/o")
    hub.say((sender, [sender.sending("matrix/m", b"x") for _ in range(2 * RETENTION_STEP_ROWS)]))
    _later(hub, sender, days=31)
    of_the_log = sum(1 for _ in hub.slices(hub.retention())) - 4  # and one of each other sweep
    assert of_the_log >= 2


def test_after_a_run_it_rests_and_then_runs_again(hub: FakeHub) -> None:
    retention = hub.retention()

    def steps() -> int:
        count = 0
        while retention.step(hub.decider.in_use(), now_ms=hub.clock.now_ms, at_ms=hub.clock.at_ms) is not None:
            count += 1
        return count

    assert steps() == 5
    assert steps() == 0
    hub.clock.advance(RETENTION_REST_S)
    assert steps() == 5


def test_after_a_long_run_it_rests_for_longer(hub: FakeHub) -> None:
    retention = hub.retention()
    while retention.step(hub.decider.in_use(), now_ms=hub.clock.now_ms, at_ms=hub.clock.at_ms) is not None:
        hub.clock.advance(RETENTION_REST_S)
    hub.clock.advance(4 * RETENTION_REST_S)
    assert retention.step(hub.decider.in_use(), now_ms=hub.clock.now_ms, at_ms=hub.clock.at_ms) is None


def test_what_a_run_removed_is_counted_once_it_is_over(hub: FakeHub) -> None:
    sender = hub.join("operator/o")
    sender.send("channel/status")
    _later(hub, sender, days=31)
    retention = hub.retention()
    ended = [retention.ended for _ in hub.slices(retention)]
    assert ended[-1] == Counter(messages=1, entries=1)
    assert not any(ended[:-1])
    assert hub.rows("SELECT removed FROM hub") == [(1,)]


# Any history.


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happened_before_nothing_that_is_needed_goes(hub: FakeHub, seed: int) -> None:
    chance = random.Random(seed)
    names = ("matrix/a", "matrix/b", "operator/o", "agent/w")
    hub.enrol(*names)
    peers = {name: hub.join(name, credit=99, slots=2 * name.startswith("agent")) for name in names}

    def speak(name: str) -> None:
        to = chance.choice(["matrix/a", "matrix/b", "agent/w", "channel/status", "channel/context", "*"])
        if name == "agent/w" and to == "*":
            return
        peers[name].send(to, b"x" * chance.choice([1, 1000]), priority=chance.choice(["low", "normal", "urgent"]))

    def work(name: str) -> None:
        held = peers[name].took(wire.DELIVER)
        chance.shuffle(held)
        for record in held[: chance.randrange(len(held) + 1)]:
            if record[6] == wire.TASK:
                peers[name].result(record)
            elif record[1]:
                peers[name].ack(record)

    for _ in range(120):
        name = chance.choice(names)
        match chance.randrange(8):
            case 0 | 1 | 2:
                speak(name)
            case 3 | 4:
                work(name)
            case 5:
                peers["operator/o"].submit(chance.choice(["agent/w", "queue/none"]))
            case 6:
                hub.clock.advance(chance.choice([1, DAY_S, 10 * DAY_S]))
                hub.tick()
                peers = {each: hub.join(each, credit=99, slots=2 * each.startswith("agent")) for each in names}
            case 7:
                hub.retain(channel_entries=chance.choice([3, 100]), mib=chance.choice([1, 4096]))
        if chance.random() < 0.02:
            hub.restart()
            peers = {each: hub.join(each, credit=99, slots=2 * each.startswith("agent")) for each in names}
        _assert_whole(hub)
    counts = {name: hub.peer(name).mailbox.count for name in names}
    last_seq, open_tasks = hub.state.last_seq, set(hub.decider.tasks.board.tasks)
    hub.tick(2)
    hub.restart()
    assert {name: hub.peer(name).mailbox.count for name in names} == counts
    assert (hub.state.last_seq, set(hub.decider.tasks.board.tasks)) == (last_seq, open_tasks)


def _assert_whole(hub: FakeHub) -> None:
    """Check that no row refers to one that is gone, and that what is counted is there."""
    for table in ("delivery", "entry", "task", "dead"):
        assert hub.rows(f"SELECT seq FROM {table} WHERE seq NOT IN (SELECT seq FROM message)") == [], table
    assert hub.rows("SELECT seq FROM message WHERE origin NOT IN (SELECT id FROM origin)") == []
    tasks = hub.column("SELECT seq FROM task WHERE state NOT IN ('completed', 'failed', 'canceled', 'dead')")
    assert set(hub.decider.tasks.board.tasks) <= set(tasks)
    for channel in hub.decider.channels.all.values():
        [count] = hub.column("SELECT count(*) FROM entry WHERE channel = ?", channel.id)
        assert channel.count == count, channel.text
        for newest in channel.newest.values():
            assert hub.column("SELECT seq FROM entry WHERE channel = ? AND seq = ?", channel.id, newest.seq)
    assert hub.rows("SELECT (SELECT count(*) FROM message) + removed FROM hub") == [(hub.state.last_seq,)]
