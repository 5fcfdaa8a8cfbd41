"""The chain of the audit log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestra.audit import FIRST, Entry, first_break


def _log(length: int) -> list[Entry]:
    entries: list[Entry] = []
    for n in range(1, length + 1):
        before = entries[-1].digest if entries else FIRST
        entries.append(Entry.make(before, n, 1000 + n, "operator/o", "accepted", f"agent/{n}", "fingerprint"))
    return entries


def test_a_log_that_nobody_touched_is_whole() -> None:
    assert first_break(_log(5)) is None
    assert first_break([]) is None


@pytest.mark.parametrize(
    "change",
    [
        {"at_ms": 1},
        {"actor": "operator/x"},
        {"action": "revoked"},
        {"subject": "agent/x"},
        {"detail": ""},
        {"n": 7},
        {"digest": b"x" * 32},
    ],
)
def test_a_change_breaks_it_there(change: dict[str, object]) -> None:
    entries = _log(5)
    entries[2] = replace(entries[2], **change)  # type: ignore[arg-type]
    assert first_break(entries) == entries[2].n


def test_an_entry_that_was_removed_inserted_or_moved_breaks_it() -> None:
    entries = _log(5)
    assert first_break(entries[:2] + entries[3:]) == 4
    assert first_break([*entries[:2], entries[1], *entries[2:]]) == 2
    assert first_break([entries[1], entries[0]]) == 2


def test_a_page_is_checked_against_what_came_before_it() -> None:
    entries = _log(5)
    assert first_break(entries[2:], before=entries[1].digest, last_n=2) is None
    assert first_break(entries[2:]) == 3
