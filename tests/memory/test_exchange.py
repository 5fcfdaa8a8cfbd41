"""Out and in: the same memory comes back, and coming back twice changes nothing."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import StateFault
from orchestra.memory import source
from orchestra.memory.entry import Entry
from orchestra.memory.exchange import Report, lines_out, take_in
from orchestra.memory.notebook import forget, purge, validate
from orchestra.memory.store import Store, update

from .memories import NOW, add, entries, everything, learning, session, temporary


def _bring_in(store: Store, lines: list[str]) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "export.jsonl"
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        form, records, report = source.read(file, project="web")
    assert form == "export"
    return take_in(store, records, report)


@given(st.lists(entries(), min_size=1, max_size=6), st.data())
def test_what_goes_out_comes_in_the_same(made: list[Entry], data: st.DataObject) -> None:
    with temporary() as one, temporary() as other:
        stored = add(one, *made)
        for entry in stored:
            if entry.kind == "learning":
                validate(one, [entry.id], author=data.draw(st.text("ab", max_size=3)), note="so", now_ms=NOW)
        numbers = [entry.id for entry in stored]
        id = data.draw(st.sampled_from(numbers))
        one.write(lambda database: update(database, id, supersedes=data.draw(st.sampled_from([*numbers, 99]))))
        purge(one, data.draw(st.lists(st.sampled_from(numbers), max_size=2)))
        report = _bring_in(other, list(lines_out(one)))
        assert report.misfits == []
        assert everything(other) == everything(one)
        again = _bring_in(other, list(lines_out(one)))
        assert (again.added, again.updated) == (0, 0)
        assert everything(other) == everything(one)


def test_a_taken_number_is_changed_with_all_that_speaks_of_it(store: Store, tmp_path: Path) -> None:
    add(store, learning("Here before"), learning("This too"))
    with Store(tmp_path / "other.db") as other:
        worked, first = add(other, session("Worked"), learning("First"))
        add(other, learning("Second", supersedes=first.id, session=worked.id))
        validate(other, [2], author="me", now_ms=NOW)
        lines = list(lines_out(other))
    report = _bring_in(store, lines)
    assert (report.added, report.renumbered) == (3, {1: 4, 2: 5})
    rows = store.rows("SELECT id, title, supersedes, session FROM memory ORDER BY id")
    assert rows == [
        (1, "Here before", None, None),
        (2, "This too", None, None),
        (3, "Second", 5, 4),
        (4, "Worked", None, None),
        (5, "First", None, None),
    ]
    assert store.rows("SELECT memory FROM validation") == [(5,)]
    assert _bring_in(store, lines).added == 0


def test_what_is_newer_there_is_taken_and_what_is_newer_here_stays(store: Store, tmp_path: Path) -> None:
    add(store, learning())
    with Store(tmp_path / "other.db") as other:
        _bring_in(other, list(lines_out(store)))
        forget(other, [1], now_ms=NOW + 1)
        assert _bring_in(store, list(lines_out(other))).updated == 1
        assert store.rows("SELECT forgotten_ms FROM memory") == [(NOW + 1,)]
        forget(store, [1], is_undone=True, now_ms=NOW + 2)
        assert _bring_in(store, list(lines_out(other))).unchanged == 1
        assert store.rows("SELECT forgotten_ms FROM memory") == [(None,)]


def test_validations_of_both_sides_come_together(store: Store, tmp_path: Path) -> None:
    add(store, learning())
    with Store(tmp_path / "other.db") as other:
        _bring_in(other, list(lines_out(store)))
        validate(store, [1], author="here", now_ms=NOW)
        validate(other, [1], author="there", now_ms=NOW)
        _bring_in(store, list(lines_out(other)))
    assert sorted(store.rows("SELECT author FROM validation")) == [("here",), ("there",)]


def test_what_does_not_fit_is_named_by_its_line_and_the_rest_is_taken(store: Store) -> None:
    good = json.dumps({**learning("Good").facts(), "uid": "u1"})
    bad = [
        json.dumps({**learning().facts(), "uid": "u2", "severity": "awful"}),
        "no JSON",
        "[1]",
        json.dumps({**learning().facts(), "uid": "u3", "colour": "red"}),
        json.dumps({**learning().facts(), "uid": "u4", "validations": [{"author": 3}]}),
        json.dumps(learning().facts()),
        '{"uid": ' + "[" * 100_000,
    ]
    report = _bring_in(store, [good, *bad])
    assert report.added == 1
    assert [int(misfit.split()[1].rstrip(":")) for misfit in sorted(report.misfits)] == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("content", [b"my notes", b'{"name": "x"}\n', b"\x00\xff" * 50])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(StateFault, match="neither an export"):
        source.read(file, project="web")


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _, records, report = source.read(tmp_path / "file", project="web")
    assert (records, report.misfits) == ([], [])
