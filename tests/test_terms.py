"""The terms of a task, as they travel in the options of a SEND."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import BadOption
from orchestra.limits import BUDGET_CHARS_MAX, DEPENDENCIES_MAX, TASK_ATTEMPTS_MAX
from orchestra.terms import PLAIN, TERMS, Terms, read_terms

MS = st.integers(0, 10**12)


@given(
    st.builds(
        Terms,
        depends_on=st.lists(st.integers(1, 2**40), max_size=DEPENDENCIES_MAX).map(tuple),
        max_attempts=st.integers(1, TASK_ATTEMPTS_MAX),
        backoff_ms=MS,
        backoff_max_ms=MS,
        expires_ms=MS,
        not_before_ms=MS,
        budget=st.one_of(st.text(max_size=BUDGET_CHARS_MAX), st.integers(0, 9), st.floats(0, 9)),
    )
)
def test_terms_come_out_as_they_went_in(terms: Terms) -> None:
    assert read_terms(terms.options()) == terms


def test_what_a_plain_task_sends_is_nothing() -> None:
    assert PLAIN.options() == {}
    assert set(TERMS) == set(Terms.__slots__)


@pytest.mark.parametrize(
    "options",
    [
        {"depends_on": 1},
        {"depends_on": ["1"]},
        {"depends_on": [0]},
        {"depends_on": [True]},
        {"depends_on": [[1]]},
        {"depends_on": list(range(1, DEPENDENCIES_MAX + 2))},
        {"max_attempts": 0},
        {"max_attempts": TASK_ATTEMPTS_MAX + 1},
        {"max_attempts": 1.0},
        {"max_attempts": True},
        {"backoff_ms": -1},
        {"backoff_max_ms": 2**60},
        {"expires_ms": "1"},
        {"not_before_ms": None},
        {"budget": "x" * (BUDGET_CHARS_MAX + 1)},
        {"budget": [1]},
        {"budget": True},
    ],
)
def test_terms_that_are_none_are_a_bad_option_that_names_itself(options: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match=next(iter(options))):
        read_terms(options)


@given(failures=st.integers(1, 200), chance=st.floats(0, 1), backoff_ms=MS, most=MS)
def test_a_pause_is_chance_below_a_bound_that_doubles(failures: int, chance: float, backoff_ms: int, most: int) -> None:
    terms = Terms(backoff_ms=backoff_ms, backoff_max_ms=most)
    assert 0 <= terms.pause_ms(failures, chance=chance) <= min(most, backoff_ms * 2 ** (failures - 1))
    assert terms.pause_ms(failures, chance=1.0) == min(most, backoff_ms * 2 ** (min(failures, 41) - 1))
