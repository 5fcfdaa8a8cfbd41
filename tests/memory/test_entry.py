from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import BadOption, TooLarge
from orchestra.limits import MEMORY_ITEM_CHARS_MAX, MEMORY_ITEMS_MAX, MEMORY_TEXT_CHARS_MAX, MEMORY_TITLE_CHARS_MAX
from orchestra.memory.entry import Entry, entry_of, shortened

from .memories import entries, issue, learning


@given(entries())
def test_checking_a_checked_memory_changes_nothing_and_json_gives_it_back(entry: Entry) -> None:
    checked = entry.checked()
    assert checked.checked() == checked
    assert entry_of(checked.facts()) == checked
    assert entry_of(checked.shown()) == checked


@given(st.text(st.characters(categories=["Cs", "Cc", "L"])))
def test_any_text_becomes_one_that_can_be_stored(text: str) -> None:
    body = learning(body=text).checked().body
    assert "\0" not in body
    body.encode()


def test_an_item_of_a_list_is_one_line_and_an_empty_or_repeated_one_is_left_out() -> None:
    assert learning(tags=("a\nb", " ", "a b", "c")).checked().tags == ("a b", "c")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (learning(title=" "), "needs a title"),
        (learning(category="cooking"), "there are: performance, architecture"),
        (learning(category=""), "needs a category"),
        (learning(confidence="sure"), "there are: low, medium, high, proven"),
        (issue(severity="awful"), "there are: critical, high, medium, low"),
        (issue(severity=""), "needs a severity"),
        (learning(kind="poem"), "there are: learning, issue"),
        (learning(visibility="mine"), "there are: private, shared, public"),
        (learning(body=3), "body is int, not text"),
        (learning(tags=("a", 3)), "tags is not a list of texts"),
        (learning(id=-1), "id is not a whole number"),
        (learning(closed_ms=True), "closed_ms is not a whole number"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(entry: Entry, sentence: str) -> None:
    with pytest.raises(BadOption, match=sentence):
        entry.checked()


def test_the_limits_are_the_last_that_is_taken() -> None:
    most = learning(
        title="x" * MEMORY_TITLE_CHARS_MAX,
        body="x" * MEMORY_TEXT_CHARS_MAX,
        tags=(*map(str, range(MEMORY_ITEMS_MAX - 1)), "x" * MEMORY_ITEM_CHARS_MAX),
    )
    assert most.checked() == most
    for name in ("title", "body"):
        with pytest.raises(TooLarge, match=f"{name} has"):
            replace(most, **{name: getattr(most, name) + "x"}).checked()
    with pytest.raises(TooLarge, match="tags has"):
        replace(most, tags=(*most.tags, "one more")).checked()
    with pytest.raises(TooLarge, match="an item of tags"):
        replace(most, tags=("x" * (MEMORY_ITEM_CHARS_MAX + 1),)).checked()


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadOption, match="no field colour"):
        entry_of({"title": "x", "colour": "red"})


def test_what_is_shortened_says_so() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"
