"""Sealed bodies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.envelope import close_envelope, open_envelope
from orchestra.errors import BadOption, CannotOpen
from orchestra.keys import make_key_pair
from orchestra.limits import KEYS_PER_PEER_MAX

SENDER, FIRST, SECOND, STRANGER = (make_key_pair() for _ in range(4))


@given(st.binary(max_size=2000))
def test_each_key_of_the_recipient_opens_it_and_learns_who_sealed_it(body: bytes) -> None:
    sealed = close_envelope(body, sender=SENDER, recipients=[FIRST.public, SECOND.public])
    for key in (FIRST, SECOND):
        assert open_envelope(sealed, key=key) == (body, SENDER.fingerprint)


def test_nobody_else_opens_it_not_even_its_sender() -> None:
    sealed = close_envelope(b"secret", sender=SENDER, recipients=[FIRST.public])
    assert b"secret" not in sealed
    for key in (STRANGER, SENDER, SECOND):
        with pytest.raises(CannotOpen, match="another key"):
            open_envelope(sealed, key=key)


@given(st.data())
def test_a_change_anywhere_is_found(data: st.DataObject) -> None:
    sealed = bytearray(close_envelope(b"pay 10 to bob", sender=SENDER, recipients=[FIRST.public]))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CannotOpen):
        open_envelope(bytes(sealed), key=FIRST)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CannotOpen):
        open_envelope(data, key=FIRST)


def test_nobody_can_seal_in_the_name_of_another_key() -> None:
    import msgpack
    from zmq.utils import z85

    fields = msgpack.unpackb(close_envelope(b"x", sender=STRANGER, recipients=[FIRST.public]))
    fields[1] = z85.decode(SENDER.public)
    with pytest.raises(CannotOpen):
        open_envelope(msgpack.packb(fields), key=FIRST)


@pytest.mark.parametrize("count", [0, KEYS_PER_PEER_MAX + 1])
def test_it_is_for_at_least_one_key_and_not_for_too_many(count: int) -> None:
    with pytest.raises(BadOption):
        close_envelope(b"x", sender=SENDER, recipients=[FIRST.public] * count)
