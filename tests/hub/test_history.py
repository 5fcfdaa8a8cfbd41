"""Questions to the database that the shell asks after the commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra import wire
from orchestra.hub import history
from orchestra.hub.turn import Query

from .fakehub import FakeHub


def _again(hub: FakeHub, n: int, origin: int = 1) -> list[object]:
    hub.tick()
    known = {each.id: each for each in hub.state.roster._origins.values()}[origin]
    span = {"origin": origin, "after": known.first_seq, "last": known.last_seq}
    return history.answer(hub.store, Query("link", n, "sent_before", span))


def test_a_number_that_was_used_is_found_among_the_sends_of_others(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    one, two = hub.join("operator/o"), hub.join("matrix/m")
    seqs = {}
    for _ in range(20):
        seq = one.send("agent/a")
        seqs[one.n] = seq
        two.send("agent/a")
        two.send("agent/a")
    for n, seq in seqs.items():
        assert _again(hub, n) == [wire.OK, n, seq, 1]


def test_a_number_that_was_refused_or_never_used_is_not_stored(hub: FakeHub) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    sender.send("agent/a")
    sender.say(sender.sending("agent/nobody"))
    sender.send("agent/a")
    for n in (2, 4, 0):
        answer = _again(hub, n)
        assert answer[:4] == [wire.ERROR, wire.SEND, n, "not_stored"]


def test_looking_a_number_up_reads_only_what_came_since(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.enrol("agent/a")
    sender = hub.join("operator/o")
    for _ in range(50):
        sender.send("agent/a")
    read = 0
    rows = hub.store.rows

    def counting(sql: str, *params: object) -> object:
        nonlocal read
        for row in rows(sql, *params):
            read += 1
            yield row

    monkeypatch.setattr(hub.store, "rows", counting)
    assert _again(hub, 48) == [wire.OK, 48, 48, 1]
    assert read <= 4


def test_an_unknown_question_is_a_fault_of_ours(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        history.answer(hub.store, Query("link", 1, "nonsense", {}))
