from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.memory.question import Aim, any_of, question_of, terms_of


@pytest.mark.parametrize(
    ("text", "aim", "id"),
    [
        ("", Aim.OPEN, 0),
        ("  ", Aim.OPEN, 0),
        ("#42", Aim.ID, 42),
        ("42", Aim.ID, 42),
        ("learning_5", Aim.ID, 5),
        ("issue_5", Aim.ID, 5),
        ("session_7", Aim.SESSION, 7),
        ("session_1769500000000", Aim.SESSION, 1769500000000),
        ("session_abc", Aim.SESSION, 0),
        ("42 is the answer", Aim.SEARCH, 0),
        ("#fixme", Aim.SEARCH, 0),
        ("9" * 30, Aim.SEARCH, 0),
    ],
)
def test_the_form_of_a_question_says_what_it_is_after(text: str, aim: Aim, id: int) -> None:
    found = question_of(text)
    assert (found.aim, found.id) == (aim, id)


def test_words_that_only_ask_are_left_out() -> None:
    assert terms_of("Why does the hub hang on start?") == ["hub", "hang", "start"]


def test_a_question_of_such_words_alone_keeps_them() -> None:
    assert terms_of("what is it") == ["what", "is", "it"]


@given(st.text() | st.text("\"'*()^:+-{}AND ORNEAR\0\ud800", max_size=30))
def test_no_text_is_syntax_for_full_text_search(text: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(a, tokenize='porter unicode61 remove_diacritics 2')")
    connection.execute("INSERT INTO t VALUES ('and or not near a')")
    for is_prefix in (False, True):
        if query := any_of(terms_of(text), is_prefix=is_prefix):
            connection.execute("SELECT * FROM t WHERE t MATCH ?", (query,)).fetchall()
    connection.close()
