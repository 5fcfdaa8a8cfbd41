"""A memory as JSON Lines, out and in: one memory a line, with its validations. What goes out comes in the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from orchestra.errors import OrchestraError

from .database import Database
from .entry import Entry, entry_of
from .models import Memory, Validation
from .store import Store, insert, row_of

HEADER: Final = {"format": "agent-orchestra memory", "version": 1}


@dataclass(frozen=True, slots=True)
class Record:
    """A memory to be taken in. `validations`: (author, at_ms, note). `session_uid`: if its session has no id yet."""

    entry: Entry
    validations: tuple[tuple[str, int, str], ...] = ()
    session_uid: str = ""


@dataclass(slots=True)
class Report:
    """What became of an import. `misfits` are sentences; `renumbered` maps ids of the file to ids here."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    renumbered: dict[int, int] = field(default_factory=dict)
    misfits: list[str] = field(default_factory=list)


def lines_out(store: Store) -> Iterator[str]:
    """Give the whole memory, a header line first."""
    yield json.dumps(HEADER)
    given: dict[int, list[dict[str, Any]]] = {}
    for memory, author, at_ms, note in store.rows("SELECT memory, author, at_ms, note FROM validation ORDER BY id"):
        given.setdefault(memory, []).append({"author": author, "at_ms": at_ms, "note": note})
    last = 0
    while page := store.entries("WHERE m.id > ? ORDER BY m.id LIMIT 1000", last):
        for entry in page:
            facts = entry.shown()
            if entry.id in given:
                facts["validations"] = given[entry.id]
            yield json.dumps(facts, ensure_ascii=False)
        last = page[-1].id


def record_of(facts: dict[str, Any]) -> Record:
    """Read one line of an export.

    Raises:
        OrchestraError, ValueError: if it is none; the sentence says why.
    """
    facts = dict(facts)
    given = facts.pop("validations", [])
    entry = entry_of(facts)
    if not entry.uid:
        raise ValueError("there is no uid")
    validations = []
    for each in given:
        author, at_ms, note = each["author"], each["at_ms"], each["note"]
        if not (isinstance(author, str) and type(at_ms) is int and isinstance(note, str)):
            raise ValueError("a validation is not of the form {author, at_ms, note}")
        validations.append((author, at_ms, note))
    return Record(entry, tuple(validations))


def records_in(lines: Iterable[tuple[int, dict[str, Any]]], report: Report) -> list[Record]:
    """Read the lines of an export; what does not fit goes into the report."""
    records = []
    for number, facts in lines:
        if "format" in facts and "uid" not in facts:
            continue
        try:
            records.append(record_of(facts))
        except (OrchestraError, ValueError, KeyError, TypeError) as exc:
            report.misfits.append(f"line {number}: {exc}")
    return records


def take_in(store: Store, records: list[Record], report: Report) -> Report:
    """Add what is not here yet (by uid), and change what is newer there; one transaction.

    A memory keeps its id where that is free.
    """
    counted = Report(misfits=report.misfits)

    def work(database: Database) -> Report:
        done = replace(counted, renumbered={})
        _Import(database, records, done).run()
        return done

    return store.write(work) if records else counted


class _Import:
    """One import inside its transaction."""

    def __init__(self, database: Database, records: list[Record], report: Report) -> None:
        self._database = database
        self._report = report
        self._records = sorted({record.entry.uid: record for record in records}.values(), key=lambda r: r.entry.id == 0)
        self._here: dict[str, tuple[int, int]] = {
            uid: (id, at) for uid, id, at in database.all("SELECT uid, id, updated_ms FROM memory")
        }
        self._was_empty = not self._here
        self._ids: dict[int, int] = {}

    def run(self) -> None:
        taken = {id for id, _ in self._here.values()}
        (last,) = self._database.all("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'memory'")[0]
        last = max(last, *(record.entry.id for record in self._records), *taken, 0)
        plan: list[tuple[Record, int, bool]] = []
        for record in self._records:
            entry = record.entry
            if entry.uid in self._here:
                id, is_new = self._here[entry.uid][0], False
            elif entry.id and entry.id not in taken:
                id, is_new = entry.id, True
            else:
                last += 1
                id, is_new = last, True
            taken.add(id)
            if entry.id:
                self._ids[entry.id] = id
                if id != entry.id:
                    self._report.renumbered[entry.id] = id
            self._here.setdefault(entry.uid, (id, -1))
            plan.append((record, id, is_new))
        for record, id, is_new in plan:
            self._take(record, id, is_new=is_new)

    def _take(self, record: Record, id: int, *, is_new: bool) -> None:
        entry = replace(
            record.entry,
            id=id,
            supersedes=self._reference(record.entry.supersedes),
            session=self._here[record.session_uid][0]
            if record.session_uid in self._here
            else self._reference(record.entry.session),
        )
        if self._is_drawn_already(entry):
            self._report.unchanged += 1
            return
        is_changed = False
        if is_new:
            insert(self._database, entry)
        elif entry.updated_ms > self._here[entry.uid][1]:
            Memory.update(row_of(entry)).where(Memory.id == id).execute(self._database)
            is_changed = True
        known = set(self._database.all("SELECT author, at_ms, note FROM validation WHERE memory = ?", id))
        for validation in record.validations if is_new else [each for each in record.validations if each not in known]:
            author, at_ms, note = validation
            Validation.insert(memory=id, author=author, at_ms=at_ms, note=note).execute(self._database)
            is_changed = True
        if is_new:
            self._report.added += 1
        elif is_changed:
            self._report.updated += 1
        else:
            self._report.unchanged += 1

    def _reference(self, id: int | None) -> int | None:
        """Return what an id of the file is here; one that the file does not hold means nothing among others."""
        if id is None:
            return None
        return self._ids.get(id, id if self._was_empty else None)

    def _is_drawn_already(self, entry: Entry) -> bool:
        """Whether the same learning was drawn from the same session here, under another uid."""
        sql = "SELECT 1 FROM memory WHERE kind = 'learning' AND session = ? AND title = ? AND uid <> ?"
        return (
            entry.kind == "learning"
            and entry.session is not None
            and bool(self._database.all(sql, entry.session, entry.title, entry.uid))
        )
