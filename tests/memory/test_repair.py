"""A damaged file: it is said, what can be read is saved, and the damaged file is kept."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from orchestra.errors import MemoryDamaged
from orchestra.memory import repair
from orchestra.memory.notebook import validate
from orchestra.memory.store import Store

from .memories import NOW, add, ask, ids, learning

ROWS = 400
NOW_S = NOW / 1000


@pytest.fixture
def full(path: Path) -> Path:
    with Store(path) as store:
        add(store, *(learning(f"Number {number}", body=f"text{number} " * 100) for number in range(ROWS)))
        validate(store, [5], author="me", now_ms=NOW)
    assert not Path(f"{path}-wal").exists()
    return path


def _root_page(path: Path, name: str) -> int:
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    connection.close()
    return int(page)


def _scribble(path: Path, offset: int, count: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * count)


def _damage(path: Path, how: str) -> None:
    if how == "truncated":
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
    elif how == "header":
        _scribble(path, 0, 100)
    elif how == "a leaf":
        connection = sqlite3.connect(path)
        sql = "SELECT pageno FROM dbstat WHERE name = 'memory' AND pagetype = 'leaf' ORDER BY pageno LIMIT 1 OFFSET 9"
        try:
            (page,) = connection.execute(sql).fetchone()
        except sqlite3.OperationalError:  # this SQLite can't tell
            page = 40
        connection.close()
        _scribble(path, (page - 1) * 4096, 4096)
    else:
        _scribble(path, (_root_page(path, "memory") - 1) * 4096, 4096)


@pytest.mark.parametrize("how", ["truncated", "header", "a leaf", "the root"])
def test_damage_is_said_and_repaired_and_the_damaged_file_is_kept(full: Path, how: str) -> None:
    _damage(full, how)
    damaged = full.read_bytes()
    with Store(full) as store:
        findings = repair.check(store)
        assert not findings[0].is_well
        assert findings[0].advice == "orchestra memory doctor --fix"
        assert full.read_bytes() == damaged, "looking changed it"

        done = repair.salvage(store, now_s=NOW_S)
        assert done.kept.read_bytes() == damaged
        assert all(each.is_well for each in repair.check(store))
        assert store.rows("SELECT count(*) FROM memory") == [(done.saved,)]
        assert done.saved < ROWS
        if how == "a leaf":
            assert done.saved > ROWS * 0.9
            assert done.saved + done.lost == ROWS
            assert store.rows("SELECT memory, author FROM validation") == [(5, "me")]
            assert ids(ask(store, "text3"))[0] == 4
        add(store, learning("After the repair"))
        assert len(ids(ask(store, "repair"))) == 1
    assert sorted(each.name for each in full.parent.iterdir() if each.name != ".gitignore") == sorted(
        ["memory.db", "memory.lock", done.kept.name]
    )


@pytest.mark.parametrize("how", ["truncated", "header", "the root"])
def test_a_damaged_file_is_told_with_what_to_do_by_whatever_meets_it(full: Path, how: str) -> None:
    _damage(full, how)
    with Store(full) as store:
        with pytest.raises(MemoryDamaged, match="orchestra memory doctor --fix"):
            ask(store, "text399")
        with pytest.raises(MemoryDamaged, match="orchestra memory doctor --fix"):
            add(store, learning())


def test_a_process_that_has_the_damaged_file_open_goes_on_with_the_new_one(full: Path) -> None:
    with Store(full) as other:
        assert ids(ask(other, "text3"))[0] == 4
        with Store(full) as store:
            done = repair.salvage(store, now_s=NOW_S)
        assert (done.saved, done.lost) == (ROWS, 0)
        (entry,) = add(other, learning("After the repair"))
        assert entry.id == ROWS + 1
    with Store(full) as store:
        assert ids(ask(store, "repair")) == [ROWS + 1]


def test_what_is_only_in_the_journal_is_saved_too(full: Path) -> None:
    with Store(full) as other:
        add(other, learning("Only in the journal"))
        assert Path(f"{full}-wal").stat().st_size > 0
        with Store(full) as store:
            done = repair.salvage(store, now_s=NOW_S)
            assert done.saved == ROWS + 1
            assert ids(ask(store, "journal")) == [ROWS + 1]
        assert Path(f"{done.kept}-wal").exists()


def test_a_memory_that_is_not_there_is_well(store: Store) -> None:
    (finding,) = repair.check(store)
    assert finding.is_well
    assert not store.exists
