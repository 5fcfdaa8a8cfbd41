from __future__ import annotations

import pytest

from orchestra.ending import how_ended


@pytest.mark.parametrize(("status", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL")])
def test_an_end_is_said_as_people_know_it(status: int, words: str) -> None:
    assert how_ended(status) == words


def test_a_signal_without_a_name_has_its_number() -> None:
    assert how_ended(-200) == "signal 200"
