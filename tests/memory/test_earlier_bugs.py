"""What went wrong in the earlier system, and must not here; what other files test is not repeated."""

from __future__ import annotations

from orchestra.memory import repair
from orchestra.memory.notebook import forget, purge
from orchestra.memory.store import Store

from .memories import NOW, add, ask, ids, learning, session

MANY = 10_001  # its reindex took the first 10,000


def test_signs_of_sql_in_the_name_of_a_project_mean_nothing(store: Store) -> None:
    add(store, learning("hub", project="100%_done"), learning("hub two", project="100 done"))
    assert ids(ask(store, "hub", project="100%_done")) == [1]
    assert ids(ask(store, "hub", project="' OR 1=1 --")) == []


def test_a_session_is_found_by_the_same_words_before_and_after_a_reindex(store: Store) -> None:
    add(store, session("Worked", wins=("walrus",), next_steps=("ostrich",)))
    for _ in range(2):
        assert ids(ask(store, "walrus")) == ids(ask(store, "ostrich")) == [1]
        repair.reindex(store)


def test_what_is_gone_does_not_come_back_with_a_reindex(store: Store) -> None:
    add(store, learning("hub one"), learning("hub two"), learning("hub three"))
    purge(store, [1])
    forget(store, [2], now_ms=NOW)
    repair.reindex(store)
    assert ids(ask(store, "hub")) == [3]


def test_reindex_takes_every_row(store: Store) -> None:
    add(store, *(learning(f"word{number}") for number in range(MANY)))
    assert repair.reindex(store) == MANY
    for number in (0, MANY - 1):
        assert ids(ask(store, f"word{number}", count_max=1)) == [number + 1]
