"""The code of an invitation."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.address import parse_peer
from orchestra.errors import BadOption
from orchestra.invitation import Invitation, decode_invitation
from orchestra.keys import make_key_pair
from orchestra.state import HubCard
from orchestra.wire import pack

HUB = make_key_pair()
ONCE = make_key_pair()


def _invitation(*endpoints: str) -> Invitation:
    return Invitation(
        parse_peer("agent/coder-1"), HubCard(endpoints or ("tcp://10.0.0.7:7420",), HUB.public), ONCE.secret
    )


def test_what_was_invited_is_read_again() -> None:
    invitation = _invitation("tcp://10.0.0.7:7420", "tcp://[fe80::1]:7420")
    assert decode_invitation(invitation.encode()) == invitation
    assert decode_invitation(invitation.encode()).key.public == ONCE.public


def test_it_is_short_and_nothing_in_it_is_changed_by_a_shell_or_a_mail() -> None:
    code = _invitation().encode()
    assert len(code) < 140
    assert set(code) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert decode_invitation(f" {code[:50]}\n  {code[50:]}\n") == _invitation()


def test_the_secret_does_not_show_in_a_log() -> None:
    assert ONCE.secret not in repr(_invitation())


@pytest.mark.parametrize("text", ["", "hello", "orc2-abc", "orc1-" + "a" * 5000])
def test_what_is_none_says_how_one_is_made(text: str) -> None:
    with pytest.raises(BadOption, match="made by: orchestra invite"):
        decode_invitation(text)


@pytest.mark.parametrize("length", [5, 6, 20, 100])
def test_one_that_was_cut_is_damaged(length: int) -> None:
    with pytest.raises(BadOption, match="copy it again, whole"):
        decode_invitation(_invitation().encode()[:length])


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [None, 1, 1.5, b"x", "x", [], [1], {}, {"a": 1}])
def test_one_with_a_field_of_another_type_is_damaged(place: int, value: object) -> None:
    fields: list[object] = ["agent/a", ["10.0.0.7:7420"], bytes(32), bytes(32)]
    fields[place] = value
    code = "orc1-" + base64.urlsafe_b64encode(pack(fields)).decode()
    with pytest.raises(BadOption):
        decode_invitation(code)


def test_one_without_a_hub_is_refused() -> None:
    with pytest.raises(BadOption, match="names no hub"):
        decode_invitation(Invitation(parse_peer("agent/a"), HubCard((), HUB.public), ONCE.secret).encode())


@given(st.text() | st.text().map("orc1-".__add__) | st.binary().map(lambda data: "orc1-" + data.hex()))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(BadOption):
        decode_invitation(text)
