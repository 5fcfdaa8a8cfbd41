"""Addresses: `agent/coder-1` and its kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.address import PEER_KINDS, Address, Kind, parse_address, parse_peer
from orchestra.errors import BadAddress

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
NAMED = [kind for kind in Kind if kind is not Kind.EVERYONE]


@given(st.sampled_from(NAMED), NAMES)
def test_what_is_written_is_read_back(kind: Kind, name: str) -> None:
    address = parse_address(f"{kind}/{name}")
    assert (address.kind, address.name, str(address)) == (kind, name, f"{kind}/{name}")
    assert address.is_peer == (kind in PEER_KINDS)


def test_a_star_is_everyone() -> None:
    assert parse_address("*") == Address(Kind.EVERYONE, "")
    assert str(parse_address("*")) == "*"
    assert not parse_address("*").is_peer


@given(st.text(max_size=100))
def test_any_text_is_an_address_or_a_bad_one_and_the_sentence_can_be_shown(text: str) -> None:
    try:
        assert str(parse_address(text)) == text
        return
    except BadAddress as error:
        sentence = str(error)
    assert sentence.isprintable()
    assert len(sentence) < 500


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "agent", "agent/", "/agent", "agent//a", "agent/a/", "agent/a/b", "Agent/a", "agent/A", "agent/.a",
        "agent/-a", "agent/_a", "agent/..", "agent/../a", "agent/a b", "agent/a\n", "agent/a\x00", "agent/\u0430",
        "agent/" + "a" * 65, "robot/a", "*/a", "**", " agent/a", "agent/a ", "*\n",
    ],
)  # fmt: skip
def test_what_could_leave_its_place_or_its_line_is_no_address(text: str) -> None:
    with pytest.raises(BadAddress):
        parse_address(text)


@pytest.mark.parametrize("text", ["queue/q", "channel/c", "*"])
def test_only_agents_matrices_and_operators_are_peers(text: str) -> None:
    with pytest.raises(BadAddress, match="not a peer"):
        parse_peer(text)
    assert parse_peer("matrix/m").is_peer
