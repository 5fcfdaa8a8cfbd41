from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.memory import recall as recall_module
from orchestra.memory.embedder import Embedder
from orchestra.memory.filters import Filters
from orchestra.memory.near import Near
from orchestra.memory.recall import FULL_TEXT, MEANING, ROW_BY_ROW, recall, what_is_open
from orchestra.memory.store import Store

from .memories import DAY, NOW, Exact, add, ask, by_words, embed_all, ids, issue, learning, session, temporary


@given(st.text() | st.text("\"'*()^:+-{}AND ORNEAR%_\\;\0\ud800", max_size=30))
def test_any_question_has_an_answer(question: str) -> None:
    with temporary() as store:
        add(store, learning())
        recall(store, question or "x", Filters(), count_max=3)


def test_a_number_finds_that_memory_in_any_project_also_a_forgotten_one(store: Store) -> None:
    add(store, learning(project="other", forgotten_ms=5))
    for question in ("1", "#1", "learning_1"):
        assert ids(ask(store, question, project="web")) == [1]
    assert ids(ask(store, "#2")) == []


def test_a_session_is_found_by_its_number_and_by_its_old_name(store: Store) -> None:
    add(store, learning(), session("Worked", source="session_1769500000000"))
    assert ids(ask(store, "session_2")) == [2]
    assert ids(ask(store, "session_1769500000000")) == [2]
    assert ids(ask(store, "session_1")) == [], "that is a learning"


def test_other_forms_of_a_word_and_accents_find_it(store: Store) -> None:
    add(store, learning("Embeddings were cached at the café"))
    for question in ("embedding", "cache", "CAFE"):
        assert ids(ask(store, question)) == [1]


def test_more_of_the_question_comes_first_and_the_score_says_so(store: Store) -> None:
    add(
        store,
        learning("hub"),
        learning("start"),
        learning("the hub hangs on start"),
        *(learning("x") for _ in range(9)),
    )
    found = ask(store, "why does the hub hang on start?")
    assert ids(found)[0] == 3
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert scores[0] > 0.5


def test_a_word_in_the_title_counts_more(store: Store) -> None:
    add(store, learning("Some things", body="a lock and more"), learning("A lock", body="one of many others"))
    assert ids(ask(store, "lock")) == [2, 1]


def test_a_word_that_only_begins_like_it_comes_after_whole_words(store: Store) -> None:
    add(store, learning("ChromaDB hangs"), learning("chroma hangs"))
    assert ids(ask(store, "chroma")) == [2, 1]


def test_part_of_a_word_and_writing_without_spaces_are_found_row_by_row(store: Store) -> None:
    add(store, learning("The synchronizer"), learning("数据库被锁定了"))
    for question, id in (("chronize", 1), ("锁定", 2)):
        found = ask(store, question)
        assert (ids(found), found.sources) == ([id], (FULL_TEXT, ROW_BY_ROW))


def test_near_duplicates_are_one_answer_that_names_the_others(store: Store) -> None:
    text = "The hub hangs on start when the socket of the last run is still there"
    add(store, learning(text), learning(f"{text} today"), learning("A hub that hangs for another reason entirely"))
    found = ask(store, "hub hangs")
    assert len(found.hits) == 2
    (folded,) = [hit for hit in found.hits if hit.also]
    assert {folded.entry.id, *folded.also} == {1, 2}


def test_no_more_than_asked_for(store: Store) -> None:
    add(store, *(learning(f"hub {word}") for word in ("one", "two", "three", "four")))
    assert len(ask(store, "hub", count_max=2).hits) == 2


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 2, 3, 4]),
    ({"kind": "issue"}, [2]),
    ({"category": "security"}, [3]),
    ({"confidence": "medium"}, [3, 4]),
    ({"confidence": "proven"}, [4]),
    ({"tags": ("db",)}, [1, 4]),
    ({"tags": ("db", "two words")}, [4]),
    ({"tags": ("d",)}, []),
    ({"since_ms": NOW}, [3, 4]),
    ({"project": "api"}, [4]),
    ({"kind": "learning", "project": "web", "tags": ("DB",)}, [1]),
]


@pytest.mark.parametrize(("filters", "wanted"), FILTERS)
def test_filters(store: Store, filters: dict[str, Any], wanted: list[int]) -> None:
    add(store, learning("hub one", tags=("db",)), issue("hub two"), now_ms=NOW - DAY)
    add(
        store,
        learning("hub three", category="security", confidence="high"),
        learning("hub four", confidence="proven", project="api", tags=("db", "two words")),
    )
    assert sorted(ids(ask(store, "hub", **filters))) == wanted


def test_what_is_private_stays_in_its_project(store: Store) -> None:
    add(store, learning("hub", visibility="private"))
    assert ids(ask(store, "hub", home="web")) == [1]
    assert ids(ask(store, "hub", project="web")) == [1]
    assert ids(ask(store, "hub", home="api")) == []


def test_nothing_here_says_when_another_project_has_something(store: Store) -> None:
    add(store, learning("hub"))
    found = ask(store, "hub", project="api")
    assert ids(found) == []
    assert "--all" in found.notes[0]
    assert ask(store, "penguin", project="api").notes == ()


def test_where_one_left_off_is_the_last_session_and_what_is_open(store: Store) -> None:
    add(store, session("Old"), issue("small", severity="low"), issue("done", closed_ms=1), now_ms=NOW - DAY)
    add(
        store,
        session("New"),
        issue("large", severity="critical"),
        learning("known", confidence="high"),
        learning("guess"),
    )
    found = what_is_open(store, Filters(project="web"))
    assert found.session is not None
    assert found.session.title == "New"
    assert [entry.title for entry in found.issues] == ["large", "small"]
    assert [entry.title for entry in found.learnings] == ["known"]
    assert what_is_open(store, Filters(project="api")).session is None


def test_of_a_large_memory_only_the_newest_rows_are_searched_one_by_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall_module, "RECALL_ROWS_MAX", 2)
    add(store, *(learning(f"The synchronizer {number}") for number in "abc"))
    found = ask(store, "chronize")
    assert ids(found) == [3, 2]
    assert "only the newest 2 memories were searched" in found.notes[0]


def test_a_word_that_most_rows_of_a_large_memory_have_is_not_searched_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall_module, "_COMMON_FROM", 4)
    add(store, *(learning(f"hub {word}") for word in ("lock", "socket", "key", "log")))
    assert ids(ask(store, "hub lock", count_max=1)) == [1]
    assert len(ids(ask(store, "hub"))) == 4


def test_what_is_near_in_meaning_is_found_without_a_common_word_and_the_answer_says_by_whom(store: Store) -> None:
    add(store, learning("The hub hangs"), learning("A queue of workers"), *(learning(f"x{n}") for n in range(9)))
    embed_all(store, by_words())
    like_hub = by_words()
    meaning = Exact(store, Embedder(like_hub.name, 24, lambda texts: like_hub.embed(["The hub hangs"] * len(texts))))
    found = ask(store, "freeze", meaning=meaning)
    assert ids(found)[0] == 1
    assert found.sources == (FULL_TEXT, ROW_BY_ROW, MEANING)
    assert (found.near.by, found.near.model, found.waiting) == ("exact search", "by-words", 0)
    assert ids(ask(store, "freeze")) == []


def test_a_fresh_memory_competes_and_is_marked(store: Store) -> None:
    add(store, learning("The hub hangs"), *(learning(f"x{n}") for n in range(9)))
    embed_all(store, by_words())
    add(store, learning("The hub hangs on start"))
    found = ask(store, "hub hangs start", meaning=Exact(store, by_words()))
    assert {(hit.entry.id, hit.is_fresh) for hit in found.hits[:2]} == {(11, True), (1, False)}
    assert found.waiting == 1


def test_where_nobody_answers_for_meaning_words_do_and_the_reason_is_told(store: Store) -> None:
    class Silent:
        def near(self, question: str, filters: Filters, **_: Any) -> Near:
            return Near(model="a-model", reason="too late")

    add(store, learning("The hub hangs"))
    found = ask(store, "hub", meaning=Silent())
    assert (ids(found), found.sources, found.near.reason) == ([1], (FULL_TEXT,), "too late")


def test_what_was_removed_while_it_was_searched_is_not_shown(store: Store) -> None:
    class Late:
        def near(self, question: str, filters: Filters, **_: Any) -> Near:
            return Near({77: 0.9}, "exact search", "by-words")

    assert ids(ask(store, "hub", meaning=Late())) == []


def test_the_same_in_other_words_is_one_answer_but_not_with_other_numbers(store: Store) -> None:
    add(store, learning("Give up after 5 s"), learning("Stop trying after 5 s"), learning("Give up after 50 s"))
    same = by_words()
    one = Embedder(same.name, 24, lambda texts: same.embed(["alike"] * len(texts)))
    embed_all(store, one)
    found = ask(store, "when does it end", meaning=Exact(store, one))
    assert sorted((hit.entry.id, hit.also) for hit in found.hits) == [(2, (1,)), (3, ())]


def test_filters_hold_for_what_is_near_in_meaning(store: Store) -> None:
    add(store, learning("The hub hangs"), learning("The hub hangs", project="api"))
    embed_all(store, by_words())
    assert ids(ask(store, "hub hangs", project="api", meaning=Exact(store, by_words()))) == [2]
