"""The tarpit: who hammers the port waits; a mistake does not cost anybody a second."""

from __future__ import annotations

import pytest

from orchestra.hub import tarpit as tarpit_module
from orchestra.hub.tarpit import Refusals, Tarpit
from orchestra.limits import REFUSALS_BURST_S, REFUSALS_PER_S, TARPIT_MS, TURNED_AWAY_BURST_S, TURNED_AWAY_PER_S

BURST = int(REFUSALS_PER_S * REFUSALS_BURST_S)


def test_refusals_wait_once_an_address_had_more_than_happen_by_mistake() -> None:
    refusals = Refusals(rate=REFUSALS_PER_S, burst_s=REFUSALS_BURST_S)
    assert not any(refusals.add("10.0.0.1", at_ms=1000) for _ in range(BURST))
    assert refusals.add("10.0.0.1", at_ms=1000)
    assert not refusals.add("10.0.0.2", at_ms=1000), "another address has its own"
    assert not refusals.add("10.0.0.1", at_ms=1000 + int(1000 / REFUSALS_PER_S)), "it goes on slowly"
    assert refusals.add("10.0.0.1", at_ms=1000 + int(1000 / REFUSALS_PER_S))


def test_one_machine_has_one_count_however_many_addresses_it_takes() -> None:
    refusals = Refusals(rate=REFUSALS_PER_S, burst_s=REFUSALS_BURST_S)
    assert not any(refusals.add(f"2001:db8::{number:x}", at_ms=1000) for number in range(BURST))
    assert refusals.add("2001:db8::ffff", at_ms=1000)


def test_only_so_many_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarpit_module, "REFUSED_SOURCES_MAX", 2)
    refusals = Refusals(rate=REFUSALS_PER_S, burst_s=REFUSALS_BURST_S)
    for _ in range(BURST):
        refusals.add("10.0.0.1", at_ms=1000)
        refusals.add("10.0.0.2", at_ms=1000)
    refusals.add("10.0.0.1", at_ms=1000)
    assert not refusals.add("10.0.0.3", at_ms=1000), "which makes room by forgetting who was refused longest ago"
    assert refusals.add("10.0.0.1", at_ms=1000)
    assert not refusals.add("10.0.0.2", at_ms=1000)


def test_who_waits_is_let_go_after_a_second_or_two_and_not_with_all_others() -> None:
    chances = iter([0.0, 0.5, 0.999])
    tarpit: Tarpit[str] = Tarpit(lambda: next(chances))
    for name in ("a", "b", "c"):
        tarpit.hold(name, at_ms=0)
    assert tarpit.release(at_ms=TARPIT_MS - 1) == []
    assert tarpit.release(at_ms=TARPIT_MS) == ["a"]
    assert tarpit.release(at_ms=TARPIT_MS * 3 // 2) == ["b"]
    assert len(tarpit) == 1
    assert tarpit.release(at_ms=2 * TARPIT_MS) == ["c"]
    assert not tarpit


def test_who_is_gone_is_not_let_go() -> None:
    tarpit: Tarpit[int] = Tarpit(lambda: 0.0)
    tarpit.hold(7, at_ms=0)
    assert tarpit.forget(7)
    assert not tarpit.forget(7)
    assert tarpit.release(at_ms=2 * TARPIT_MS) == []


def test_it_has_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarpit_module, "TARPIT_MAX", 2)
    tarpit: Tarpit[int] = Tarpit(lambda: 0.0)
    tarpit.hold(1, at_ms=0)
    assert tarpit.has_room
    tarpit.hold(2, at_ms=0)
    assert not tarpit.has_room


def test_500_agents_that_start_at_once_and_come_again_do_not_hammer() -> None:
    refusals = Refusals(rate=TURNED_AWAY_PER_S, burst_s=TURNED_AWAY_BURST_S)
    assert not any(refusals.add("10.0.0.1", at_ms=1000) for _ in range(2 * 500))
    assert refusals.add("10.0.0.1", at_ms=1000)
