"""The outbox: what waits in it, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestra.errors import MailboxFull
from orchestra.matrix import letters, unsent
from orchestra.memory import notebook
from orchestra.memory.store import Store

from ..memory.memories import NOW, issue
from .test_letters import HUB, ME, send


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / ".orchestra" / "memory.db") as store:
        yield store


def _titles(store: Store) -> list[str]:
    return [item.entry.title for item in unsent.waiting(store)]


def test_what_waits_is_given_in_the_order_it_was_written(store: Store) -> None:
    items = [send(store, text) for text in ("one", "two", "three")]
    assert _titles(store) == ["one", "two", "three"]
    assert [item.entry.title for item in unsent.waiting(store, after=items[0].number)] == ["two", "three"]
    unsent.was_sent(store, items[1], hub=HUB, seq=9, sender="matrix/renamed")
    assert _titles(store) == ["one", "three"]
    assert letters.seq_of(store, items[1].entry.id, hub=HUB) == 9
    assert notebook.get(store, [items[1].entry.id])[0].sender == "matrix/renamed"


def test_a_refusal_is_kept_with_what_was_refused_and_ends_with_the_next_try(store: Store) -> None:
    item = send(store, "one")
    unsent.was_refused(store, item, "no such peer")
    (found,) = unsent.waiting(store)
    assert found.error == "no such peer"
    unsent.was_sent(store, found, hub=HUB, seq=1, sender=ME)
    assert unsent.count(store) == 0


def test_an_issue_that_changed_while_it_was_told_is_told_again(store: Store) -> None:
    unsent.add_issue(store, issue(), now_ms=NOW)
    (before,) = unsent.waiting(store)
    unsent.close_issue(store, 1, fix="done", now_ms=NOW)
    unsent.was_sent(store, before, hub=HUB, seq=1, sender=ME)
    (after,) = unsent.waiting(store)
    assert after.entry.fix == "done"
    unsent.was_sent(store, after, hub=HUB, seq=2, sender=ME)
    assert unsent.count(store) == 0


def test_a_private_issue_is_told_to_nobody(store: Store) -> None:
    unsent.add_issue(store, issue(visibility="private"), now_ms=NOW)
    unsent.close_issue(store, 1, now_ms=NOW)
    assert unsent.count(store) == 0


@pytest.mark.parametrize("remove", [notebook.purge, lambda store, ids: notebook.forget(store, ids, now_ms=NOW)])
def test_what_is_forgotten_or_purged_is_not_sent(store: Store, remove: Any) -> None:
    send(store, "one")
    remove(store, [1])
    assert unsent.count(store) == 0


def test_a_hub_that_never_comes_does_not_fill_the_disk_and_stops_no_issue(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsent, "OUTBOX_MESSAGES_MAX", 2)
    send(store, "one")
    send(store, "two")
    with pytest.raises(MailboxFull, match="2 messages wait"):
        send(store, "three")
    unsent.add_issue(store, issue(), now_ms=NOW)
    assert _titles(store) == ["one", "two", "It hangs"]
