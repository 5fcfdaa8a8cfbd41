from __future__ import annotations

from orchestra.memory.distill import distill, proposed
from orchestra.memory.notebook import forget, purge
from orchestra.memory.store import Store

from .memories import NOW, add, session


def test_wins_challenges_and_learnings_of_a_session_become_learnings_once(store: Store) -> None:
    (worked,) = add(
        store,
        session(
            "Worked",
            wins=("Tests pass now", "A thing"),
            challenges=("The hub crashed", "A thing"),
            learnings=("Keep it small",),
            tags=("hub",),
        ),
    )
    stored = distill(store, [worked], now_ms=NOW)
    found = {entry.title: entry for entry in stored}
    assert set(found) == {"Tests pass now", "A thing", "The hub crashed", "Keep it small"}
    assert found["Tests pass now"].category == "testing"
    assert found["The hub crashed"].category == "debugging"
    assert found["Keep it small"].category == "insight"
    assert {(e.confidence, e.session, e.tags, e.project) for e in stored} == {("low", worked.id, ("hub",), "web")}
    assert distill(store, [worked], now_ms=NOW) == []
    assert proposed(store, [worked]) == []


def test_what_was_forgotten_does_not_come_back_and_what_was_purged_may(store: Store) -> None:
    (worked,) = add(store, session("Worked", wins=("One", "Two")))
    one, two = distill(store, [worked], now_ms=NOW)
    forget(store, [one.id], now_ms=NOW)
    purge(store, [two.id])
    assert [entry.title for entry in proposed(store, [worked])] == ["Two"]


def test_the_same_words_of_two_sessions_are_two_learnings(store: Store) -> None:
    sessions = add(store, session("One", wins=("Same",)), session("Two", wins=("Same",)))
    assert len(distill(store, sessions, now_ms=NOW)) == 2


def test_an_item_too_long_for_a_title_is_kept_whole(store: Store) -> None:
    text = "a very long win " * 100
    (worked,) = add(store, session("Worked", wins=(text,)))
    (entry,) = distill(store, [worked], now_ms=NOW)
    assert entry.title.endswith("…")
    assert entry.body == text.strip()
