"""What the fuzzer runs: its seeds lead into the parsers, what it found stays found, and what breaks is told."""

from __future__ import annotations

import pytest

from orchestra.hub.vocabulary import read_message
from orchestra.invitation import decode_invitation
from orchestra.token import open_token
from orchestra.wire import FROM_HUB, FROM_PEER, Decoder

from . import targets
from .targets import TARGETS

FOUND = {
    "join code": [b"orc1-lDIwrltmZTgwOjoxXTo3ND4I\025)C)A"],  # a number where the address should be
    "message of the gateway": [b'{"type":"ping","n":1e400}'],  # JSON whose value JSON has no word for
}
"""Inputs that broke a parser once."""


@pytest.mark.parametrize("name", TARGETS)
def test_no_target_breaks_at_its_seeds_nor_at_what_was_found(name: str) -> None:
    for data in (b"", *TARGETS[name].seeds, *FOUND.get(name, [])):
        assert len(data) <= TARGETS[name].length_max
        TARGETS[name].run(data)


def test_the_seeds_are_taken_by_their_parsers() -> None:
    for name, shapes in (("decoder of peers' records", FROM_PEER), ("decoder of the hub's records", FROM_HUB)):
        taken = [Decoder(shapes).decode(seed) for seed in TARGETS[name].seeds]
        assert all(records and not faults for records, faults in taken)
        assert {record[0] for records, _ in taken for record in records} == set(shapes)
    decode_invitation(TARGETS["join code"].seeds[0].decode())
    open_token(TARGETS["token"].seeds[0].decode(), targets._KEYS)
    read_message(TARGETS["message of the gateway"].seeds[0].decode())


@pytest.mark.parametrize(
    ("name", "parser"),
    [
        ("join code", "decode_invitation"),
        ("token", "open_token"),
        ("claims of a token", "open_token"),
        ("message of the gateway", "read_message"),
        ("decoder of peers' records", "Decoder"),
    ],
)
def test_an_error_that_is_not_documented_is_told(monkeypatch: pytest.MonkeyPatch, name: str, parser: str) -> None:
    def broken(*args: object) -> None:
        raise KeyError

    monkeypatch.setattr(targets, parser, broken)
    with pytest.raises(KeyError):
        TARGETS[name].run(b"x")


def test_a_forged_token_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "open_token", lambda text, keys: "whatever it says")
    with pytest.raises(AssertionError, match="forged"):
        TARGETS["token"].run(b"x")
