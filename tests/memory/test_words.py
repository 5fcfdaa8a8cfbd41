from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.memory.words import CATEGORIES, Confidence, at_least, category_of, confidence_after

ORDER = list(Confidence)


@pytest.mark.parametrize(("validations", "found"), [(0, "low"), (1, "medium"), (2, "high"), (3, "high"), (4, "proven")])
def test_confidence_rises_with_validations(validations: int, found: str) -> None:
    assert confidence_after(Confidence.LOW, validations=validations) == found


@given(st.sampled_from(ORDER), st.integers(0, 10))
def test_confidence_never_falls(old: Confidence, validations: int) -> None:
    assert ORDER.index(confidence_after(old, validations=validations)) >= ORDER.index(old)


def test_at_least_names_this_confidence_and_all_above() -> None:
    assert at_least(Confidence.HIGH) == (Confidence.HIGH, Confidence.PROVEN)


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("The token leaked into a log", "security"),
        ("Tests were flaky under load", "testing"),
        ("It crashed on start", "debugging"),
        ("A cache made it slow", "performance"),
        ("We ate cake", "insight"),
    ],
)
def test_the_words_of_a_text_choose_its_category(text: str, category: str) -> None:
    found = category_of(text, otherwise="insight")
    assert found == category
    assert found in CATEGORIES
