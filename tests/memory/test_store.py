"""The file of a memory: several processes, kills, a full disk, files that can't be written."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestra.errors import MemoryDamaged, StorageFault
from orchestra.memory import store as store_module
from orchestra.memory.notebook import get
from orchestra.memory.store import Store

from ..system.programs import BOUND_S, Place
from .memories import add, ask, ids, learning

WRITERS, ROWS_EACH, KILLS = 8, 250, 10
WRITTEN_S = 3 * BOUND_S  # 2,000 commits that each wait for the disk

WRITE = """
import resource, sys
from pathlib import Path
from orchestra.errors import StorageFault
from orchestra.memory import notebook
from orchestra.memory.entry import Entry
from orchestra.memory.store import Store

path, name, count, room = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if room:
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
store = Store(Path(path))
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    entry = Entry(title=f"{name} {number}", category="insight", confidence="low", body=f"word{number} " * 50)
    try:
        (stored,) = notebook.add(store, [entry], now_ms=number)
    except StorageFault as error:
        print("fault", error, flush=True)
        break
    print(stored.id, stored.title, flush=True)
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def _writer(path: Path, name: str, count: int, *, room: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", WRITE, str(path), name, str(count), str(room)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _acknowledged(output: str) -> dict[int, str]:
    lines = [line.split(" ", 1) for line in output.splitlines() if line[:1].isdigit() and " " in line]
    return {int(id): title for id, title in lines}


def _assert_sound(store: Store, acknowledged: dict[int, str]) -> None:
    stored = dict(store.rows("SELECT id, title FROM memory"))
    assert acknowledged.items() <= stored.items()
    assert store.rows("PRAGMA integrity_check") == [("ok",)]
    assert store.write(store_module.fulltext.fault) == ""


@pytest.mark.timeout(4 * WRITTEN_S)
def test_eight_processes_write_at_once_and_nothing_is_lost_or_refused(path: Path) -> None:
    writers = [_writer(path, f"w{number}", ROWS_EACH) for number in range(WRITERS)]
    acknowledged: dict[int, str] = {}
    try:
        for each in writers:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in writers:
            _go(each)
        for each in writers:
            output, errors = each.communicate(timeout=WRITTEN_S)
            assert (each.returncode, errors) == (0, "")
            assert "fault" not in output
            acknowledged |= _acknowledged(output)
    finally:
        for each in writers:
            each.kill()
            each.communicate()
    assert len(acknowledged) == WRITERS * ROWS_EACH
    with Store(path) as store:
        assert store.rows("SELECT count(*) FROM memory") == [(WRITERS * ROWS_EACH,)]
        _assert_sound(store, acknowledged)


def test_a_killed_writer_loses_nothing_that_it_acknowledged(path: Path) -> None:
    acknowledged: dict[int, str] = {}
    with Store(path) as other:  # so that no kill is followed by a clean start
        add(other, learning())
        for number in range(KILLS):
            writer = _writer(path, f"w{number}", 1_000_000)
            assert writer.stdout is not None
            _go(writer)
            lines = [writer.stdout.readline() for _ in range(8 + 7 * number)]
            writer.kill()
            rest, errors = writer.communicate(timeout=BOUND_S)
            assert errors == ""
            found = _acknowledged("".join(lines) + rest[: rest.rfind("\n") + 1])
            assert len(found) >= 7
            acknowledged |= found
            _assert_sound(other, acknowledged)
            add(other, learning(f"after {number}"))
    with Store(path) as store:
        _assert_sound(store, acknowledged)


def test_a_full_disk_is_told_and_keeps_what_was_stored(path: Path) -> None:
    writer = _writer(path, "w", 10_000, room=500_000)
    output, errors = writer.communicate("\n", timeout=BOUND_S)
    (fault,) = [line for line in output.splitlines() if line.startswith("fault")]
    assert errors == ""
    assert "space" in fault
    assert str(path) in fault
    acknowledged = _acknowledged(output)
    assert len(acknowledged) > 10
    with Store(path) as store:
        assert dict(store.rows("SELECT id, title FROM memory")) == acknowledged
        _assert_sound(store, acknowledged)
        add(store, learning("there is room again"))


def test_reading_makes_no_file(path: Path) -> None:
    with Store(path) as store:
        assert ids(ask(store, "anything")) == []
        assert not store.exists
        assert not path.parent.exists()
        add(store, learning())
        assert ids(ask(store, "quote")) == [1]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_another_process_writes_is_seen_at_once(path: Path) -> None:
    with Store(path) as one, Store(path) as other:
        assert ids(ask(one, "quote")) == []
        add(other, learning())
        assert ids(ask(one, "quote")) == [1]


def test_a_reader_in_the_middle_of_a_read_does_not_hold_up_a_save(path: Path) -> None:
    with Store(path) as store:
        add(store, learning(), learning("Another"))
        reader = sqlite3.connect(path)
        cursor = reader.execute("SELECT * FROM memory")
        assert cursor.fetchone() is not None
        add(store, learning("A third"))
        cursor.close()
        reader.close()


def test_a_lock_that_is_held_for_long_is_told_with_who_holds_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MEMORY_WRITE_WAIT_S", 0.05)
    with Store(path) as one, Store(path) as other:
        add(one, learning())
        with one.alone(), pytest.raises(StorageFault, match=rf"{os.getpid()}\) has been writing for more than"):
            add(other, learning())
        assert ids(ask(other, "quote")) == [1]
        add(other, learning())


def test_a_stranger_that_holds_the_database_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(path) as store:
        add(store, learning())
        store.database.pragma("busy_timeout", 20)
        stranger = sqlite3.connect(path, isolation_level=None)
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFault, match="another program holds it"):
            add(store, learning())
        assert ids(ask(store, "quote")) == [1]
        stranger.close()
        add(store, learning())


def test_a_file_that_is_no_database_is_told(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"these are my notes " * 100)
    with Store(path) as store:
        with pytest.raises(MemoryDamaged, match="orchestra memory doctor --fix"):
            ask(store, "notes")
        with pytest.raises(MemoryDamaged, match="orchestra memory doctor --fix"):
            add(store, learning())
    assert path.read_bytes().startswith(b"these are my notes")


@contextmanager
def _without_rights() -> Iterator[Path]:
    """Give a folder in which this process may not write; root gives up its rights for that long."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@contextmanager
def _as_nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_memory_that_can_not_be_written_is_still_read_and_a_save_says_why() -> None:
    with _without_rights() as folder:
        path = folder / "memory.db"
        with Store(path) as store:
            add(store, learning())
        for each in (path, path.with_suffix(".lock")):
            each.chmod(0o444)
        folder.chmod(0o555)
        with _as_nobody(), Store(path) as store:
            assert ids(ask(store, "quote")) == [1]
            with pytest.raises(StorageFault, match="permission denied"):
                add(store, learning())
            assert [entry.id for entry in get(store, [1])] == [1]


def test_a_folder_that_can_not_be_made_is_told() -> None:
    with _without_rights() as folder:
        folder.chmod(0o555)
        with _as_nobody(), Store(folder / ".orchestra" / "memory.db") as store:
            with pytest.raises(StorageFault, match="permission denied"):
                add(store, learning())
            assert ids(ask(store, "quote")) == []


def test_a_file_that_came_with_a_clone_can_not_call_what_reaches_out_of_the_database(path: Path) -> None:
    with Store(path) as store:
        add(store, learning())
        store.write(
            lambda database: database.all(
                "CREATE TRIGGER evil AFTER INSERT ON memory BEGIN SELECT load_extension('x'); END"
            )
        )
        with pytest.raises(StorageFault, match="unsafe use of load_extension"):
            add(store, learning())
