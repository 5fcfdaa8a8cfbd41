from __future__ import annotations

from orchestra.memory import vectors
from orchestra.memory.consolidate import consolidate, proposed
from orchestra.memory.endpoint import unit
from orchestra.memory.filters import Filters
from orchestra.memory.notebook import get, validate
from orchestra.memory.store import Store

from .memories import NOW, add, everything, learning

TEXT = "The hub hangs on start when the socket of the last run is still there"


def test_looking_changes_nothing(store: Store) -> None:
    add(store, learning(TEXT), learning(f"{TEXT} today"))
    before = everything(store)
    assert len(proposed(store, Filters())) == 1
    assert everything(store) == before


def test_the_most_trusted_stays_and_takes_over_what_the_others_have(store: Store) -> None:
    add(
        store,
        learning(TEXT, body="one", tags=("a",)),
        learning(f"{TEXT} today", confidence="high", tags=("b",)),
        learning(f"{TEXT} again", body="one", prevention="remove it", tags=("a", "c")),
        learning("Something else entirely"),
    )
    validate(store, [1, 3], author="me", now_ms=NOW)
    (merge,) = proposed(store, Filters())
    assert (merge.kept.id, [entry.id for entry in merge.others]) == (2, [1, 3])
    consolidate(store, [merge], now_ms=NOW)
    (kept,) = get(store, [2])
    assert (kept.body, kept.tags, kept.prevention, kept.confidence) == ("one", ("b", "a", "c"), "remove it", "high")
    assert store.rows("SELECT memory, count(*) FROM validation GROUP BY 1") == [(2, 2)]
    assert [entry.forgotten_ms for entry in get(store, [1, 3])] == [NOW, NOW]
    assert proposed(store, Filters()) == []


def test_two_that_nobody_validated_stay_low(store: Store) -> None:
    add(store, learning(TEXT), learning(f"{TEXT} today"))
    consolidate(store, proposed(store, Filters()), now_ms=NOW)
    assert get(store, [1])[0].confidence == "low"


def test_learnings_of_two_projects_stay_two(store: Store) -> None:
    add(store, learning(TEXT), learning(TEXT, project="api"))
    assert proposed(store, Filters()) == []


def test_what_means_the_same_in_other_words_is_proposed_where_no_number_differs(store: Store) -> None:
    add(
        store,
        learning("Give up after 5 seconds"),
        learning("No longer than 5 s is waited"),
        learning("Stop waiting when 50 s are over"),
        learning("Quote user text"),
    )
    meanings = [unit([1.0, 0.0]), unit([1.0, 0.1]), unit([1.0, 0.1]), unit([0.0, 1.0])]
    waiting = vectors.waiting(store, count_max=9)
    vectors.keep(store, map(vectors.Made, waiting, meanings), model="small")
    (merge,) = proposed(store, Filters(), model="small")
    assert (merge.kept.id, [entry.id for entry in merge.others]) == (1, [2])
    assert proposed(store, Filters(), model="another") == []
    assert proposed(store, Filters()) == []


def test_a_learning_is_not_merged_with_what_says_the_contrary(store: Store) -> None:
    said = "Retry the upload after a time-out of the proxy"
    add(store, learning(said), learning(f"Do not {said.lower()}"), learning(f"Don't {said.lower()}"))
    vectors.keep(
        store,
        (vectors.Made(each, unit([1.0, 0.0])) for each in vectors.waiting(store, count_max=9)),
        model="small",
    )
    assert proposed(store, Filters(), model="small") == []
