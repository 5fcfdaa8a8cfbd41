from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestra.memory.fuse import FLOOR, fuse

shares = st.dictionaries(st.integers(1, 9), st.floats(0, 1))
cosines = st.dictionaries(st.integers(1, 9), st.floats(-1, 1))


@given(shares, cosines, st.frozensets(st.integers(1, 9)))
def test_scores_are_shares_and_the_best_comes_first(
    words: dict[int, float], near: dict[int, float], fresh: frozenset[int]
) -> None:
    found = list(fuse(words, near, fresh).values())
    assert found == sorted(found, reverse=True)
    assert all(0 <= each <= 1 for each in found)


def test_both_sources_count_and_words_count_more() -> None:
    assert list(fuse({1: 0.8, 2: 0.8}, {1: 0.2, 2: 0.6, 3: 0.6}, set())) == [2, 1, 3]


def test_a_few_accidental_words_do_not_beat_the_meaning() -> None:
    assert list(fuse({1: 0.3}, {1: 0.2, 2: 0.5}, set())) == [2, 1]


def test_what_is_far_and_shares_no_word_is_no_answer() -> None:
    assert fuse({2: 0.1}, {1: FLOOR - 0.01, 2: -0.5, 3: FLOOR}, set()).keys() == {2, 3}


def test_a_fresh_memory_competes_by_its_words() -> None:
    assert list(fuse({1: 0.8, 2: 0.7}, {2: 0.6, 1: -1.0}, {1})) == [1, 2]


def test_of_equals_the_newer_comes_first() -> None:
    assert list(fuse({1: 0.5, 3: 0.5, 2: 0.5}, {}, set())) == [3, 2, 1]
