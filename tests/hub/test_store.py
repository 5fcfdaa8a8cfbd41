"""The store: one file, one writer, one transaction per turn."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra import wire
from orchestra.errors import Damaged, StateFault, StorageFault
from orchestra.hub.roster import Origin
from orchestra.hub.store import Store
from orchestra.hub.turn import Fetch, Writes
from orchestra.hub.unpack import unpack
from orchestra.task import TaskState
from orchestra.wire import pack

from .fakehub import FakeHub

NOW_MS = 1_700_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "hub.db", durability="fast")
    yield store
    store.close()


def _writes(*seqs: int, body: bytes = b"body") -> Writes:
    """Messages of one sender to itself."""
    writes = Writes(origins={1: Origin(1, 1, b"epoch--1", max(seqs), 0, max(seqs))})
    for seq in seqs:
        writes.messages.append((seq, 1, seq, 1, wire.MESSAGE, 2, NOW_MS, None, body))
        writes.deliveries.append((1, 2, seq))
    return writes


def _rows(store: Store) -> dict[str, int]:
    tables = [name for (name,) in store.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: next(store.rows(f'SELECT count(*) FROM "{name}"'))[0] for name in tables}


def test_a_second_hub_on_the_same_folder_is_refused_and_told_what_to_do(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StateFault) as caught:
        Store(tmp_path / "hub.db")
    assert str(os.getpid()) in str(caught.value)
    assert "use it, or choose another with --state" in str(caught.value)
    store.count_boot()  # and the first is unharmed


def test_a_second_process_on_the_same_folder_is_refused(tmp_path: Path, store: Store) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from orchestra.errors import StateFault; from orchestra.hub.store import Store\n"
        "try: Store(Path(sys.argv[1]))\n"
        "except StateFault as fault: print(fault)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "hub.db")],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert f"process {os.getpid()}" in done.stdout


def test_a_folder_is_free_again_once_its_hub_is_closed(tmp_path: Path) -> None:
    for boot in (1, 2, 3):
        store = Store(tmp_path / "hub.db")
        assert store.count_boot() == boot
        store.close()


def test_the_database_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path, store: Store) -> None:
    store.close()
    with sqlite3.connect(tmp_path / "hub.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for _ in range(2):  # the lock is free again
        with pytest.raises(StateFault, match=r"version 99.*upgrade agent-orchestra"):
            Store(tmp_path / "hub.db")
    connection = sqlite3.connect(tmp_path / "hub.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (99,)
    assert connection.execute("SELECT boot FROM hub").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_refused_with_advice(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hub.db").write_bytes(content)
    with pytest.raises(Damaged, match="move it away"):
        Store(tmp_path / "hub.db")
    assert (tmp_path / "hub.db").read_bytes() == content


def test_a_folder_that_is_not_there_is_a_state_fault(tmp_path: Path) -> None:
    with pytest.raises(StateFault, match="--state"):
        Store(tmp_path / "missing" / "hub.db")


def test_nobody_else_may_read_the_database(tmp_path: Path, store: Store) -> None:
    store.commit(_writes(1), now_ms=NOW_MS)
    for name in ("hub.db", "hub.db-wal"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("fast", 1)])
def test_durability_is_what_was_asked_for(tmp_path: Path, durability: str, synchronous: int) -> None:
    store = Store(tmp_path / "hub.db", durability=durability)  # type: ignore[arg-type]
    assert list(store.rows("PRAGMA synchronous")) == [(synchronous,)]
    assert list(store.rows("PRAGMA journal_mode")) == [("wal",)]
    store.close()


def test_a_commit_is_all_or_nothing_on_a_full_disk_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    hub = FakeHub(tmp_path)
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    sender.send("agent/a")
    store = hub.store
    before = _rows(store)
    (pages,) = next(store.rows("PRAGMA page_count"))
    list(store.rows(f"PRAGMA max_page_count = {pages}"))
    writes = _writes(*range(2, 50), body=bytes(10_000))
    writes.addresses.append((999, "queue/new"))
    with pytest.raises(StorageFault, match=r"the disk is full; free some space") as caught:
        store.commit(writes, now_ms=NOW_MS)
    assert caught.value.is_temporary
    assert _rows(store) == before
    assert store.load(now_ms=NOW_MS).last_seq == 1, "reading goes on"
    list(store.rows("PRAGMA max_page_count = 1000000"))
    store.commit(writes, now_ms=NOW_MS)
    assert _rows(store)["message"] == 49
    hub.close()


def test_a_commit_to_what_cannot_be_written_is_a_fault_with_advice(store: Store) -> None:
    before = _rows(store)
    list(store.rows("PRAGMA query_only = 1"))
    with pytest.raises(StorageFault, match=r"can't be written; check its owner"):
        store.commit(_writes(1), now_ms=NOW_MS)
    assert _rows(store) == before
    list(store.rows("PRAGMA query_only = 0"))
    store.commit(_writes(1), now_ms=NOW_MS)


def test_a_commit_that_breaks_a_rule_of_the_schema_leaves_nothing(store: Store) -> None:
    store.commit(_writes(1), now_ms=NOW_MS)
    before = _rows(store)
    with pytest.raises(StorageFault):
        store.commit(_writes(2, 3, 1), now_ms=NOW_MS)  # seq 1 a second time
    assert _rows(store) == before
    store.commit(_writes(2, 3), now_ms=NOW_MS)


def test_nobody_else_can_write_or_read_the_file_while_a_hub_has_it(tmp_path: Path, store: Store) -> None:
    other = sqlite3.connect(tmp_path / "hub.db", isolation_level=None, timeout=0)
    for sql in ("BEGIN IMMEDIATE", "SELECT * FROM hub"):
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute(sql)
    other.close()
    store.commit(_writes(1), now_ms=NOW_MS)


def test_another_program_that_holds_the_file_is_named(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "hub.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageFault, match="another program holds the file"):
        Store(tmp_path / "hub.db")
    other.execute("ROLLBACK")
    other.close()
    Store(tmp_path / "hub.db").close()


def test_an_empty_database_loads_as_an_empty_hub(store: Store) -> None:
    found = store.load(now_ms=NOW_MS)
    assert (found.last_seq, found.addresses, found.peers, found.tasks, found.keys) == (0, {}, {}, [], {})
    assert (found.origins, found.last_origin, found.unread) == ([], 0, {})


def test_what_is_loaded_is_what_was_committed(tmp_path: Path) -> None:
    hub = FakeHub(tmp_path)
    agent = hub.join("agent/a", credit=1, slots=1, queues=("queue/q",))
    sender = hub.join("matrix/m")
    for priority in ("low", "urgent"):
        sender.send("agent/a", priority=priority)
    working, waiting = sender.submit("queue/q", b"one", priority="high"), sender.submit("queue/q", b"two")
    done = sender.submit("agent/a")
    agent.allow(slots=2)
    before = hub.state
    tasks_before = {seq: task.row() for seq, task in hub.decider.tasks.board.tasks.items()}
    assert working in tasks_before
    assert tasks_before[working].state == "working"
    assert {waiting, done} <= tasks_before.keys()
    hub.restart()
    after = hub.state
    assert after.last_seq == before.last_seq
    assert (after.ids, after.texts, after.keys) == (before.ids, before.texts, before.keys)
    for text, peer in before.roster.peers.items():
        twin = after.roster.peers[text]
        assert (twin.id, twin.generation, twin.epoch) == (peer.id, peer.generation, peer.epoch)
        assert twin.mailbox.count == peer.mailbox.count
    assert {seq: task.row() for seq, task in hub.decider.tasks.board.tasks.items()} == tasks_before
    task = hub.task(working)
    assert (task.body, task.options, task.sender, task.to) == (b"one", {"priority": "high"}, "matrix/m", "queue/q")
    assert task.state is TaskState.WORKING
    hub.close()


def test_letters_are_fetched_in_order_after_a_key_and_no_more_than_asked(tmp_path: Path) -> None:
    hub = FakeHub(tmp_path)
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    for priority in ("low", "normal", "urgent", "normal"):
        sender.send("agent/a", b"x", priority=priority)
    recipient = hub.peer("agent/a").id
    found = hub.store.fetch(Fetch("mailbox", recipient, (-1, 0), 3))
    assert [(row[1], row[0]) for row in found] == [(0, 3), (2, 2), (2, 4)]
    assert found[0][2:] == (0, "operator/o", "agent/a", hub.clock.now_ms, {"priority": "urgent"}, b"x")
    found = hub.store.fetch(Fetch("mailbox", recipient, (2, 2), 9))
    assert [(row[1], row[0]) for row in found] == [(2, 4), (3, 1)]
    hub.close()


def test_origins_that_nobody_used_for_a_week_are_not_loaded_but_never_numbered_again(tmp_path: Path) -> None:
    hub = FakeHub(tmp_path)
    hub.enrol("agent/a")
    hub.join("operator/o").send("agent/a")
    assert len(hub.store.load(now_ms=hub.clock.now_ms).origins) == 1
    found = hub.store.load(now_ms=hub.clock.now_ms + 8 * 86_400_000)
    assert (found.origins, found.last_origin) == ([], 1)
    hub.close()


def test_a_hub_that_was_killed_knows_who_sent_what_also_when_that_was_not_saved(tmp_path: Path) -> None:
    hub = FakeHub(tmp_path)
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    for sent in range(20):
        sender.send("agent/a")
        if sent in (3, 9):
            hub.clock.advance(2)
            sender.say([wire.PING, 0])
            hub.tick()
    hub.restart()
    (origin,) = hub.store.load(now_ms=hub.clock.now_ms).origins
    assert (origin.last_n, origin.last_seq) == (20, 20)
    again = sender.again()
    again.take()
    for n in (20, 10, 4):
        assert again.say([wire.SEND, n, "agent/a", wire.MESSAGE, b"hi", None]) == [[wire.OK, n, n, 1]]
    hub.close()


def test_who_sent_before_two_kills_is_known_although_only_others_sent_between_them(tmp_path: Path) -> None:
    hub = FakeHub(tmp_path)
    hub.enrol("agent/a")
    slow, other = hub.join("matrix/slow"), hub.join("matrix/other")
    slow.send("agent/a")  # saved at once
    slow.send("agent/a")  # only in the log
    hub.restart()
    hub.clock.advance(2.0)  # so that the next send saves
    other.again().send("agent/a")
    hub.restart()
    known = {origin.epoch: origin.last_n for origin in hub.store.load(now_ms=hub.clock.now_ms).origins}
    assert known[slow.epoch] == 2
    hub.close()


def test_who_sent_after_a_long_silence_is_known_to_a_hub_that_was_killed_just_then(tmp_path: Path) -> None:
    hub = FakeHub(tmp_path)
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    sender.send("agent/a")
    hub.tick(1)
    hub.clock.advance(8 * 86_400)
    hub.join("matrix/m").send("agent/a")  # so much was saved just now
    sender = sender.again()
    sender.take()
    sender.send("agent/a")
    hub.restart()
    assert [origin.last_n for origin in hub.store.load(now_ms=hub.clock.now_ms).origins] == [2, 1]
    hub.close()


def test_sizes_count_the_file_and_its_wal(store: Store) -> None:
    before = store.sizes()
    store.commit(_writes(*range(1, 100), body=bytes(1000)), now_ms=NOW_MS)
    assert store.sizes()["wal_bytes"] > before["wal_bytes"] + 99_000
    assert store.sizes()["database_bytes"] > 0


def test_closing_folds_the_wal_in(tmp_path: Path, store: Store) -> None:
    store.commit(_writes(1), now_ms=NOW_MS)
    store.close()
    assert not (tmp_path / "hub.db-wal").exists()


def test_what_the_hub_packed_it_unpacks() -> None:
    assert unpack(None) is None
    assert unpack(pack({"a": [1, b"x", "ä", None, 1.5, True]})) == {"a": [1, b"x", "ä", None, 1.5, True]}
