from __future__ import annotations

from orchestra.limits import INDEX_REST_S, INDEX_REST_S_MAX
from orchestra.memory.breaker import Breaker


def test_the_first_failure_is_tried_again_the_second_sets_the_files_aside() -> None:
    breaker = Breaker()
    assert not breaker.failed(now=1.0)
    assert breaker.lets(now=1.0)
    assert breaker.failed(now=2.0)
    assert breaker.lets(now=2.0)


def test_from_the_third_on_it_rests_for_longer_and_longer_up_to_a_bound() -> None:
    breaker, rests = Breaker(), []
    for _ in range(40):
        breaker.failed(now=0.0)
        rests.append(breaker.closed_at)
    assert rests[:4] == [0.0, 0.0, INDEX_REST_S, 2 * INDEX_REST_S]
    assert rests[-1] == INDEX_REST_S_MAX
    assert not breaker.lets(now=INDEX_REST_S_MAX - 1)
    assert breaker.lets(now=INDEX_REST_S_MAX)


def test_what_works_begins_the_row_anew() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.failed(now=0.0)
    breaker.worked()
    assert breaker.lets(now=0.0)
    assert not breaker.failed(now=0.0)
