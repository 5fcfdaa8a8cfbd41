"""What a memory knows of the hub's contexts: copies with their history, and what waits to be published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestra.errors import BadOption
from orchestra.limits import ENTRY_NAME_CHARS_MAX
from orchestra.matrix import contexts, unsent
from orchestra.memory.store import Store

from ..memory.memories import NOW
from .test_letters import HUB, ME

COMMON = {"author": "me", "project": "web", "hub": HUB, "now_ms": NOW}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / ".orchestra" / "memory.db") as store:
        yield store


def _keep(store: Store, text: str, version: int, name: str = "mission") -> None:
    contexts.keep(store, name, text, version=version, **COMMON)  # type: ignore[arg-type]


def _set(store: Store, text: str, uid: str, name: str = "mission") -> None:
    contexts.set_later(store, name, text, uid=uid, **COMMON)  # type: ignore[arg-type]


def _known(store: Store) -> tuple[str, int] | None:
    found = contexts.newest(store, "mission", hub=HUB)
    return (found.entry.body, found.version) if found else None


def test_a_copy_is_kept_once_and_replaces_the_one_before(store: Store) -> None:
    assert _known(store) is None
    for text, version in (("one", 3), ("one", 3), ("two", 7)):
        _keep(store, text, version)
    _keep(store, "of another name", 9, name="rules")
    assert _known(store) == ("two", 7)
    assert store.rows("SELECT count(*) FROM memory") == [(3,)]


def test_what_waits_is_based_on_what_was_known_and_replaces_what_waited(store: Store) -> None:
    _keep(store, "theirs", 7)
    _set(store, "ours", "a")
    _set(store, "ours, better", "b")
    (item,) = unsent.waiting(store)
    assert (item.entry.body, item.entry.uid, item.base) == ("ours, better", "b", 7)
    assert _known(store) == ("ours, better", 0)
    _keep(store, "theirs again", 8)
    assert _known(store) == ("ours, better", 0), "what waits stays the newest here"
    unsent.was_sent(store, item, hub=HUB, seq=9, sender=ME)
    assert _known(store) == ("ours, better", 9)


def test_what_was_never_known_is_only_set_where_there_is_nothing(store: Store) -> None:
    _set(store, "first", "a")
    (item,) = unsent.waiting(store)
    assert item.base == 0
    unsent.was_refused(store, item, "conflict")
    found = contexts.newest(store, "mission", hub=HUB)
    assert found
    assert (found.version, found.error) == (0, "conflict")


@pytest.mark.parametrize("name", ["", "a\nb", " a", "a  b", "x" * (ENTRY_NAME_CHARS_MAX + 1)])
def test_a_name_is_one_line(store: Store, name: str) -> None:
    with pytest.raises(BadOption, match="on one line"):
        _set(store, "x", "a", name=name)
